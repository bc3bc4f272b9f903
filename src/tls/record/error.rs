//! The ways in which a record can be refused, and the alert that each one earns.

use super::super::keys::KeyError;

/// Why a record could not be opened or sealed. The connection ends with it: send [`RecordError::alert`],
/// if there is one, and close.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// Ciphertext longer than RFC 8446 §5.2 or RFC 5246 §6.2.3 allows.
    CiphertextTooLong,
    /// Plaintext longer than 2^14 bytes (RFC 8446 §5.4, RFC 5246 §6.2.1).
    PlaintextTooLong,
    /// The record did not authenticate (RFC 8446 §5.2).
    BadRecordMac,
    /// A record version other than TLS 1.2's in a TLS 1.2 connection (RFC 5246 §6.2.1).
    WrongVersion,
    /// A record that is not protected although keys are in use (RFC 8446 §5).
    Unprotected,
    /// An inner plaintext of zeros only, so without a content type (RFC 8446 §5.4).
    NoContentType,
    /// A content type that does not exist or has no place after the handshake (RFC 8446 §5).
    UnexpectedContentType,
    /// change_cipher_spec after the handshake (RFC 8446 §5).
    ChangeCipherSpec,
    /// A handshake message that has no place after the handshake (RFC 8446 §4.6).
    UnexpectedHandshake,
    /// An empty fragment of a handshake message (RFC 8446 §5.1).
    EmptyHandshakeFragment,
    /// Another record between the fragments of a handshake message (RFC 8446 §5.1).
    InterleavedHandshake,
    /// A handshake message longer than [`crate::limits::POST_HANDSHAKE_BYTES`].
    HandshakeTooLong,
    /// A KeyUpdate of another length than one (RFC 8446 §4.6.3).
    BadKeyUpdateLength,
    /// A request_update other than 0 and 1 (RFC 8446 §4.6.3).
    BadKeyUpdateRequest,
    /// Bytes after a KeyUpdate in its record, so under the old key (RFC 8446 §5.1).
    KeyUpdateNotLast,
    /// More than [`crate::limits::KEY_UPDATES_WITHOUT_DATA`]; our choice.
    KeyUpdateFlood,
    /// More than [`crate::limits::EMPTY_RECORDS`] records in a row without data; our choice.
    EmptyRecordFlood,
    /// A TLS 1.2 renegotiation (RFC 5246 §7.2.2), which is refused for good.
    Renegotiation,
    /// A session ticket that rustls could not read (RFC 8446 §4.6.1).
    BadTicket,
    /// An alert that is not two bytes long (RFC 8446 §5.1), or has no such level (RFC 5246 §7.2).
    BadAlert,
    /// The peer ended the connection with this alert.
    PeerAlert(u8),
    /// The key of this direction may carry no more (TLS 1.2, or a sequence number at its end).
    KeyExhausted,
    /// Data to seal after close_notify or a fatal alert was sent; a defect of the caller.
    AfterClose,
    /// More than 2^14 bytes were put into one record, or its start lies outside; a defect of the caller.
    BadRecordStart,
    /// The key schedule or the provider refused; a defect.
    KeySchedule,
    /// rustls, carrying the records itself, refused for a reason that has no name here.
    RefusedByRustls,
}

impl RecordError {
    /// The alert description to send (RFC 8446 §6); `None` when the peer has ended the connection.
    #[must_use]
    pub fn alert(self) -> Option<u8> {
        Some(match self {
            Self::CiphertextTooLong | Self::PlaintextTooLong => alert::RECORD_OVERFLOW,
            Self::BadRecordMac => alert::BAD_RECORD_MAC,
            Self::WrongVersion => alert::PROTOCOL_VERSION,
            Self::Unprotected
            | Self::NoContentType
            | Self::UnexpectedContentType
            | Self::ChangeCipherSpec
            | Self::UnexpectedHandshake
            | Self::EmptyHandshakeFragment
            | Self::InterleavedHandshake
            | Self::KeyUpdateNotLast
            | Self::KeyUpdateFlood
            | Self::EmptyRecordFlood
            | Self::RefusedByRustls => alert::UNEXPECTED_MESSAGE,
            Self::HandshakeTooLong | Self::BadKeyUpdateLength | Self::BadTicket | Self::BadAlert => {
                alert::DECODE_ERROR
            }
            Self::BadKeyUpdateRequest => alert::ILLEGAL_PARAMETER,
            Self::Renegotiation => alert::NO_RENEGOTIATION,
            Self::PeerAlert(_) => return None,
            Self::KeyExhausted | Self::AfterClose | Self::BadRecordStart | Self::KeySchedule => {
                alert::INTERNAL_ERROR
            }
        })
    }

