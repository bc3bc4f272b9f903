//! The server's handshake: rustls over buffers that the caller owns, one record at a time, until its
//! keys can go to [`Records`].
//!
//! ```text
//! receive ──(more records)──> receive ──(done)──> send `out` ──> finish ──> Records, Facts
//! ```

use std::sync::Arc;

use rustls::client::ClientConnectionData;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus};
use rustls::{CommonState, HandshakeKind, ProtocolVersion, ServerConfig};

use super::record::{OwnRecords, RecordError, Records, RustlsRecords, Schedule, alert};
use super::traffic::{self, Seen, TrafficSecrets};
use crate::limits::RECORD_HEADER;

/// Why a handshake ended without a session.
#[derive(Clone, Debug, PartialEq)]
pub enum SessionError {
    /// rustls refused what the peer sent or could not go on.
    Refused(rustls::Error),
    /// The peer closed in mid-handshake.
    ClosedByPeer,
    /// Application data before the end of the handshake, which no configuration of ours offers.
    EarlyData,
    /// Bytes after the last handshake message in its record (RFC 8446 §5.1).
    DataAfterFinished,
    /// The handshake was finished before it was done, or its input was not given again as
    /// [`HandshakeStep::used`] asks; a defect of the caller.
    NotDone,
    /// The keys are of a suite that [`Records`] does not carry.
    Records(RecordError),
}

impl SessionError {
    /// A short name for counters; the log also takes the [`std::fmt::Display`] form.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused(rustls::Error::AlertReceived(_)) => "handshake_peer_alert",
            Self::Refused(rustls::Error::PeerIncompatible(_)) => "handshake_incompatible",
            Self::Refused(rustls::Error::PeerMisbehaved(_)) => "handshake_misbehaved",
            Self::Refused(rustls::Error::InvalidMessage(_)) => "handshake_invalid_message",
            Self::Refused(rustls::Error::InvalidCertificate(_)) => "handshake_invalid_certificate",
            Self::Refused(_) => "handshake_refused",
            Self::ClosedByPeer => "handshake_closed_by_peer",
            Self::EarlyData => "handshake_early_data",
            Self::DataAfterFinished => "handshake_data_after_finished",
            Self::NotDone => "handshake_not_done",
            Self::Records(error) => error.reason(),
        }
    }
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(error) => write!(f, "{}: {error}", self.reason()),
            _ => f.write_str(self.reason()),
        }
    }
}

impl std::error::Error for SessionError {}

/// How far one call of `receive` came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeStep {
    /// Bytes at the front of the input that are finished with. The rest must be given again, as it is
    /// now, with what arrives after it.
    pub used: usize,
    /// The handshake is over on this side; what is left of the input is for [`Records::open`].
    pub done: bool,
}

/// What ALPN agreed on (RFC 7301).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alpn {
    /// Nothing was offered or chosen.
    #[default]
    None,
    /// `http/1.1`.
    Http11,
    /// `h2`.
    Http2,
    /// `acme-tls/1` (RFC 8737).
    AcmeTls,
    /// A protocol of the configuration that has no name here.
    Other,
}

impl Alpn {
    /// The protocol of these identification bytes.
    #[must_use]
    pub fn from_protocol(protocol: Option<&[u8]>) -> Self {
        match protocol {
            None => Self::None,
            Some(b"http/1.1") => Self::Http11,
            Some(b"h2") => Self::Http2,
            Some(b"acme-tls/1") => Self::AcmeTls,
            Some(_) => Self::Other,
        }
    }
}

/// What a handshake agreed on; small enough to keep for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// TLS 1.3; else TLS 1.2.
    pub tls13: bool,
    /// The application protocol.
    pub alpn: Alpn,
    /// Whether an earlier session was resumed.
    pub resumed: bool,
    /// The cipher suite by its registered name.
    pub cipher: &'static str,
    /// The key exchange group by its registered name; `none` for a TLS 1.2 resumption.
    pub group: &'static str,
}

impl Facts {
    pub(super) fn of(connection: &CommonState) -> Self {
        let suite = connection.negotiated_cipher_suite();
        let group = connection.negotiated_key_exchange_group();
        Self {
            tls13: connection.protocol_version() == Some(ProtocolVersion::TLSv1_3),
            alpn: Alpn::from_protocol(connection.alpn_protocol()),
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            cipher: suite.and_then(|suite| suite.suite().as_str()).unwrap_or("unknown"),
            group: group.map_or("none", |group| group.name().as_str().unwrap_or("unknown")),
        }
    }
}

/// A server's handshake in progress.
pub struct Handshake {
    connection: UnbufferedServerConnection,
    feed: Feed,
    /// The application traffic secrets, once rustls has made them.
    seen: Option<Seen>,
}

impl Handshake {
    /// Ready for a ClientHello. `config` must have `enable_secret_extraction` and no early data.
    ///
    /// # Errors
    /// [`SessionError::Refused`] for a configuration that rustls cannot use.
    pub fn new(config: Arc<ServerConfig>) -> Result<Self, SessionError> {
        let connection = UnbufferedServerConnection::new(config).map_err(SessionError::Refused)?;
        Ok(Self { connection, feed: Feed::default(), seen: None })
    }

