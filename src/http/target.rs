//! The request-target (RFC 9112 §3.2, RFC 9113 §8.3.1): which form it has, where its parts are, and the
//! one normalised view of a path that routing uses. What goes upstream is the target byte for byte.

use super::authority;
use super::method::Method;
use crate::wire::Span;

/// The four forms of a target (RFC 9112 §3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `/path?query`.
    Origin,
    /// `http://authority/path?query`.
    Absolute,
    /// `host:port`, of CONNECT only.
    Authority,
    /// `*`, of OPTIONS only.
    Asterisk,
}

/// A target's form and parts; spans are relative to the target's first byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Which form.
    pub form: Form,
    /// The path. Empty for the authority and asterisk forms, and for an absolute target without one, which
    /// means `/` (RFC 9110 §4.2.3), or `*` if the method is OPTIONS and there is no query (RFC 9112 §3.2.4).
    pub path: Span,
    /// The query without its `?`; present but empty after a lone `?`.
    pub query: Option<Span>,
    /// The authority of the absolute and authority forms.
    pub authority: Option<Span>,
    /// Whether an absolute target names the `https` scheme.
    pub scheme_https: bool,
}

/// Why bytes are not a target, or a path cannot be routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// No byte at all.
    Empty,
    /// A blank, control or non-ASCII byte (RFC 9112 §3.2).
    ForbiddenByte,
    /// A `#`: fragments stay with the client (RFC 9112 §3.2).
    Fragment,
    /// A `%` without two hexadecimal digits (RFC 3986 §2.1).
    BadPercentEncoding,
    /// `%00`, which ends strings in some languages; no file or route needs it.
    EncodedNul,
    /// None of the four forms, or one that this method does not have.
    BadForm,
    /// The absolute form with a scheme other than `http` and `https`.
    UnknownScheme,
    /// The authority in the target is not one.
    BadAuthority(authority::AuthorityError),
    /// `..` beyond the root (for routing; RFC 3986 §5.2.4 would ignore it).
    EscapesRoot,
    /// A backslash in the path, which some servers read as a slash.
    Backslash,
    /// A dot segment that some servers see and others do not: `..;x`, `..%2F`, `.%5C`.
    HiddenDotSegment,
}

impl TargetError {
    /// A short name for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Empty => "target-empty",
            Self::ForbiddenByte => "target-forbidden-byte",
            Self::Fragment => "target-fragment",
            Self::BadPercentEncoding => "target-bad-percent-encoding",
            Self::EncodedNul => "target-encoded-nul",
            Self::BadForm => "target-bad-form",
            Self::UnknownScheme => "target-unknown-scheme",
            Self::BadAuthority(error) => error.reason(),
            Self::EscapesRoot => "path-escapes-root",
            Self::Backslash => "path-backslash",
            Self::HiddenDotSegment => "path-hidden-dot-segment",
        }
    }
}

/// Reads a target, the whole of `target`, for a request with `method`.
///
/// # Errors
/// If it is none of the forms that the method may have, or has a byte or percent-encoding that no target
/// has. Raw VCHARs outside of RFC 3986 (such as `|` or `"`) are allowed: browsers send them.
pub fn parse(target: &[u8], method: Method) -> Result<Target, TargetError> {
    check_bytes(target)?;
    match target {
        [] => Err(TargetError::Empty),
        // RFC 9112 §3.2.3: CONNECT has the authority form and no other.
        _ if method == Method::Connect => authority_form(target),
        [b'/', ..] => Ok(origin_form(target)),
        // RFC 9112 §3.2.4.
        b"*" if method == Method::Options => Ok(Target { form: Form::Asterisk, ..EMPTY }),
        _ => absolute_form(target),
    }
}

/// Replaces `out` by the view of `path` that routing uses; the path itself is forwarded as it came.
///
/// Percent-encoded unreserved characters are decoded and other encodings get upper-case digits (RFC 3986
/// §6.2.2), so `%2F` never becomes a slash; dot segments are removed (§5.2.4), encoded or not. Slashes in
/// a row stay. An empty path becomes `/`.
///
/// # Errors
/// If the path climbs above the root, has a backslash or hides a dot segment, or is not a path.
pub fn normalise_path(path: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    out.clear();
    let mut segments = match path {
        [] => b"".split(is_slash),
        [b'/', rest @ ..] => rest.split(is_slash),
        _ => return Err(TargetError::BadForm),
    }
    .peekable();
    while let Some(raw) = segments.next() {
        let start = out.len();
        out.push(b'/');
        decode_unreserved(raw, out)?;
        let segment = out.get(start + 1..).unwrap_or_default();
        let climbs = segment == b"..";
        if !climbs && segment != b"." {
            refuse_hidden_dots(segment)?;
            continue;
        }
        out.truncate(start);
        if climbs {
            let parent = out.iter().rposition(|&byte| byte == b'/').ok_or(TargetError::EscapesRoot)?;
            out.truncate(parent);
        }
        if segments.peek().is_none() {
            out.push(b'/');
        }
    }
    Ok(())
}

#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    let (mut once, mut twice) = (Vec::new(), Vec::new());
    for method in [Method::Get, Method::Options, Method::Connect] {
        let Ok(target) = parse(data, method) else { continue };
        let path = target.path.of(data);
        if normalise_path(path, &mut once).is_ok() {
            assert!(
                once.starts_with(b"/") && once.len() <= path.len().max(1),
                "a view is a path, not longer"
            );
            assert!(normalise_path(&once, &mut twice).is_ok() && once == twice, "normal is normal already");
            assert!(!once.split(is_slash).any(|segment| matches!(segment, b"." | b"..")), "no dot segment");
        }
    }
}

