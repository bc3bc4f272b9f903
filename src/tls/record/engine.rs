//! Which of two engines carries a connection's records: ours, or rustls itself (`[tls] records`), which
//! is slower and larger and serves as the reference for ours.

use super::oracle::RustlsRecords;
use super::{Opened, OwnRecords, RecordError, RecordStart};

/// Both directions of one connection after its handshake.
pub struct Records {
    engine: Engine,
}

#[expect(clippy::large_enum_variant, reason = "the small variant is for tests, the large one for traffic")]
enum Engine {
    Own(OwnRecords),
    Rustls(Box<RustlsRecords>),
}

impl From<OwnRecords> for Records {
    fn from(records: OwnRecords) -> Self {
        Self { engine: Engine::Own(records) }
    }
}

impl From<Box<RustlsRecords>> for Records {
    fn from(records: Box<RustlsRecords>) -> Self {
        Self { engine: Engine::Rustls(records) }
    }
}

impl Records {
    /// Opens the record at the front of `input`, in place. Call again with the input after `used`.
    ///
    /// # Errors
    /// A [`RecordError`]; it is final, every later call gives the same.
    pub fn open(&mut self, input: &mut [u8]) -> Result<Opened, RecordError> {
        match &mut self.engine {
            Engine::Own(records) => records.open(input),
            Engine::Rustls(records) => records.open(input),
        }
    }

    /// Appends `plain` to `out`, sealed as records of at most `record_size` bytes of plaintext (at least
    /// 1, at most 2^14). Empty `plain` makes no record.
    ///
    /// # Errors
    /// [`RecordError::AfterClose`], [`RecordError::KeyExhausted`] or [`RecordError::KeySchedule`]; `out`
    /// ends after the last whole record then.
    pub fn seal(&mut self, plain: &[u8], record_size: usize, out: &mut Vec<u8>) -> Result<(), RecordError> {
        match &mut self.engine {
            Engine::Own(records) => records.seal(plain, record_size, out),
            Engine::Rustls(records) => records.seal(plain, record_size, out),
        }
    }

    /// Leaves room for a record's header at the end of `out`. The caller appends up to 2^14 bytes of
    /// plaintext and gives the start to [`Records::commit`].
    pub fn begin(&self, out: &mut Vec<u8>) -> RecordStart {
        match &self.engine {
            Engine::Own(records) => records.begin(out),
            // rustls writes the header together with the rest.
            Engine::Rustls(_) => RecordStart { at: out.len() },
        }
    }

    /// Seals what was appended to `out` since `start`, in place. A KeyUpdate that is due goes before it
    /// (RFC 8446 §4.6.3). A record without plaintext is taken back.
    ///
    /// # Errors
    /// As [`Records::seal`], and [`RecordError::BadRecordStart`] for a start that is not of this buffer
    /// or more than 2^14 bytes; the record is taken back then.
    pub fn commit(&mut self, start: RecordStart, out: &mut Vec<u8>) -> Result<(), RecordError> {
        match &mut self.engine {
            Engine::Own(records) => records.commit(start, out),
            Engine::Rustls(records) => records.commit(start.at, out),
        }
    }

    /// Whether an answer waits that [`Records::take_replies`] would give. Sealing data sends it too, so
    /// only a side with nothing to say needs to ask.
    #[must_use]
    pub fn wants_reply(&self) -> bool {
        match &self.engine {
            Engine::Own(records) => records.wants_reply(),
            Engine::Rustls(records) => records.wants_reply(),
        }
    }

    /// Appends the KeyUpdate that the peer asked for, however often it asked, to `out` and seals with
    /// the next key from then on. Nothing if none is due or the schedule fails (sealing data tells).
    /// rustls gives that KeyUpdate with the next data only, as RFC 8446 §4.6.3 allows.
    pub fn take_replies(&mut self, out: &mut Vec<u8>) {
        match &mut self.engine {
            Engine::Own(records) => records.take_replies(out),
            Engine::Rustls(records) => records.take_replies(out),
        }
    }

    /// Appends close_notify (RFC 8446 §6.1); nothing if this side has closed already.
    pub fn close_notify(&mut self, out: &mut Vec<u8>) {
        match &mut self.engine {
            Engine::Own(records) => records.close_notify(out),
            Engine::Rustls(records) => records.close_notify(out),
        }
    }

    /// Appends the alert that ends the connection (RFC 8446 §6.2); nothing if this side has closed
    /// already. rustls sends the alert of its own choice, and none where it has none.
    pub fn fatal_alert(&mut self, description: u8, out: &mut Vec<u8>) {
        match &mut self.engine {
            Engine::Own(records) => records.fatal_alert(description, out),
            Engine::Rustls(records) => records.end(out),
        }
    }

    /// Gives back the memory that only work needs (about 1.2 KiB); the next record takes it again.
    /// For a connection that waits for its next request.
    pub fn rest(&mut self) {
        match &mut self.engine {
            Engine::Own(records) => records.rest(),
            Engine::Rustls(records) => records.rest(),
        }
    }

    /// Bytes that a record adds to its plaintext.
    #[must_use]
    pub fn overhead(&self) -> usize {
        match &self.engine {
            Engine::Own(records) => records.overhead(),
            Engine::Rustls(records) => records.overhead(),
        }
    }
}
