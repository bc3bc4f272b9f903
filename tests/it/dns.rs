//! Records of DNS-01 written to real name servers and looked for there, and hooks.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use lockring::acme::dns::update::{Change, Primary};
use lockring::acme::dns::{
    self, Challenge, Error, Name, Provider, Resolver, Standing, TsigError, UpdateError, propagation, tsig,
};
use lockring::config::model::{DnsMeans, DnsProvider, Propagation, Secret, TsigAlgorithm, TsigKey};

use super::harness::lockring::Scratch;
use super::harness::nameserver::{self, Kind, NameServer, SECRET, Zone, free_port};

const BOTH: [Kind; 2] = [Kind::Bind, Kind::Knot];

const EXAMPLE: Zone = Zone {
    name: "example.com",
    records: "@ NS ns1\nns1 A 127.0.0.1\n_acme-challenge.www CNAME www.acme.example.net.\n\
              _acme-challenge.far CNAME far.away.example.org.\n\
              _validation-persist TXT \"ca.example; accounturi=https://ca.example/1; policy=wildcard\"\n\
              caa CAA 0 issue \"ca.example\"\n",
    open: true,
};
const DELEGATED: Zone = Zone { name: "acme.example.net", records: "@ NS ns1\nns1 A 127.0.0.1", open: true };
const CLOSED: Zone = Zone { name: "closed.example", records: "@ NS ns1\nns1 A 127.0.0.1", open: false };

fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

fn key(name: &str, algorithm: TsigAlgorithm) -> TsigKey {
    TsigKey { name: name.to_owned(), algorithm, secret: Secret::Env("UNUSED".to_owned()) }
}

fn config(means: DnsMeans) -> DnsProvider {
    DnsProvider {
        name: "test".to_owned(),
        means,
        propagation: Propagation::Authoritative,
        propagation_timeout: Duration::from_secs(10),
        resolvers: Vec::new(),
    }
}

/// A provider that updates `server` with this key, secret and zone.
fn updating(server: SocketAddr, key: Option<TsigKey>, secret: &str, zone: Option<&str>) -> Provider {
    let secret = key.is_some().then(|| secret.as_bytes().to_vec().into());
    let means = DnsMeans::Update { server: server.to_string(), zone: zone.map(str::to_owned), key };
    let resolver = Resolver::new(&[server]).authoritative_port(server.port());
    Provider::new(&config(means), secret).unwrap().with_resolver(resolver)
}

fn usual(server: SocketAddr) -> Provider {
    updating(server, Some(key("acme", TsigAlgorithm::HmacSha256)), SECRET, None)
}

fn challenge<'a>(domain: &'a str, value: &'a str) -> Challenge<'a> {
    Challenge { domain, value, token: "token", key_authorization: "token.thumbprint" }
}

async fn texts(server: SocketAddr, at: &Name) -> Vec<String> {
    let found = Resolver::authoritative(server).txt(at).await.unwrap();
    let mut found: Vec<String> = found.into_iter().map(|text| String::from_utf8(text).unwrap()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn two_records_stand_beside_each_other_and_one_can_go() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        for (algorithm, key_name) in
            [(TsigAlgorithm::HmacSha256, "acme"), (TsigAlgorithm::HmacSha512, "acme512")]
        {
            let provider = updating(server.address, Some(key(key_name, algorithm)), SECRET, None);
            let (base, wildcard) = (challenge("example.com", "one"), challenge("*.example.com", "two"));
            let first = provider.present(&base).await.unwrap();
            let second = provider.present(&wildcard).await.unwrap();
            assert_eq!((&first.name, &second.name), (&name("_acme-challenge.example.com"), &first.name));
            provider.present(&base).await.unwrap();
            assert_eq!(texts(server.address, &first.name).await, ["one", "two"], "{kind:?}");
            provider.propagated(&first.name, "one").await.unwrap();
            provider.cleanup(&base, Some(&first)).await.unwrap();
            provider.cleanup(&base, Some(&first)).await.unwrap();
            assert_eq!(texts(server.address, &first.name).await, ["two"], "{kind:?}");
            provider.cleanup(&wildcard, None).await.unwrap();
            assert_eq!(texts(server.address, &first.name).await, [""; 0], "{kind:?}");
        }
    }
}

#[tokio::test]
async fn long_values_and_a_configured_zone() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        // Of the addresses that the name may have, the server listens on one.
        let means = DnsMeans::Update {
            server: format!("localhost:{}", server.address.port()),
            zone: Some("example.com.".to_owned()),
            key: Some(key("acme", TsigAlgorithm::HmacSha256)),
        };
        let provider = Provider::new(&config(means), Some(SECRET.as_bytes().to_vec().into())).unwrap();
        let provider = provider.with_resolver(Resolver::new(&[server.address]));
        let long = "x".repeat(700);
        let presented = provider.present(&challenge("a.b.example.com", &long)).await.unwrap();
        assert_eq!(texts(server.address, &presented.name).await, std::slice::from_ref(&long), "{kind:?}");
        provider.cleanup(&challenge("a.b.example.com", &long), Some(&presented)).await.unwrap();
        assert_eq!(texts(server.address, &presented.name).await, [""; 0], "{kind:?}");
    }
}

