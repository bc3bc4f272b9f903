//! Records carried by rustls itself, through its unbuffered interface and with copies: the reference
//! for our own record layer. Its refusals get our names, its alerts stay its own.
//!
//! ```text
//! open:   input ──one record──> held ──rustls──> plaintext back into the record's place in the input
//! commit: out ──plaintext──> a copy ──rustls──> the record in its place
//! ```

use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncryptError, WriteTraffic};
use rustls::{CipherSuite, Error, InvalidMessage, PeerMisbehaved};

use super::super::session::{encode, flush};
use super::{EXPLICIT_NONCE, Opened, RecordError, TAG};
use crate::limits::{POST_HANDSHAKE_BYTES, RECORD_HEADER, RECORD_PLAINTEXT};

/// A server's connection after its handshake, still rustls's.
pub(in crate::tls) struct RustlsRecords {
    connection: UnbufferedServerConnection,
    /// Records that rustls has seen and holds places in: fragments of a handshake message. Else empty.
    held: Vec<u8>,
    /// Records of rustls's that were made while opening and must go before any other.
    replies: Vec<u8>,
    /// close_notify or the end of the connection was sent.
    sent_close: bool,
    /// close_notify was opened.
    peer_closed: bool,
    /// The refusal that ended opening. rustls must not see input again after it.
    refused: Option<RecordError>,
}

impl RustlsRecords {
    /// Over a connection whose handshake is done, with no input that it has seen and not let go of.
    pub(in crate::tls) fn new(connection: UnbufferedServerConnection) -> Self {
        Self {
            connection,
            held: Vec::new(),
            replies: Vec::new(),
            sent_close: false,
            peer_closed: false,
            refused: None,
        }
    }

    /// See [`Records::open`](super::Records::open).
    pub(super) fn open(&mut self, input: &mut [u8]) -> Result<Opened, RecordError> {
        if let Some(error) = self.refused {
            return Err(error);
        }
        let opened = self.open_record(input);
        self.refused = opened.as_ref().err().copied();
        opened
    }

    fn open_record(&mut self, input: &mut [u8]) -> Result<Opened, RecordError> {
        if self.peer_closed {
            return Ok(Opened::CloseNotify { used: input.len() });
        }
        let Some(&header) = input.first_chunk::<RECORD_HEADER>() else {
            return Ok(Opened::Partial { need: RECORD_HEADER });
        };
        let [_, _, _, high, low] = header;
        let used = RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
        let Some(record) = input.get_mut(..used) else {
            // rustls refuses a bad header before the body has come.
            let held = self.held.len();
            self.held.extend_from_slice(&header);
            self.drive(&mut [])?;
            self.held.truncate(held);
            return Ok(Opened::Partial { need: used });
        };
        self.held.extend_from_slice(record);
        let place = record.get_mut(RECORD_HEADER..).unwrap_or_default();
        let length = self.drive(place)?;
        // RFC 8446 §4.6 has nothing that long for a server; rustls would take fragments for ever.
        if self.held.len() > POST_HANDSHAKE_BYTES + RECORD_PLAINTEXT {
            return Err(RecordError::HandshakeTooLong);
        }
        if self.peer_closed {
            return Ok(Opened::CloseNotify { used });
        }
        match length {
            0 => Ok(Opened::Control { used }),
            _ => Ok(Opened::Data { plaintext: RECORD_HEADER..RECORD_HEADER + length, used }),
        }
    }

    /// Lets rustls read what is held until it wants more; the length of the plaintext that is at the
    /// front of `place` then.
    fn drive(&mut self, place: &mut [u8]) -> Result<usize, RecordError> {
        let mut length = 0;
        loop {
            let status = self.connection.process_tls_records(&mut self.held);
            let discard = status.discard;
            let goes_on = match status.state.map_err(|error| refusal(&error))? {
                ConnectionState::ReadTraffic(mut traffic) => {
                    while let Some(data) = traffic.next_record() {
                        let data = data.map_err(|error| refusal(&error))?.payload;
                        let end = length + data.len();
                        let free = place.get_mut(length..end).ok_or(RecordError::PlaintextTooLong)?;
                        free.copy_from_slice(data);
                        length = end;
                    }
                    true
                }
                ConnectionState::EncodeTlsData(mut data) => {
                    encode(&mut data, &mut self.replies).map_err(|_| RecordError::KeySchedule)?;
                    true
                }
                ConnectionState::TransmitTlsData(data) => {
                    data.done();
                    true
                }
                ConnectionState::PeerClosed => {
                    self.peer_closed = true;
                    true
                }
                ConnectionState::WriteTraffic(_) | ConnectionState::Closed => false,
                _ => return Err(RecordError::RefusedByRustls),
            };
            self.held.drain(..discard.min(self.held.len()));
            if !goes_on {
                return Ok(length);
            }
        }
    }

