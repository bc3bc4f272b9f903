//! Tests of the local CA; `openssl` judges its certificates where it is installed.

use super::{DAY, Error, LEAF_SECONDS, LocalCa, ROOT_SECONDS, SanType, is_local};
use crate::acme::store::tests::Scratch;
use crate::config::model::HostPattern;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

const NOW: u64 = 1_800_000_000;

fn host(text: &str) -> HostPattern {
    match (text.strip_prefix("*."), text.parse()) {
        (Some(parent), _) => HostPattern::Wildcard(parent.to_owned()),
        (None, Ok(ip)) => HostPattern::Ip(ip),
        (None, Err(_)) => HostPattern::Exact(text.to_owned()),
    }
}

#[test]
fn local_hosts_are_told_from_public_ones() {
    let local = [
        "localhost",
        "app.localhost",
        "*.localhost",
        "*.app.localhost",
        "a.b.test",
        "db.internal",
        "nas.home.arpa",
        "127.0.0.1",
        "127.9.9.9",
        "10.1.2.3",
        "172.31.0.1",
        "192.168.0.1",
        "169.254.1.1",
        "::1",
        "fd00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
    ];
    for text in local {
        assert!(is_local(&host(text)), "{text}");
    }
    let public = [
        "example.com",
        "*.example.com",
        "notlocalhost",
        "localhost.example.com",
        "mytest",
        "arpa",
        "x.arpa",
        "internal.com",
        "172.32.0.1",
        "192.169.0.1",
        "8.8.8.8",
        "::2",
        "2001:db8::1",
        "fec0::1",
        "0.0.0.0",
    ];
    for text in public {
        assert!(!is_local(&host(text)), "{text}");
    }
}

