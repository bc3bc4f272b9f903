//! Version-neutral heads: an index over the buffer that the head came in. Nothing is copied; every
//! [`Span`] is relative to the first byte of the head.

use super::field::Name;
use super::method::Method;
use crate::wire::Span;

/// The protocol version of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    #[default]
    Http11,
    /// HTTP/2.
    Http2,
}

/// One field line (RFC 9110 §5).
#[derive(Clone, Copy, Debug)]
pub struct FieldLine {
    /// What the name is, when the proxy has to know it.
    pub known: Name,
    /// The name as sent.
    pub name: Span,
    /// The value without surrounding blanks.
    pub value: Span,
}

/// A request head. The vectors are reused between requests, so parsing allocates nothing once warm.
#[derive(Clone, Debug, Default)]
pub struct RequestHead {
    /// The method, if it is one that the proxy knows.
    pub method: Method,
    /// The method token as sent.
    pub method_name: Span,
    /// The request-target as sent.
    pub target: Span,
    /// Version of the request line.
    pub version: Version,
    /// Field lines in order.
    pub fields: Vec<FieldLine>,
}

/// A response head.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// Version of the status line.
    pub version: Version,
    /// Status code, 100 to 999.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: Span,
    /// Field lines in order.
    pub fields: Vec<FieldLine>,
}
