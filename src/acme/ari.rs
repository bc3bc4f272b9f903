//! Renewal information (RFC 9773): how a certificate is named, and the window in which its authority would
//! like it to be renewed. The answer is untrusted: a window that is none is an error, never a date.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::ca::base64url;
use super::ca::date;
use crate::limits;

/// The window of one certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenewalInfo {
    /// Its start, in seconds since 1970.
    pub start: u64,
    /// Its end, in seconds since 1970; later than the start.
    pub end: u64,
    /// URL of a page for people that says why; bounded and without control characters.
    pub explanation: Option<String>,
    /// When to ask again: what the authority said, between one minute and one day, or 6 hours.
    pub retry_after: Duration,
}

/// Why an answer is no window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// Not the JSON of RFC 9773 §4.2.
    NotJson,
    /// A time that is not RFC 3339's.
    NotATime,
    /// The end is not after the start.
    Backwards,
}

impl fmt::Display for WindowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotJson => "not a renewal window in JSON",
            Self::NotATime => "a time of the renewal window is none",
            Self::Backwards => "the renewal window ends before it starts",
        })
    }
}

impl std::error::Error for WindowError {}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "suggestedWindow")]
    window: Window,
    #[serde(rename = "explanationURL")]
    explanation: Option<String>,
}

#[derive(Deserialize)]
struct Window {
    start: String,
    end: String,
}

impl RenewalInfo {
    /// Reads an answer's body and what its `Retry-After` said.
    ///
    /// # Errors
    /// It is no window.
    pub fn read(body: &[u8], retry_after: Option<Duration>) -> Result<Self, WindowError> {
        let answer: Answer = serde_json::from_slice(body).map_err(|_| WindowError::NotJson)?;
        let time = |text: &str| date::rfc3339(text).ok_or(WindowError::NotATime);
        let (start, end) = (time(&answer.window.start)?, time(&answer.window.end)?);
        if end <= start {
            return Err(WindowError::Backwards);
        }
        let explanation = answer
            .explanation
            .filter(|url| url.len() <= limits::ACME_TEXT_BYTES && url.bytes().all(|b| b.is_ascii_graphic()));
        let retry_after = retry_after
            .unwrap_or(limits::ACME_RENEWAL_INFO_DEFAULT)
            .clamp(limits::ACME_RENEWAL_INFO_SOONEST, limits::ACME_RENEWAL_INFO_LATEST);
        Ok(Self { start, end, explanation, retry_after })
    }
}

/// A certificate's name in renewal information and `replaces` (RFC 9773 §4.1), from its DER: the authority's
/// key identifier and the serial number's content octets, in base64url. None if it is no certificate, or has
/// no such identifier (a self-signed one).
#[must_use]
pub fn certificate_id(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let authority =
        certificate.extensions().iter().find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(identifier) => identifier.key_identifier.as_ref(),
            _ => None,
        })?;
    // As encoded: a leading zero byte, which keeps the number positive, belongs to it.
    let serial = base64url::encode(certificate.raw_serial());
    Some(format!("{}.{serial}", base64url::encode(authority.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The certificate of RFC 9773's appendix A.
    const EXAMPLE: &str = "-----BEGIN CERTIFICATE-----
MIIBQzCB66ADAgECAgUAh2VDITAKBggqhkjOPQQDAjAVMRMwEQYDVQQDEwpFeGFt
cGxlIENBMCIYDzAwMDEwMTAxMDAwMDAwWhgPMDAwMTAxMDEwMDAwMDBaMBYxFDAS
BgNVBAMTC2V4YW1wbGUuY29tMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEeBZu
7cbpAYNXZLbbh8rNIzuOoqOOtmxA1v7cRm//AwyMwWxyHz4zfwmBhcSrf47NUAFf
qzLQ2PPQxdTXREYEnKMjMCEwHwYDVR0jBBgwFoAUaYhba4dGQEHhs3uEe6CuLN4B
yNQwCgYIKoZIzj0EAwIDRwAwRAIge09+S5TZAlw5tgtiVvuERV6cT4mfutXIlwTb
+FYN/8oCIClDsqBklhB9KAelFiYt9+6FDj3z4KGVelYM5MdsO3pK
-----END CERTIFICATE-----";

    #[test]
    fn the_example_of_the_rfc() {
        let (_, pem) = x509_parser::pem::parse_x509_pem(EXAMPLE.as_bytes()).unwrap();
        assert_eq!(certificate_id(&pem.contents).as_deref(), Some("aYhba4dGQEHhs3uEe6CuLN4ByNQ.AIdlQyE"));
        assert_eq!(certificate_id(b"no certificate"), None);
        let whole = pem.contents.len();
        assert!((0..whole).all(|end| certificate_id(&pem.contents[..end]).is_none()));
    }

    #[test]
    fn a_self_signed_certificate_has_no_name() {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::default().self_signed(&key).unwrap();
        assert_eq!(certificate_id(certificate.der()), None);
    }

    #[test]
    fn windows_are_checked() {
        let read = |start: &str, end: &str, url: &str| {
            let body = format!(
                "{{\"suggestedWindow\":{{\"start\":\"{start}\",\"end\":\"{end}\"}},\"explanationURL\":{url}}}"
            );
            RenewalInfo::read(body.as_bytes(), None)
        };
        let (start, end) = ("2025-01-02T04:00:00Z", "2025-01-03T04:00:00Z");
        let info = read(start, end, "\"https://a.example/x\"").unwrap();
        assert_eq!((info.start, info.end), (1_735_790_400, 1_735_876_800));
        assert_eq!(info.explanation.as_deref(), Some("https://a.example/x"));
        assert_eq!(read(start, end, "null").unwrap().explanation, None);
        assert_eq!(read(start, end, "\"a b\\n\"").unwrap().explanation, None);
        assert_eq!(read(end, start, "null"), Err(WindowError::Backwards));
        assert_eq!(read(start, start, "null"), Err(WindowError::Backwards));
        assert_eq!(read(start, "tomorrow", "null"), Err(WindowError::NotATime));
        assert_eq!(RenewalInfo::read(b"<html>", None), Err(WindowError::NotJson));
        assert_eq!(RenewalInfo::read(b"{}", None), Err(WindowError::NotJson));
    }
}