#[tokio::test]
async fn a_signature_that_is_not_accepted_says_why() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        let fails = async |key: TsigKey, secret: &str, zone: Option<&str>| {
            let provider = updating(server.address, Some(key), secret, zone);
            match provider.present(&challenge("example.com", "v")).await {
                Err(Error::Update(UpdateError::Signature(error))) => error,
                other => panic!("{kind:?}: {other:?}"),
            }
        };
        for zone in [None, Some("example.com")] {
            let unknown = fails(key("nobody", TsigAlgorithm::HmacSha256), SECRET, zone).await;
            assert_eq!(unknown, TsigError::UnknownKey(name("nobody")), "{kind:?}");
            let secret = fails(key("acme", TsigAlgorithm::HmacSha256), "c2VjcmV0", zone).await;
            assert_eq!(secret, TsigError::WrongSecret(name("acme")), "{kind:?}");
            let algorithm = fails(key("acme", TsigAlgorithm::HmacSha512), SECRET, zone).await;
            assert!(
                matches!(algorithm, TsigError::UnknownKey(_) | TsigError::WrongSecret(_)),
                "{kind:?}: {algorithm}"
            );
        }
        assert_eq!(texts(server.address, &name("_acme-challenge.example.com")).await, [""; 0]);
    }
}

#[tokio::test]
async fn a_wrong_clock_is_told_with_its_distance() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        let shared = tsig::Key::new(&key("acme", TsigAlgorithm::HmacSha256), SECRET.as_bytes()).unwrap();
        let now =
            || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() - 7200;
        let late = Primary { now, ..Primary::new(server.address, Some(shared)) };
        let error =
            late.change(&name("example.com"), &name("a.example.com"), b"v", Change::Add).await.unwrap_err();
        let UpdateError::Signature(TsigError::Clock(ahead)) = error else { panic!("{kind:?}: {error}") };
        assert!((7190..7300).contains(&ahead), "{kind:?}: {ahead}");
    }
}

#[tokio::test]
async fn what_the_server_does_not_allow_or_have_is_told() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE, CLOSED]);
        let sha256 = || Some(key("acme", TsigAlgorithm::HmacSha256));
        let fails =
            async |provider: Provider, domain: &str| match provider.present(&challenge(domain, "v")).await {
                Err(Error::Update(error)) => error,
                other => panic!("{kind:?}: {other:?}"),
            };
        let closed = fails(usual(server.address), "closed.example").await;
        let unsigned = fails(updating(server.address, None, "", None), "example.com").await;
        match kind {
            Kind::Bind => {
                assert!(matches!(closed, UpdateError::Refused { .. }), "{closed}");
                assert!(matches!(unsigned, UpdateError::Refused { key: None, .. }), "{unsigned}");
            }
            // Knot answers both with NOTAUTH, and takes a key that the zone does not let in for none.
            Kind::Knot => {
                assert!(matches!(closed, UpdateError::Signature(TsigError::UnknownKey(_))), "{closed}");
                assert!(matches!(unsigned, UpdateError::WrongZone { .. }), "{unsigned}");
            }
        }
        let shared = tsig::Key::new(&key("acme", TsigAlgorithm::HmacSha256), SECRET.as_bytes()).unwrap();
        let primary = Primary::new(server.address, Some(shared));
        let zone = name("example.com");
        let apex = primary.change(&zone, &zone, b"v", Change::Add).await.unwrap_err();
        match kind {
            Kind::Bind => assert!(matches!(apex, UpdateError::Refused { .. }), "{apex}"),
            Kind::Knot => assert!(matches!(apex, UpdateError::Signature(TsigError::UnknownKey(_))), "{apex}"),
        }
        let nowhere = updating(server.address, sha256(), SECRET, Some("com"));
        let nowhere = fails(nowhere, "example.com").await;
        assert!(matches!(nowhere, UpdateError::WrongZone { .. }), "{kind:?}: {nowhere}");
        let outside =
            fails(updating(server.address, sha256(), SECRET, Some("closed.example")), "example.com").await;
        assert!(matches!(outside, UpdateError::OutsideZone { .. }), "{kind:?}: {outside}");
        let gone = updating(server.address, sha256(), SECRET, None);
        drop(server);
        // The resolver is the same server, so that the alias is what cannot be looked up.
        let error = gone.present(&challenge("example.com", "v")).await.unwrap_err();
        assert!(matches!(error, Error::Lookup(_)), "{error}");
    }
}

