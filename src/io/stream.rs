//! One end of a proxied connection, towards a client or an app, plain or TLS: bytes are opened in the
//! buffer that they came in and sealed in the buffer that they leave from.
//!
//! ```text
//!  input:  | finished with | plaintext | … | records not opened yet | free |
//!                          plain.start..plain.end   cipher..len
//! ```

use std::io;
use std::ops::Range;
use std::task::{Context, Poll};
use std::time::Instant;

use super::buffers::{BULK_CAPACITY, Buffers, Size};
use super::slot::{self, Reader, Watcher, Writer};
use super::sys::Socket;
use crate::limits;
use crate::tls::record::{Opened, RecordError, RecordStart, Records};

mod send;

/// Room for a read behind the beginning of something; more is made when a record is known to need it.
const SMALL_ROOM: usize = 1024;
/// How the receiving direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadEnd {
    /// TLS close_notify: the peer sends no more and may still read (RFC 8446 §6.1).
    CloseNotify,
    /// FIN. On TLS without close_notify this is a truncation.
    Fin,
    /// Reset or another error of the network.
    Reset,
    /// A record that cannot be accepted; the alert is in the outgoing bytes.
    Broken(RecordError),
}

/// See the module.
pub struct Stream {
    socket: Socket,
    buffers: Buffers,
    watcher: Watcher,
    /// The slots of work; made when it begins, given back at rest.
    reader: Option<Reader>,
    writer: Option<Writer>,
    /// Which of the three has an operation under way.
    watching: bool,
    reading: bool,
    writing: bool,
    records: Option<Box<Records>>,
    input: Vec<u8>,
    plain: Range<usize>,
    cipher: usize,
    read_end: Option<ReadEnd>,
    fin: bool,
    /// Whether the last read filled its buffer, so that more is likely to be there.
    eager: bool,
    /// Whether a read would not wait.
    readable: bool,
    /// Bytes of the record that is not whole yet, as far as known.
    record_need: usize,
    bulk: bool,
    out: Vec<u8>,
    sending: usize,
    record: Option<(RecordStart, usize)>,
    recent: usize,
    last_send: Option<Instant>,
    write_failed: bool,
    sent_total: u64,
    /// What the peer's TCP had acknowledged when the connection was new (its SYN).
    acknowledged_at_start: Option<u64>,
}

impl Stream {
    /// Over a connected socket, plain for now.
    #[must_use]
    pub fn new(socket: Socket, buffers: Buffers) -> Self {
        Self {
            watcher: slot::watcher(socket.clone()),
            reader: None,
            writer: None,
            watching: false,
            reading: false,
            writing: false,
            socket,
            buffers,
            records: None,
            input: Vec::new(),
            plain: 0..0,
            cipher: 0,
            read_end: None,
            fin: false,
            eager: false,
            readable: false,
            record_need: 0,
            bulk: false,
            out: Vec::new(),
            sending: 0,
            record: None,
            recent: 0,
            last_send: None,
            write_failed: false,
            sent_total: 0,
            acknowledged_at_start: None,
        }
    }

    /// Remembers where the peer's acknowledgements begin; for connections to apps.
    pub fn note_acknowledged(&mut self) {
        self.acknowledged_at_start = self.socket.bytes_acknowledged();
    }

    /// What the peer's TCP acknowledges once it has everything sent so far; `None` if that cannot be
    /// known.
    #[must_use]
    pub fn acknowledged_if_all_is(&self) -> Option<u64> {
        self.acknowledged_at_start.map(|start| start + self.sent_total)
    }

    /// From here on what comes in is only counted as bytes: nothing more is opened.
    pub fn stop_reading_records(&mut self) {
        self.records = None;
        self.plain = self.plain.start..self.input.len();
        self.cipher = self.input.len();
        if matches!(self.read_end, Some(ReadEnd::Broken(_) | ReadEnd::CloseNotify)) && !self.fin {
            self.read_end = None;
        }
    }

    /// Throws away what was received.
    pub fn discard_received(&mut self) {
        self.cipher = self.input.len();
        self.plain = self.cipher..self.cipher;
        self.consume(0);
    }

