//! Pairs read from PEM and refused, names that cover, and the store's lookups against a slow twin.

use std::net::IpAddr;
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};

use super::{CertifiedPair, CertsError, Entry, Lookup, PairError, Store, StoreBuilder};
use crate::config::model::HostPattern;
use crate::tls::TlsCommon;

/// PEM texts of a self-signed certificate with these names and of its key.
pub(in crate::tls) fn pem(key: &KeyPair, names: &[&str]) -> (String, String) {
    let name = |name: &&str| match name.parse() {
        Ok(ip) => SanType::IpAddress(ip),
        Err(_) => SanType::DnsName(Ia5String::try_from(*name).unwrap()),
    };
    let mut params = CertificateParams::default();
    params.subject_alt_names = names.iter().map(name).collect();
    params.not_before = date_time_ymd(2001, 9, 9);
    params.not_after = date_time_ymd(2033, 5, 18);
    params.serial_number = Some(vec![0, 0xab, 1].into());
    params.distinguished_name.push(DnType::CommonName, "common.example");
    (params.self_signed(key).unwrap().pem(), key.serialize_pem())
}

/// A pair with a fresh P-256 key.
pub(in crate::tls) fn pair(names: &[&str]) -> Arc<CertifiedPair> {
    pair_of(&rcgen::PKCS_ECDSA_P256_SHA256, names)
}

/// A key of this kind: fresh, unless it is RSA, which ring does not generate.
fn key_of(kind: &'static rcgen::SignatureAlgorithm) -> KeyPair {
    if kind == &rcgen::PKCS_RSA_SHA256 {
        let pem = include_str!("../../../tests/data/tls/rsa2048.key");
        return KeyPair::from_pem_and_sign_algo(pem, kind).unwrap();
    }
    KeyPair::generate_for(kind).unwrap()
}