    /// See [`Records::seal`](super::Records::seal).
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        record_size: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        for piece in plain.chunks(record_size.clamp(1, RECORD_PLAINTEXT)) {
            let at = out.len();
            out.extend_from_slice(piece);
            self.commit(at, out)?;
        }
        Ok(())
    }

    /// See [`Records::commit`](super::Records::commit). After a refusal the record is taken back: rustls
    /// has sealed its alert already, and nothing may follow that.
    pub(super) fn commit(&mut self, at: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let plain = out.get(at..).ok_or(RecordError::BadRecordStart)?.to_vec();
        out.truncate(at);
        if self.sent_close {
            return Err(RecordError::AfterClose);
        }
        if plain.len() > RECORD_PLAINTEXT {
            return Err(RecordError::BadRecordStart);
        }
        if plain.is_empty() || self.refused.is_some() {
            return Ok(());
        }
        let sealed = self.write(out, |traffic, room| traffic.encrypt(&plain, room));
        if sealed.is_err() {
            out.truncate(at);
        }
        sealed
    }

    /// Appends what waits, and then what `what` puts into the room it is given.
    fn write(
        &mut self,
        out: &mut Vec<u8>,
        what: impl Fn(&mut WriteTraffic<'_, ServerConnectionData>, &mut [u8]) -> Result<usize, EncryptError>,
    ) -> Result<(), RecordError> {
        // Nothing new is held, so nothing can come but what rustls wants sent.
        self.drive(&mut [])?;
        out.append(&mut self.replies);
        let status = self.connection.process_tls_records(&mut self.held);
        let Ok(ConnectionState::WriteTraffic(mut traffic)) = status.state else {
            return Err(RecordError::KeySchedule);
        };
        // rustls tells the size of the record by refusing to write it into nothing.
        let size = match what(&mut traffic, &mut []) {
            Err(EncryptError::InsufficientSize(size)) => size.required_size,
            Err(EncryptError::EncryptExhausted) => return Err(RecordError::KeyExhausted),
            Ok(_) => return Ok(()),
        };
        let start = out.len();
        out.resize(start + size, 0);
        let written = what(&mut traffic, out.get_mut(start..).unwrap_or_default());
        out.truncate(start + *written.as_ref().unwrap_or(&0));
        written.map(|_| ()).map_err(|_| RecordError::KeyExhausted)
    }

    /// See [`Records::wants_reply`](super::Records::wants_reply).
    pub(super) fn wants_reply(&self) -> bool {
        !self.sent_close && (!self.replies.is_empty() || self.connection.wants_write())
    }

    /// See [`Records::take_replies`](super::Records::take_replies).
    pub(super) fn take_replies(&mut self, out: &mut Vec<u8>) {
        if self.wants_reply() {
            out.append(&mut self.replies);
            flush(&mut self.connection, out);
        }
    }

    /// See [`Records::close_notify`](super::Records::close_notify).
    pub(super) fn close_notify(&mut self, out: &mut Vec<u8>) {
        if !self.sent_close && self.refused.is_none() {
            // A connection that cannot say it is closed without it.
            let _closed_anyway = self.write(out, |traffic, room| traffic.queue_close_notify(room));
        }
        self.end(out);
    }

    /// Appends the alert that rustls made, if it did: it takes none from outside.
    pub(super) fn end(&mut self, out: &mut Vec<u8>) {
        self.take_replies(out);
        self.sent_close = true;
    }

    /// See [`Records::rest`](super::Records::rest).
    pub(super) fn rest(&mut self) {
        self.held.shrink_to_fit();
        self.replies.shrink_to_fit();
    }

    /// See [`Records::overhead`](super::Records::overhead).
    pub(super) fn overhead(&self) -> usize {
        let suite = self.connection.negotiated_cipher_suite();
        let added = match suite.map(|suite| (suite.tls13().is_some(), suite.suite())) {
            Some((true, _)) => 1,
            Some((
                false,
                CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
                | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
            )) => 0,
            _ => EXPLICIT_NONCE,
        };
        RECORD_HEADER + added + TAG
    }
}

/// Our name for what rustls refuses.
fn refusal(error: &Error) -> RecordError {
    match error {
        Error::AlertReceived(description) => RecordError::PeerAlert(u8::from(*description)),
        Error::DecryptError => RecordError::BadRecordMac,
        Error::PeerSentOversizedRecord => RecordError::PlaintextTooLong,
        Error::InvalidMessage(InvalidMessage::MessageTooLarge) => RecordError::CiphertextTooLong,
        Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion) => RecordError::WrongVersion,
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => RecordError::HandshakeTooLong,
        Error::InvalidMessage(InvalidMessage::InvalidKeyUpdate) => RecordError::BadKeyUpdateRequest,
        Error::InvalidMessage(InvalidMessage::InvalidCcs)
        | Error::PeerMisbehaved(PeerMisbehaved::IllegalMiddleboxChangeCipherSpec) => {
            RecordError::ChangeCipherSpec
        }
        Error::InvalidMessage(InvalidMessage::InvalidContentType) | Error::InappropriateMessage { .. } => {
            RecordError::UnexpectedContentType
        }
        Error::InappropriateHandshakeMessage { .. } => RecordError::UnexpectedHandshake,
        Error::PeerMisbehaved(PeerMisbehaved::KeyEpochWithPendingFragment) => RecordError::KeyUpdateNotLast,
        Error::PeerMisbehaved(PeerMisbehaved::MessageInterleavedWithHandshakeMessage) => {
            RecordError::InterleavedHandshake
        }
        Error::PeerMisbehaved(
            PeerMisbehaved::TooManyEmptyFragments | PeerMisbehaved::TooManyWarningAlertsReceived,
        ) => RecordError::EmptyRecordFlood,
        Error::PeerMisbehaved(PeerMisbehaved::TooManyKeyUpdateRequests) => RecordError::KeyUpdateFlood,
        Error::PeerMisbehaved(PeerMisbehaved::TooManyRenegotiationRequests) => RecordError::Renegotiation,
        _ => RecordError::RefusedByRustls,
    }
}
