//! The record layer after the handshake: opens records where they were received and seals them where
//! they are sent from, TLS 1.3 (RFC 8446 §5) and TLS 1.2 AEAD (RFC 5246 §6.2, RFC 5288, RFC 7905).
//!
//! A record in a buffer, and what each version puts around the plaintext:
//!
//! ```text
//!            | 5      | 8 (AES-GCM) | plaintext | 1    | 16  |
//! TLS 1.3    | header |             | plaintext | type | tag |
//! TLS 1.2    | header | nonce       | plaintext |      | tag |
//! ```

use std::ops::Range;

use rustls::ExtractedSecrets;
use rustls::client::ClientConnectionData;
use rustls::kernel::KernelConnection;
use rustls::server::ServerConnectionData;

use super::keys::{Cipher, EXPLICIT_NONCE, TAG, TrafficKey};
use super::traffic::TrafficSecrets;
use crate::limits::{RECORD_EXPANSION, RECORD_EXPANSION_TLS12, RECORD_HEADER, RECORD_PLAINTEXT};

mod control;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
mod fuzz;
mod oracle;
#[cfg(test)]
mod tests;

pub use engine::Records;
pub use error::{RecordError, alert};
#[cfg(any(test, fuzzing))]
pub use fuzz::fuzz;
pub(super) use oracle::RustlsRecords;

/// Content types (RFC 8446 §5.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const APPLICATION_DATA: u8 = 23;
/// The version in every protected record's header (RFC 8446 §5.2, RFC 5246 §6.2.1).
const VERSION: [u8; 2] = [3, 3];

/// What rustls keeps of a connection for the time after its handshake.
pub(super) enum Schedule {
    /// TLS 1.2 has no key updates and no late tickets.
    Tls12,
    /// A TLS 1.3 server: key updates, made by ourselves.
    Traffic(TrafficSecrets),
    /// The same by rustls, where it told us no secrets. Boxed, since most of its bytes are fields for QUIC.
    Server(Box<KernelConnection<ServerConnectionData>>),
    /// A TLS 1.3 client: key updates and session tickets.
    Client(Box<KernelConnection<ClientConnectionData>>),
    /// A TLS 1.3 server without a handshake behind it, for the fuzz target.
    #[cfg(any(test, fuzzing))]
    Fuzz(fuzz::Updates),
}

impl Schedule {
    fn is_tls13(&self) -> bool {
        !matches!(self, Self::Tls12)
    }

    /// The next sealing key (RFC 8446 §7.2), for the cipher of the one before.
    fn next_tx(&mut self, cipher: Cipher) -> Result<TrafficKey, RecordError> {
        let (sequence, secrets) = match self {
            Self::Tls12 => return Err(RecordError::KeySchedule),
            Self::Traffic(secrets) => return Ok(secrets.next_tx(cipher)?),
            Self::Server(kernel) => kernel.update_tx_secret(),
            Self::Client(kernel) => kernel.update_tx_secret(),
            #[cfg(any(test, fuzzing))]
            Self::Fuzz(updates) => Ok((0, updates.next_tx())),
        }
        .map_err(|_| RecordError::KeySchedule)?;
        Ok(TrafficKey::new(sequence, &secrets)?)
    }

    /// The next opening key (RFC 8446 §7.2), for the cipher of the one before.
    fn next_rx(&mut self, cipher: Cipher) -> Result<TrafficKey, RecordError> {
        let (sequence, secrets) = match self {
            Self::Tls12 => return Err(RecordError::KeySchedule),
            Self::Traffic(secrets) => return Ok(secrets.next_rx(cipher)?),
            Self::Server(kernel) => kernel.update_rx_secret(),
            Self::Client(kernel) => kernel.update_rx_secret(),
            #[cfg(any(test, fuzzing))]
            Self::Fuzz(updates) => Ok((0, updates.next_rx())),
        }
        .map_err(|_| RecordError::KeySchedule)?;
        Ok(TrafficKey::new(sequence, &secrets)?)
    }
}