    /// Consumes handshake records from the front of `input`, which is decrypted in place, and appends
    /// what must be sent to `out`.
    ///
    /// # Errors
    /// A [`SessionError`], which is final; the alert for the peer, if there can be one, is in `out`.
    pub fn receive(&mut self, input: &mut [u8], out: &mut Vec<u8>) -> Result<HandshakeStep, SessionError> {
        // Whatever an earlier handshake of this thread left is not this one's.
        drop(traffic::take_seen());
        let step = self.feed.receive(&mut self.connection, input, out);
        self.seen = traffic::take_seen().or(self.seen.take());
        step
    }

    /// Hands the keys over. Everything in `out` must be sent before what [`Records`] seals.
    ///
    /// # Errors
    /// [`SessionError::NotDone`] before `receive` said so, [`SessionError::Records`].
    pub fn finish(self) -> Result<(Records, Facts), SessionError> {
        self.finish_own().map(|(records, facts)| (records.into(), facts))
    }

    /// As [`Handshake::finish`], but rustls keeps the keys and carries the records itself: the reference
    /// against which our own record layer is measured.
    ///
    /// # Errors
    /// [`SessionError::NotDone`] before `receive` said so.
    pub fn finish_with_rustls(self) -> Result<(Records, Facts), SessionError> {
        if !self.feed.done || self.feed.refused.is_some() {
            return Err(SessionError::NotDone);
        }
        let facts = Facts::of(&self.connection);
        Ok((Box::new(RustlsRecords::new(self.connection)).into(), facts))
    }

    pub(super) fn finish_own(self) -> Result<(OwnRecords, Facts), SessionError> {
        let facts = Facts::of(&self.connection);
        let suite = self.connection.negotiated_cipher_suite();
        let (secrets, kernel) =
            self.connection.dangerous_into_kernel_connection().map_err(|_| SessionError::NotDone)?;
        let own = self.seen.zip(suite).and_then(|(seen, suite)| TrafficSecrets::new(&seen, suite));
        let schedule = match own {
            _ if !facts.tls13 => Schedule::Tls12,
            Some(own) => Schedule::Traffic(own),
            // A configuration without our key log.
            None => Schedule::Server(Box::new(kernel)),
        };
        Ok((OwnRecords::new(&secrets, schedule).map_err(SessionError::Records)?, facts))
    }
}

/// One side's unbuffered connection, as far as a handshake needs it.
pub(super) trait Engine {
    /// rustls's mark of the side.
    type Data;
    /// Lets rustls read `input`.
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data>;
    /// What both sides can tell.
    fn common(&self) -> &CommonState;
}

impl Engine for UnbufferedServerConnection {
    type Data = ServerConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn common(&self) -> &CommonState {
        self
    }
}

impl Engine for rustls::client::UnbufferedClientConnection {
    type Data = ClientConnectionData;
    fn process<'c, 'i>(&'c mut self, input: &'i mut [u8]) -> UnbufferedStatus<'c, 'i, Self::Data> {
        self.process_tls_records(input)
    }
    fn common(&self) -> &CommonState {
        self
    }
}

/// Feeds rustls record by record: given more at once, it would decrypt the application data after the
/// Finished into copies of its own.
///
/// ```text
/// input: | kept: whole records rustls has seen but not let go of | next record | not shown yet |
/// ```
#[derive(Debug, Default)]
pub(super) struct Feed {
    /// Bytes at the front of the input that rustls has seen and holds places in (a handshake message
    /// spread over records).
    kept: usize,
    /// Something was sent, so keys may be in use.
    spoken: bool,
    /// The end was reached.
    done: bool,
    /// The refusal that ended the handshake; rustls must not be asked again after it.
    refused: Option<SessionError>,
}

/// What rustls wants after one look at the input.
enum Wants {
    /// The same input again: there may be more in it.
    Again,
    /// Another record.
    Input,
}