const EMPTY: Target = Target {
    form: Form::Origin,
    path: Span { start: 0, len: 0 },
    query: None,
    authority: None,
    scheme_https: false,
};

fn is_slash(byte: &u8) -> bool {
    *byte == b'/'
}

fn check_bytes(target: &[u8]) -> Result<(), TargetError> {
    let mut rest = target;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            b'#' => return Err(TargetError::Fragment),
            b'%' => match encoded(after)? {
                0 => return Err(TargetError::EncodedNul),
                _ => rest = after.get(2..).unwrap_or_default(),
            },
            0x21..=0x7e => {}
            _ => return Err(TargetError::ForbiddenByte),
        }
    }
    Ok(())
}

/// The byte that two hexadecimal digits after a `%` stand for (RFC 3986 §2.1).
fn encoded(after: &[u8]) -> Result<u8, TargetError> {
    let digit = |place: usize| after.get(place).and_then(|&byte| (byte as char).to_digit(16));
    match (digit(0), digit(1)) {
        (Some(high), Some(low)) => Ok((high * 16 + low) as u8),
        _ => Err(TargetError::BadPercentEncoding),
    }
}

fn origin_form(target: &[u8]) -> Target {
    let (path, query) = path_and_query(target, 0);
    Target { path, query, ..EMPTY }
}

fn path_and_query(target: &[u8], start: usize) -> (Span, Option<Span>) {
    let rest = target.get(start..).unwrap_or_default();
    match rest.iter().position(|&byte| byte == b'?') {
        None => (Span::between(start, target.len()), None),
        Some(at) => {
            let mark = start + at;
            (Span::between(start, mark), Some(Span::between(mark + 1, target.len())))
        }
    }
}

fn authority_form(target: &[u8]) -> Result<Target, TargetError> {
    let authority = authority::parse(target).map_err(TargetError::BadAuthority)?;
    // RFC 9112 §3.2.3: host and port, and the port is not optional.
    if authority.port.is_none() {
        return Err(TargetError::BadForm);
    }
    Ok(Target { form: Form::Authority, authority: Some(Span::between(0, target.len())), ..EMPTY })
}

fn absolute_form(target: &[u8]) -> Result<Target, TargetError> {
    let colon = target.iter().position(|&byte| byte == b':').ok_or(TargetError::BadForm)?;
    let (scheme, rest) = target.split_at_checked(colon).unwrap_or_default();
    if !rest.starts_with(b"://") {
        return Err(TargetError::BadForm);
    }
    let scheme_https = scheme.eq_ignore_ascii_case(b"https");
    if !scheme_https && !scheme.eq_ignore_ascii_case(b"http") {
        return Err(TargetError::UnknownScheme);
    }
    let start = colon + 3;
    let rest = target.get(start..).unwrap_or_default();
    let len = rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    authority::parse(rest.get(..len).unwrap_or_default()).map_err(TargetError::BadAuthority)?;
    let (path, query) = path_and_query(target, start + len);
    let authority = Some(Span::between(start, start + len));
    Ok(Target { form: Form::Absolute, path, query, authority, scheme_https })
}

/// Appends `segment` with unreserved characters decoded (RFC 3986 §2.3, §6.2.2.2).
fn decode_unreserved(segment: &[u8], out: &mut Vec<u8>) -> Result<(), TargetError> {
    let mut rest = segment;
    while let [byte, after @ ..] = rest {
        rest = after;
        match byte {
            // We refuse it: a server that reads it as a slash would see another path.
            b'\\' => return Err(TargetError::Backslash),
            b'%' => {
                match encoded(after)? {
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(byte),
                    _ => {
                        out.push(b'%');
                        out.extend(after.iter().take(2).map(u8::to_ascii_uppercase));
                    }
                }
                rest = after.get(2..).unwrap_or_default();
            }
            _ => out.push(*byte),
        }
    }
    Ok(())
}

/// We refuse segments in which a server that strips `;` parameters, or that decodes `%2F` or `%5C` before
/// splitting, would find a dot segment that routing has not seen.
fn refuse_hidden_dots(segment: &[u8]) -> Result<(), TargetError> {
    let mut rest = segment;
    while !rest.is_empty() {
        let dots = rest.iter().take_while(|&&byte| byte == b'.').count();
        let after = rest.get(dots..).unwrap_or_default();
        if matches!(dots, 1 | 2) && (after.is_empty() || separator_len(after) > 0) {
            return Err(TargetError::HiddenDotSegment);
        }
        let Some(next) = (0..after.len()).find(|&at| separator_len(after.get(at..).unwrap_or_default()) > 0)
        else {
            return Ok(());
        };
        let next = after.get(next..).unwrap_or_default();
        rest = next.get(separator_len(next)..).unwrap_or_default();
    }
    Ok(())
}

/// Length of what some server may take for the end of a segment, or 0.
fn separator_len(bytes: &[u8]) -> usize {
    match bytes {
        [b';', ..] => 1,
        [b'%', b'2', b'F', ..] | [b'%', b'5', b'C', ..] => 3,
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
