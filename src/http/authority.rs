//! The authority of a request: `Host`, `:authority`, or the authority of an absolute target (RFC 9110
//! §7.2, RFC 3986 §3.2). Read strictly, because whoever disagrees about the host is a way around a rule:
//! no userinfo, no list, no percent-encoding, no empty host.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::Span;

/// Bytes of a host name (RFC 1035 §2.3.4, in text form without the trailing dot).
const HOST_BYTES: usize = 253;
/// Bytes of one label (RFC 1035 §2.3.4).
const LABEL_BYTES: usize = 63;

/// Host and port, as places in the bytes that were parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Authority {
    /// The host as sent: a name (perhaps with a trailing dot), an IPv4 address, or an IPv6 address within
    /// its brackets.
    pub host: Span,
    /// The port, if one was given.
    pub port: Option<u16>,
}

/// Why bytes are not an authority.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthorityError {
    /// Nothing stands where the host should.
    EmptyHost,
    /// A byte that no host name has: `@`, `,`, `%`, blank, control, non-ASCII.
    ForbiddenByte,
    /// Two dots in a row, a leading dot, or a label beyond 63 bytes.
    BadLabel,
    /// The name is longer than 253 bytes.
    HostTooLong,
    /// The last label is a number, but the whole is not a dotted quad.
    BadIpv4,
    /// The brackets do not hold an IPv6 address, or do not close.
    BadIpv6,
    /// The port is empty, not decimal, or beyond 65535.
    BadPort,
}

impl AuthorityError {
    /// A short name for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::EmptyHost => "host-empty",
            Self::ForbiddenByte => "host-forbidden-byte",
            Self::BadLabel => "host-bad-label",
            Self::HostTooLong => "host-too-long",
            Self::BadIpv4 => "host-bad-ipv4",
            Self::BadIpv6 => "host-bad-ipv6",
            Self::BadPort => "host-bad-port",
        }
    }
}

/// Reads `uri-host [ ":" port ]` (RFC 9110 §7.2), the whole of `bytes`.
///
/// # Errors
/// If `bytes` is anything else. Stricter than RFC 3986 §3.2.2 by choice: a registered name has letters,
/// digits, hyphens, underscores and single dots only, IPvFuture and zones are refused, and a port may not
/// be empty.
pub fn parse(bytes: &[u8]) -> Result<Authority, AuthorityError> {
    let host_len = if bytes.first() == Some(&b'[') {
        ipv6_len(bytes)?
    } else {
        let len = bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len());
        check_name(bytes.get(..len).unwrap_or_default())?;
        len
    };
    let port = match bytes.split_at_checked(host_len) {
        None | Some((_, [])) => None,
        Some((_, [b':', digits @ ..])) => Some(port(digits)?),
        Some(_) => return Err(AuthorityError::ForbiddenByte),
    };
    Ok(Authority { host: Span::between(0, host_len), port })
}

/// Replaces `out` by the host in the one form used for look-ups: lower case, without trailing dot and
/// brackets. `host` is one that [`parse`] accepted, or a name from a configuration.
pub fn normalise_host(host: &[u8], out: &mut Vec<u8>) {
    let bare = host.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")).unwrap_or(host);
    let bare = bare.strip_suffix(b".").unwrap_or(bare);
    out.clear();
    out.extend(bare.iter().map(u8::to_ascii_lowercase));
}

/// Whether two hosts (as sent) are the same by [`normalise_host`].
#[must_use]
pub fn same_host(a: &[u8], b: &[u8]) -> bool {
    let bare = |host: &[u8]| host.strip_suffix(b".").map_or(host.len(), <[u8]>::len);
    a.get(..bare(a)).unwrap_or_default().eq_ignore_ascii_case(b.get(..bare(b)).unwrap_or_default())
}

fn ipv6_len(bytes: &[u8]) -> Result<usize, AuthorityError> {
    let close = bytes.iter().position(|&byte| byte == b']').ok_or(AuthorityError::BadIpv6)?;
    let inner = bytes.get(1..close).unwrap_or_default();
    let text = str::from_utf8(inner).map_err(|_| AuthorityError::BadIpv6)?;
    text.parse::<Ipv6Addr>().map_err(|_| AuthorityError::BadIpv6)?;
    Ok(close + 1)
}

