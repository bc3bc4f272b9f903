//! Certificates in service, by hand: what is published after each change of files, and by the acme thread.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Instant;

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Certificates, Pairs};
use crate::acme::install::Install;
use crate::acme::slot::{Identifier, Slot};
use crate::acme::store::tests::Scratch;
use crate::config::model::{AcmePolicy, HostPattern, KeyKind, Model};
use crate::config::{self, Source};
use crate::http::method::Method;
use crate::ops::check::Disk;
use crate::tls::certs::{CertifiedPair, Entry, Lookup};

/// 2026, within the life of what is made here.
const NOW: u64 = 1_790_000_000;

thread_local! {
    static SAID: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

fn say(text: &str) {
    SAID.with_borrow_mut(|said| said.push(text.to_owned()));
}

/// What was said since the last call.
fn said() -> Vec<String> {
    SAID.take()
}

/// Chain and key in PEM, with a new key and serial; valid until the given year.
fn made(names: &[&str], serial: u8, end: i32) -> (String, String) {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(end, 1, 1);
    params.serial_number = Some(vec![serial].into());
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

fn pair(names: &[&str], serial: u8) -> Arc<CertifiedPair> {
    let (chain, key) = made(names, serial, 2040);
    Arc::new(CertifiedPair::from_pem(chain.as_bytes(), key.as_bytes()).unwrap())
}

fn model(text: &str) -> Arc<Model> {
    let text = format!("[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\n{text}");
    let loaded = config::load(Source { name: "test".to_owned(), text }, &Disk);
    Arc::new(loaded.unwrap_or_else(|faults| panic!("{}", config::render::text(&faults))).model)
}

fn open(model: &Arc<Model>) -> Certificates {
    Certificates::open(model, Pairs::default(), NOW, say).unwrap()
}

/// Serial of what a client that asks for `name` gets; `Err(true)`: the site waits for its certificate.
fn serial(certificates: &Certificates, name: &str) -> Result<String, bool> {
    let setup = certificates.published().load();
    match setup.store.find(Some(name.as_bytes()), [127, 0, 0, 1].into()) {
        Lookup::Found(entry) => Ok(entry.pairs()[0].serial_hex()),
        Lookup::NotReady => Err(true),
        _ => Err(false),
    }
}

fn slot(sites: &[u32], names: &[&str]) -> Slot {
    let identifiers = names.iter().map(|name| Identifier::Dns((*name).to_owned())).collect();
    let policy = AcmePolicy {
        authorities: Vec::new(),
        email: None,
        profile: None,
        challenges: Vec::new(),
        dns: None,
        key: KeyKind::P256,
        names: Vec::new(),
    };
    let name = HostPattern::Exact(names[0].to_owned());
    Slot { name, identifiers, policy: Arc::new(policy), sites: sites.to_vec() }
}

/// A site of files in a scratch directory.
struct Site {
    scratch: Scratch,
    certificate: PathBuf,
    key: PathBuf,
}

impl Site {
    fn new(name: &str) -> (Self, Certificates) {
        let scratch = Scratch::new(name);
        let (certificate, key) = (scratch.path.join("a.pem"), scratch.path.join("a.key"));
        let site = Self { scratch, certificate, key };
        site.write(&made(&["a.example.com"], 1, 2040));
        let text = format!(
            "[sites.\"a.example.com\"]\nto = \"127.0.0.1:1\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
            site.certificate.display(),
            site.key.display()
        );
        let certificates = open(&model(&text));
        assert_eq!(serial(&certificates, "a.example.com").unwrap(), "01");
        said();
        (site, certificates)
    }

    fn write(&self, (chain, key): &(String, String)) {
        fs::write(&self.certificate, chain).unwrap();
        fs::write(&self.key, key).unwrap();
    }

    /// What the watching thread does when it was told of both files.
    fn look(&self, certificates: &Certificates) {
        certificates.look_at(&BTreeSet::from([self.certificate.clone(), self.key.clone()]), NOW);
    }
}

#[test]
fn a_pair_replaced_in_any_order_is_served_when_both_halves_are_there() {
    let (site, certificates) = Site::new("order");
    let mut number = 1;
    for key_first in [false, true] {
        number += 1;
        let (chain, key) = made(&["a.example.com"], number, 2040);
        let halves = [(&site.certificate, &chain), (&site.key, &key)];
        let [first, second] = if key_first { [halves[1], halves[0]] } else { halves };
        fs::write(first.0, first.1).unwrap();
        site.look(&certificates);
        assert_eq!(serial(&certificates, "a.example.com").unwrap(), format!("{:02x}", number - 1));
        assert!(said().is_empty(), "nothing is said of a pair that is being written");
        assert!(certificates.has_unsaid());
        fs::write(second.0, second.1).unwrap();
        site.look(&certificates);
        assert_eq!(serial(&certificates, "a.example.com").unwrap(), format!("{number:02x}"));
        assert!(!certificates.has_unsaid());
        assert!(said()[0].contains("a new certificate, valid until"));
        site.look(&certificates);
        assert!(said().is_empty(), "the same once more is no news");
    }
}

#[test]
fn what_is_bad_leaves_the_last_good_one_and_says_why_once() {
    let (site, certificates) = Site::new("bad");
    let good = fs::read(&site.certificate).unwrap();
    let good_key = fs::read(&site.key).unwrap();
    let spoil: [(&str, &dyn Fn()); 5] = [
        ("no certificate in", &|| fs::write(&site.certificate, "garbage").unwrap()),
        ("does not exist", &|| fs::remove_file(&site.key).unwrap()),
        ("not a regular file", &|| {
            fs::remove_file(&site.certificate).unwrap();
            fs::create_dir(&site.certificate).unwrap();
        }),
        ("expired on", &|| site.write(&made(&["a.example.com"], 9, 2024))),
        ("does not cover a.example.com", &|| site.write(&made(&["b.example.com"], 9, 2040))),
    ];
    for (reason, spoil) in spoil {
        spoil();
        site.look(&certificates);
        assert_eq!(serial(&certificates, "a.example.com").unwrap(), "01", "{reason}");
        certificates.say_troubles(NOW);
        let texts = said();
        assert!(texts.len() == 1 && texts[0].contains(reason), "{reason}: {texts:?}");
        assert!(texts[0].contains("stays in service"));
        certificates.sweep(NOW);
        certificates.say_troubles(NOW);
        assert!(said().is_empty(), "{reason}: once");
        let _ = fs::remove_dir(&site.certificate);
        fs::write(&site.certificate, &good).unwrap();
        fs::write(&site.key, &good_key).unwrap();
        certificates.sweep(NOW);
        assert_eq!(said().len(), 1, "good again");
    }
    // The one in service has ended itself: any other is as good.
    let (chain, key) = made(&["a.example.com"], 9, 2030);
    site.write(&(chain, key));
    let later = 2_300_000_000;
    certificates.sweep(later);
    assert_eq!(serial(&certificates, "a.example.com").unwrap(), "09");
}

#[test]
fn a_sweep_finds_what_nobody_told() {
    let (site, certificates) = Site::new("sweep");
    let fresh = site.scratch.path.join("fresh");
    fs::create_dir(&fresh).unwrap();
    let (chain, key) = made(&["a.example.com"], 7, 2040);
    fs::write(fresh.join("a.pem"), chain).unwrap();
    fs::write(fresh.join("a.key"), key).unwrap();
    certificates.sweep(NOW);
    assert_eq!(serial(&certificates, "a.example.com").unwrap(), "01");
    for (file, name) in [(&site.certificate, "a.pem"), (&site.key, "a.key")] {
        fs::remove_file(file).unwrap();
        std::os::unix::fs::symlink(fresh.join(name), file).unwrap();
    }
    certificates.sweep(NOW);
    assert_eq!(serial(&certificates, "a.example.com").unwrap(), "07");
}

#[test]
fn pairs_that_appear_in_the_directory_serve_sites_that_had_none() {
    let scratch = Scratch::new("directory");
    let home = scratch.path.join("certificates");
    fs::create_dir(&home).unwrap();
    let certificates = open(&model(&format!(
        "certificates = \"{}\"\n[sites]\n\"a.example.com\" = \":1\"\n\"b.example.com\" = \":1\"\n\
         \"*.w.example.com\" = \":1\"\n\"c.d.example.com\" = \":1\"\n",
        home.display()
    )));
    let warnings = said();
    assert_eq!(warnings.len(), 4, "{warnings:?}");
    let write = |name: &str, (chain, key): (String, String)| {
        fs::write(home.join(format!("{name}.key")), key).unwrap();
        let path = home.join(format!("{name}.pem"));
        fs::write(&path, chain).unwrap();
        BTreeSet::from([path, home.join(format!("{name}.key"))])
    };
    let paths = write("any", made(&["*.example.com", "*.w.example.com"], 1, 2040));
    certificates.look_at(&paths, NOW);
    for name in ["a.example.com", "b.example.com", "x.w.example.com"] {
        assert_eq!(serial(&certificates, name).unwrap(), "01", "{name}");
    }
    assert_eq!(serial(&certificates, "c.d.example.com"), Err(true));
    assert!(certificates.has_files(&HostPattern::Exact("b.example.com".to_owned())));
    assert!(!certificates.has_files(&HostPattern::Exact("c.d.example.com".to_owned())));
    // Found by its place; the wildcard has the other names still.
    write("c", made(&["c.d.example.com"], 2, 2040));
    certificates.sweep(NOW);
    assert_eq!(serial(&certificates, "c.d.example.com").unwrap(), "02");
    // The new one covers less: who has nothing else keeps the old one.
    said();
    let paths = write("any", made(&["a.example.com"], 3, 2040));
    certificates.look_at(&paths, NOW);
    assert_eq!(serial(&certificates, "a.example.com").unwrap(), "03");
    assert_eq!(serial(&certificates, "b.example.com").unwrap(), "01");
    assert!(said().iter().any(|text| text.contains("b.example.com") && text.contains("the last one stays")));
}

#[test]
fn an_authoritys_certificate_comes_and_goes() {
    let certificates = open(&model("[sites]\n\"a.example.com\" = \":1\"\n\"b.example.com\" = \":1\"\n"));
    assert_eq!(serial(&certificates, "a.example.com"), Err(true));
    let slot = slot(&[0, 1], &["a.example.com", "b.example.com"]);
    let error = certificates.install(&slot, pair(&["a.example.com"], 1)).unwrap_err();
    assert!(error.contains("b.example.com"), "{error}");
    assert_eq!(serial(&certificates, "a.example.com"), Err(true), "all or nothing");
    certificates.install(&slot, pair(&["a.example.com", "b.example.com"], 2)).unwrap();
    for name in ["a.example.com", "b.example.com"] {
        assert_eq!(serial(&certificates, name).unwrap(), "02");
    }
    assert!(certificates.install(&slot, pair(&["a.example.com"], 3)).is_err());
    assert_eq!(serial(&certificates, "b.example.com").unwrap(), "02");
    certificates.withdraw(&slot);
    assert_eq!(serial(&certificates, "b.example.com"), Err(true));
}

#[test]
fn the_start_says_whether_a_certificate_is_on_its_way() {
    let mut model = Model::clone(&model("[sites]\n\"a.example.com\" = \":1\"\n\"b.example.com\" = \":1\"\n"));
    let policy = slot(&[0], &["a.example.com"]).policy;
    Arc::make_mut(&mut model.sites[0]).acme = Some(policy);
    Arc::make_mut(&mut model.sites[1]).acme = None;
    open(&Arc::new(model));
    let texts = said();
    assert!(texts[0].starts_with("a.example.com: a certificate is being obtained"), "{texts:?}");
    assert!(texts[1].starts_with("b.example.com: no certificate yet"), "{texts:?}");
}

#[test]
fn challenges_are_answered_until_they_are_forgotten() {
    let certificates = open(&model("[sites]\n\"a.example.com\" = \":1\"\n\"192.0.2.1\" = \":1\"\n"));
    let get = |token: &str| {
        let path = format!("/.well-known/acme-challenge/{token}");
        let setup = certificates.published().load();
        setup.tokens.answer(Method::Get, path.as_bytes()).map(str::to_owned)
    };
    certificates.answer_http("one", "one.thumb");
    certificates.answer_http("two", "two.thumb");
    certificates.forget_http("one");
    certificates.forget_http("never");
    assert_eq!((get("one"), get("two").as_deref()), (None, Some("two.thumb")));
    let six = "2001:db8::567:89ab".parse().unwrap();
    let reverse = "b.a.9.8.7.6.5.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa";
    for (identifier, name) in [
        (Identifier::Dns("a.example.com".to_owned()), "a.example.com"),
        (Identifier::Ip("192.0.2.1".parse().unwrap()), "1.2.0.192.in-addr.arpa"),
        (Identifier::Ip(six), reverse),
    ] {
        let find = || certificates.published().load().store.find_challenge(name.as_bytes()).cloned();
        certificates.answer_tls(&identifier, pair(&["a.example.com"], 1));
        assert!(find().is_some_and(|entry| entry.is_for_challenge()), "{name}");
        certificates.forget_tls(&identifier);
        certificates.forget_tls(&identifier);
        assert!(find().is_none(), "{name}");
    }
}

#[test]
fn a_thousand_changes_among_ten_thousand_sites_cost_little_and_leave_nothing() {
    const SITES: u32 = 10_000;
    const CHANGES: u32 = 1000;
    let sites: String = (0..SITES).map(|site| format!("\"s{site}.example.com\" = \":1\"\n")).collect();
    let certificates = open(&model(&format!("[sites]\n{sites}")));
    let any = [pair(&["*.example.com"], 1), pair(&["*.example.com"], 2)];
    let all: Vec<u32> = (0..SITES).collect();
    certificates.install(&slot(&all, &["*.example.com"]), Arc::clone(&any[0])).unwrap();
    let one = slot(&[5000], &["s5000.example.com"]);
    let entry = |site: u32| {
        let host = HostPattern::Exact(format!("s{site}.example.com"));
        Arc::clone(certificates.published().load().store.of(&host).unwrap())
    };
    let unchanged = entry(4999);
    let mut reader = certificates.published().reader();
    reader.load();
    let mut old: Vec<Weak<Entry>> = Vec::new();
    let begun = Instant::now();
    for change in 1..=CHANGES {
        old.push(Arc::downgrade(&entry(5000)));
        certificates.install(&one, Arc::clone(&any[change as usize % 2])).unwrap();
    }
    let each = begun.elapsed() / CHANGES;
    println!("one change among {SITES} sites: {each:?}");
    assert!(each.as_micros() < 2000, "{each:?}: not by copying ten thousand entries");
    assert!(Arc::ptr_eq(&unchanged, &entry(4999)));
    let alive = |old: &[Weak<Entry>]| old.iter().filter(|entry| entry.strong_count() > 0).count();
    assert_eq!(alive(&old), 1, "of the version that an idle reader saw last");
    reader.load();
    assert_eq!(alive(&old), 0);
    assert_eq!(entry(5000).pairs()[0].serial_hex(), "01");
}

#[test]
fn pairs_that_were_read_before_are_not_read_again() {
    let (site, _) = Site::new("once");
    let text = format!(
        "[sites.\"a.example.com\"]\nto = \"127.0.0.1:1\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
        site.certificate.display(),
        site.key.display()
    );
    let text = format!("[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\n{text}");
    let loaded = config::load(Source { name: "test".to_owned(), text }, &Disk).unwrap();
    let (_, pairs) = crate::ops::check::before_start(&loaded, &Disk, NOW);
    let path: &Path = &site.certificate;
    fs::write(path, "garbage").unwrap();
    let certificates = Certificates::open(&Arc::new(loaded.model), pairs, NOW, say).unwrap();
    assert_eq!(serial(&certificates, "a.example.com").unwrap(), "01");
    certificates.sweep(NOW);
    assert!(certificates.has_unsaid(), "the change meanwhile shows");
}

#[test]
fn names_on_demand_are_served_by_the_site_above_them() {
    let model = model(
        "default_site = \"app.example.com\"\n[acme]\ndirectory = \"https://ca.test/dir\"\n\
         [acme.on_demand]\nallow = [\"*.customers.example.net\"]\n\
         [sites]\n\"app.example.com\" = \"127.0.0.1:1\"\n\"*.shop.example.com\" = \"127.0.0.1:2\"\n\
         \"*.eu.shop.example.com\" = \"127.0.0.1:3\"\n",
    );
    let index = |host: &str| model.sites.iter().find(|site| site.host.to_string() == host).unwrap().index;
    let certificates = open(&model);
    let slots = Slot::all(&model, |_| false);
    let names: Vec<String> = slots.iter().map(|slot| slot.name.to_string()).collect();
    assert_eq!(names, ["app.example.com"], "wildcards without dns-01 have no certificate of their own");
    let site_of = |name: &str| {
        let setup = certificates.published().load();
        match setup.store.find(Some(name.as_bytes()), [127, 0, 0, 1].into()) {
            Lookup::Found(entry) => Some(entry.site()),
            Lookup::OnDemand => None,
            other => panic!("{name}: {other:?}"),
        }
    };
    for (name, host) in [
        ("x.shop.example.com", "*.shop.example.com"),
        ("y.x.shop.example.com", "*.shop.example.com"),
        ("x.eu.shop.example.com", "*.eu.shop.example.com"),
        ("www.customer.org", "app.example.com"),
        ("shop.example.com", "app.example.com"),
    ] {
        assert_eq!(site_of(name), None, "{name}");
        let slot = Slot::on_demand(&model, name).unwrap();
        assert!(slot.is_on_demand());
        certificates.install(&slot, pair(&[name], 7)).unwrap();
        assert_eq!(site_of(name), Some(index(host)), "{name}");
        assert!(!certificates.is_in_use(&slot));
        let setup = certificates.published().load();
        setup.store.demanded(name.as_bytes()).unwrap().note_use();
        assert!(certificates.is_in_use(&slot));
        // A new certificate has to be asked for anew.
        certificates.install(&slot, pair(&[name], 8)).unwrap();
        assert!(!certificates.is_in_use(&slot));
        assert_eq!(serial(&certificates, name).unwrap(), "08");
        certificates.withdraw(&slot);
        assert_eq!(site_of(name), None, "{name}");
    }
    let slot = Slot::on_demand(&model, "a.customer.org").unwrap();
    assert!(certificates.install(&slot, pair(&["b.customer.org"], 9)).is_err());
    assert_eq!(serial(&certificates, "app.example.com"), Err(true), "sites are as they were");
}
