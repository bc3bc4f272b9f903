//! The one place that decides how a body ends (RFC 9112 §6.3). Nobody downstream looks at
//! `Content-Length` and `Transfer-Encoding` again; what is forwarded is written from [`Framing`].

use super::error::FramingError;
use crate::http::head::{FieldLine, Version};
use crate::http::method::Method;

/// How the body of a message ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// After this many bytes; a request with `Content-Length: 0` has `Length(0)`.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// When the upstream closes (responses only).
    UntilClose,
}

/// The framing fields of one head, gathered line by line with each line's own errors.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct FramingFields {
    length: Option<u64>,
    chunked: bool,
    /// Offset of the last framing field.
    at: usize,
}

impl FramingFields {
    /// Takes a `Content-Length` line.
    pub(super) fn content_length(&mut self, line: &FieldLine, bytes: &[u8]) -> Result<(), FramingError> {
        self.at = line.name.start as usize;
        let length = decimal(line.value.of(bytes)).ok_or(FramingError::BadLength)?;
        match self.length.replace(length) {
            None => Ok(()),
            Some(_) => Err(FramingError::RepeatedLength),
        }
    }

    /// Takes a `Transfer-Encoding` line. No other coding than `chunked` is read, none is removed, and
    /// none is forwarded; so a list, a parameter or an empty value is refused.
    pub(super) fn transfer_encoding(&mut self, line: &FieldLine, bytes: &[u8]) -> Result<(), FramingError> {
        self.at = line.name.start as usize;
        if !line.value.of(bytes).eq_ignore_ascii_case(b"chunked") {
            return Err(FramingError::BadEncoding);
        }
        match std::mem::replace(&mut self.chunked, true) {
            false => Ok(()),
            true => Err(FramingError::RepeatedEncoding),
        }
    }

    /// Offset from the head's first byte of the framing field that was taken last.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    /// The length that the head announces, whether a body follows or not.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    /// How a request's body ends: rules 3, 4, 6 and 7 of RFC 9112 §6.3.
    pub(super) fn of_request(&self, version: Version) -> Result<Framing, FramingError> {
        self.check(version)?;
        Ok(self.announced().unwrap_or(Framing::None))
    }

    /// How a response's body ends: the rules of RFC 9112 §6.3 in their order.
    pub(super) fn of_response(
        &self,
        version: Version,
        status: u16,
        method: Method,
    ) -> Result<Framing, FramingError> {
        self.check(version)?;
        // Rule 1: these end with their head, whatever its fields say.
        if method == Method::Head || matches!(status, 100..=199 | 204 | 304) {
            return Ok(Framing::None);
        }
        // Rule 2, a successful CONNECT, cannot happen: CONNECT is not served. Rules 4, 6 and 8.
        Ok(self.announced().unwrap_or(Framing::UntilClose))
    }

    fn announced(&self) -> Option<Framing> {
        if self.chunked { Some(Framing::Chunked) } else { self.length.map(Framing::Length) }
    }

    fn check(&self, version: Version) -> Result<(), FramingError> {
        // RFC 9112 §6.1: treat the framing as faulty and close, even if a length is there, too.
        if self.chunked && version == Version::Http10 {
            return Err(FramingError::EncodingInHttp10);
        }
        // Rule 3: "ought to be handled as an error".
        if self.chunked && self.length.is_some() {
            return Err(FramingError::LengthAndEncoding);
        }
        Ok(())
    }
}

/// `1*DIGIT` within 64 bits (RFC 9110 §8.6): no sign, no blank, no list.
fn decimal(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0_u64, |sum, &byte| {
        let digit = byte.checked_sub(b'0').filter(|&digit| digit < 10)?;
        sum.checked_mul(10)?.checked_add(u64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn lengths_are_plain_decimal_rfc_9110_8_6() {
        assert_eq!(decimal(b"0"), Some(0));
        assert_eq!(decimal(b"0042"), Some(42));
        assert_eq!(decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in ["", "18446744073709551616", "+1", "-1", "1,1", "1 1", "0x1", "1.", "\u{661}"] {
            assert_eq!(decimal(bad.as_bytes()), None, "{bad:?}");
        }
    }
}
