//! Our record layer against rustls's own, in both roles: seeded sequences of data, key updates and
//! closing in both directions, arriving in pieces of random size, must give the same bytes; and a server
//! over either record layer must read and be read alike by the same rustls client.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::io::{Read, Write};
use std::sync::Arc;

use lockring::tls::client::ClientHandshake;
use lockring::tls::record::{Opened, RecordError, Records};
use lockring::tls::session::{Facts, Handshake};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{
    CipherSuite, ClientConfig, ClientConnection, Connection, RootCertStore, ServerConfig, ServerConnection,
    version,
};

const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
];

#[cfg(feature = "crypto-aws-lc")]
use rustls::crypto::aws_lc_rs::default_provider;
#[cfg(all(feature = "crypto-ring", not(feature = "crypto-aws-lc")))]
use rustls::crypto::ring::default_provider;

fn configurations(suite: CipherSuite) -> (Arc<ServerConfig>, Arc<ClientConfig>) {
    let certified = rcgen::generate_simple_self_signed(vec!["app.example.com".into()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let mut provider = default_provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let version = if provider.cipher_suites[0].tls13().is_some() { &version::TLS13 } else { &version::TLS12 };
    let provider = Arc::new(provider);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    (Arc::new(server), Arc::new(client))
}

/// xorshift64*: the same sequence for the same seed.
struct Luck(u64);

impl Luck {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    /// Sizes near the edges as often as any other.
    fn size(&mut self) -> usize {
        match self.below(6) {
            0 => 1 + self.below(3),
            1 => 16_383 + self.below(3),
            2 => 1 + self.below(50_000),
            _ => 1 + self.below(2_000),
        }
    }

    fn bytes(&mut self) -> Vec<u8> {
        let size = self.size();
        let start = self.next() as u8;
        (0..size).map(|n| start.wrapping_add((n % 253) as u8)).collect()
    }
}

/// Our side's handshake, whichever it is.
enum Ours {
    Server(Handshake),
    /// A server whose records rustls carries.
    Reference(Handshake),
    Client(ClientHandshake),
}

/// A server over each record layer.
const SIDES: [fn(Handshake) -> Ours; 2] = [Ours::Server, Ours::Reference];

impl Ours {
    fn receive(&mut self, input: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
        let step = match self {
            Self::Server(handshake) | Self::Reference(handshake) => handshake.receive(input, out),
            Self::Client(handshake) => handshake.receive(input, out),
        }
        .unwrap();
        input.drain(..step.used);
        step.done
    }

    fn finish(self) -> (Records, Facts) {
        match self {
            Self::Server(handshake) => handshake.finish(),
            Self::Reference(handshake) => handshake.finish_with_rustls(),
            Self::Client(handshake) => handshake.finish(),
        }
        .unwrap()
    }
}

/// What rustls wants sent.
fn drain(theirs: &mut Connection, wire: &mut Vec<u8>) {
    while theirs.wants_write() {
        theirs.write_tls(wire).unwrap();
    }
}

/// Gives rustls `bytes` in pieces and reads what it opens.
fn feed(theirs: &mut Connection, mut bytes: &[u8], luck: &mut Luck, plain: &mut Vec<u8>) -> bool {
    let mut closed = false;
    while !bytes.is_empty() {
        let piece = (1 + luck.below(20_000)).min(bytes.len());
        let mut now = &bytes[..piece];
        while !now.is_empty() {
            theirs.read_tls(&mut now).unwrap();
            closed |= theirs.process_new_packets().unwrap().peer_has_closed();
            let mut chunk = [0; 4096];
            while let Ok(read @ 1..) = theirs.reader().read(&mut chunk) {
                plain.extend_from_slice(&chunk[..read]);
            }
        }
        bytes = &bytes[piece..];
    }
    closed
}

/// Opens with our layer what has arrived; whether the peer closed.
fn open(records: &mut Records, input: &mut Vec<u8>, plain: &mut Vec<u8>) -> bool {
    let mut at = 0;
    let closed = loop {
        match records.open(&mut input[at..]).unwrap() {
            Opened::Partial { need } => {
                assert!(need > input.len() - at, "more is needed");
                break false;
            }
            Opened::Data { plaintext, used } => {
                plain.extend_from_slice(&input[at + plaintext.start..at + plaintext.end]);
                at += used;
            }
            Opened::Control { used } => at += used,
            Opened::CloseNotify { used } => {
                at += used;
                break true;
            }
        }
    };
    input.drain(..at);
    closed
}

/// A handshake between the two, in pieces; gives our records and what had arrived after it.
fn connect(mut ours: Ours, theirs: &mut Connection, luck: &mut Luck) -> (Records, Vec<u8>) {
    let (mut input, mut to_us, mut to_them) = (Vec::new(), Vec::new(), Vec::new());
    let mut done = ours.receive(&mut input, &mut to_them);
    for _ in 0..10_000 {
        let sent = std::mem::take(&mut to_them);
        feed(theirs, &sent, luck, &mut Vec::new());
        drain(theirs, &mut to_us);
        if done && !theirs.is_handshaking() {
            break;
        }
        let piece = (1 + luck.below(700)).min(to_us.len());
        input.extend(to_us.drain(..piece));
        done = ours.receive(&mut input, &mut to_them);
    }
    assert!(done && !theirs.is_handshaking());
    input.append(&mut to_us);
    let (records, facts) = ours.finish();
    assert_eq!(Some(facts.tls13), theirs.protocol_version().map(|v| v == rustls::ProtocolVersion::TLSv1_3));
    assert_eq!(theirs.negotiated_cipher_suite().and_then(|s| s.suite().as_str()), Some(facts.cipher));
    (records, input)
}

/// One thing that happens in a conversation.
enum Turn {
    /// We say these bytes, in records of at most this size.
    We(Vec<u8>, usize),
    /// rustls says these bytes.
    They(Vec<u8>),
    /// rustls takes a new key and asks for one of ours (TLS 1.3).
    NewKeys,
    /// We wait for a while.
    Rest,
}

/// A conversation to be had.
fn script(luck: &mut Luck) -> Vec<Turn> {
    let turn = |luck: &mut Luck| match luck.below(7) {
        0..=2 => {
            let bytes = luck.bytes();
            let largest = if luck.below(2) == 0 { 18_000 } else { 1_400 };
            Turn::We(bytes, (1 + luck.below(largest)).max(64))
        }
        3..=4 => Turn::They(luck.bytes()),
        5 => Turn::NewKeys,
        _ => Turn::Rest,
    };
    (0..60).map(|_| turn(luck)).collect()
}

/// What each side read of what the other wrote.
#[derive(PartialEq)]
struct Heard {
    we: Vec<u8>,
    they: Vec<u8>,
}

/// Both sides follow the script; each must read what the other wrote.
fn converse(
    mut records: Records,
    mut theirs: Connection,
    mut input: Vec<u8>,
    turns: &[Turn],
    luck: &mut Luck,
) -> Heard {
    let tls13 = theirs.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3);
    let (mut we_said, mut they_read) = (Vec::new(), Vec::new());
    let (mut they_said, mut we_read) = (Vec::new(), Vec::new());
    let mut wire = Vec::new();
    for turn in turns {
        match turn {
            Turn::We(bytes, size) => {
                let mut out = Vec::new();
                records.seal(bytes, *size, &mut out).unwrap();
                we_said.extend_from_slice(bytes);
                feed(&mut theirs, &out, luck, &mut they_read);
            }
            Turn::They(bytes) => {
                theirs.writer().write_all(bytes).unwrap();
                they_said.extend_from_slice(bytes);
            }
            Turn::NewKeys if tls13 => theirs.refresh_traffic_keys().unwrap(),
            Turn::NewKeys => {}
            Turn::Rest => records.rest(),
        }
        drain(&mut theirs, &mut wire);
        while !wire.is_empty() {
            let piece = (1 + luck.below(20_000)).min(wire.len());
            input.extend(wire.drain(..piece));
            open(&mut records, &mut input, &mut we_read);
        }
        if records.wants_reply() && luck.below(2) == 0 {
            let mut out = Vec::new();
            records.take_replies(&mut out);
            assert!(!out.is_empty() && !records.wants_reply());
            feed(&mut theirs, &out, luck, &mut they_read);
        }
        assert_eq!(we_read.len(), they_said.len());
    }
    let mut out = Vec::new();
    records.close_notify(&mut out);
    assert!(feed(&mut theirs, &out, luck, &mut they_read), "rustls sees our close_notify");
    out.clear();
    records.close_notify(&mut out);
    records.fatal_alert(80, &mut out);
    assert!(out.is_empty(), "nothing follows close_notify");
    assert_eq!(records.seal(b"more", 100, &mut out), Err(RecordError::AfterClose));
    theirs.send_close_notify();
    drain(&mut theirs, &mut input);
    assert!(open(&mut records, &mut input, &mut we_read), "we see rustls's close_notify");
    assert!(we_said == they_read, "rustls reads what we sealed");
    assert!(they_said == we_read, "we read what rustls sealed");
    Heard { we: we_read, they: they_read }
}

/// A connected rustls client for one of our servers.
fn client(config: &Arc<ClientConfig>) -> Connection {
    let name = ServerName::try_from("app.example.com").unwrap();
    ClientConnection::new(config.clone(), name).unwrap().into()
}

#[test]
fn both_record_layers_and_the_rustls_client_say_the_same() {
    for suite in SUITES {
        let (server, config) = configurations(suite);
        for seed in 1..=8 {
            let turns = script(&mut Luck(seed));
            let heard = SIDES.map(|side| {
                let mut luck = Luck(seed << 16);
                let mut theirs = client(&config);
                let ours = side(Handshake::new(server.clone()).unwrap());
                let (records, input) = connect(ours, &mut theirs, &mut luck);
                converse(records, theirs, input, &turns, &mut luck)
            });
            let [own, reference] = heard;
            assert!(own == reference, "{suite:?}, seed {seed}");
        }
    }
}

#[test]
fn our_client_and_the_rustls_server_say_the_same() {
    for suite in SUITES {
        let (server, client) = configurations(suite);
        for seed in 1..=8 {
            let mut luck = Luck(seed << 8);
            let turns = script(&mut luck);
            let name = ServerName::try_from("app.example.com").unwrap();
            let mut theirs = ServerConnection::new(server.clone()).unwrap().into();
            let ours = Ours::Client(ClientHandshake::new(client.clone(), name).unwrap());
            let (records, input) = connect(ours, &mut theirs, &mut luck);
            converse(records, theirs, input, &turns, &mut luck);
        }
    }
}

/// What our server reads of two client records, and why it refuses the second one, in which the byte at
/// `place` is changed by `mask`. The client must be told of a refusal.
fn damaged(ours: Ours, mut theirs: Connection, (place, mask): (usize, u8)) -> (Vec<u8>, Option<RecordError>) {
    let (mut records, mut input) = connect(ours, &mut theirs, &mut Luck(3));
    theirs.writer().write_all(b"one").unwrap();
    drain(&mut theirs, &mut input);
    let second = input.len();
    theirs.writer().write_all(b"two").unwrap();
    drain(&mut theirs, &mut input);
    input[second + place] ^= mask;
    let (mut plain, mut at) = (Vec::new(), 0);
    let error = loop {
        match records.open(&mut input[at..]) {
            Ok(Opened::Data { plaintext, used }) => {
                plain.extend_from_slice(&input[at + plaintext.start..at + plaintext.end]);
                at += used;
            }
            Ok(_) => return (plain, None),
            Err(error) => break error,
        }
    };
    assert_eq!(records.open(&mut []), Err(error), "a refusal is final");
    let mut out = Vec::new();
    records.fatal_alert(error.alert().unwrap(), &mut out);
    theirs.read_tls(&mut &out[..]).unwrap();
    let told = theirs.process_new_packets();
    assert!(matches!(told, Err(rustls::Error::AlertReceived(_))), "the client is told: {told:?}");
    (plain, Some(error))
}

/// What is damaged, why ours refuses the record, and why rustls does; `None`: it is read, or waited for.
type Damage = ((usize, u8), Option<RecordError>, Option<RecordError>);

/// rustls authenticates the header that should have come instead of the one that came (RFC 8446 §5.2),
/// and takes a length that only TLS 1.2 allows.
const DAMAGES_TLS13: [Damage; 8] = [
    ((0, 0x40), Some(RecordError::UnexpectedContentType), Some(RecordError::UnexpectedContentType)),
    ((0, 0x01), Some(RecordError::Unprotected), None),
    ((0, 0x02), Some(RecordError::Unprotected), None),
    ((1, 0x40), Some(RecordError::BadRecordMac), Some(RecordError::WrongVersion)),
    ((2, 0x01), Some(RecordError::BadRecordMac), None),
    ((3, 0x80), Some(RecordError::CiphertextTooLong), Some(RecordError::CiphertextTooLong)),
    ((3, 0x42), Some(RecordError::CiphertextTooLong), None),
    ((5, 0x01), Some(RecordError::BadRecordMac), Some(RecordError::BadRecordMac)),
];

const DAMAGES_TLS12: [Damage; 7] = [
    ((0, 0x40), Some(RecordError::UnexpectedContentType), Some(RecordError::UnexpectedContentType)),
    ((0, 0x01), Some(RecordError::BadRecordMac), Some(RecordError::BadRecordMac)),
    ((1, 0x40), Some(RecordError::WrongVersion), Some(RecordError::WrongVersion)),
    ((2, 0x01), Some(RecordError::WrongVersion), Some(RecordError::BadRecordMac)),
    ((3, 0x80), Some(RecordError::CiphertextTooLong), Some(RecordError::CiphertextTooLong)),
    ((3, 0x42), None, None),
    ((5, 0x01), Some(RecordError::BadRecordMac), Some(RecordError::BadRecordMac)),
];

#[test]
fn both_record_layers_refuse_a_damaged_record_but_for_known_cases() {
    for suite in SUITES {
        let (server, config) = configurations(suite);
        let tls13 = suite.as_str().unwrap().starts_with("TLS13");
        let damages: &[Damage] = if tls13 { &DAMAGES_TLS13 } else { &DAMAGES_TLS12 };
        for &(damage, own, reference) in damages {
            let heard = SIDES
                .map(|side| damaged(side(Handshake::new(server.clone()).unwrap()), client(&config), damage));
            assert_eq!(heard[0], (b"one".to_vec(), own), "{suite:?}, {damage:?}");
            assert_eq!(heard[1].1, reference, "{suite:?}, {damage:?}");
            assert!(heard[1].0.starts_with(b"one"), "{suite:?}, {damage:?}");
        }
    }
}

#[test]
fn a_flight_of_rustls_reads_the_same_at_every_split() {
    for (suite, side) in SUITES.into_iter().flat_map(|suite| SIDES.map(|side| (suite, side))) {
        let (server, config) = configurations(suite);
        let mut length = 1;
        let mut cut = 0;
        while cut < length {
            let mut theirs = client(&config);
            let ours = side(Handshake::new(server.clone()).unwrap());
            let (mut records, mut input) = connect(ours, &mut theirs, &mut Luck(7));
            theirs.writer().write_all(b"one").unwrap();
            if theirs.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                theirs.refresh_traffic_keys().unwrap();
            }
            theirs.writer().write_all(b"two").unwrap();
            let mut flight = std::mem::take(&mut input);
            drain(&mut theirs, &mut flight);
            length = flight.len();
            let mut plain = Vec::new();
            input.extend_from_slice(&flight[..cut]);
            open(&mut records, &mut input, &mut plain);
            input.extend_from_slice(&flight[cut..]);
            open(&mut records, &mut input, &mut plain);
            assert_eq!(plain, b"onetwo", "cut at {cut}");
            cut += 1;
        }
    }
}