impl Feed {
    /// See [`Handshake::receive`].
    pub(super) fn receive<E: Engine>(
        &mut self,
        engine: &mut E,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<HandshakeStep, SessionError> {
        if let Some(error) = &self.refused {
            return Err(error.clone());
        }
        let before = out.len();
        let step = self.read_records(engine, input, out);
        if let Err(error) = &step {
            flush(engine, out);
            // rustls makes no alert for some refusals. Before a server has spoken or a version is
            // chosen no key is in use, so it can be made here; under keys the close alone has to tell.
            let no_keys = !self.spoken || engine.common().protocol_version().is_none();
            if out.len() == before && no_keys {
                plain_alert(error, out);
            }
            self.refused = Some(error.clone());
        }
        self.spoken |= out.len() != before;
        step
    }

    fn read_records<E: Engine>(
        &mut self,
        engine: &mut E,
        input: &mut [u8],
        out: &mut Vec<u8>,
    ) -> Result<HandshakeStep, SessionError> {
        let mut step = HandshakeStep { used: 0, done: self.done };
        while !step.done {
            let rest = input.get(step.used..).unwrap_or_default();
            // rustls reads at the places it holds, so they must be there.
            if rest.len() < self.kept {
                return Err(SessionError::NotDone);
            }
            let (shown, whole) = next_record(rest, self.kept);
            let taken = show(engine, input, step.used..step.used + shown, out)?;
            step.used += taken;
            step.done = !engine.common().is_handshaking();
            // A record that is not whole was only shown for its header's sake.
            let seen = if whole { shown } else { self.kept };
            self.kept = seen.saturating_sub(taken);
            if step.done {
                flush(engine, out);
                if self.kept != 0 {
                    return Err(SessionError::DataAfterFinished);
                }
            }
            if !whole {
                break;
            }
        }
        self.done = step.done;
        Ok(step)
    }
}

/// Lets rustls look at `shown` of the input until it wants more; how many bytes it let go of.
fn show<E: Engine>(
    engine: &mut E,
    input: &mut [u8],
    shown: std::ops::Range<usize>,
    out: &mut Vec<u8>,
) -> Result<usize, SessionError> {
    let mut taken = 0;
    loop {
        let slice = input.get_mut(shown.start + taken..shown.end).unwrap_or_default();
        let status = engine.process(slice);
        taken += status.discard;
        match answer(status.state, out)? {
            Wants::Again => {}
            Wants::Input => return Ok(taken),
        }
    }
}

/// Appends what rustls wants sent, or tells why nothing more can come of this.
fn answer<Data>(
    state: Result<ConnectionState<'_, '_, Data>, rustls::Error>,
    out: &mut Vec<u8>,
) -> Result<Wants, SessionError> {
    match state.map_err(SessionError::Refused)? {
        ConnectionState::EncodeTlsData(mut data) => encode(&mut data, out).map(|()| Wants::Again),
        // Everything encoded is in `out`, and the caller sends that.
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            Ok(Wants::Again)
        }
        ConnectionState::BlockedHandshake | ConnectionState::WriteTraffic(_) => Ok(Wants::Input),
        ConnectionState::PeerClosed | ConnectionState::Closed => Err(SessionError::ClosedByPeer),
        ConnectionState::ReadEarlyData(_) | ConnectionState::ReadTraffic(_) => Err(SessionError::EarlyData),
        _ => Err(SessionError::NotDone),
    }
}

/// Appends every record that rustls still holds: tickets after the end, the alert after a refusal.
/// Shows no input, since after a refusal rustls holds places in it that are not to be read again.
pub(super) fn flush<E: Engine>(engine: &mut E, out: &mut Vec<u8>) {
    while engine.common().wants_write() {
        let Ok(ConnectionState::EncodeTlsData(mut data)) = engine.process(&mut []).state else {
            return;
        };
        if encode(&mut data, out).is_err() {
            return;
        }
    }
}

/// Appends the alert for `error` as a record without protection (RFC 8446 §6.2); nothing if the peer
/// ended the handshake itself.
fn plain_alert(error: &SessionError, out: &mut Vec<u8>) {
    let description = match error {
        SessionError::Refused(rustls::Error::AlertReceived(_)) | SessionError::ClosedByPeer => return,
        SessionError::Refused(rustls::Error::InvalidMessage(_)) => alert::DECODE_ERROR,
        // What rustls says when the client takes no signature of our key.
        SessionError::Refused(rustls::Error::General(_)) => alert::HANDSHAKE_FAILURE,
        SessionError::NotDone => alert::INTERNAL_ERROR,
        _ => alert::UNEXPECTED_MESSAGE,
    };
    out.extend_from_slice(&[21, 3, 3, 0, 2, 2, description]);
}

/// Appends one record of rustls to `out`.
pub(super) fn encode<Data>(
    data: &mut EncodeTlsData<'_, Data>,
    out: &mut Vec<u8>,
) -> Result<(), SessionError> {
    let start = out.len();
    let Err(EncodeError::InsufficientSize(size)) = data.encode(&mut []) else {
        return Ok(());
    };
    out.resize(start + size.required_size, 0);
    let written = data.encode(out.get_mut(start..).unwrap_or_default());
    out.truncate(start + *written.as_ref().unwrap_or(&0));
    written.map(|_| ()).map_err(|_| SessionError::NotDone)
}

/// The end of the first record after `kept` bytes, and whether it is whole; else the end of the input,
/// so that rustls can refuse a bad header before the body has come.
fn next_record(input: &[u8], kept: usize) -> (usize, bool) {
    let rest = input.get(kept..).unwrap_or_default();
    let Some(&[_, _, _, high, low]) = rest.first_chunk::<RECORD_HEADER>() else {
        return (input.len(), false);
    };
    let end = kept + RECORD_HEADER + usize::from(u16::from_be_bytes([high, low]));
    if end <= input.len() { (end, true) } else { (input.len(), false) }
}

#[cfg(test)]
pub(super) mod tests;