#[tokio::test]
async fn aliases_lead_to_the_zone_that_is_written() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE, DELEGATED]);
        let provider = usual(server.address);
        let asked = challenge("www.example.com", "v");
        let presented = provider.present(&asked).await.unwrap();
        assert_eq!(presented.name, name("www.acme.example.net"), "{kind:?}");
        assert_eq!(texts(server.address, &presented.name).await, ["v"], "{kind:?}");
        provider.propagated(&presented.name, "v").await.unwrap();
        assert_eq!(provider.resolver().txt(&name("_acme-challenge.www.example.com")).await.unwrap(), [b"v"]);
        provider.cleanup(&asked, Some(&presented)).await.unwrap();
        assert_eq!(texts(server.address, &presented.name).await, [""; 0], "{kind:?}");
    }
}

#[tokio::test]
async fn every_authoritative_server_has_to_have_it_but_hidden_ones_are_forgiven() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    let (one, two) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
    let port = free_port(&[one, two]);
    let records = "@ NS ns1\n@ NS ns2\nns1 A 127.0.0.1\nns2 A 127.0.0.2";
    let zone = Zone { name: "example.com", records, open: true };
    let bind = NameServer::start_at(Kind::Bind, one, port, &[zone]);
    let knot = NameServer::start_at(Kind::Knot, two, port, &[zone]);
    let resolver = Resolver::new(&[bind.address]).authoritative_port(port);
    let name = name("_acme-challenge.example.com");
    let seen = async |how, seconds| {
        propagation::propagated(&resolver, &name, b"v", how, Duration::from_secs(seconds)).await
    };
    let asked = challenge("example.com", "v");
    let nobody = seen(Propagation::Authoritative, 1).await.unwrap_err().to_string();
    assert!(nobody.contains("ns1.example.com. does not have it; ns2.example.com. does not"), "{nobody}");
    usual(bind.address).present(&asked).await.unwrap();
    seen(Propagation::Resolver, 5).await.unwrap();
    let lacking = seen(Propagation::Authoritative, 3).await.unwrap_err();
    assert_eq!(lacking.lacking, ["ns2.example.com. does not have it"]);
    // It comes while it is waited for.
    let later = usual(knot.address);
    let (waited, presented) = tokio::join!(seen(Propagation::Authoritative, 10), later.present(&asked));
    presented.unwrap();
    waited.unwrap();
    drop(knot);
    seen(Propagation::Authoritative, 6).await.unwrap();
    usual(bind.address).cleanup(&asked, None).await.unwrap();
    let silent = seen(Propagation::Authoritative, 3).await.unwrap_err().to_string();
    assert!(silent.contains("ns1.example.com. does not have it; ns2.example.com.: "), "{silent}");
    assert!(seen(Propagation::Resolver, 1).await.unwrap_err().to_string().contains("no text there"));
    seen(Propagation::None, 1).await.unwrap();
    seen(Propagation::Wait(Duration::from_millis(10)), 1).await.unwrap();
}

#[tokio::test]
async fn look_ups_of_real_servers() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        let resolver = Resolver::new(&[server.address]);
        assert_eq!(resolver.soa(&name("a.b.example.com")).await.unwrap().name, name("example.com"));
        assert_eq!(resolver.ns(&name("example.com")).await.unwrap(), [name("ns1.example.com")]);
        assert_eq!(resolver.a(&name("ns1.example.com")).await.unwrap(), [Ipv4Addr::LOCALHOST]);
        let caa = resolver.caa(&name("x.y.caa.example.com")).await.unwrap().unwrap();
        assert_eq!(
            (caa.name, caa.records[0].value.as_slice()),
            (name("caa.example.com"), &b"ca.example"[..])
        );
        let issuers = ["ca.example".to_owned()];
        for (account, standing) in [
            ("https://ca.example/1", Standing::Allowed),
            ("https://ca.example/2", Standing::OtherAccount("https://ca.example/1".to_owned())),
        ] {
            let found = dns::persist_present(&resolver, "*.example.com", &issuers, account, 1).await;
            assert_eq!(found, Ok(standing), "{kind:?}");
        }
    }
}

/// A hook of this script, executable, and its folder.
fn hook(script: &str, timeout: Duration, raw: bool) -> (Provider, Scratch) {
    let scratch = Scratch::new();
    let path = scratch.path().join("hook");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    let means = DnsMeans::Exec { command: vec![path.display().to_string()], raw, timeout };
    let provider = Provider::new(&config(means), None).unwrap();
    (provider, scratch)
}

