//! Choices and refusals on hellos of rustls clients, and the handshakes that follow: which certificate is
//! shown, which session resumes.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, HandshakeKind, ServerConnection,
    SignatureScheme,
};

use super::{Alpn, Chosen, Refusal, choose};
use crate::config::model::HostPattern;
use crate::tls::TlsCommon;
use crate::tls::certs::tests::{common, pair, pair_of};
use crate::tls::certs::{CertifiedPair, Entry, Store};
use crate::tls::client_hello::read;
use crate::wire::Parse;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ECDSA: SignatureScheme = SignatureScheme::ECDSA_NISTP256_SHA256;
const RSA: SignatureScheme = SignatureScheme::RSA_PSS_SHA256;
const RSA_PKCS1: SignatureScheme = SignatureScheme::RSA_PKCS1_SHA256;

/// Trusts every certificate, and verifies signatures of these schemes only.
#[derive(Debug)]
struct Trusting(Vec<SignatureScheme>);

impl ServerCertVerifier for Trusting {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = crate::tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signature, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = crate::tls::provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signature, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

type Version = &'static rustls::SupportedProtocolVersion;
const TLS13: Version = &rustls::version::TLS13;
const TLS12: Version = &rustls::version::TLS12;

fn client(versions: &[Version], schemes: &[SignatureScheme], alpn: &[&str]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(crate::tls::provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting(schemes.to_vec())))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

/// The first flight of a client that connects to `name`.
fn first_flight(config: &Arc<ClientConfig>, name: &str) -> (ClientConnection, Vec<u8>) {
    let mut client = ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    (client, bytes)
}

fn chosen<'s>(store: &'s Store, flight: &[u8]) -> Result<Chosen<'s>, Refusal> {
    let mut scratch = Vec::new();
    let Ok(Parse::Done { value, .. }) = read(flight, &mut scratch) else { panic!("not a hello") };
    choose(store, &value, LOCAL)
}

fn outcome(store: &Store, config: &Arc<ClientConfig>, name: &str) -> Result<(u32, Alpn), Refusal> {
    chosen(store, &first_flight(config, name).1).map(|chosen| (chosen.entry.site(), chosen.alpn))
}

fn exact(name: &str) -> HostPattern {
    HostPattern::Exact(name.to_owned())
}

fn store_of(entries: &[(&str, Arc<Entry>)]) -> Store {
    let mut builder = Store::builder();
    for (name, entry) in entries {
        builder.add(&exact(name), Arc::clone(entry));
    }
    builder.build()
}

fn entry(site: u32, pairs: &[&Arc<CertifiedPair>], crypto: &TlsCommon) -> Arc<Entry> {
    Entry::new(site, pairs.iter().map(|pair| Arc::clone(pair)).collect(), crypto).unwrap()
}

#[test]
fn sites_are_chosen_by_name_and_protocol() {
    let (crypto, pair) = (common(), pair(&["a.example"]));
    let mut builder = Store::builder();
    builder
        .add(&exact("a.example"), entry(1, &[&pair], &crypto))
        .add(&HostPattern::Wildcard("w.example".to_owned()), entry(2, &[&pair], &crypto))
        .add_pending(&exact("wait.example"))
        .challenge(b"a.example", Entry::for_challenge(1, Arc::clone(&pair), &crypto).unwrap());
    let store = builder.build();
    let any = client(&[TLS13, TLS12], &[ECDSA], &[]);
    let with = |alpn: &[&str]| client(&[TLS13, TLS12], &[ECDSA], alpn);
    assert_eq!(outcome(&store, &any, "a.example"), Ok((1, Alpn::None)));
    assert_eq!(outcome(&store, &any, "A.EXAMPLE"), Ok((1, Alpn::None)));
    assert_eq!(outcome(&store, &any, "x.w.example"), Ok((2, Alpn::None)));
    assert_eq!(outcome(&store, &with(&["h2", "http/1.1"]), "a.example"), Ok((1, Alpn::Http11)));
    assert_eq!(outcome(&store, &with(&["acme-tls/1"]), "a.example"), Ok((1, Alpn::AcmeTls1)));
    assert_eq!(outcome(&store, &with(&["http/1.1", "acme-tls/1"]), "a.example"), Ok((1, Alpn::Http11)));
    assert_eq!(outcome(&store, &with(&["acme-tls/1"]), "x.w.example"), Err(Refusal::NoChallenge));
    assert_eq!(outcome(&store, &with(&["h2"]), "a.example"), Err(Refusal::NoProtocolInCommon));
    assert_eq!(
        outcome(&store, &with(&["http/1.0", "acme-tls/1"]), "a.example"),
        Err(Refusal::NoProtocolInCommon)
    );
    assert_eq!(outcome(&store, &any, "b.example"), Err(Refusal::UnknownServerName));
    assert_eq!(outcome(&store, &any, "a.x.w.example"), Err(Refusal::UnknownServerName));
    assert_eq!(outcome(&store, &any, "wait.example"), Err(Refusal::CertificateNotReady));
    assert_eq!(
        outcome(&store, &any, "127.0.0.1"),
        Err(Refusal::NoServerName),
        "no name is sent for an address"
    );
    assert_eq!(
        chosen(&store, &first_flight(&any, "A.example").1).unwrap().server_name.as_bytes(),
        b"a.example"
    );
}

