//! The paths of a route, as written: `/about`, `/static/*`, `/*`. Kept in the normal form in which requests
//! are matched, which is [`target::normalise_path`]'s.

use super::model::PathPattern;
use crate::http::target::{self, TargetError};

/// Why a text is not a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// No `/` in front.
    NoSlash,
    /// A `*` anywhere but as the last segment.
    Star,
    /// `?` or `#`: routes see the path only.
    Query,
    /// `.` or `..`: no path in normal form has one.
    Segment,
    /// A path with which every request is refused: a NUL, or a dot segment that only some servers see.
    Refused,
    /// A `%` without two hexadecimal digits.
    Escape,
    /// A character that cannot stand in a path unescaped.
    Character,
}

impl PathError {
    /// What is wrong with it, as the end of a sentence that starts with the text.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::NoSlash => "does not start with `/`",
            Self::Star => "has a `*` that is not its whole last segment",
            Self::Query => "has a query or fragment",
            Self::Segment => "has a `.` or `..` segment, which no request has when it is matched",
            Self::Refused => "is a path with which every request is refused",
            Self::Escape => "has a `%` that is not followed by two hexadecimal digits",
            Self::Character => "has a character that must be escaped in a path",
        }
    }

    /// What to write instead.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::NoSlash => "write \"/about\" for one path or \"/static/*\" for all below it",
            Self::Star => "write \"/static/*\": it matches /static and all below it",
            Self::Query => "leave it out: routes choose by path only",
            Self::Segment | Self::Refused => "write the path without it",
            Self::Escape | Self::Character => "escape the byte as in a URL: a space is \"%20\"",
        }
    }
}

/// Reads a path pattern.
///
/// # Errors
/// The first thing wrong with it.
pub fn pattern(text: &str) -> Result<PathPattern, PathError> {
    if !text.starts_with('/') {
        return Err(PathError::NoSlash);
    }
    let prefix = text.strip_suffix("/*").map(|stem| format!("{stem}/"));
    let path = prefix.as_deref().unwrap_or(text);
    if path.contains('*') {
        return Err(PathError::Star);
    }
    if path.contains(['?', '#']) {
        return Err(PathError::Query);
    }
    // RFC 3986 §3.3: `pchar` and `/`.
    if !path.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~%!$&'()+,;=:@/".contains(&b)) {
        return Err(PathError::Character);
    }
    let dots = |segment: &str| matches!(segment.replace("%2e", ".").replace("%2E", ".").as_str(), "." | "..");
    if path.split('/').any(dots) {
        return Err(PathError::Segment);
    }
    let mut normal = Vec::new();
    target::normalise_path(path.as_bytes(), &mut normal).map_err(|error| match error {
        TargetError::BadPercentEncoding => PathError::Escape,
        _ => PathError::Refused,
    })?;
    let normal = String::from_utf8(normal).map_err(|_| PathError::Refused)?;
    if normal.contains("%00") {
        return Err(PathError::Refused);
    }
    Ok(if prefix.is_some() { PathPattern::Prefix(normal) } else { PathPattern::Exact(normal) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_kept_in_normal_form() {
        assert_eq!(pattern("/"), Ok(PathPattern::Exact("/".into())));
        assert_eq!(pattern("/*"), Ok(PathPattern::Prefix("/".into())));
        assert_eq!(pattern("/static/*"), Ok(PathPattern::Prefix("/static/".into())));
        assert_eq!(pattern("/a/"), Ok(PathPattern::Exact("/a/".into())));
        assert_eq!(pattern("/a//b"), Ok(PathPattern::Exact("/a//b".into())));
        assert_eq!(pattern("/%7euser/%c3%a9"), Ok(PathPattern::Exact("/~user/%C3%A9".into())));
    }

    #[test]
    fn everything_else_is_refused() {
        for (text, error) in [
            ("", PathError::NoSlash),
            ("static/*", PathError::NoSlash),
            ("/static*", PathError::Star),
            ("/*/x", PathError::Star),
            ("/a?b", PathError::Query),
            ("/a/..;x", PathError::Refused),
            ("/%00", PathError::Refused),
            ("/a/../b", PathError::Segment),
            ("/%2e", PathError::Segment),
            ("/a%2", PathError::Escape),
            ("/a b", PathError::Character),
            ("/é", PathError::Character),
        ] {
            assert_eq!(pattern(text), Err(error), "{text}");
        }
    }
}