#[tokio::test]
async fn hooks_are_told_the_name_behind_aliases() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    let server = NameServer::start(Kind::Bind, &[EXAMPLE]);
    let long = Duration::from_secs(20);
    let asked = challenge("far.example.com", "v");
    let (provider, _folder) = hook("echo \"$@\"", long, false);
    let provider = provider.with_resolver(Resolver::new(&[server.address]));
    // The alias leads out of the server's zones, and the server has no recursion.
    let error = provider.present(&asked).await.unwrap_err().to_string();
    assert!(error.contains("far.away.example.org.") && error.contains("REFUSED"), "{error}");
    let asked = challenge("www.example.com", "v");
    let both = NameServer::start(Kind::Knot, &[EXAMPLE, DELEGATED]);
    let provider = provider.with_resolver(Resolver::new(&[both.address]));
    let presented = provider.present(&asked).await.unwrap();
    assert_eq!(presented.output, ["present www.acme.example.net. v"]);
    assert_eq!(
        provider.cleanup(&asked, Some(&presented)).await.unwrap(),
        ["cleanup www.acme.example.net. v"]
    );
    let (raw, _folder) = hook("echo \"$@\"", long, true);
    let raw = raw.with_resolver(Resolver::new(&[both.address]));
    let presented = raw.present(&asked).await.unwrap();
    assert_eq!(presented.output, ["present -- www.example.com. token token.thumbprint"]);
}

#[tokio::test]
async fn hooks_that_fail_or_hang_are_told_with_their_output() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    let server = NameServer::start(Kind::Knot, &[EXAMPLE]);
    let asked = challenge("example.com", "v");
    let (failing, _folder) = hook("echo 'no token'; exit 7", Duration::from_secs(20), false);
    let error = failing.with_resolver(Resolver::new(&[server.address])).present(&asked).await.unwrap_err();
    assert!(error.to_string().contains("exit status: 7: no token"), "{error}");
    let (hanging, _folder) = hook("echo waiting; sleep 1000", Duration::from_millis(300), false);
    let error =
        hanging.with_resolver(Resolver::new(&[server.address])).cleanup(&asked, None).await.unwrap_err();
    assert!(error.to_string().contains("did not cleanup within 0.3 s and was killed: waiting"), "{error}");
}

/// The helper, if it was built.
fn helper() -> Option<std::path::PathBuf> {
    let local = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("dns-helper/target/debug/lockring-dns");
    let path = std::env::var_os("LOCKRING_TEST_DNS_HELPER").map_or(local, std::path::PathBuf::from);
    path.exists().then_some(path)
}

#[tokio::test]
async fn the_helper_is_a_hook() {
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    let helper = need!(helper(), "lockring-dns (cargo build in dns-helper)");
    for kind in BOTH {
        let server = NameServer::start(kind, &[EXAMPLE]);
        let scratch = Scratch::new();
        let file = scratch.path().join("env");
        let address = server.address.to_string();
        let with_secret = |secret: &str| {
            let text = format!(
                "RFC2136_NAMESERVER={address}\nRFC2136_TSIG_KEY=acme\nRFC2136_TSIG_SECRET=\"{secret}\"\n"
            );
            std::fs::write(&file, text).unwrap();
        };
        with_secret(SECRET);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let words =
            [helper.to_str().unwrap(), "--env", file.to_str().unwrap(), "--resolver", &address, "rfc2136"];
        let command = words.map(str::to_owned).to_vec();
        let means = DnsMeans::Exec { command, raw: false, timeout: Duration::from_secs(20) };
        let resolver = Resolver::new(&[server.address]).authoritative_port(server.address.port());
        let provider = Provider::new(&config(means), None).unwrap().with_resolver(resolver);
        let (one, two) = (challenge("example.com", "one"), challenge("*.example.com", "two"));
        let presented = provider.present(&one).await.unwrap();
        provider.present(&two).await.unwrap();
        assert_eq!(texts(server.address, &presented.name).await, ["one", "two"], "{kind:?}");
        provider.propagated(&presented.name, "two").await.unwrap();
        provider.cleanup(&one, Some(&presented)).await.unwrap();
        provider.cleanup(&one, Some(&presented)).await.unwrap();
        assert_eq!(texts(server.address, &presented.name).await, ["two"], "{kind:?}");
        with_secret("d3Jvbmctc2VjcmV0LXdyb25nLXNlY3JldA==");
        let error = provider.present(&one).await.unwrap_err().to_string();
        assert!(
            error.contains("failed to present") && error.contains("rfc2136, zone example.com."),
            "{error}"
        );
        assert!(!error.contains("d3Jvbmct"), "{error}");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        let error = provider.present(&one).await.unwrap_err().to_string();
        assert!(error.contains("chmod 600"), "{error}");
    }
}
