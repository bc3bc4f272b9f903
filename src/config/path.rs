//! The paths of a route, as written: `/about`, `/static/*`, `/*`. Kept in the normal form that requests are
//! matched in (RFC 3986 §6.2.2): escapes in upper case, unreserved characters plain, no dot segments.

use super::model::PathPattern;

/// Why a text is not a path pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathError {
    /// No `/` in front.
    NoSlash,
    /// A `*` anywhere but as the last segment.
    Star,
    /// `?` or `#`: routes see the path only.
    Query,
    /// `.`, `..` or an empty segment: no path in normal form has one.
    Segment,
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
            Self::Segment => "has an empty, `.` or `..` segment, which no request has when it is matched",
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
            Self::Segment => "leave the segment out",
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
    let path = normal(path)?;
    let segments: Vec<&str> = path.split('/').collect();
    let last = segments.len().saturating_sub(1);
    let bad = |(at, segment): (usize, &&str)| match *segment {
        // The first is what stands before the leading slash, the last what follows a trailing one.
        "" => at != 0 && at != last,
        other => other == "." || other == "..",
    };
    if segments.iter().enumerate().any(bad) {
        return Err(PathError::Segment);
    }
    Ok(if prefix.is_some() { PathPattern::Prefix(path) } else { PathPattern::Exact(path) })
}

/// RFC 3986 §3.3: `pchar` and `/`; escapes of unreserved characters (§2.3) are those characters.
fn normal(path: &str) -> Result<String, PathError> {
    let mut out = String::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = bytes.next().and_then(hex).ok_or(PathError::Escape)?;
            let low = bytes.next().and_then(hex).ok_or(PathError::Escape)?;
            let decoded = high << 4 | low;
            if is_unreserved(decoded) {
                out.push(char::from(decoded));
            } else {
                out.push_str(&format!("%{decoded:02X}"));
            }
        } else if is_unreserved(byte) || b"!$&'()+,;=:@/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            return Err(PathError::Character);
        }
    }
    Ok(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

fn hex(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// Whether every path of `later` is one of `earlier` already, so that `later` is never reached.
#[must_use]
pub fn covers(earlier: &PathPattern, later: &PathPattern) -> bool {
    match (earlier, later) {
        (PathPattern::Exact(a), PathPattern::Exact(b)) => a == b,
        (PathPattern::Exact(_), PathPattern::Prefix(_)) => false,
        (PathPattern::Prefix(a), PathPattern::Prefix(b)) => b.starts_with(a.as_str()),
        (PathPattern::Prefix(a), PathPattern::Exact(b)) => {
            b.starts_with(a.as_str()) || a.strip_suffix('/') == Some(b.as_str())
        }
    }
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
            ("/a//b", PathError::Segment),
            ("//", PathError::Segment),
            ("/a/../b", PathError::Segment),
            ("/%2e", PathError::Segment),
            ("/a%2", PathError::Escape),
            ("/a b", PathError::Character),
            ("/é", PathError::Character),
        ] {
            assert_eq!(pattern(text), Err(error), "{text}");
        }
    }

    #[test]
    fn covering_is_per_segment() {
        let covered = |a: &str, b: &str| covers(&pattern(a).unwrap(), &pattern(b).unwrap());
        assert!(covered("/*", "/a/*") && covered("/a/*", "/a") && covered("/a/*", "/a/b/*"));
        assert!(covered("/a", "/a"));
        assert!(!covered("/a/*", "/ab") && !covered("/a", "/a/*") && !covered("/a/b/*", "/a/*"));
    }
}