/// Both directions of one connection after its handshake, sealed and opened by us. Owns no buffer.
pub(super) struct OwnRecords {
    tx: TrafficKey,
    rx: TrafficKey,
    schedule: Schedule,
    /// The unfinished handshake message of earlier records; almost always empty and without memory.
    gathered: Vec<u8>,
    /// KeyUpdates opened since the last data.
    key_updates: u32,
    /// Records without data opened in a row.
    empty_records: u32,
    /// A KeyUpdate was asked for and is not sent yet.
    reply_due: bool,
    /// close_notify or a fatal alert was sealed: nothing may follow (RFC 8446 §6.1).
    sent_close: bool,
    /// close_notify was opened: what follows is ignored (RFC 8446 §6.1).
    peer_closed: bool,
    /// The refusal that ended opening; it is final.
    refused: Option<RecordError>,
}

/// What the record at the front of the input was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// The record is not whole yet.
    Partial {
        /// Bytes that the input must have at least: a header, or the header and the body it announces.
        need: usize,
    },
    /// Application data, at least one byte.
    Data {
        /// Where in the input the plaintext lies now.
        plaintext: Range<usize>,
        /// Bytes of the input that belonged to the record.
        used: usize,
    },
    /// A record for this layer (KeyUpdate, ticket, warning, empty), which is dealt with. See
    /// [`Records::wants_reply`].
    Control {
        /// Bytes of the input that belonged to the record.
        used: usize,
    },
    /// The peer sends no more; whatever followed in the input is ignored.
    CloseNotify {
        /// Bytes of the input that are finished with.
        used: usize,
    },
}

/// A record begun in an outgoing buffer and not sealed yet. Give it to [`Records::commit`].
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a record that is begun and not committed leaves its empty header in the buffer"]
pub struct RecordStart {
    at: usize,
}

impl OwnRecords {
    /// Takes over from rustls.
    ///
    /// # Errors
    /// [`RecordError::KeySchedule`] when the suite is none of ours.
    pub(super) fn new(secrets: &ExtractedSecrets, schedule: Schedule) -> Result<Self, RecordError> {
        Ok(Self {
            tx: TrafficKey::new(secrets.tx.0, &secrets.tx.1)?,
            rx: TrafficKey::new(secrets.rx.0, &secrets.rx.1)?,
            schedule,
            gathered: Vec::new(),
            key_updates: 0,
            empty_records: 0,
            reply_due: false,
            sent_close: false,
            peer_closed: false,
            refused: None,
        })
    }

