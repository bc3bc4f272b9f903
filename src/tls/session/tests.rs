//! Handshakes of our server with rustls's client and with ours, at every split.

use std::sync::Arc;

use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ServerConfig, ServerSessionMemoryCache};
use rustls::{CipherSuite, ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::{Alpn, Facts, Handshake, SessionError};
use crate::tls::client::{ClientHandshake, client_config};
use crate::tls::record::OwnRecords;

/// A server and a client configuration that trust each other, with one suite.
pub(in crate::tls) struct Pair {
    pub(in crate::tls) server: Arc<ServerConfig>,
    pub(in crate::tls) client: Arc<ClientConfig>,
}

/// ChaCha20 of TLS 1.3 and 1.2; the FIPS module has none, so its place is taken.
#[cfg(not(feature = "fips"))]
const CHACHA: [CipherSuite; 2] =
    [CipherSuite::TLS13_CHACHA20_POLY1305_SHA256, CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256];
#[cfg(feature = "fips")]
const CHACHA: [CipherSuite; 2] =
    [CipherSuite::TLS13_AES_256_GCM_SHA384, CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384];

/// Every suite that the record layer carries.
pub(in crate::tls) const SUITES: [CipherSuite; 6] = [
    CipherSuite::TLS13_AES_128_GCM_SHA256,
    CipherSuite::TLS13_AES_256_GCM_SHA384,
    CHACHA[0],
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
    CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
    CHACHA[1],
];

fn provider(suite: CipherSuite) -> (Arc<rustls::crypto::CryptoProvider>, &'static SupportedProtocolVersion) {
    let mut provider = crate::tls::client::provider();
    provider.cipher_suites.retain(|offered| offered.suite() == suite);
    let tls13 = provider.cipher_suites[0].tls13().is_some();
    (Arc::new(provider), if tls13 { &version::TLS13 } else { &version::TLS12 })
}

pub(in crate::tls) fn pair(suite: CipherSuite) -> Pair {
    let certified = rcgen::generate_simple_self_signed(vec!["app.example.com".into()]).unwrap();
    let certificate = certified.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der()));
    let (provider, version) = provider(suite);
    let mut server = ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.enable_secret_extraction = true;
    server.key_log = Arc::new(crate::tls::traffic::Capture);
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    server.session_storage = ServerSessionMemoryCache::new(64);
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    Pair { server: Arc::new(server), client: Arc::new(client) }
}

pub(in crate::tls) fn name() -> ServerName<'static> {
    ServerName::try_from("app.example.com").unwrap()
}

/// Both sides after a handshake, and what the server sent last (its tickets).
pub(in crate::tls) struct Connected {
    pub(in crate::tls) client: OwnRecords,
    pub(in crate::tls) client_facts: Facts,
    pub(in crate::tls) server: OwnRecords,
    pub(in crate::tls) server_facts: Facts,
    pub(in crate::tls) to_client: Vec<u8>,
}

/// Our client and our server, `step` bytes arriving at a time.
pub(in crate::tls) fn connect(pair: &Pair, step: usize) -> Connected {
    let (client, server, to_client) = shake_hands(pair, step);
    let (client, client_facts) = client.finish_own().unwrap();
    let (server, server_facts) = server.finish_own().unwrap();
    Connected { client, client_facts, server, server_facts, to_client }
}

/// Both handshakes when they are done, and what the server sent last (its tickets).
pub(in crate::tls) fn shake_hands(pair: &Pair, step: usize) -> (ClientHandshake, Handshake, Vec<u8>) {
    let mut client = ClientHandshake::new(pair.client.clone(), name()).unwrap();
    let mut server = Handshake::new(pair.server.clone()).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    let (mut client_input, mut server_input): (Vec<u8>, Vec<u8>) = (Vec::new(), Vec::new());
    let mut client_done = client.receive(&mut [], &mut to_server).unwrap().done;
    let mut server_done = false;
    for _ in 0..100_000 {
        if client_done && server_done {
            break;
        }
        if !server_done {
            server_input.extend(to_server.drain(..step.min(to_server.len())));
            let done = server.receive(&mut server_input, &mut to_client).unwrap();
            server_input.drain(..done.used);
            server_done = done.done;
        }
        if !client_done {
            client_input.extend(to_client.drain(..step.min(to_client.len())));
            let done = client.receive(&mut client_input, &mut to_server).unwrap();
            client_input.drain(..done.used);
            client_done = done.done;
        }
    }
    assert!(client_done && server_done, "the handshake ends");
    assert!(server_input.is_empty() && to_server.is_empty(), "the client sent nothing more");
    client_input.append(&mut to_client);
    (client, server, client_input)
}