    /// The socket.
    #[must_use]
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether it is a TLS session.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        self.records.is_some()
    }

    /// From here on what comes in is TLS records, beginning with the bytes that are unread.
    pub fn protect(&mut self, records: Records) {
        self.records = Some(Box::new(records));
        self.cipher = self.plain.start;
        self.plain = self.cipher..self.cipher;
        self.open_records();
    }

    /// Received bytes that can be read: plaintext.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        self.input.get(self.plain.clone()).unwrap_or_default()
    }

    /// The same, for reading in place.
    pub fn received_mut(&mut self) -> &mut [u8] {
        self.input.get_mut(self.plain.clone()).unwrap_or_default()
    }

    /// The first `n` received bytes are finished with.
    pub fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.plain.len(), "no more than there is");
        self.plain.start = (self.plain.start + n).min(self.plain.end);
        if self.records.is_none() {
            self.cipher = self.plain.end;
        }
        if self.plain.is_empty() && self.cipher < self.input.len() {
            return self.open_records();
        }
        self.give_back_input();
    }

    /// Gives the buffer back if everything in it is read.
    fn give_back_input(&mut self) {
        if self.plain.is_empty() && self.cipher == self.input.len() && self.input.capacity() > 0 {
            self.buffers.put(std::mem::take(&mut self.input));
            self.plain = 0..0;
            self.cipher = 0;
        }
    }

    /// Puts the plaintext of one more record behind what is there, for a reader that cannot go on without.
    /// Says whether there was one.
    pub fn open_one_more(&mut self) -> bool {
        let before = self.plain.len();
        let broken = matches!(self.read_end, Some(ReadEnd::Broken(_)));
        // Records without data may lie between.
        while !broken && self.cipher < self.input.len() && self.plain.len() == before && self.open_next() {}
        self.plain.len() > before
    }

    /// How receiving ended, once everything received before was read.
    #[must_use]
    pub fn read_end(&self) -> Option<ReadEnd> {
        self.read_end
    }

    /// Whether FIN or a reset has come, even if close_notify came first.
    #[must_use]
    pub fn is_fin(&self) -> bool {
        self.fin
    }

    /// Whether sending has failed for good.
    #[must_use]
    pub fn is_write_failed(&self) -> bool {
        self.write_failed
    }

    /// Long bodies are under way: read and send in large pieces.
    pub fn set_bulk(&mut self, bulk: bool) {
        self.bulk = bulk;
    }

    /// Begins to receive, unless an operation is under way or the end has come. Says whether it did.
    pub fn want_read(&mut self) -> bool {
        let armed = self.watching || self.reading;
        if self.fin || armed || matches!(self.read_end, Some(ReadEnd::Broken(_))) {
            return false;
        }
        let size = if self.bulk { Size::Bulk } else { Size::Record };
        let readable = std::mem::take(&mut self.readable);
        if !self.input.is_empty() {
            let buffer = self.make_room();
            self.read_into(buffer);
        } else if self.eager || readable {
            let buffer = self.buffers.get(size);
            self.read_into(buffer);
        } else {
            self.watcher.as_mut().arm(());
            self.watching = true;
        }
        true
    }

    /// Waits for the end, or for more, and takes nothing: what comes stays with the kernel. `None`: that has
    /// just begun; else whether the end is known to have come.
    pub fn watch_end(&mut self) -> Option<bool> {
        if self.readable || self.fin {
            return Some(self.fin || self.socket.has_ended());
        }
        if self.watching || self.reading {
            return Some(false);
        }
        self.watcher.as_mut().arm(());
        self.watching = true;
        None
    }

    fn read_into(&mut self, buffer: Vec<u8>) {
        let (socket, buffers) = (&self.socket, &self.buffers);
        let reader = self.reader.get_or_insert_with(|| slot::reader(socket.clone(), buffers.clone()));
        reader.as_mut().arm(buffer);
        self.reading = true;
    }

    /// Moves what is left to the front of a buffer that has room for a whole record behind it.
    fn make_room(&mut self) -> Vec<u8> {
        let plain = self.plain.len();
        self.input.copy_within(self.plain.clone(), 0);
        let rest = self.cipher.max(self.plain.end)..self.input.len();
        let end = plain + rest.len();
        self.input.copy_within(rest, plain);
        self.input.truncate(end);
        self.plain = 0..plain;
        self.cipher = plain;
        let mut input = std::mem::take(&mut self.input);
        if self.bulk && input.capacity() < BULK_CAPACITY {
            let mut larger = self.buffers.get(Size::Bulk);
            larger.extend_from_slice(&input);
            self.buffers.put(std::mem::replace(&mut input, larger));
        }
        let missing = self.record_need.saturating_sub(input.len() - plain);
        if input.capacity() - input.len() < missing.max(SMALL_ROOM) {
            // A head that is longer than one record; bounded by the limits of the parser above.
            let mut larger = Vec::with_capacity(input.len() + missing.max(4 * SMALL_ROOM));
            larger.extend_from_slice(&input);
            self.buffers.put(input);
            input = larger;
        }
        input
    }

    /// Looks whether operations are over. Returns `(received, sent)`: whether something was received (or
    /// receiving ended), and how many bytes were sent.
    pub fn poll(&mut self, cx: &mut Context<'_>, now: Instant) -> (bool, Option<usize>) {
        let mut received = false;
        if self.watching && self.watcher.as_mut().poll_done(cx).is_ready() {
            self.watching = false;
            self.readable = true;
            received = true;
        }
        if self.reading
            && let Some(reader) = &mut self.reader
            && let Poll::Ready((result, buffer)) = reader.as_mut().poll_done(cx)
        {
            self.reading = false;
            self.finish_read(result, buffer);
            received = true;
        }
        let mut sent = None;
        if self.writing
            && let Some(writer) = &mut self.writer
            && let Poll::Ready((result, buffer)) = writer.as_mut().poll_done(cx)
        {
            self.writing = false;
            sent = Some(self.finish_write(result, buffer, now));
        }
        (received, sent)
    }

    fn finish_read(&mut self, result: io::Result<usize>, buffer: Vec<u8>) {
        let full = buffer.len() >= buffer.capacity().min(limits::BULK_BUFFER);
        self.input = buffer;
        match result {
            Ok(0) => self.ended(ReadEnd::Fin),
            Ok(_) => self.eager = full,
            Err(_) => self.ended(ReadEnd::Reset),
        }
        self.open_records();
    }

    fn ended(&mut self, end: ReadEnd) {
        self.fin = true;
        self.eager = false;
        if self.read_end.is_none() || end == ReadEnd::Reset {
            self.read_end = Some(end);
        }
        if self.input.is_empty() {
            self.buffers.put(std::mem::take(&mut self.input));
        }
    }

    /// Opens every whole record; their plaintext is moved together. In a long body each is read before the
    /// next one is opened, so nothing has to be moved and all of it is in the cache.
    fn open_records(&mut self) {
        if self.records.is_none() {
            self.plain.end = self.input.len();
            self.cipher = self.input.len();
            return;
        }
        while (self.plain.is_empty() || !self.bulk) && self.open_next() {}
        self.give_back_input();
    }

    /// Opens the next record; whether another one may follow it.
    fn open_next(&mut self) -> bool {
        let Some(records) = self.records.as_mut() else { return false };
        let Some(rest) = self.input.get_mut(self.cipher..) else { return false };
        match records.open(rest) {
            Ok(Opened::Partial { need }) => {
                self.record_need = need;
                return false;
            }
            Ok(Opened::Data { plaintext, used }) => {
                let place = self.cipher + plaintext.start..self.cipher + plaintext.end;
                self.cipher += used;
                if self.plain.is_empty() {
                    self.plain = place;
                } else {
                    let length = place.len();
                    self.input.copy_within(place, self.plain.end);
                    self.plain.end += length;
                }
            }
            Ok(Opened::Control { used }) => self.cipher += used,
            Ok(Opened::CloseNotify { used }) => {
                self.cipher += used;
                if self.read_end != Some(ReadEnd::Reset) {
                    self.read_end = Some(ReadEnd::CloseNotify);
                }
                return false;
            }
            Err(error) => {
                self.broken(error);
                return false;
            }
        }
        true
    }

    /// A record that cannot be accepted ends receiving; the alert says why.
    fn broken(&mut self, error: RecordError) {
        self.read_end = Some(ReadEnd::Broken(error));
        self.cipher = self.input.len();
        self.end_record();
        if let (Some(alert), Some(records)) = (error.alert(), self.records.as_mut()) {
            records.fatal_alert(alert, &mut self.out);
        }
    }

    /// Whether a pooled connection is as it should be: open, and nothing unread in it.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.read_end.is_none()
            && !self.readable
            && !self.fin
            && !self.write_failed
            && self.received().is_empty()
            && self.cipher == self.input.len()
            && !self.wants_write()
    }

    /// A piece of work is over: the next one begins small.
    pub fn renew(&mut self) {
        self.eager = false;
        self.bulk = false;
    }

    /// Gives back what only work needs.
    pub fn rest(&mut self) {
        self.renew();
        if !self.reading {
            self.reader = None;
        }
        if !self.writing {
            self.writer = None;
        }
        if let Some(records) = self.records.as_mut() {
            records.rest();
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.buffers.put(std::mem::take(&mut self.input));
        self.buffers.put(std::mem::take(&mut self.out));
    }
}
