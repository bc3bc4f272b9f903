//! The records that are for the record layer itself: alerts, KeyUpdates and session tickets.

use super::{ALERT, HANDSHAKE, OwnRecords, RecordError, Schedule, alert};
use crate::limits::{EMPTY_RECORDS, KEY_UPDATES_WITHOUT_DATA, POST_HANDSHAKE_BYTES};
use crate::wire::cursor::Cursor;

/// Handshake types (RFC 8446 §4, RFC 5246 §7.4).
const HELLO_REQUEST: u8 = 0;
const CLIENT_HELLO: u8 = 1;
const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
/// Alert levels (RFC 5246 §7.2).
const WARNING: u8 = 1;
const FATAL: u8 = 2;
/// update_not_requested (RFC 8446 §4.6.3).
const UPDATE_NOT_REQUESTED: u8 = 0;
/// update_requested.
const UPDATE_REQUESTED: u8 = 1;
/// Bytes of a handshake message before its body.
const MESSAGE_HEADER: usize = 4;

impl OwnRecords {
    /// See [`Records::wants_reply`](super::Records::wants_reply).
    pub(in crate::tls) fn wants_reply(&self) -> bool {
        self.reply_due && !self.sent_close
    }

    /// See [`Records::take_replies`](super::Records::take_replies).
    pub(in crate::tls) fn take_replies(&mut self, out: &mut Vec<u8>) {
        if self.wants_reply() {
            // A failure leaves the reply due, so the next sealing reports it.
            let _told_by_seal = self.key_update(out);
        }
    }

    /// See [`Records::close_notify`](super::Records::close_notify).
    pub(in crate::tls) fn close_notify(&mut self, out: &mut Vec<u8>) {
        self.send_alert(WARNING, alert::CLOSE_NOTIFY, out);
    }

    /// See [`Records::fatal_alert`](super::Records::fatal_alert). no_renegotiation has the level warning,
    /// as RFC 5246 §7.2.2 asks.
    pub(in crate::tls) fn fatal_alert(&mut self, description: u8, out: &mut Vec<u8>) {
        let level = if description == alert::NO_RENEGOTIATION { WARNING } else { FATAL };
        self.send_alert(level, description, out);
    }

    fn send_alert(&mut self, level: u8, description: u8, out: &mut Vec<u8>) {
        if !self.sent_close {
            // When no sequence number is left, closing without an alert is all that remains.
            let _closed_anyway = self.seal_content(ALERT, &[level, description], out);
            self.sent_close = true;
        }
    }

    /// Seals a KeyUpdate under the old key and takes the next one (RFC 8446 §4.6.3).
    pub(super) fn key_update(&mut self, out: &mut Vec<u8>) -> Result<(), RecordError> {
        // RFC 5246 has no way to change a key without a handshake.
        if !self.schedule.is_tls13() {
            return Err(RecordError::KeyExhausted);
        }
        let message = [KEY_UPDATE, 0, 0, 1, UPDATE_NOT_REQUESTED];
        self.seal_content(HANDSHAKE, &message, out)?;
        self.tx = self.schedule.next_tx(self.tx.cipher())?;
        self.reply_due = false;
        Ok(())
    }

    /// Counts a record that brought no data.
    pub(super) fn count_empty(&mut self) -> Result<(), RecordError> {
        self.empty_records += 1;
        if self.empty_records > EMPTY_RECORDS {
            return Err(RecordError::EmptyRecordFlood);
        }
        Ok(())
    }

    /// Reads an alert; whether it is close_notify.
    pub(super) fn opened_alert(&mut self, content: &[u8]) -> Result<bool, RecordError> {
        if !self.gathered.is_empty() {
            return Err(RecordError::InterleavedHandshake);
        }
        // RFC 8446 §5.1: an alert is whole and alone in its record.
        let &[level, description] = content else {
            return Err(RecordError::BadAlert);
        };
        if description == alert::CLOSE_NOTIFY {
            self.peer_closed = true;
            return Ok(true);
        }
        // RFC 8446 §6: the level says nothing; all but these two are errors, known or not.
        if self.schedule.is_tls13() {
            if description == alert::USER_CANCELED {
                return self.count_empty().map(|()| false);
            }
            return Err(RecordError::PeerAlert(description));
        }
        // RFC 5246 §7.2: a warning lets the connection go on.
        match level {
            WARNING => self.count_empty().map(|()| false),
            FATAL => Err(RecordError::PeerAlert(description)),
            _ => Err(RecordError::BadAlert),
        }
    }