#[test]
fn the_root_is_made_once_and_its_key_is_private() {
    let scratch = Scratch::new("root");
    let store = scratch.store();
    assert_eq!(LocalCa::find_root(&store).unwrap(), None);
    let first = LocalCa::open(&store, NOW).unwrap();
    let again = LocalCa::open(&store, NOW + 1000).unwrap();
    assert_eq!(LocalCa::find_root(&store).unwrap().as_ref(), Some(first.root()));
    assert_eq!(first.root(), again.root());
    assert_eq!(first.root().not_after, NOW + ROOT_SECONDS);
    assert_eq!(first.root().id.len(), 12);
    let key = store.path().join("local-ca/root.key");
    assert_eq!(fs::metadata(key).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn starts_at_the_same_time_share_one_root() {
    let scratch = Scratch::new("starts");
    let store = scratch.store();
    let roots: Vec<String> = std::thread::scope(|threads| {
        let starts: Vec<_> = (0..6)
            .map(|_| threads.spawn(|| LocalCa::open(&store, NOW).unwrap().root().pem.clone()))
            .collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    assert!(roots.iter().all(|root| *root == roots[0]));
}

#[test]
fn a_kill_between_key_and_certificate_does_no_harm() {
    let scratch = Scratch::new("between");
    let store = scratch.store();
    let id = LocalCa::open(&store, NOW).unwrap().root().id.clone();
    fs::remove_file(store.path().join("local-ca/root.pem")).unwrap();
    assert_eq!(LocalCa::open(&store, NOW).unwrap().root().id, id);
}

#[test]
fn a_root_near_its_end_is_signed_again_with_its_key() {
    let scratch = Scratch::new("again");
    let store = scratch.store();
    let first = LocalCa::open(&store, NOW).unwrap().root().clone();
    let late = NOW + ROOT_SECONDS - 30 * DAY;
    let second = LocalCa::open(&store, late).unwrap().root().clone();
    assert_eq!((&first.id, second.not_after), (&second.id, late + ROOT_SECONDS));
    assert_ne!(first.pem, second.pem);
}

#[test]
fn a_root_that_does_not_fit_its_key_is_refused() {
    let (one, two) = (Scratch::new("one"), Scratch::new("two"));
    LocalCa::open(&one.store(), NOW).unwrap();
    LocalCa::open(&two.store(), NOW).unwrap();
    let [from, to] = [&one, &two].map(|scratch| scratch.path.join("state/local-ca/root.pem"));
    fs::copy(from, &to).unwrap();
    let refused = LocalCa::open(&two.store(), NOW).unwrap_err();
    assert!(refused.to_string().contains("does not belong to root.key"), "{refused}");
    fs::write(&to, "nothing").unwrap();
    assert!(matches!(LocalCa::open(&two.store(), NOW), Err(Error::Damaged { .. })));
}

#[test]
fn leafs_are_kept_until_a_third_of_their_life_is_left() {
    let scratch = Scratch::new("leafs");
    let store = scratch.store();
    let ca = LocalCa::open(&store, NOW).unwrap();
    let name = host("app.test");
    let first = ca.leaf(&name, NOW).unwrap();
    assert!(first.unsaved.is_none());
    assert_eq!((first.not_before, first.not_after), (NOW - 3600, NOW + LEAF_SECONDS));
    let restarted = LocalCa::open(&store, NOW + DAY).unwrap();
    assert_eq!(restarted.leaf(&name, first.renew_at() - 1).unwrap().chain, first.chain);
    let second = restarted.leaf(&name, first.renew_at()).unwrap();
    assert_ne!(second.chain, first.chain);
    assert_eq!(restarted.leaf(&name, first.renew_at()).unwrap().chain, second.chain);
    let stepped_back = restarted.leaf(&name, NOW - 30 * DAY).unwrap();
    assert_ne!(stepped_back.chain, second.chain, "a clock that went back makes it not yet valid");
}

#[test]
fn a_leaf_of_another_root_or_a_damaged_one_is_made_anew() {
    let scratch = Scratch::new("other");
    let store = scratch.store();
    let name = host("*.app.test");
    let first = LocalCa::open(&store, NOW).unwrap().leaf(&name, NOW).unwrap();
    for file in ["root.key", "root.pem"] {
        fs::remove_file(store.path().join("local-ca").join(file)).unwrap();
    }
    let ca = LocalCa::open(&store, NOW).unwrap();
    let second = ca.leaf(&name, NOW).unwrap();
    assert_ne!(second.chain, first.chain);
    fs::write(store.path().join("local-ca/leafs/%2a.app.test/current/key.pem"), "").unwrap();
    assert_ne!(ca.leaf(&name, NOW).unwrap().chain, second.chain);
}

#[test]
fn public_names_are_refused() {
    let scratch = Scratch::new("public");
    let ca = LocalCa::open(&scratch.store(), NOW).unwrap();
    assert!(matches!(ca.leaf(&host("example.com"), NOW), Err(Error::NotLocal(_))));
}

#[test]
fn an_unset_clock_gives_dates_of_today() {
    let scratch = Scratch::new("clock");
    let ca = LocalCa::open(&scratch.store(), 0).unwrap();
    assert!(ca.root().not_after > super::CLOCK_FLOOR + 9 * 365 * DAY);
    assert!(ca.leaf(&host("localhost"), 0).unwrap().not_after > super::CLOCK_FLOOR);
}

/// Whether `openssl verify` takes the leaf for this purpose and name.
fn verify(scratch: &Scratch, leaf: &str, name: &[&str]) -> Result<(), String> {
    let file = scratch.path.join("leaf.pem");
    fs::write(&file, leaf).unwrap();
    let root = scratch.path.join("state/local-ca/root.pem");
    let run = Command::new("openssl")
        .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
        .arg(root)
        .args(name)
        .arg(file)
        .output()
        .unwrap();
    if run.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&run.stderr).into_owned()) }
}

#[test]
fn openssl_takes_local_leafs_and_refuses_public_ones() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let scratch = Scratch::new("openssl");
    let ca = LocalCa::open(&scratch.store(), now).unwrap();
    let localhost = ca.leaf(&host("localhost"), now).unwrap().chain;
    for name in [["-verify_hostname", "localhost"], ["-verify_ip", "127.0.0.1"], ["-verify_ip", "::1"]] {
        verify(&scratch, &localhost, &name).unwrap();
    }
    assert!(verify(&scratch, &localhost, &["-verify_hostname", "app.localhost"]).is_err());
    let wildcard = ca.leaf(&host("*.app.internal"), now).unwrap().chain;
    verify(&scratch, &wildcard, &["-verify_hostname", "x.app.internal"]).unwrap();
    for ip in ["192.168.7.7", "fd00::7", "fe80::7", "169.254.0.7", "172.16.0.7", "10.0.0.7"] {
        verify(&scratch, &ca.leaf(&host(ip), now).unwrap().chain, &["-verify_ip", ip]).unwrap();
    }
    let mapped = ca.leaf(&host("::ffff:10.0.0.8"), now).unwrap().chain;
    verify(&scratch, &mapped, &["-verify_ip", "10.0.0.8"]).unwrap();
    let outside = [
        SanType::DnsName("example.com".try_into().unwrap()),
        SanType::DnsName("localhost.example.com".try_into().unwrap()),
        SanType::IpAddress("8.8.8.8".parse().unwrap()),
        SanType::IpAddress("2001:db8::1".parse().unwrap()),
    ];
    for name in outside {
        let forged = ca.issue(vec![name], now).unwrap().chain;
        let refused = verify(&scratch, &forged, &[]).unwrap_err();
        assert!(refused.contains("permitted subtree violation"), "{refused}");
    }
}

