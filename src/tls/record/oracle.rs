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

#[cfg(test)]
mod tests {
    use super::super::{ALERT, APPLICATION_DATA, HANDSHAKE, OwnRecords, Records};
    use super::*;
    use crate::tls::client::ClientHandshake;
    use crate::tls::session::tests::{SUITES, name, pair, shake_hands};

    const TLS13: usize = 0;
    const TLS12: usize = 3;

    /// Our client, and a server of rustls's behind the common verbs.
    struct Sides {
        client: OwnRecords,
        server: Records,
    }

    impl Sides {
        fn connected(index: usize) -> Self {
            let (client, server, to_client) = shake_hands(&pair(SUITES[index]), usize::MAX);
            let mut client = client.finish_own().unwrap().0;
            let server = server.finish_with_rustls().unwrap().0;
            assert_eq!(read(|input| client.open(input), to_client), Ok(Vec::new()), "tickets at most");
            Self { client, server }
        }

        /// What the server reads in one record of the client's.
        fn say(&mut self, content_type: u8, content: &[u8]) -> Result<Vec<u8>, RecordError> {
            let mut record = Vec::new();
            self.client.seal_content(content_type, content, &mut record).unwrap();
            read(|input| self.server.open(input), record)
        }

        /// What the client reads of `data` from the server.
        fn answer(&mut self, data: &[u8]) -> Result<Vec<u8>, RecordError> {
            let mut out = Vec::new();
            self.server.seal(data, 100, &mut out).unwrap();
            read(|input| self.client.open(input), out)
        }
    }

    /// The data in whole records.
    fn read(
        mut open: impl FnMut(&mut [u8]) -> Result<Opened, RecordError>,
        mut input: Vec<u8>,
    ) -> Result<Vec<u8>, RecordError> {
        let (mut data, mut at) = (Vec::new(), 0);
        while at < input.len() {
            at += match open(&mut input[at..])? {
                Opened::Partial { need } => panic!("whole records only, {need} needed"),
                Opened::Data { plaintext, used } => {
                    data.extend_from_slice(&input[at + plaintext.start..at + plaintext.end]);
                    used
                }
                Opened::Control { used } | Opened::CloseNotify { used } => used,
            };
        }
        Ok(data)
    }

    #[test]
    fn data_of_any_size_passes_in_every_suite_and_overhead_is_what_it_says() {
        for index in 0..SUITES.len() {
            let mut sides = Sides::connected(index);
            for size in [1_usize, 2, 1_350, 16_384, 16_385, 40_000] {
                let plain: Vec<u8> = (0..size).map(|n| (n % 251) as u8).collect();
                let mut out = Vec::new();
                sides.server.seal(&plain, RECORD_PLAINTEXT, &mut out).unwrap();
                let records = size.div_ceil(RECORD_PLAINTEXT);
                assert_eq!(out.len(), size + records * sides.server.overhead());
                assert_eq!(read(|input| sides.client.open(input), out).as_deref(), Ok(&plain[..]));
                let mut out = Vec::new();
                sides.client.seal(&plain, 1_300, &mut out).unwrap();
                assert_eq!(read(|input| sides.server.open(input), out), Ok(plain));
                sides.server.rest();
            }
        }
    }

    #[test]
    fn a_record_is_partial_until_its_last_byte_and_is_left_alone() {
        for index in [TLS13, TLS12] {
            let mut sides = Sides::connected(index);
            let mut record = Vec::new();
            sides.client.seal(b"some data", 100, &mut record).unwrap();
            for cut in 0..record.len() {
                let need = if cut < RECORD_HEADER { RECORD_HEADER } else { record.len() };
                let mut prefix = record[..cut].to_vec();
                assert_eq!(sides.server.open(&mut prefix), Ok(Opened::Partial { need }));
                assert_eq!(prefix, record[..cut]);
            }
            assert_eq!(read(|input| sides.server.open(input), record).as_deref(), Ok(&b"some data"[..]));
        }
    }

