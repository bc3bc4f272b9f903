//! A URL as written: scheme, authority, path and query, with nothing that would be dropped or misread.

use super::diagnostic::{Code, Spot};
use super::endpoint;
use super::reader::Reader;

/// What authorities speak.
pub(super) const HTTPS: &[&str] = &["https://"];
/// What applications nearby speak.
pub(super) const HTTP_OR_HTTPS: &[&str] = &["https://", "http://"];

/// The text, if it is a URL of one of these schemes; else a finding.
pub(super) fn url(reader: &mut Reader<'_>, text: &str, spot: Spot, schemes: &[&str]) -> Option<String> {
    let fault = match fault(text, schemes) {
        None => return Some(text.to_owned()),
        Some(fault) => fault,
    };
    let remedy = match schemes {
        HTTPS => "write \"https://HOST/PATH\"",
        _ => "write \"https://HOST/PATH\" or \"http://HOST/PATH\"",
    };
    reader.findings.note(Code::BadUrl, spot, format!("`{text}` {fault}"), remedy);
    None
}

/// What is wrong with it, as the end of a sentence that starts with the text.
fn fault(text: &str, schemes: &[&str]) -> Option<&'static str> {
    let Some(rest) = schemes.iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        return Some(match text.starts_with("http://") {
            true => "is not encrypted",
            false => "does not start with `https://`",
        });
    };
    if !text.bytes().all(|b| b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b)) {
        return Some("has a character that must be escaped in a URL");
    }
    if rest.contains('#') {
        return Some("has a fragment, which is never sent");
    }
    let authority = rest.split(['/', '?']).next().unwrap_or("");
    match endpoint::tcp(authority, Some(443), true) {
        Ok(_) => None,
        Err(error) => Some(error.cause()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_have_a_scheme_a_host_and_nothing_that_is_dropped() {
        for text in ["https://ca.example/dir", "https://ca.example", "https://[::1]:14000/dir?a=b"] {
            assert_eq!(fault(text, HTTPS), None, "{text}");
        }
        assert_eq!(fault("http://127.0.0.1:8000/ask", HTTP_OR_HTTPS), None);
        for text in [
            "",
            "ca.example/dir",
            "http://ca.example/dir",
            "https://",
            "https:///dir",
            "https://user@ca.example/dir",
            "https://ca.example:70000/dir",
            "https://ca.example/dir#here",
            "https://ca.example/a b",
            "https://bücher.example/",
            "https://ca.example\n/",
        ] {
            assert!(fault(text, HTTPS).is_some(), "{text}");
        }
    }
}