    /// A short name for counters and the log.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::CiphertextTooLong => "record_ciphertext_too_long",
            Self::PlaintextTooLong => "record_plaintext_too_long",
            Self::BadRecordMac => "record_bad_mac",
            Self::WrongVersion => "record_wrong_version",
            Self::Unprotected => "record_unprotected",
            Self::NoContentType => "record_no_content_type",
            Self::UnexpectedContentType => "record_unexpected_content_type",
            Self::ChangeCipherSpec => "record_change_cipher_spec",
            Self::UnexpectedHandshake => "record_unexpected_handshake",
            Self::EmptyHandshakeFragment => "record_empty_handshake_fragment",
            Self::InterleavedHandshake => "record_interleaved_handshake",
            Self::HandshakeTooLong => "record_handshake_too_long",
            Self::BadKeyUpdateLength => "record_bad_key_update_length",
            Self::BadKeyUpdateRequest => "record_bad_key_update_request",
            Self::KeyUpdateNotLast => "record_key_update_not_last",
            Self::KeyUpdateFlood => "record_key_update_flood",
            Self::EmptyRecordFlood => "record_empty_flood",
            Self::Renegotiation => "record_renegotiation",
            Self::BadTicket => "record_bad_ticket",
            Self::BadAlert => "record_bad_alert",
            Self::PeerAlert(_) => "record_peer_alert",
            Self::KeyExhausted => "record_key_exhausted",
            Self::AfterClose => "record_after_close",
            Self::BadRecordStart => "record_bad_start",
            Self::KeySchedule => "record_key_schedule",
            Self::RefusedByRustls => "record_refused_by_rustls",
        }
    }
}

impl From<KeyError> for RecordError {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::TagMismatch => Self::BadRecordMac,
            KeyError::SequenceExhausted => Self::KeyExhausted,
            KeyError::UnknownSuite | KeyError::KeyRefused | KeyError::SealRefused => Self::KeySchedule,
        }
    }
}

impl std::fmt::Display for RecordError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PeerAlert(description) => write!(f, "{} {description}", self.reason()),
            _ => f.write_str(self.reason()),
        }
    }
}

impl std::error::Error for RecordError {}

/// Alert descriptions (RFC 8446 §6, RFC 5246 §7.2).
pub mod alert {
    /// The sender sends no more.
    pub const CLOSE_NOTIFY: u8 = 0;
    /// A message that has no place here.
    pub const UNEXPECTED_MESSAGE: u8 = 10;
    /// A record that does not authenticate.
    pub const BAD_RECORD_MAC: u8 = 20;
    /// A record that is too long.
    pub const RECORD_OVERFLOW: u8 = 22;
    /// Nothing that both sides accept.
    pub const HANDSHAKE_FAILURE: u8 = 40;
    /// A field with a forbidden value.
    pub const ILLEGAL_PARAMETER: u8 = 47;
    /// A message that cannot be read.
    pub const DECODE_ERROR: u8 = 50;
    /// A version that is not spoken here.
    pub const PROTOCOL_VERSION: u8 = 70;
    /// A defect or an end of resources on the sender's side.
    pub const INTERNAL_ERROR: u8 = 80;
    /// The user gave up; close_notify follows.
    pub const USER_CANCELED: u8 = 90;
    /// TLS 1.2: no second handshake; always a warning.
    pub const NO_RENEGOTIATION: u8 = 100;
}
