//! Why a ClientHello is refused, and with which alert.

use std::fmt;

use crate::tls::alert;

/// Why the first bytes of a connection are not an acceptable ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelloError {
    /// Not a TLS record.
    NotTls {
        /// Whether it reads like an HTTP request line.
        looks_like_http: bool,
    },
    /// A TLS record, but not of handshake messages.
    UnexpectedRecord,
    /// A record without content (RFC 8446 §5.1).
    EmptyRecord,
    /// A record of more than 16 KiB (RFC 8446 §5.1).
    OversizedRecord,
    /// A hello over more records than [`crate::limits::CLIENT_HELLO_RECORDS`].
    TooManyRecords,
    /// A handshake message of another type.
    NotClientHello,
    /// A hello longer than [`crate::limits::CLIENT_HELLO_BYTES`].
    TooLarge,
    /// More bytes in the record than the message has.
    TrailingMessage,
    /// A field runs past its frame, or the frame holds more than its fields.
    Malformed,
    /// A session id of more than 32 bytes.
    SessionIdTooLong,
    /// No cipher suite, or half a one.
    BadCipherSuites,
    /// The null compression method is missing, or not alone in a TLS 1.3 hello.
    BadCompression,
    /// An extension came twice (RFC 8446 §4.2).
    DuplicateExtension,
    /// More extensions than [`crate::limits::CLIENT_HELLO_EXTENSIONS`].
    TooManyExtensions,
    /// pre_shared_key is not the last extension (RFC 8446 §4.2.11).
    PreSharedKeyNotLast,
    /// server_name without exactly one host name.
    BadServerName,
    /// An IP address as host name (RFC 6066 §3 forbids it).
    ServerNameIsAddress,
    /// The host name breaks the grammar of names.
    ServerNameGrammar,
    /// A list in an extension is empty, or does not fill its frame.
    BadExtension,
}

impl HelloError {
    /// The alert to answer with; `None` where the peer does not speak TLS.
    #[must_use]
    pub fn alert(self) -> Option<u8> {
        Some(match self {
            Self::NotTls { .. } => return None,
            Self::UnexpectedRecord | Self::EmptyRecord | Self::NotClientHello => alert::UNEXPECTED_MESSAGE,
            // RFC 8446 §5.1: a message that is followed by a key change must end its record.
            Self::TrailingMessage => alert::UNEXPECTED_MESSAGE,
            Self::OversizedRecord => alert::RECORD_OVERFLOW,
            Self::BadCompression
            | Self::DuplicateExtension
            | Self::PreSharedKeyNotLast
            | Self::BadServerName
            | Self::ServerNameIsAddress
            | Self::ServerNameGrammar => alert::ILLEGAL_PARAMETER,
            Self::TooManyRecords
            | Self::TooLarge
            | Self::Malformed
            | Self::SessionIdTooLong
            | Self::BadCipherSuites
            | Self::TooManyExtensions
            | Self::BadExtension => alert::DECODE_ERROR,
        })
    }

    /// A fixed word for logs and counters.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotTls { looks_like_http: true } => "plain-http-on-tls-port",
            Self::NotTls { looks_like_http: false } => "not-tls",
            Self::UnexpectedRecord => "hello-unexpected-record",
            Self::EmptyRecord => "hello-empty-record",
            Self::OversizedRecord => "hello-oversized-record",
            Self::TooManyRecords => "hello-too-many-records",
            Self::NotClientHello => "hello-other-message",
            Self::TooLarge => "hello-too-large",
            Self::TrailingMessage => "hello-trailing-message",
            Self::Malformed => "hello-malformed",
            Self::SessionIdTooLong => "hello-session-id",
            Self::BadCipherSuites => "hello-cipher-suites",
            Self::BadCompression => "hello-compression",
            Self::DuplicateExtension => "hello-duplicate-extension",
            Self::TooManyExtensions => "hello-too-many-extensions",
            Self::PreSharedKeyNotLast => "hello-pre-shared-key-not-last",
            Self::BadServerName => "hello-server-name-list",
            Self::ServerNameIsAddress => "hello-server-name-is-address",
            Self::ServerNameGrammar => "hello-server-name-grammar",
            Self::BadExtension => "hello-extension",
        }
    }
}

impl fmt::Display for HelloError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for HelloError {}