#[test]
fn our_client_and_our_server_agree_in_every_suite() {
    for suite in SUITES {
        let connected = connect(&pair(suite), usize::MAX);
        assert_eq!(connected.client_facts, connected.server_facts);
        assert_eq!(Some(connected.server_facts.cipher), suite.as_str());
        assert_eq!(connected.server_facts.alpn, Alpn::Http11);
        assert_eq!(connected.server_facts.tls13, connected.server_facts.cipher.starts_with("TLS13"));
        assert!(!connected.server_facts.resumed);
        assert_ne!(connected.server_facts.group, "none");
    }
}

#[test]
fn a_handshake_arrives_in_pieces_of_any_size() {
    for suite in [SUITES[0], SUITES[3]] {
        let pair = pair(suite);
        for step in [1, 2, 3, 5, 7, 64, 100, 997] {
            assert_eq!(Some(connect(&pair, step).client_facts.cipher), suite.as_str());
        }
    }
}

#[test]
fn the_first_request_in_the_read_of_the_finished_is_left_for_the_records() {
    for suite in SUITES {
        let pair = pair(suite);
        let mut client = ClientHandshake::new(pair.client.clone(), name()).unwrap();
        let mut server = Handshake::new(pair.server.clone()).unwrap();
        let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
        client.receive(&mut [], &mut to_server).unwrap();
        let mut steps = 0;
        while !client_turn(&mut client, &mut to_client, &mut to_server) {
            let step = server.receive(&mut to_server, &mut to_client).unwrap();
            to_server.drain(..step.used);
            steps += 1;
            assert!(steps < 10);
        }
        let (mut client, facts) = client.finish_own().unwrap();
        client.seal(b"GET / HTTP/1.1\r\n\r\n", 16_384, &mut to_server).unwrap();
        // In a full TLS 1.2 handshake the server speaks last, so the request comes alone.
        if facts.tls13 {
            let step = server.receive(&mut to_server, &mut to_client).unwrap();
            assert!(step.done && step.used < to_server.len());
            to_server.drain(..step.used);
            let again = server.receive(&mut to_server, &mut to_client).unwrap();
            assert_eq!((again.used, again.done), (0, true));
        }
        let (mut server, _) = server.finish_own().unwrap();
        let opened = server.open(&mut to_server).unwrap();
        let crate::tls::record::Opened::Data { plaintext, used } = opened else { panic!("{opened:?}") };
        assert_eq!(&to_server[plaintext], b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(used, to_server.len());
    }
}

fn client_turn(client: &mut ClientHandshake, input: &mut Vec<u8>, out: &mut Vec<u8>) -> bool {
    let step = client.receive(input, out).unwrap();
    input.drain(..step.used);
    step.done
}

#[test]
fn a_session_is_resumed_from_a_ticket_that_the_records_took() {
    for suite in SUITES {
        let pair = pair(suite);
        let mut first = connect(&pair, usize::MAX);
        let mut input = std::mem::take(&mut first.to_client);
        while !input.is_empty() {
            let opened = first.client.open(&mut input).unwrap();
            let crate::tls::record::Opened::Control { used } = opened else { panic!("{opened:?}") };
            input.drain(..used);
        }
        let second = connect(&pair, usize::MAX);
        assert!(second.client_facts.resumed, "{suite:?}");
        assert!(second.server_facts.resumed, "{suite:?}");
    }
}

#[test]
fn a_refused_hello_leaves_its_alert_in_the_output() {
    let pair = pair(SUITES[0]);
    // Not TLS; a version that is none; a handshake message that is not a ClientHello.
    for (bytes, alerts) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], true),
        (&[22, 3, 1, 0, 4, 2, 0, 0, 0][..], true),
        (&[21, 3, 1, 0, 2, 2, 40][..], false),
    ] {
        for cut in 0..=bytes.len() {
            let mut server = Handshake::new(pair.server.clone()).unwrap();
            let mut out = Vec::new();
            let mut input = bytes[..cut].to_vec();
            let early = server.receive(&mut input, &mut out);
            let result = early.and_then(|step| {
                input.drain(..step.used);
                input.extend_from_slice(&bytes[cut..]);
                server.receive(&mut input, &mut out)
            });
            assert!(matches!(result, Err(SessionError::Refused(_))), "{result:?}");
            let sent = out.len();
            assert_eq!(server.receive(&mut [], &mut out), result, "a refusal is final");
            assert_eq!(out.len(), sent);
            assert_eq!(!out.is_empty(), alerts, "{bytes:?} at {cut}: {out:?}");
            if alerts {
                assert_eq!((out[0], out.len(), out[5]), (21, 7, 2), "one fatal alert");
            }
        }
    }
}