    /// Reads the handshake messages, and fragments of them, of one record.
    pub(super) fn opened_handshake(&mut self, content: &[u8]) -> Result<(), RecordError> {
        // RFC 8446 §5.1: no empty fragments of handshake messages.
        let &[first, ..] = content else {
            return Err(RecordError::EmptyHandshakeFragment);
        };
        if !self.schedule.is_tls13() {
            // RFC 5246 §7.4.1: one of these starts a renegotiation; nothing else may come.
            return Err(match first {
                HELLO_REQUEST | CLIENT_HELLO => RecordError::Renegotiation,
                _ => RecordError::UnexpectedHandshake,
            });
        }
        if self.gathered.is_empty() {
            let rest = self.read_messages(content)?;
            self.gathered.extend_from_slice(rest);
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        gathered.extend_from_slice(content);
        let rest = self.read_messages(&gathered)?.len();
        // A finished message gives its memory back; an unfinished one stays where it is.
        if rest != 0 {
            let read = gathered.len() - rest;
            gathered.drain(..read);
            self.gathered = gathered;
        }
        Ok(())
    }

    /// Reads whole messages from the front; what is left is the start of one that is allowed so far.
    fn read_messages<'a>(&mut self, content: &'a [u8]) -> Result<&'a [u8], RecordError> {
        let mut cursor = Cursor::new(content);
        loop {
            let unread = cursor.rest();
            let Some(message_type) = cursor.u8() else {
                return Ok(unread);
            };
            self.check_type(message_type)?;
            let Some(length) = cursor.u24() else {
                return Ok(unread);
            };
            let length = length as usize;
            // RFC 8446 §4.6.3: a KeyUpdate is one byte.
            if message_type == KEY_UPDATE && length != 1 {
                return Err(RecordError::BadKeyUpdateLength);
            }
            // Our bound, which keeps what a peer can make us hold.
            if length > POST_HANDSHAKE_BYTES - MESSAGE_HEADER {
                return Err(RecordError::HandshakeTooLong);
            }
            let Some(body) = cursor.take(length) else {
                return Ok(unread);
            };
            match message_type {
                KEY_UPDATE => self.opened_key_update(body, cursor.is_empty())?,
                _ => self.opened_ticket(body)?,
            }
        }
    }

    /// RFC 8446 §4.6: what may come after a handshake in which no post-handshake authentication was
    /// offered. Refused at its first byte, so that a fragment holds no memory.
    fn check_type(&self, message_type: u8) -> Result<(), RecordError> {
        match (&self.schedule, message_type) {
            (Schedule::Traffic(_) | Schedule::Server(_) | Schedule::Client(_), KEY_UPDATE) => Ok(()),
            (Schedule::Client(_), NEW_SESSION_TICKET) => Ok(()),
            #[cfg(any(test, fuzzing))]
            (Schedule::Fuzz(_), KEY_UPDATE) => Ok(()),
            // Without a word on the schedule, so that a new one is refused everything at first.
            _ => Err(RecordError::UnexpectedHandshake),
        }
    }

    fn opened_key_update(&mut self, body: &[u8], ends_record: bool) -> Result<(), RecordError> {
        let requested = match body {
            [UPDATE_NOT_REQUESTED] => false,
            [UPDATE_REQUESTED] => true,
            // RFC 8446 §4.6.3: any other value is an illegal_parameter.
            _ => return Err(RecordError::BadKeyUpdateRequest),
        };
        // RFC 8446 §5.1: what follows a KeyUpdate is under the next key, so in another record.
        if !ends_record {
            return Err(RecordError::KeyUpdateNotLast);
        }
        self.key_updates += 1;
        if self.key_updates > KEY_UPDATES_WITHOUT_DATA {
            return Err(RecordError::KeyUpdateFlood);
        }
        self.rx = self.schedule.next_rx(self.rx.cipher())?;
        self.reply_due |= requested;
        Ok(())
    }

    fn opened_ticket(&mut self, body: &[u8]) -> Result<(), RecordError> {
        self.count_empty()?;
        match &mut self.schedule {
            Schedule::Client(kernel) => {
                kernel.handle_new_session_ticket(body).map_err(|_| RecordError::BadTicket)
            }
            _ => Err(RecordError::UnexpectedHandshake),
        }
    }
}