#[test]
fn a_name_that_may_have_a_certificate_is_refused_in_its_own_way() {
    let (crypto, pair) = (common(), pair(&["a.example"]));
    let mut builder = Store::builder();
    builder.on_demand().add(&exact("a.example"), entry(1, &[&pair], &crypto));
    let mut store = builder.build();
    let any = client(&[TLS13, TLS12], &[ECDSA], &[]);
    assert_eq!(outcome(&store, &any, "b.example"), Err(Refusal::OnDemand));
    let challenge = client(&[TLS13, TLS12], &[ECDSA], &["acme-tls/1"]);
    assert_eq!(
        outcome(&store, &challenge, "b.example"),
        Err(Refusal::NoChallenge),
        "an authority never waits"
    );
    store.put_demanded(b"b.example", Some(Entry::on_demand(4, Arc::clone(&pair), &crypto).unwrap()));
    assert_eq!(outcome(&store, &any, "B.example"), Ok((4, Alpn::None)));
}

#[test]
fn addresses_are_served_to_clients_that_send_no_name() {
    let (crypto, pair) = (common(), pair(&["127.0.0.1"]));
    let mut builder = Store::builder();
    builder.add(&HostPattern::Ip(LOCAL), entry(5, &[&pair], &crypto));
    let any = client(&[TLS13, TLS12], &[ECDSA], &["http/1.1"]);
    assert_eq!(outcome(&builder.build(), &any, "127.0.0.1"), Ok((5, Alpn::Http11)));
}