    // RFC 8446 §4.6.3, §5.1.
    #[test]
    fn a_key_update_in_fragments_is_answered_with_the_next_data() {
        let mut sides = Sides::connected(TLS13);
        for fragment in [&[24, 0][..], &[0], &[1]] {
            assert_eq!(sides.say(HANDSHAKE, fragment), Ok(Vec::new()));
            assert_eq!(sides.answer(b"meanwhile").as_deref(), Ok(&b"meanwhile"[..]));
        }
        assert_eq!(sides.say(HANDSHAKE, &[1]), Ok(Vec::new()));
        let cipher = sides.client.tx.cipher();
        sides.client.tx = sides.client.schedule.next_tx(cipher).unwrap();
        assert!(!sides.server.wants_reply(), "the answer waits for data");
        let mut out = Vec::new();
        sides.server.seal(b"data", 100, &mut out).unwrap();
        let update = 5 + 5 + 1 + TAG;
        assert_eq!(out.len(), update + 4 + sides.server.overhead());
        assert_eq!(read(|input| sides.client.open(input), out).as_deref(), Ok(&b"data"[..]));
        assert_eq!(sides.say(APPLICATION_DATA, b"on").as_deref(), Ok(&b"on"[..]));
        assert_eq!(sides.answer(b"and on").as_deref(), Ok(&b"and on"[..]));
    }

    #[test]
    fn fragments_without_an_end_are_refused() {
        let mut sides = Sides::connected(TLS13);
        let mut fragment = vec![0; RECORD_PLAINTEXT];
        fragment[..4].copy_from_slice(&[24, 0, 0xff, 0xff]);
        let said = (0..3).map(|_| sides.say(HANDSHAKE, &fragment)).find_map(Result::err);
        assert_eq!(said, Some(RecordError::HandshakeTooLong));
    }

    // RFC 5246 §7.2.2: a warning, once; ours ends the connection at the first.
    #[test]
    fn a_renegotiation_is_warned_of_once() {
        let mut sides = Sides::connected(TLS12);
        let mut hello = Vec::new();
        let mut handshake = ClientHandshake::new(pair(SUITES[TLS12]).client, name()).unwrap();
        handshake.receive(&mut [], &mut hello).unwrap();
        assert_eq!(sides.say(HANDSHAKE, &hello[RECORD_HEADER..]), Ok(Vec::new()));
        assert!(sides.server.wants_reply());
        // The warning goes before data that is sealed later.
        assert_eq!(sides.answer(b"data").as_deref(), Ok(&b"data"[..]));
        assert!(!sides.server.wants_reply());
        let again = sides.say(HANDSHAKE, &hello[RECORD_HEADER..]);
        assert_eq!(again, Err(RecordError::Renegotiation));
    }

    #[test]
    fn after_a_refusal_comes_the_alert_of_rustls_and_nothing_else() {
        for index in [TLS13, TLS12] {
            let mut sides = Sides::connected(index);
            let mut out = Vec::new();
            let start = sides.server.begin(&mut out);
            out.extend_from_slice(b"half an answer");
            let refused = read(|input| sides.server.open(input), [23, 3, 3, 0, 40].repeat(9));
            assert_eq!(refused, Err(RecordError::BadRecordMac));
            sides.server.commit(start, &mut out).unwrap();
            assert!(out.is_empty(), "the answer is taken back");
            assert!(sides.server.wants_reply());
            sides.server.fatal_alert(super::super::alert::BAD_RECORD_MAC, &mut out);
            assert!(!sides.server.wants_reply());
            assert_eq!(read(|input| sides.client.open(input), out), Err(RecordError::PeerAlert(20)));
            let mut out = Vec::new();
            sides.server.close_notify(&mut out);
            sides.server.fatal_alert(80, &mut out);
            assert_eq!(sides.server.seal(b"more", 100, &mut out), Err(RecordError::AfterClose));
            assert!(out.is_empty(), "nothing follows an alert");
        }
    }

    #[test]
    fn an_alert_from_the_peer_ends_opening() {
        let mut sides = Sides::connected(TLS13);
        assert_eq!(sides.say(ALERT, &[2, 40]), Err(RecordError::PeerAlert(40)));
        assert_eq!(sides.say(APPLICATION_DATA, b"more"), Err(RecordError::PeerAlert(40)));
    }

    #[test]
    fn a_record_that_cannot_be_is_taken_back() {
        let mut sides = Sides::connected(TLS13);
        let mut out = b"earlier".to_vec();
        let start = sides.server.begin(&mut out);
        sides.server.commit(start, &mut out).unwrap();
        assert_eq!(out, b"earlier", "no plaintext, no record");
        let start = sides.server.begin(&mut out);
        out.resize(out.len() + RECORD_PLAINTEXT + 1, 1);
        assert_eq!(sides.server.commit(start, &mut out), Err(RecordError::BadRecordStart));
        assert_eq!(out, b"earlier");
        let start = sides.server.begin(&mut out);
        out.clear();
        assert_eq!(sides.server.commit(start, &mut out), Err(RecordError::BadRecordStart));
        assert_eq!(sides.answer(b"data").as_deref(), Ok(&b"data"[..]));
    }
}