/// What rustls says about a leaf when this name is asked for.
#[cfg(feature = "crypto-aws-lc")]
fn rustls_verify(ca: &LocalCa, leaf: &str, name: &str, now: u64) -> Result<(), rustls::Error> {
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, UnixTime};
    let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(der(&ca.root().pem)).unwrap();
    let provider = rustls::crypto::aws_lc_rs::default_provider().into();
    let verifier =
        WebPkiServerVerifier::builder_with_provider(std::sync::Arc::new(roots), provider).build().unwrap();
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now));
    verifier.verify_server_cert(&der(leaf), &[], &name.try_into().unwrap(), &[], now).map(|_| ())
}

#[test]
#[cfg(feature = "crypto-aws-lc")]
fn rustls_takes_local_leafs_and_refuses_public_ones() {
    let scratch = Scratch::new("rustls");
    let ca = LocalCa::open(&scratch.store(), NOW).unwrap();
    let cases = [
        ("localhost", "localhost"),
        ("localhost", "127.0.0.1"),
        ("localhost", "::1"),
        ("*.app.test", "x.app.test"),
        ("*.home.arpa", "x.home.arpa"),
        ("home.arpa", "home.arpa"),
        ("fd00::7", "fd00::7"),
    ];
    for (site, name) in cases {
        let leaf = ca.leaf(&host(site), NOW).unwrap();
        assert_eq!(rustls_verify(&ca, &leaf.chain, name, NOW), Ok(()), "{site} for {name}");
        rustls_verify(&ca, &leaf.chain, name, leaf.not_after + 1).unwrap_err();
        rustls_verify(&ca, &leaf.chain, "other.test", NOW).unwrap_err();
    }
    for site in ["*.localhost", "*.test", "*.internal"] {
        let leaf = ca.leaf(&host(site), NOW).unwrap();
        rustls_verify(&ca, &leaf.chain, &site.replace('*', "x"), NOW).unwrap_err();
    }
    let public = SanType::DnsName("example.com".try_into().unwrap());
    let forged = ca.issue(vec![public], NOW).unwrap().chain;
    rustls_verify(&ca, &forged, "example.com", NOW).unwrap_err();
}