/// A pair with a key of this kind.
pub(in crate::tls) fn pair_of(
    kind: &'static rcgen::SignatureAlgorithm,
    names: &[&str],
) -> Arc<CertifiedPair> {
    let (chain, key) = pem(&key_of(kind), names);
    Arc::new(CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

pub(in crate::tls) fn common() -> TlsCommon {
    TlsCommon::new(|| 1_000_000).unwrap()
}

fn exact(name: &str) -> HostPattern {
    HostPattern::Exact(name.to_owned())
}

fn wildcard(parent: &str) -> HostPattern {
    HostPattern::Wildcard(parent.to_owned())
}

fn ip(text: &str) -> HostPattern {
    HostPattern::Ip(text.parse().unwrap())
}

#[test]
fn facts_of_a_certificate() {
    let pair = pair(&["App.Example.", "*.example", "192.0.2.1", "2001:db8::1", "app.example"]);
    let names = [exact("app.example"), wildcard("example"), ip("192.0.2.1"), ip("2001:db8::1")];
    assert_eq!(pair.names(), names);
    assert_eq!((pair.not_before(), pair.not_after()), (999_993_600, 1_999_987_200));
    assert_eq!(pair.serial_hex(), "ab01");
    assert!(pair.issuer().contains("common.example"), "{}", pair.issuer());
    assert!(pair.is_ecdsa());
    assert!(!pair_of(&rcgen::PKCS_ED25519, &["a.example"]).is_ecdsa());
    assert!(!pair_of(&rcgen::PKCS_RSA_SHA256, &["a.example"]).is_ecdsa());
}

#[test]
fn covering_is_by_exact_name_one_label_wildcard_and_address() {
    let pair = pair(&["app.example", "*.w.example", "192.0.2.1"]);
    for host in [exact("app.example"), exact("a.w.example"), wildcard("w.example"), ip("192.0.2.1")] {
        assert!(pair.covers(&host), "{host}");
    }
    let others = [
        exact("example"),
        exact("b.app.example"),
        exact("w.example"),
        exact("a.b.w.example"),
        exact("aw.example"),
        exact("common.example"),
        wildcard("app.example"),
        wildcard("example"),
        wildcard("a.w.example"),
        ip("192.0.2.2"),
    ];
    for host in others {
        assert!(!pair.covers(&host), "{host}");
    }
}

#[test]
fn names_with_a_nul_or_an_odd_wildcard_cover_nothing() {
    let names = [
        "good.example\0.evil.example",
        "good.example\0",
        "*",
        "*.*.example",
        "a*.example",
        "a.*.example",
        "",
    ];
    let pair = pair(&names);
    assert_eq!(pair.names(), []);
    assert!(!pair.covers(&exact("good.example")));
    assert!(!pair.covers(&exact("good.example\0.evil.example")));
}

#[test]
fn keys_of_every_kind_and_form_are_read() {
    for kind in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_ED25519,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        assert!(!pair_of(kind, &["a.example"]).schemes().is_empty());
    }
    let (chain, key) = pem(&KeyPair::generate().unwrap(), &["a.example"]);
    let both = format!("{key}\nsome words\n{chain}");
    assert!(CertifiedPair::from_pem(both.as_bytes(), both.as_bytes()).is_ok(), "one file for both");
}

#[test]
fn unusable_pairs_say_why_and_what_to_do() {
    let (chain, key) = pem(&KeyPair::generate().unwrap(), &["a.example"]);
    let (_, other_key) = pem(&KeyPair::generate().unwrap(), &["a.example"]);
    let cut: String = chain.lines().filter(|line| !line.contains("END")).collect::<Vec<_>>().join("\n");
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let broken_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let older =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    let check = |chain: &str, key: &str, wanted: fn(&PairError) -> bool| {
        let error = CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert!(wanted(&error), "{error}");
        assert!(!error.to_string().is_empty() && !error.remedy().is_empty());
    };
    check("", &key, |e| *e == PairError::NoCertificate);
    check(&key, &key, |e| *e == PairError::NoCertificate);
    check(&cut, &key, |e| matches!(e, PairError::BadCertificate(_)));
    check(junk, &key, |e| matches!(e, PairError::BadCertificate(_)));
    check(&[&chain, junk].concat(), &key, |e| matches!(e, PairError::BadCertificate(_)));
    check(&chain, "", |e| *e == PairError::NoKey);
    check(&chain, &chain, |e| *e == PairError::NoKey);
    check(&chain, broken_key, |e| *e == PairError::BadKey);
    check(&chain, encrypted, |e| *e == PairError::EncryptedKey);
    check(&chain, older, |e| *e == PairError::EncryptedKey);
    check(&chain, &other_key, |e| *e == PairError::KeyMismatch);
}

#[test]
fn a_chain_in_the_wrong_order_is_named() {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::new(vec!["ca.example".to_owned()]).unwrap();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_pem = ca.self_signed(&ca_key).unwrap().pem();
    let key = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
    let leaf_pem = leaf.signed_by(&key, &Issuer::new(ca, ca_key)).unwrap().pem();
    let read =
        |chain: &[&str]| CertifiedPair::from_pem(chain.concat().as_bytes(), key.serialize_pem().as_bytes());
    let good = read(&[&leaf_pem, &ca_pem]).unwrap();
    assert_eq!(good.certified_key().cert.len(), 2);
    assert_eq!(read(&[&ca_pem, &leaf_pem]).unwrap_err(), PairError::ChainOrder);
    assert_eq!(read(&[&ca_pem]).unwrap_err(), PairError::KeyMismatch);
}

#[test]
fn an_entry_covers_what_all_its_pairs_cover() {
    let crypto = common();
    assert_eq!(Entry::new(0, vec![], &crypto).unwrap_err(), CertsError::NoPair);
    let pairs = vec![pair(&["a.example", "b.example"]), pair(&["b.example", "*.c.example"])];
    let entry = Entry::new(7, pairs, &crypto).unwrap();
    assert_eq!(entry.site(), 7);
    assert!(entry.covers(b"b.example") && !entry.covers(b"a.example") && !entry.covers(b"x.c.example"));
    assert!(!entry.covers(b"") && !entry.covers(b".c.example"));
}

/// What a lookup gave, comparable: a site, or the kind of refusal.
fn outcome(lookup: Lookup<'_>) -> Result<u32, &'static str> {
    match lookup {
        Lookup::Found(entry) => Ok(entry.site()),
        Lookup::NoName => Err("no name"),
        Lookup::Unknown => Err("unknown"),
        Lookup::NotReady => Err("not ready"),
        Lookup::OnDemand => Err("on demand"),
    }
}

#[test]
fn lookups_by_name_address_and_default() {
    let crypto = common();
    let pair = pair(&["a.example"]);
    let entry = |site| Entry::new(site, vec![Arc::clone(&pair)], &crypto).unwrap();
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    let other: IpAddr = "192.0.2.9".parse().unwrap();
    let mut builder = Store::builder();
    builder
        .add(&exact("a.example"), entry(1))
        .add(&wildcard("example"), entry(2))
        .add(&ip("192.0.2.1"), entry(3))
        .add_pending(&exact("wait.example"))
        .add_pending(&wildcard("later.example"))
        .challenge(b"a.example", Entry::for_challenge(9, Arc::clone(&pair), &crypto).unwrap());
    let store = builder.build();
    let find = |name: &[u8]| outcome(store.find(Some(name), local));
    assert_eq!(find(b"a.example"), Ok(1));
    assert_eq!(find(b"b.example"), Ok(2));
    assert_eq!(find(b"wait.example"), Err("not ready"), "not the wildcard's certificate");
    assert_eq!(find(b"x.later.example"), Err("not ready"));
    for unknown in [&b"example"[..], b"a.b.example", b".example", b"example.", b"", b"aexample", b"other"] {
        assert_eq!(find(unknown), Err("unknown"), "{}", unknown.escape_ascii());
    }
    assert_eq!(outcome(store.find(None, local)), Ok(3));
    assert_eq!(outcome(store.find(None, "::ffff:192.0.2.1".parse().unwrap())), Ok(3));
    assert_eq!(outcome(store.find(None, other)), Err("no name"));
    assert_eq!(store.find_challenge(b"a.example").map(|entry| entry.site()), Some(9));
    assert!(store.find_challenge(b"b.example").is_none());

    let mut builder = Store::builder();
    builder.add(&exact("a.example"), entry(1)).add(&exact("d.example"), entry(4));
    builder.default_is(&exact("d.example"));
    let store = builder.build();
    assert_eq!(outcome(store.find(None, local)), Ok(4));
    assert_eq!(outcome(store.find(Some(b"b.example"), local)), Err("unknown"), "the default is for no name");
    let mut builder = Store::builder();
    builder.add_pending(&exact("d.example")).default_is(&exact("d.example"));
    assert_eq!(outcome(builder.build().find(None, local)), Err("not ready"));
}

#[test]
fn one_site_and_ten_thousand_are_found_as_by_a_slow_search() {
    let crypto = common();
    let pair = pair(&["a.example"]);
    let entries: Vec<_> =
        (0..8).map(|site| Entry::new(site, vec![Arc::clone(&pair)], &crypto).unwrap()).collect();
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    for count in [1, 10_000] {
        let hosts: Vec<_> = (0..count)
            .map(|i| {
                if i % 3 == 0 {
                    wildcard(&format!("w{i}.example"))
                } else {
                    exact(&format!("a.w{i}.example"))
                }
            })
            .collect();
        let mut builder = Store::builder();
        for (i, host) in hosts.iter().enumerate() {
            builder.add(host, Arc::clone(&entries[i % entries.len()]));
        }
        let store = builder.build();
        let slow = |name: &str| {
            let found = |wanted: &HostPattern| hosts.iter().position(|host| host == wanted);
            let parent = name.split_once('.').map(|(_, parent)| wildcard(parent));
            let place = found(&exact(name)).or_else(|| parent.and_then(|parent| found(&parent)));
            place.map(|place| (place % entries.len()) as u32).ok_or("unknown")
        };
        for i in (0..count + 50).step_by(41) {
            for name in [format!("a.w{i}.example"), format!("b.w{i}.example"), format!("w{i}.example")] {
                assert_eq!(
                    outcome(store.find(Some(name.as_bytes()), local)),
                    slow(&name),
                    "{name} of {count}"
                );
            }
        }
    }
}

#[test]
fn a_change_copies_one_page_and_leaves_the_origin_alone() {
    let crypto = common();
    let pair = pair(&["a.example"]);
    let entry = |site| Entry::new(site, vec![Arc::clone(&pair)], &crypto).unwrap();
    let (old, new) = (entry(1), entry(2));
    let mut builder = Store::builder();
    (0..1000).for_each(|i| {
        builder.add(&exact(&format!("s{i}.example")), Arc::clone(&old));
    });
    builder.default_is(&exact("s500.example"));
    let before = builder.build();
    let held = Arc::strong_count(&old);
    let mut after = before.clone();
    assert_eq!(Arc::strong_count(&old), held, "a copy counts no entry");
    assert!(after.put(&exact("s500.example"), Some(Arc::clone(&new))));
    assert!(Arc::strong_count(&old) - held <= 128, "one page was copied");
    assert!(!after.put(&exact("unknown.example"), Some(Arc::clone(&new))));
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    let find = |store: &Store, name: Option<&[u8]>| outcome(store.find(name, local));
    for name in [Some(&b"s500.example"[..]), None] {
        assert_eq!((find(&before, name), find(&after, name)), (Ok(1), Ok(2)));
    }
    assert_eq!(find(&after, Some(b"s501.example")), Ok(1));
    assert_eq!(after.of(&exact("s500.example")).map(|entry| entry.site()), Some(2));
    assert!(after.put(&exact("s500.example"), None));
    assert_eq!(find(&after, None), Err("not ready"));
    after.put_challenge(b"c.example", Arc::clone(&new));
    assert!(after.find_challenge(b"c.example").is_some() && before.find_challenge(b"c.example").is_none());
    assert!(after.end_challenge(b"c.example") && !after.end_challenge(b"c.example"));
    assert!(after.find_challenge(b"c.example").is_none());
}

#[test]
fn names_on_demand_come_after_what_sites_have() {
    let crypto = common();
    let pair = pair(&["a.example"]);
    let entry = |site| Entry::new(site, vec![Arc::clone(&pair)], &crypto).unwrap();
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    let filled = |builder: &mut StoreBuilder| {
        builder
            .add(&exact("a.example"), entry(1))
            .add_pending(&exact("wait.example"))
            .add(&wildcard("w.example"), entry(2))
            .add_pending(&wildcard("later.example"))
            .add_by_demand(&wildcard("shop.example"));
    };
    let mut builder = Store::builder();
    filled(&mut builder);
    let mut off = builder.build();
    assert!(!off.put_demanded(b"x.shop.example", Some(entry(9))), "off unless it was said");
    assert_eq!(outcome(off.find(Some(b"x.shop.example"), local)), Err("not ready"));
    assert_eq!(outcome(off.find(Some(b"other"), local)), Err("unknown"));

    let mut builder = Store::builder();
    filled(builder.on_demand());
    let mut store = builder.build();
    let find = |store: &Store, name: &[u8]| outcome(store.find(Some(name), local));
    assert_eq!(find(&store, b"a.example"), Ok(1));
    assert_eq!(find(&store, b"x.w.example"), Ok(2));
    assert_eq!(find(&store, b"wait.example"), Err("not ready"), "a site's own certificate is on its way");
    assert_eq!(find(&store, b"x.later.example"), Err("not ready"));
    for name in [&b"other"[..], b"x.shop.example", b"y.x.shop.example"] {
        assert_eq!(find(&store, name), Err("on demand"));
    }
    assert_eq!(outcome(store.find(None, local)), Err("no name"));
    let before = store.clone();
    let demanded = || Entry::on_demand(7, Arc::clone(&pair), &crypto).unwrap();
    for name in [&b"other"[..], b"x.shop.example", b"a.example", b"x.w.example"] {
        assert!(store.put_demanded(name, Some(demanded())));
    }
    assert_eq!(find(&store, b"other"), Ok(7));
    assert_eq!(find(&store, b"x.shop.example"), Ok(7));
    assert_eq!(
        (find(&store, b"a.example"), find(&store, b"x.w.example")),
        (Ok(1), Ok(2)),
        "sites come first"
    );
    assert_eq!(find(&before, b"other"), Err("on demand"), "a copy is not changed");
    assert!(store.put_demanded(b"other", None) && store.demanded(b"other").is_none());
    assert_eq!(find(&store, b"other"), Err("on demand"));
    // The wildcard has got a certificate after all.
    store.put(&wildcard("shop.example"), Some(entry(3)));
    assert_eq!(find(&store, b"x.shop.example"), Ok(3));
}

#[test]
fn the_first_use_of_an_entry_on_demand_is_remembered() {
    let (crypto, pair) = (common(), pair(&["a.example"]));
    let entry = Entry::on_demand(7, Arc::clone(&pair), &crypto).unwrap();
    assert!(entry.is_on_demand() && !entry.is_in_use());
    entry.note_use();
    entry.note_use();
    assert!(entry.is_in_use());
    let entry = Entry::new(7, vec![pair], &crypto).unwrap();
    entry.note_use();
    assert!(!entry.is_on_demand() && !entry.is_in_use());
}
