//! The trailer section of a chunked body (RFC 9112 §7.1.2, RFC 9110 §6.5): checked as strictly as a head,
//! and only what cannot change the meaning of the message is passed on.

use super::connection::is_hop_by_hop;
use super::error::BodyError;
use super::head::read_field_section;
use super::write;
use crate::http::field::Name;
use crate::limits::{FIELDS, TRAILER_BYTES};

/// Replaces `section`, the raw field lines without the final empty line, by those that may be passed on,
/// each as `name: value CRLF`.
pub(super) fn filter(section: &mut Vec<u8>) -> Result<(), BodyError> {
    if section.is_empty() {
        return Ok(());
    }
    section.extend_from_slice(b"\r\n");
    let mut fields = Vec::new();
    read_field_section(section, FIELDS, &mut fields).map_err(BodyError::BadTrailer)?;
    let mut kept = Vec::with_capacity(section.len());
    for line in &fields {
        let name = line.name.of(section);
        if may_be_trailer(line.known, name) {
            write::field(&mut kept, name, line.value.of(section));
        }
    }
    // A line `a:b` grows by the blank that writing adds.
    if kept.len() > TRAILER_BYTES {
        return Err(BodyError::TrailersTooLarge);
    }
    *section = kept;
    Ok(())
}

/// RFC 9110 §6.5.1: no field for framing, routing, request modifiers, authentication or content format;
/// and none by which we tell the upstream who asks. Names with `_` go, because an app may see a hyphen.
fn may_be_trailer(known: Name, name: &[u8]) -> bool {
    let is_ours = matches!(
        known,
        Name::ContentLength
            | Name::Cookie
            | Name::Date
            | Name::Expect
            | Name::Forwarded
            | Name::Host
            | Name::Trailer
            | Name::Via
            | Name::XRealIp
    );
    let starts = |prefix: &[u8]| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix));
    !(is_hop_by_hop(known)
        || is_ours
        || name.contains(&b'_')
        || PREFIXES.iter().any(|prefix| starts(prefix))
        || NAMES.iter().any(|other| name.eq_ignore_ascii_case(other)))
}

const PREFIXES: [&[u8]; 4] = [b"content-", b"if-", b"x-forwarded-", b"proxy-"];
const NAMES: [&[u8]; 22] = [
    b"accept",
    b"accept-charset",
    b"accept-encoding",
    b"accept-language",
    b"age",
    b"authorization",
    b"cache-control",
    b"early-data",
    b"expires",
    b"location",
    b"max-forwards",
    b"origin",
    b"pragma",
    b"range",
    b"referer",
    b"retry-after",
    b"set-cookie",
    b"strict-transport-security",
    b"vary",
    b"www-authenticate",
    b"x-http-method-override",
    b"x-client-ip",
];

#[cfg(test)]
mod tests {
    use super::filter;
    use crate::http1::error::{BodyError, HeadErrorKind};

    fn filtered(section: &str) -> Result<String, BodyError> {
        let mut bytes = section.as_bytes().to_vec();
        filter(&mut bytes)?;
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn what_may_be_a_trailer_stays() {
        let section = "grpc-status:0\r\nDigest:  x \r\nServer-Timing: a;dur=1\r\n";
        let want = "grpc-status: 0\r\nDigest: x\r\nServer-Timing: a;dur=1\r\n";
        assert_eq!(filtered(section).as_deref(), Ok(want));
        assert_eq!(filtered("").as_deref(), Ok(""));
    }

    #[test]
    fn what_would_change_the_message_goes_rfc_9110_6_5_1() {
        let names = "Content-Length|Transfer-Encoding|Host|Connection|Keep-Alive|TE|Trailer|Upgrade|Expect|\
             Authorization|WWW-Authenticate|Proxy-Authorization|Proxy-X|Cookie|Set-Cookie|Forwarded|Via|\
             X-Forwarded-For|x-forwarded-proto|X-Forwarded-Anything|X_Forwarded_For|X-Real-IP|Range|\
             If-Match|Content-Type|Content-Encoding|Cache-Control|Location|HTTP2-Settings";
        for name in names.split('|') {
            assert_eq!(filtered(&format!("{name}: 1\r\na: b\r\n")).as_deref(), Ok("a: b\r\n"), "{name}");
        }
    }

    #[test]
    fn trailers_are_as_strict_as_heads() {
        for (section, kind) in [
            ("a\r\n", HeadErrorKind::MissingColon),
            ("a : b\r\n", HeadErrorKind::BlankInName),
            ("a: b\r\n c\r\n", HeadErrorKind::ObsFold),
            (" a: b\r\n", HeadErrorKind::LeadingBlank),
            (": b\r\n", HeadErrorKind::EmptyName),
            ("a: \0\r\n", HeadErrorKind::ControlInValue),
            ("a(: b\r\n", HeadErrorKind::BadName),
        ] {
            assert_eq!(filtered(section), Err(BodyError::BadTrailer(kind)), "{section:?}");
        }
        let many = "a: b\r\n".repeat(crate::limits::FIELDS + 1);
        assert_eq!(filtered(&many), Err(BodyError::BadTrailer(HeadErrorKind::TooManyFields)));
    }
}
