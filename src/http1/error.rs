//! Why HTTP/1.1 bytes are refused, who is told what, and where the byte stood.

use crate::http::authority::AuthorityError;
use crate::http::target::TargetError;

/// A head that is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadError {
    /// What is wrong.
    pub kind: HeadErrorKind,
    /// Offset of the bad byte from the input's first one.
    pub at: usize,
}

/// What is wrong with the bytes of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadErrorKind {
    /// More empty lines than tolerated before the request line (RFC 9112 §2.2).
    TooManyEmptyLines,
    /// The method is empty or has a byte that no token has (RFC 9110 §9.1).
    BadMethod,
    /// The target is empty or has a control or non-ASCII byte (RFC 9112 §3.2).
    BadTarget,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The request line ends without a version, as HTTP/0.9 has it (RFC 9112 §3).
    MissingVersion,
    /// The version is not `HTTP/` digit `.` digit (RFC 9112 §2.3).
    BadVersion,
    /// A version other than 1.0 and 1.1.
    UnsupportedVersion,
    /// Something stands between the version and the end of its line.
    BadLineEnd,
    /// The status code is not three digits from 100 (RFC 9112 §4).
    BadStatus,
    /// A control byte in the reason phrase.
    ControlInReason,
    /// LF without CR before it. RFC 9112 §2.2 permits to accept it; we refuse what others may not see.
    BareLf,
    /// CR without LF after it (RFC 9112 §2.2).
    BareCr,
    /// A blank before the first field line (RFC 9112 §2.2).
    LeadingBlank,
    /// A line that continues the one before (RFC 9112 §5.2).
    ObsFold,
    /// A field line without a name (RFC 9112 §5).
    EmptyName,
    /// A blank in or after a field name (RFC 9112 §5.1).
    BlankInName,
    /// A byte in a field name that no token has (RFC 9110 §5.1).
    BadName,
    /// A field line without a colon (RFC 9112 §5).
    MissingColon,
    /// NUL or another control in a field value (RFC 9110 §5.5).
    ControlInValue,
    /// More field lines than the limit.
    TooManyFields,
    /// The head does not end within the limit.
    HeadTooLarge,
}

impl HeadErrorKind {
    /// The status that tells a client (RFC 9110 §15.5, RFC 6585 §5). From an upstream it is 502 always.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooManyFields | Self::HeadTooLarge => 431,
            Self::UnsupportedVersion => 505,
            _ => 400,
        }
    }

    /// A short name for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooManyEmptyLines => "too-many-empty-lines",
            Self::BadMethod => "bad-method",
            Self::BadTarget => "bad-target",
            Self::TargetTooLong => "target-too-long",
            Self::MissingVersion => "missing-version",
            Self::BadVersion => "bad-version",
            Self::UnsupportedVersion => "unsupported-version",
            Self::BadLineEnd => "bad-line-end",
            Self::BadStatus => "bad-status",
            Self::ControlInReason => "control-in-reason",
            Self::BareLf => "bare-lf",
            Self::BareCr => "bare-cr",
            Self::LeadingBlank => "leading-blank",
            Self::ObsFold => "obs-fold",
            Self::EmptyName => "empty-name",
            Self::BlankInName => "blank-in-name",
            Self::BadName => "bad-name",
            Self::MissingColon => "missing-colon",
            Self::ControlInValue => "control-in-value",
            Self::TooManyFields => "too-many-fields",
            Self::HeadTooLarge => "head-too-large",
        }
    }
}

/// Framing fields that leave open how the body ends (RFC 9112 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FramingError {
    /// Both `Content-Length` and `Transfer-Encoding` (RFC 9112 §6.1 permits to refuse it).
    LengthAndEncoding,
    /// A second `Content-Length` line, even an equal one (RFC 9112 §6.3 permits to refuse it).
    RepeatedLength,
    /// `Content-Length` is not decimal digits alone, or beyond 2^64 - 1 (RFC 9110 §8.6).
    BadLength,
    /// A second `Transfer-Encoding` line.
    RepeatedEncoding,
    /// `Transfer-Encoding` is not `chunked` alone (RFC 9112 §6.1).
    BadEncoding,
    /// `Transfer-Encoding` in a message of HTTP/1.0 (RFC 9112 §6.1).
    EncodingInHttp10,
}