    /// See [`Records::open`].
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
        let body_len = self.check_header(header)?;
        let used = RECORD_HEADER + body_len;
        let Some(body) = input.get_mut(RECORD_HEADER..used) else {
            return Ok(Opened::Partial { need: used });
        };
        let (content_type, plaintext) = if self.schedule.is_tls13() {
            self.open_tls13(header, body)?
        } else {
            self.open_tls12(header, body)?
        };
        let plaintext = plaintext.start + RECORD_HEADER..plaintext.end + RECORD_HEADER;
        if content_type == APPLICATION_DATA {
            return self.opened_data(plaintext, used);
        }
        let content = input.get(plaintext).unwrap_or_default();
        match content_type {
            HANDSHAKE => self.opened_handshake(content)?,
            ALERT => {
                if self.opened_alert(content)? {
                    return Ok(Opened::CloseNotify { used });
                }
            }
            // RFC 8446 §5: after the peer's Finished it is an unexpected message; RFC 5246 §7.1: it
            // comes before a Finished only.
            CHANGE_CIPHER_SPEC => return Err(RecordError::ChangeCipherSpec),
            _ => return Err(RecordError::UnexpectedContentType),
        }
        Ok(Opened::Control { used })
    }

    /// Refuses what the header alone condemns and gives the length of the body.
    fn check_header(&self, [content_type, major, minor, high, low]: [u8; 5]) -> Result<usize, RecordError> {
        let tls13 = self.schedule.is_tls13();
        match content_type {
            APPLICATION_DATA => {}
            CHANGE_CIPHER_SPEC => return Err(RecordError::ChangeCipherSpec),
            // RFC 8446 §5.2: the outer type of a protected record is application_data.
            ALERT | HANDSHAKE if tls13 => return Err(RecordError::Unprotected),
            ALERT | HANDSHAKE => {}
            _ => return Err(RecordError::UnexpectedContentType),
        }
        // RFC 8446 §5.1 has the version ignored, RFC 5246 §6.2.1 does not.
        if !tls13 && [major, minor] != VERSION {
            return Err(RecordError::WrongVersion);
        }
        let length = usize::from(u16::from_be_bytes([high, low]));
        let expansion = if tls13 { RECORD_EXPANSION } else { RECORD_EXPANSION_TLS12 };
        // RFC 8446 §5.2, RFC 5246 §6.2.3: terminate with record_overflow.
        if length > RECORD_PLAINTEXT + expansion {
            return Err(RecordError::CiphertextTooLong);
        }
        Ok(length)
    }

    /// RFC 8446 §5.2, §5.4: the content type is the last byte that is not zero.
    fn open_tls13(&mut self, header: [u8; 5], body: &mut [u8]) -> Result<(u8, Range<usize>), RecordError> {
        self.rx.open(&header, None, body)?;
        let inner_len = body.len() - TAG;
        // RFC 8446 §5.4: the whole TLSInnerPlaintext, padding included, is at most 2^14 + 1 bytes.
        if inner_len > RECORD_PLAINTEXT + 1 {
            return Err(RecordError::PlaintextTooLong);
        }
        let inner = body.get(..inner_len).unwrap_or_default();
        let at = inner.iter().rposition(|&byte| byte != 0).ok_or(RecordError::NoContentType)?;
        let content_type = inner.get(at).copied().ok_or(RecordError::NoContentType)?;
        Ok((content_type, 0..at))
    }

    /// RFC 5246 §6.2.3.3: the sequence number, type, version and plaintext length are authenticated.
    fn open_tls12(&mut self, header: [u8; 5], body: &mut [u8]) -> Result<(u8, Range<usize>), RecordError> {
        let explicit = self.explicit_nonce_len();
        let plaintext_len = body.len().checked_sub(explicit + TAG).ok_or(RecordError::BadRecordMac)?;
        // RFC 5246 §6.2.1: a fragment is at most 2^14 bytes.
        if plaintext_len > RECORD_PLAINTEXT {
            return Err(RecordError::PlaintextTooLong);
        }
        let [content_type, ..] = header;
        let associated = associated_tls12(self.rx.sequence(), content_type, plaintext_len);
        let (nonce, sealed) = body.split_at_mut_checked(explicit).ok_or(RecordError::BadRecordMac)?;
        self.rx.open(&associated, nonce.first_chunk().copied(), sealed)?;
        Ok((content_type, explicit..explicit + plaintext_len))
    }

    fn explicit_nonce_len(&self) -> usize {
        match (self.schedule.is_tls13(), self.rx.cipher()) {
            (false, Cipher::Aes128Gcm | Cipher::Aes256Gcm) => EXPLICIT_NONCE,
            (true, _) | (false, Cipher::ChaCha20Poly1305) => 0,
        }
    }

    fn opened_data(&mut self, plaintext: Range<usize>, used: usize) -> Result<Opened, RecordError> {
        if !self.gathered.is_empty() {
            return Err(RecordError::InterleavedHandshake);
        }
        if plaintext.is_empty() {
            self.count_empty()?;
            return Ok(Opened::Control { used });
        }
        self.key_updates = 0;
        self.empty_records = 0;
        Ok(Opened::Data { plaintext, used })
    }

    /// See [`Records::seal`].
    pub(super) fn seal(
        &mut self,
        plain: &[u8],
        record_size: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let size = record_size.clamp(1, RECORD_PLAINTEXT);
        out.reserve(plain.len() + plain.len().div_ceil(size) * self.overhead());
        for piece in plain.chunks(size) {
            let start = self.begin(out);
            out.extend_from_slice(piece);
            self.commit(start, out)?;
        }
        Ok(())
    }

    /// See [`Records::begin`].
    pub(super) fn begin(&self, out: &mut Vec<u8>) -> RecordStart {
        let at = out.len();
        out.extend_from_slice(&[0; RECORD_HEADER]);
        if self.explicit_nonce_len() != 0 {
            out.extend_from_slice(&[0; EXPLICIT_NONCE]);
        }
        RecordStart { at }
    }

    /// See [`Records::commit`].
    pub(super) fn commit(&mut self, start: RecordStart, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let at = start.at;
        let sealed = self.commit_at(at, out);
        if sealed.is_err() {
            // Plaintext must not stay in a buffer that is sent.
            out.truncate(at);
        }
        sealed
    }

    fn commit_at(&mut self, mut at: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
        if self.sent_close {
            return Err(RecordError::AfterClose);
        }
        if out.len() == at + RECORD_HEADER + self.explicit_nonce_len() {
            out.truncate(at);
            return Ok(());
        }
        if self.reply_due || self.tx.is_worn() {
            let end = out.len();
            self.key_update(out)?;
            let update = out.len() - end;
            out.get_mut(at..).ok_or(RecordError::BadRecordStart)?.rotate_right(update);
            at += update;
        }
        self.seal_at(APPLICATION_DATA, at, out)
    }

    /// Seals `content` as one record of its own.
    fn seal_content(
        &mut self,
        content_type: u8,
        content: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), RecordError> {
        let RecordStart { at } = self.begin(out);
        out.extend_from_slice(content);
        let sealed = self.seal_at(content_type, at, out);
        if sealed.is_err() {
            out.truncate(at);
        }
        sealed
    }

    /// Seals the record that begins at `at` and ends with `out`.
    fn seal_at(&mut self, content_type: u8, at: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
        let explicit = self.explicit_nonce_len();
        let body = at + RECORD_HEADER + explicit;
        let plaintext_len = out.len().checked_sub(body).ok_or(RecordError::BadRecordStart)?;
        if plaintext_len > RECORD_PLAINTEXT {
            return Err(RecordError::BadRecordStart);
        }
        let tls13 = self.schedule.is_tls13();
        let [high, low] = ((explicit + plaintext_len + usize::from(tls13) + TAG) as u16).to_be_bytes();
        let outer_type = if tls13 { APPLICATION_DATA } else { content_type };
        let header = [outer_type, VERSION[0], VERSION[1], high, low];
        let record = out.get_mut(at..).ok_or(RecordError::BadRecordStart)?;
        *record.first_chunk_mut().ok_or(RecordError::BadRecordStart)? = header;
        let tag = if tls13 {
            out.push(content_type);
            let body = out.get_mut(body..).ok_or(RecordError::BadRecordStart)?;
            self.tx.seal(&header, body)?
        } else {
            let nonce = self.tx.explicit_nonce();
            let associated = associated_tls12(self.tx.sequence(), content_type, plaintext_len);
            let rest = record.get_mut(RECORD_HEADER..).ok_or(RecordError::BadRecordStart)?;
            let (room, body) = rest.split_at_mut_checked(explicit).ok_or(RecordError::BadRecordStart)?;
            if let Some(room) = room.first_chunk_mut() {
                *room = nonce;
            }
            self.tx.seal(&associated, body)?
        };
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// See [`Records::rest`].
    pub(super) fn rest(&mut self) {
        self.tx.rest();
        self.rx.rest();
    }

    /// See [`Records::overhead`].
    pub(super) fn overhead(&self) -> usize {
        RECORD_HEADER + self.explicit_nonce_len() + usize::from(self.schedule.is_tls13()) + TAG
    }
}

/// The associated data of a TLS 1.2 record (RFC 5246 §6.2.3.3).
fn associated_tls12(sequence: u64, content_type: u8, plaintext_len: usize) -> [u8; 13] {
    let [a, b, c, d, e, f, g, h] = sequence.to_be_bytes();
    let [high, low] = (plaintext_len as u16).to_be_bytes();
    [a, b, c, d, e, f, g, h, content_type, VERSION[0], VERSION[1], high, low]
}
