//! The sending direction of a stream: bytes are sealed behind what is queued, and leave in one piece.

use std::io;
use std::time::{Duration, Instant};

use super::super::buffers::{BULK_CAPACITY, Size};
use super::super::slot;
use super::Stream;
use crate::limits;

/// Plaintext of the first records of a response: one TCP segment, so that the first bytes can be used
/// before the next segment arrives.
const FIRST_RECORDS: usize = 1350;
/// Bytes after which records are full.
const SHORT_RECORDS_UNTIL: usize = 4 * FIRST_RECORDS;
/// After so long without a byte sent the congestion window may have shrunk, and records begin short again.
const QUIET: Duration = Duration::from_secs(1);

impl Stream {
    /// As [`Stream::push`], but takes a bulk buffer as it is where nothing has to be sealed or joined;
    /// `bytes` is empty after it.
    pub fn push_whole(&mut self, bytes: &mut Vec<u8>, now: Instant) {
        if self.records.is_none() && self.out.is_empty() && bytes.capacity() == BULK_CAPACITY {
            self.buffers.put(std::mem::replace(&mut self.out, std::mem::take(bytes)));
            self.last_send = Some(now);
        } else {
            self.push(bytes, now);
            bytes.clear();
        }
    }

    /// Appends bytes to send.
    pub fn push(&mut self, mut bytes: &[u8], now: Instant) {
        let room = self.out.capacity() - self.out.len();
        if self.out.capacity() == 0 || bytes.len() > room && self.out.capacity() < BULK_CAPACITY {
            let large = self.bulk || bytes.len() > room && self.out.capacity() > 0;
            let mut out = self.buffers.get(if large { Size::Bulk } else { Size::Record });
            out.extend_from_slice(&self.out);
            self.buffers.put(std::mem::replace(&mut self.out, out));
        }
        let Some(records) = self.records.as_mut() else {
            return self.out.extend_from_slice(bytes);
        };
        if self.last_send.is_none_or(|last| now.saturating_duration_since(last) > QUIET) {
            self.recent = 0;
        }
        while !bytes.is_empty() {
            let size =
                if self.recent < SHORT_RECORDS_UNTIL { FIRST_RECORDS } else { limits::RECORD_PLAINTEXT };
            let (start, filled) = match self.record.take() {
                Some(record) => record,
                None => (records.begin(&mut self.out), 0),
            };
            let piece = bytes.len().min(size.saturating_sub(filled));
            let (now_bytes, later) = bytes.split_at_checked(piece).unwrap_or((bytes, &[]));
            self.out.extend_from_slice(now_bytes);
            bytes = later;
            self.recent += piece;
            if filled + piece >= size {
                self.write_failed |= records.commit(start, &mut self.out).is_err();
            } else {
                self.record = Some((start, filled + piece));
            }
        }
        self.last_send = Some(now);
    }

    pub(super) fn end_record(&mut self) {
        if let (Some((start, _)), Some(records)) = (self.record.take(), self.records.as_mut()) {
            self.write_failed |= records.commit(start, &mut self.out).is_err();
        }
    }

    /// Appends bytes that are records already (a handshake's).
    pub fn push_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// The outgoing bytes, for a handshake to append to.
    pub fn out_mut(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Both buffers at once, for a handshake: unread input and outgoing bytes.
    pub fn handshake_buffers(&mut self) -> (&mut [u8], &mut Vec<u8>) {
        (self.input.get_mut(self.plain.clone()).unwrap_or_default(), &mut self.out)
    }

    /// Says in TLS that nothing follows.
    pub fn close_notify(&mut self) {
        self.end_record();
        if let Some(records) = self.records.as_mut() {
            records.close_notify(&mut self.out);
        }
    }

    /// Bytes not yet handed to the kernel, apart from those being sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.out.len()
    }

    /// Whether something waits to be sent or is being sent.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        !self.out.is_empty() || self.writing
    }

    /// Begins to send what is queued, unless something is being sent. Says whether it did.
    pub fn flush(&mut self) -> bool {
        self.end_record();
        if let Some(records) = self.records.as_mut()
            && records.wants_reply()
        {
            records.take_replies(&mut self.out);
        }
        if self.out.is_empty() || self.writing {
            return false;
        }
        if self.write_failed {
            self.out.clear();
            return false;
        }
        let out = std::mem::take(&mut self.out);
        self.sending = 0;
        self.write_from(out);
        true
    }

    fn write_from(&mut self, buffer: Vec<u8>) {
        let (socket, buffers) = (&self.socket, &self.buffers);
        let writer = self.writer.get_or_insert_with(|| slot::writer(socket.clone(), buffers.clone()));
        writer.as_mut().arm((buffer, self.sending));
        self.writing = true;
    }

    pub(super) fn finish_write(&mut self, result: io::Result<usize>, buffer: Vec<u8>, now: Instant) -> usize {
        self.last_send = Some(now);
        match result {
            Ok(n) if n > 0 => {
                self.sending += n;
                self.sent_total += n as u64;
                if self.sending < buffer.len() {
                    self.write_from(buffer);
                } else {
                    self.buffers.put(buffer);
                }
                n
            }
            _ => {
                self.write_failed = true;
                self.buffers.put(buffer);
                self.out.clear();
                self.record = None;
                0
            }
        }
    }
}