impl FramingError {
    /// A short name for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::LengthAndEncoding => "length-and-encoding",
            Self::RepeatedLength => "repeated-length",
            Self::BadLength => "bad-length",
            Self::RepeatedEncoding => "repeated-encoding",
            Self::BadEncoding => "bad-encoding",
            Self::EncodingInHttp10 => "encoding-in-http-1.0",
        }
    }
}

/// A request whose head is well formed but has no single meaning, or one that is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestError {
    /// What is wrong.
    pub kind: RequestErrorKind,
    /// Offset from the head's first byte of the place where it is.
    pub at: usize,
}

/// What is wrong with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestErrorKind {
    /// CONNECT or TRACE, which a reverse proxy does not serve.
    MethodNotServed,
    /// The target has none of the forms that it may have.
    Target(TargetError),
    /// No `Host` (RFC 9112 §3.2), nor an authority in the target.
    MissingHost,
    /// More than one `Host` line (RFC 9112 §3.2).
    RepeatedHost,
    /// `Host` is not an authority.
    Host(AuthorityError),
    /// `Host` names another host than the target (RFC 9112 §3.2.2 would take the target; we refuse).
    HostMismatch,
    /// How the body ends is unclear.
    Framing(FramingError),
    /// An expectation other than `100-continue` (RFC 9110 §10.1.1).
    UnknownExpectation,
}

impl RequestError {
    /// The status that tells the client.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self.kind {
            // RFC 9110 §15.5.6: known, but not allowed for any target here.
            RequestErrorKind::MethodNotServed => 405,
            RequestErrorKind::UnknownExpectation => 417,
            _ => 400,
        }
    }

    /// A short name for logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self.kind {
            RequestErrorKind::MethodNotServed => "method-not-served",
            RequestErrorKind::Target(error) => error.reason(),
            RequestErrorKind::MissingHost => "host-missing",
            RequestErrorKind::RepeatedHost => "host-repeated",
            RequestErrorKind::Host(error) => error.reason(),
            RequestErrorKind::HostMismatch => "host-mismatch",
            RequestErrorKind::Framing(error) => error.reason(),
            RequestErrorKind::UnknownExpectation => "unknown-expectation",
        }
    }
}

/// A response whose head is well formed but does not say how its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseError {
    /// What is wrong.
    pub kind: FramingError,
    /// Offset from the head's first byte of the place where it is.
    pub at: usize,
}

impl ResponseError {
    /// The status that tells the client: the upstream is at fault.
    #[must_use]
    pub fn status(&self) -> u16 {
        502
    }

    /// A short name for logs.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        self.kind.reason()
    }
}

/// A body that breaks its framing. From a client it is 400, from an upstream 502 if the head has not been
/// passed on; the connection is lost in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// The peer closed before the end of the body (RFC 9112 §8).
    Truncated,
    /// The chunk size does not begin with a hexadecimal digit, or goes on with another byte.
    BadChunkSize,
    /// The chunk size has more than sixteen digits.
    ChunkSizeTooLong,
    /// A chunk extension has a control byte or no name (RFC 9112 §7.1.1).
    BadChunkExtension,
    /// A chunk's line, or all extensions together, are longer than the limit.
    ChunkExtensionTooLong,
    /// CR of a chunk's line is not followed by LF, or LF stands alone (RFC 9112 §7.1).
    BadChunkLineEnd,
    /// CRLF is missing after the data of a chunk: there is more or less of it than announced.
    BadChunkDataEnd,
    /// The trailer section is longer than the limit.
    TrailersTooLarge,
    /// A trailer line is not a field line (RFC 9112 §7.1.2).
    BadTrailer(HeadErrorKind),
}

impl BodyError {
    /// A short name for logs.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::Truncated => "body-truncated",
            Self::BadChunkSize => "chunk-bad-size",
            Self::ChunkSizeTooLong => "chunk-size-too-long",
            Self::BadChunkExtension => "chunk-bad-extension",
            Self::ChunkExtensionTooLong => "chunk-extension-too-long",
            Self::BadChunkLineEnd => "chunk-bad-line-end",
            Self::BadChunkDataEnd => "chunk-bad-data-end",
            Self::TrailersTooLarge => "trailers-too-large",
            Self::BadTrailer(kind) => kind.reason(),
        }
    }
}