#[test]
fn alerts_and_reasons_are_those_of_the_design() {
    let all = [
        (Refusal::NoServerName, 112),
        (Refusal::UnknownServerName, 112),
        (Refusal::CertificateNotReady, 112),
        (Refusal::OnDemand, 112),
        (Refusal::NoChallenge, 120),
        (Refusal::NoProtocolInCommon, 120),
        (Refusal::NoVersionInCommon, 70),
        (Refusal::NoSignatureInCommon, 40),
    ];
    let mut reasons: Vec<_> = all.iter().map(|(refusal, _)| refusal.reason()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    assert_eq!(reasons.len(), all.len());
    assert!(all.iter().all(|(refusal, alert)| refusal.alert() == *alert));
}

#[test]
fn versions_and_signatures_must_fit() {
    let (crypto, rsa) = (common(), pair_of(&rcgen::PKCS_RSA_SHA256, &["a.example"]));
    let store = store_of(&[("a.example", entry(1, &[&rsa], &crypto))]);
    let get = |versions: &[Version], schemes: &[SignatureScheme]| {
        outcome(&store, &client(versions, schemes, &[]), "a.example").map(|(site, _)| site)
    };
    assert_eq!(get(&[TLS13, TLS12], &[RSA]), Ok(1));
    assert_eq!(get(&[TLS13], &[ECDSA]), Err(Refusal::NoSignatureInCommon));
    assert_eq!(get(&[TLS12], &[RSA_PKCS1]), Ok(1));
    assert_eq!(get(&[TLS13], &[RSA_PKCS1]), Err(Refusal::NoSignatureInCommon), "RFC 8446 section 4.2.3");
    let mut old = first_flight(&client(&[TLS12], &[RSA], &[]), "a.example").1;
    let at = old.windows(7).position(|window| window == [0, 43, 0, 3, 2, 3, 3]).unwrap();
    old[at + 6] = 2;
    assert_eq!(chosen(&store, &old).err(), Some(Refusal::NoVersionInCommon));
}

/// A handshake with what [`choose`] gives, through to the tickets; both ends.
fn handshake(
    store: &Store,
    config: &Arc<ClientConfig>,
    name: &str,
) -> Result<(ClientConnection, ServerConnection), Error> {
    let (mut client, flight) = first_flight(config, name);
    let chosen = chosen(store, &flight).unwrap();
    let mut server = ServerConnection::new(Arc::clone(chosen.entry.config()))?;
    server.read_tls(&mut &flight[..]).unwrap();
    server.process_new_packets()?;
    for _ in 0..4 {
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut &bytes[..]).unwrap();
        client.process_new_packets()?;
        bytes.clear();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut &bytes[..]).unwrap();
        server.process_new_packets()?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

#[test]
fn ecdsa_is_shown_where_it_can_be_verified_and_rsa_elsewhere() {
    let crypto = common();
    let ecdsa = pair(&["a.example"]);
    let rsa = pair_of(&rcgen::PKCS_RSA_SHA256, &["a.example"]);
    let store = store_of(&[("a.example", entry(1, &[&rsa, &ecdsa], &crypto))]);
    for version in [TLS13, TLS12] {
        for (schemes, wanted) in [(&[RSA, ECDSA][..], &ecdsa), (&[ECDSA], &ecdsa), (&[RSA], &rsa)] {
            let config = client(&[version], schemes, &["http/1.1"]);
            let (client, server) = handshake(&store, &config, "a.example").unwrap();
            let shown = client.peer_certificates().unwrap();
            assert_eq!(shown, wanted.certified_key().cert, "{schemes:?}");
            assert_eq!(server.alpn_protocol(), Some(&b"http/1.1"[..]));
            assert!(server.dangerous_extract_secrets().is_ok(), "our record layer gets the keys");
        }
    }
}

#[test]
fn the_best_group_in_common_is_used() {
    let (crypto, pair) = (common(), pair(&["a.example"]));
    let store = store_of(&[("a.example", entry(1, &[&pair], &crypto))]);
    let (client, _) = handshake(&store, &client(&[TLS13], &[ECDSA], &[]), "a.example").unwrap();
    let best = crate::tls::provider().kx_groups[0].name();
    assert_eq!(client.negotiated_key_exchange_group().map(|group| group.name()), Some(best));
}

#[test]
fn a_challenge_is_answered_with_its_own_certificate_and_no_ticket() {
    let crypto = common();
    let (site, challenge) = (pair(&["a.example"]), pair(&["a.example"]));
    let mut builder = Store::builder();
    builder
        .add(&exact("a.example"), entry(1, &[&site], &crypto))
        .challenge(b"a.example", Entry::for_challenge(1, Arc::clone(&challenge), &crypto).unwrap());
    let store = builder.build();
    let (client, server) =
        handshake(&store, &client(&[TLS13], &[ECDSA], &["acme-tls/1"]), "a.example").unwrap();
    assert_eq!(client.peer_certificates().unwrap(), challenge.certified_key().cert);
    assert_eq!(server.alpn_protocol(), Some(&b"acme-tls/1"[..]));
    assert_eq!(client.tls13_tickets_received(), 0);
}

#[test]
fn sessions_resume_on_their_own_site_only() {
    let (crypto, ours, theirs) = (common(), pair(&["a.example", "b.example"]), pair(&["c.example"]));
    let shared = entry(1, &[&ours], &crypto);
    let first = store_of(&[("a.example", Arc::clone(&shared)), ("b.example", Arc::clone(&shared))]);
    // The same names on another entry object, as after a renewal; and under the names of another site.
    let renewed = store_of(&[("a.example", entry(1, &[&ours], &crypto))]);
    let moved = store_of(&[("a.example", entry(2, &[&theirs], &crypto))]);
    let restarted = store_of(&[("a.example", entry(1, &[&ours], &common()))]);
    for version in [TLS13, TLS12] {
        let config = client(&[version], &[ECDSA], &["http/1.1"]);
        let kind = |store: &Store, name: &str| {
            let (client, _) = handshake(store, &config, name).unwrap();
            client.handshake_kind().unwrap()
        };
        assert_eq!(kind(&first, "a.example"), HandshakeKind::Full);
        assert_eq!(kind(&first, "a.example"), HandshakeKind::Resumed);
        assert_eq!(kind(&renewed, "a.example"), HandshakeKind::Resumed);
        assert_eq!(kind(&first, "b.example"), HandshakeKind::Full, "another name has another session");
        assert_eq!(kind(&moved, "a.example"), HandshakeKind::Full);
        assert_eq!(kind(&first, "a.example"), HandshakeKind::Full, "that ticket is now the other site's");
        assert_eq!(kind(&restarted, "a.example"), HandshakeKind::Full);
    }
}

#[test]
fn two_tickets_come_along_and_no_early_data() {
    let (crypto, pair) = (common(), pair(&["a.example"]));
    let store = store_of(&[("a.example", entry(1, &[&pair], &crypto))]);
    let config = client(&[TLS13], &[ECDSA], &[]);
    let (first, _) = handshake(&store, &config, "a.example").unwrap();
    assert_eq!(first.tls13_tickets_received(), 2);
    let mut early = (*config).clone();
    early.enable_early_data = true;
    let (mut second, _) = first_flight(&Arc::new(early), "a.example");
    assert!(second.early_data().is_none(), "its ticket allows none");
}