#[test]
fn an_unknown_issuer_is_refused_with_an_alert() {
    let pair_one = pair(SUITES[0]);
    let stranger = Arc::new(client_config(RootCertStore::empty()).unwrap());
    let mut client = ClientHandshake::new(stranger, name()).unwrap();
    let mut server = Handshake::new(pair_one.server).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    client.receive(&mut [], &mut to_server).unwrap();
    let step = server.receive(&mut to_server, &mut to_client).unwrap();
    to_server.drain(..step.used);
    let error = client.receive(&mut to_client, &mut to_server).unwrap_err();
    assert_eq!(error.reason(), "handshake_invalid_certificate");
    let error = server.receive(&mut to_server, &mut to_client).unwrap_err();
    assert_eq!(error.reason(), "handshake_peer_alert");
}

#[test]
fn finish_before_the_end_is_refused() {
    let pair = pair(SUITES[0]);
    let server = Handshake::new(pair.server.clone()).unwrap();
    assert_eq!(server.finish().err(), Some(SessionError::NotDone));
    let server = Handshake::new(pair.server.clone()).unwrap();
    assert_eq!(server.finish_with_rustls().err(), Some(SessionError::NotDone));
    let client = ClientHandshake::new(pair.client, name()).unwrap();
    assert_eq!(client.finish().err(), Some(SessionError::NotDone));
}

#[test]
fn input_that_is_taken_back_is_refused() {
    let pair = pair(SUITES[0]);
    let mut server = Handshake::new(pair.server).unwrap();
    let mut out = Vec::new();
    // The first fragment of a ClientHello, which must stay until the message is whole.
    let mut fragment = [22, 3, 1, 0, 6, 1, 0, 1, 0, 3, 3];
    let step = server.receive(&mut fragment, &mut out).unwrap();
    assert_eq!((step.used, step.done), (0, false));
    assert_eq!(server.receive(&mut fragment[..4], &mut out), Err(SessionError::NotDone));
}

/// What a server makes of a client's two flights when `spoil` has changed one of them.
fn spoiled(
    pair: &Pair,
    flight: usize,
    spoil: impl Fn(&mut Vec<u8>),
) -> (Result<bool, SessionError>, Vec<u8>) {
    let mut client = ClientHandshake::new(pair.client.clone(), name()).unwrap();
    let mut server = Handshake::new(pair.server.clone()).unwrap();
    let (mut to_client, mut to_server) = (Vec::new(), Vec::new());
    client.receive(&mut [], &mut to_server).unwrap();
    for turn in 0..2 {
        if turn == flight {
            spoil(&mut to_server);
        }
        let mut out = Vec::new();
        let step = match server.receive(&mut to_server, &mut out) {
            Ok(step) => step,
            Err(error) => return (Err(error), out),
        };
        assert!(step.used <= to_server.len());
        to_server.drain(..step.used);
        if turn == flight {
            return (Ok(step.done), out);
        }
        to_client.append(&mut out);
        let step = client.receive(&mut to_client, &mut to_server).unwrap();
        to_client.drain(..step.used);
    }
    panic!("two flights");
}

/// Changes byte `at` of a flight; whether the handshake ended well, `None` past the flight's end.
fn with_byte_changed(pair: &Pair, flight: usize, at: usize) -> Option<bool> {
    let inside = std::cell::Cell::new(false);
    let (result, out) = spoiled(pair, flight, |bytes| {
        let byte = bytes.get_mut(at);
        inside.set(byte.is_some());
        byte.into_iter().for_each(|byte| *byte ^= 0x5a);
    });
    if let (0, Err(SessionError::Refused(error))) = (flight, &result) {
        let peer_alert = matches!(error, rustls::Error::AlertReceived(_));
        assert!(peer_alert || !out.is_empty(), "an alert for {error:?} at {at}");
    }
    inside.get().then_some(result == Ok(true))
}

#[cfg_attr(feature = "fips", ignore = "the keys of its only groups are longer, so the headers lie elsewhere")]
#[test]
fn a_spoiled_handshake_never_ends_well_and_never_panics() {
    for (suite, flight) in [(SUITES[0], 0), (SUITES[0], 1), (SUITES[3], 0), (SUITES[3], 1)] {
        let pair = pair(suite);
        spoiled(&pair, flight, |_| ()).0.unwrap();
        let mut at = 0;
        while let Some(ended) = with_byte_changed(&pair, flight, at) {
            // A ClientHello alone ends nothing. In the second flight, only the version that the
            // headers of plaintext records carry is not authenticated (RFC 8446 §5.1).
            let version = flight == 1 && (at % 6 == 1 || at % 6 == 2);
            assert!(!ended || version, "{suite:?} flight {flight} byte {at}");
            at += 1;
        }
        assert!(at > 50, "the whole flight was tried");
    }
}