fn check_name(name: &[u8]) -> Result<(), AuthorityError> {
    // RFC 9110 §4.2.1: a recipient must refuse an empty host.
    let bare = name.strip_suffix(b".").unwrap_or(name);
    if name.is_empty() {
        return Err(AuthorityError::EmptyHost);
    }
    if bare.len() > HOST_BYTES {
        return Err(AuthorityError::HostTooLong);
    }
    if !name.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_')) {
        return Err(AuthorityError::ForbiddenByte);
    }
    let mut last: &[u8] = b"";
    for label in bare.split(|&byte| byte == b'.') {
        if label.is_empty() || label.len() > LABEL_BYTES {
            return Err(AuthorityError::BadLabel);
        }
        last = label;
    }
    // We refuse `127.1`, `1.2.3.4.5` and `256.1.1.1`: resolvers disagree about what they are.
    if last.iter().all(u8::is_ascii_digit) && !is_ipv4(name) {
        return Err(AuthorityError::BadIpv4);
    }
    Ok(())
}

fn is_ipv4(name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|text| text.parse::<Ipv4Addr>().is_ok())
}

fn port(digits: &[u8]) -> Result<u16, AuthorityError> {
    if digits.is_empty() || digits.len() > 5 {
        return Err(AuthorityError::BadPort);
    }
    let mut value = 0_u32;
    for digit in digits {
        let digit = (*digit as char).to_digit(10).ok_or(AuthorityError::BadPort)?;
        value = value * 10 + digit;
    }
    u16::try_from(value).map_err(|_| AuthorityError::BadPort)
}

#[cfg(test)]
mod tests {
    use super::{AuthorityError, normalise_host, parse, same_host};

    #[test]
    fn hosts_of_every_kind_are_read() {
        let read = |text: &'static str| {
            let authority = parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e:?}"));
            (authority.host.of(text.as_bytes()), authority.port)
        };
        assert_eq!(read("example.com"), (&b"example.com"[..], None));
        assert_eq!(read("Example.com.:8443"), (&b"Example.com."[..], Some(8443)));
        assert_eq!(read("a_b-c.x"), (&b"a_b-c.x"[..], None));
        assert_eq!(read("127.0.0.1:80"), (&b"127.0.0.1"[..], Some(80)));
        assert_eq!(read("[::1]"), (&b"[::1]"[..], None));
        assert_eq!(read("[2001:db8::1.2.3.4]:65535"), (&b"[2001:db8::1.2.3.4]"[..], Some(65535)));
        assert_eq!(read("localhost:0"), (&b"localhost"[..], Some(0)));
        assert_eq!(read("0x7f.com"), (&b"0x7f.com"[..], None));
    }

    #[test]
    fn everything_else_is_refused_rfc_9110_7_2() {
        use AuthorityError::{BadIpv4, BadIpv6, BadLabel, BadPort, EmptyHost, ForbiddenByte, HostTooLong};
        let cases = [
            ("", EmptyHost),
            (":80", EmptyHost),
            (".", BadLabel),
            ("a..b", BadLabel),
            (".a", BadLabel),
            ("a..", BadLabel),
            ("user@a", ForbiddenByte),
            ("a,b", ForbiddenByte),
            ("a b", ForbiddenByte),
            ("a%2eb", ForbiddenByte),
            ("a/b", ForbiddenByte),
            ("a?b", ForbiddenByte),
            ("a\\b", ForbiddenByte),
            ("a\0b", ForbiddenByte),
            ("\u{e9}.com", ForbiddenByte),
            ("127.1", BadIpv4),
            ("256.1.1.1", BadIpv4),
            ("1.2.3.4.", BadIpv4),
            ("017.0.0.1", BadIpv4),
            ("[::1", BadIpv6),
            ("[]", BadIpv6),
            ("[fe80::1%25eth0]", BadIpv6),
            ("[v1.x]", BadIpv6),
            ("[::1]x", ForbiddenByte),
            ("::1", EmptyHost),
            ("a:", BadPort),
            ("a:65536", BadPort),
            ("a:000080", BadPort),
            ("a:+80", BadPort),
            ("a:80:80", BadPort),
            ("a:8 0", BadPort),
        ];
        for (text, error) in cases {
            assert_eq!(parse(text.as_bytes()), Err(error), "{text:?}");
        }
        assert_eq!(parse(format!("{}.com", "a".repeat(64)).as_bytes()), Err(BadLabel));
        let long = |bytes: usize| "abcdefg.".repeat(32).split_off(256 - bytes);
        assert!(parse(long(253).as_bytes()).is_ok());
        assert_eq!(parse(long(256).as_bytes()), Err(HostTooLong));
    }

    #[test]
    fn one_form_for_look_ups() {
        let mut out = b"old".to_vec();
        for (host, form) in [("EXAMPLE.com.", "example.com"), ("[2001:DB8::1]", "2001:db8::1"), ("a", "a")] {
            normalise_host(host.as_bytes(), &mut out);
            assert_eq!(out, form.as_bytes());
        }
        assert!(same_host(b"A.b.", b"a.B") && !same_host(b"a.b", b"a.c") && !same_host(b"a", b"a.b"));
    }
}
