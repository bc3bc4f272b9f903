//! Certificates in service: files that change while clients connect, and what the acme thread puts in.

use std::collections::BTreeSet;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lockring::acme::install::Install;
use lockring::acme::slot::{Identifier, Slot};
use lockring::config::model::{AcmePolicy, HostPattern, KeyKind};
use lockring::config::{self, Source};
use lockring::handoff::counters::{Counters, Tally};
use lockring::handoff::mailbox::{self, Command as Order};
use lockring::handoff::published::Published;
use lockring::handoff::ring;
use lockring::io::worker::{self, Birth, Protocol};
use lockring::ops::certificates::{Certificates, Pairs};
use lockring::ops::check;
use lockring::tls::certs::CertifiedPair;
use lockring::upstream::resolve::Resolved;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, HandshakeKind};

use crate::harness::client::{End, socket, trusting};
use crate::harness::lockring::Scratch;
use crate::harness::pki::{Authority, Leaf};
use crate::harness::python::tool;
use crate::harness::{Client, Lockring, Origin, Setup, eventually};

/// A site whose files are in a directory of the test.
struct Site {
    scratch: Scratch,
    authority: Authority,
    trust: Arc<ClientConfig>,
    proxy: Lockring,
    _origin: Origin,
}

impl Site {
    /// `prepare` puts the first pair under the names given: certificate and key.
    fn new(prepare: impl FnOnce(&Path, &Path, &Leaf)) -> Self {
        let (scratch, authority, origin) = (Scratch::new(), Authority::new("one"), Origin::ok());
        let (certificate, key) = (scratch.path().join("one.pem"), scratch.path().join("one.key"));
        prepare(&certificate, &key, &authority.leaf(&["one.test"]));
        let tables = format!(
            "[sites.\"one.test\"]\nto = \"{}\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
            origin.address,
            certificate.display(),
            key.display()
        );
        let proxy = Setup::new().workers(2).tables(tables).start();
        let trust = trusting(std::slice::from_ref(&authority.root), rustls::ALL_VERSIONS);
        Self { scratch, authority, trust, proxy, _origin: origin }
    }

    fn written() -> Self {
        Self::new(write)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The certificate that a client is shown now.
    fn shown(&self) -> CertificateDer<'static> {
        shown(self.proxy.https, "one.test", &self.trust).unwrap()
    }

    /// Waits until clients are shown another certificate than `old`; each must be shown one.
    #[track_caller]
    fn assert_soon_other_than(&self, old: &CertificateDer<'static>, how: &str) {
        let begun = Instant::now();
        eventually(&format!("{how}: another certificate"), || (self.shown() != *old).then_some(()));
        println!("{how}: in service after {:?}", begun.elapsed());
    }
}

fn shown(
    address: SocketAddr,
    name: &str,
    trust: &Arc<ClientConfig>,
) -> std::io::Result<CertificateDer<'static>> {
    // Without its cache, so that each handshake is a full one.
    let mut config = ClientConfig::clone(trust);
    config.resumption = rustls::client::Resumption::disabled();
    let client = Client::tls(address, name, &Arc::new(config))?;
    Ok(client.session().peer_certificates().unwrap()[0].clone().into_owned())
}

fn write(certificate: &Path, key: &Path, leaf: &Leaf) {
    fs::write(certificate, &leaf.certificate_pem).unwrap();
    fs::write(key, &leaf.key_pem).unwrap();
}

fn rename_into(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

/// Ends the load when the test ends, however it does.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A way to put a pair in the place of another.
type Replace<'a> = &'a dyn Fn(&Leaf);

/// Makes new connections until `done`; how many, and what went wrong with any of them.
fn load(site: &Site, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    while !done.load(Ordering::Relaxed) {
        match shown(site.proxy.https, "one.test", &site.trust) {
            Ok(_) => count += 1,
            Err(error) => failed.push(error.to_string()),
        }
    }
    (count, failed)
}

#[test]
fn files_replaced_in_any_way_are_in_service_within_a_second_and_no_handshake_fails() {
    let site = Site::written();
    let (pem, key) = (site.path("one.pem"), site.path("one.key"));
    let pause = || std::thread::sleep(Duration::from_millis(150));
    let ways: [(&str, Replace<'_>); 6] = [
        ("in place", &|leaf| write(&pem, &key, leaf)),
        ("key first", &|leaf| {
            fs::write(&key, &leaf.key_pem).unwrap();
            // Longer than files take to settle.
            pause();
            fs::write(&pem, &leaf.certificate_pem).unwrap();
        }),
        ("certificate first", &|leaf| {
            fs::write(&pem, &leaf.certificate_pem).unwrap();
            pause();
            fs::write(&key, &leaf.key_pem).unwrap();
        }),
        ("by rename", &|leaf| {
            rename_into(&pem, &leaf.certificate_pem);
            rename_into(&key, &leaf.key_pem);
        }),
        ("removed and written", &|leaf| {
            fs::remove_file(&pem).unwrap();
            fs::remove_file(&key).unwrap();
            pause();
            write(&pem, &key, leaf);
        }),
        ("replaced by links", &|leaf| {
            let (to_pem, to_key) = (site.path("archive.pem"), site.path("archive.key"));
            write(&to_pem, &to_key, leaf);
            for (link, target) in [(&pem, to_pem), (&key, to_key)] {
                symlink(target, link.with_extension("link")).unwrap();
                fs::rename(link.with_extension("link"), link).unwrap();
            }
        }),
    ];
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let ends = Ends(&done);
        let loads: Vec<_> = (0..2).map(|_| threads.spawn(|| load(&site, &done))).collect();
        for (how, replace) in ways {
            let (old, leaf) = (site.shown(), site.authority.leaf(&["one.test"]));
            replace(&leaf);
            site.assert_soon_other_than(&old, how);
        }
        drop(ends);
        for load in loads {
            let (count, failed) = load.join().unwrap();
            assert!(count > 10 && failed.is_empty(), "{count} handshakes; failed: {failed:?}");
        }
    });
    let texts: Vec<_> = site.proxy.messages().into_iter().filter(|text| text.contains("stays")).collect();
    assert!(texts.is_empty(), "nothing was wrong for long: {texts:?}");
}

#[test]
fn links_exchanged_above_the_file_are_followed() {
    // As Kubernetes does it: the file is a link into `..data`, which is exchanged.
    let site = Site::new(|certificate, key, leaf| {
        let home = certificate.parent().unwrap();
        fs::create_dir(home.join("..1")).unwrap();
        write(&home.join("..1/one.pem"), &home.join("..1/one.key"), leaf);
        symlink("..1", home.join("..data")).unwrap();
        symlink("..data/one.pem", certificate).unwrap();
        symlink("..data/one.key", key).unwrap();
    });
    for round in 2..5 {
        let old = site.shown();
        let fresh = site.path(&format!("..{round}"));
        fs::create_dir(&fresh).unwrap();
        write(&fresh.join("one.pem"), &fresh.join("one.key"), &site.authority.leaf(&["one.test"]));
        symlink(format!("..{round}"), site.path("..data_tmp")).unwrap();
        fs::rename(site.path("..data_tmp"), site.path("..data")).unwrap();
        fs::remove_dir_all(site.path(&format!("..{}", round - 1))).unwrap();
        site.assert_soon_other_than(&old, "..data");
    }
}

#[test]
fn openssl_sees_the_serial_change_within_a_second() {
    need!(tool("openssl"), "openssl");
    let site = Site::written();
    let serial = || {
        let mut client = Command::new("openssl")
            .args(["s_client", "-connect", &site.proxy.https.to_string(), "-servername", "one.test"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let read = Command::new("openssl")
            .args(["x509", "-noout", "-serial"])
            .stdin(client.stdout.take().unwrap())
            .output()
            .unwrap();
        client.wait().unwrap();
        String::from_utf8(read.stdout).unwrap()
    };
    let old = serial();
    assert!(old.starts_with("serial="), "{old}");
    write(&site.path("one.pem"), &site.path("one.key"), &site.authority.leaf(&["one.test"]));
    eventually("another serial number", || (serial() != old).then_some(()));
}

#[test]
fn bad_and_missing_files_leave_the_last_good_pair_and_a_reason() {
    let mut site = Site::written();
    let old = site.shown();
    let key = site.path("one.key");
    let good = fs::read(&key).unwrap();
    for (text, reason) in [
        (Some("garbage"), "no private key"),
        (None, "does not exist"),
        (Some(&*site.authority.leaf(&["one.test"]).key_pem), "does not belong"),
    ] {
        match text {
            Some(text) => fs::write(&key, text).unwrap(),
            None => fs::remove_file(&key).unwrap(),
        }
        let said = site.proxy.wait_message(reason);
        assert!(said.contains("the one read before stays in service"), "{said}");
        assert_eq!(site.shown(), old);
    }
    fs::write(&key, good).unwrap();
    site.proxy.wait_message("the pair is good again");
    write(&site.path("one.pem"), &key, &site.authority.leaf(&["one.test"]));
    site.assert_soon_other_than(&old, "after all that");
    let count = |reason: &str| site.proxy.messages().iter().filter(|text| text.contains(reason)).count();
    assert_eq!(count("does not exist"), 1, "said once");
}

#[test]
fn sessions_are_resumed_over_a_renewal_of_the_same_names() {
    let site = Site::written();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let trust = trusting(std::slice::from_ref(&site.authority.root), &[version]);
        let kind = || {
            let mut client = Client::tls(site.proxy.https, "one.test", &trust).unwrap();
            assert_eq!(client.get("one.test", "/").status(), 200);
            client.session().handshake_kind()
        };
        assert_eq!(kind(), Some(HandshakeKind::Full));
        let old = site.shown();
        write(&site.path("one.pem"), &site.path("one.key"), &site.authority.leaf(&["one.test"]));
        site.assert_soon_other_than(&old, "a renewal");
        assert_eq!(kind(), Some(HandshakeKind::Resumed), "{version:?}");
    }
}

#[test]
fn a_pair_put_into_the_directory_serves_a_site_that_had_none() {
    let (scratch, authority, origin) = (Scratch::new(), Authority::new("one"), Origin::ok());
    let directory = format!("certificates = \"{}\"", scratch.path().display());
    let proxy = Setup::new().server(&directory).site("one.example.com", origin.address).start();
    let trust = trusting(std::slice::from_ref(&authority.root), rustls::ALL_VERSIONS);
    let shown = || shown(proxy.https, "one.example.com", &trust);
    assert!(shown().unwrap_err().to_string().contains("UnrecognisedName"));
    let begun = Instant::now();
    authority.leaf(&["one.example.com"]).write(scratch.path(), "one");
    let first = eventually("a certificate", || shown().ok());
    println!("in service after {:?}", begun.elapsed());
    authority.leaf(&["one.example.com"]).write(scratch.path(), "one");
    eventually("the next one", || (shown().unwrap() != first).then_some(()));
    fs::remove_file(scratch.path().join("one.pem")).unwrap();
    let mut proxy = proxy;
    proxy.wait_message("one.pem cannot be read: it does not exist; the one read before stays in service");
}

/// A worker in this process, whose certificates the test changes as the acme thread does.
struct Worker {
    certificates: Arc<Certificates>,
    https: SocketAddr,
    http: SocketAddr,
    control: Mutex<mailbox::Sender>,
    thread: Option<std::thread::JoinHandle<()>>,
    _log: Mutex<ring::LineConsumer>,
    _scratch: Scratch,
}

impl Worker {
    /// In front of nothing: sites of these names.
    fn new(sites: &[&str]) -> Self {
        let scratch = Scratch::new();
        let sites: String = sites.iter().map(|site| format!("\"{site}\" = \"127.0.0.1:1\"\n")).collect();
        let state = scratch.path().display();
        let text =
            format!("[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\nstate = \"{state}\"\n[sites]\n{sites}");
        let loaded = config::load(Source { name: "test".into(), text }, &check::Disk).unwrap();
        let model = Arc::new(loaded.model);
        let certificates = Certificates::open(&model, Pairs::default(), check::now_unix(), |_| {}).unwrap();
        let certificates = Arc::new(certificates);
        let listener = || TcpListener::bind("127.0.0.1:0").unwrap();
        let (https, http) = (listener(), listener());
        let addresses = (https.local_addr().unwrap(), http.local_addr().unwrap());
        let (control, mailbox) = mailbox::mailbox().unwrap();
        let (log, lines) = ring::lines(64);
        let started = Tally::default();
        let birth = Birth {
            number: 0,
            cpu: None,
            listeners: vec![(https, Protocol::Https), (http, Protocol::Http)],
            https_port: 443,
            connections_max: 1000,
            setup: certificates.published().reader(),
            resolved: Published::new(Arc::new(Resolved::default())).reader(),
            mailbox,
            counters: Counters::new(),
            log,
            wishes: None,
            started: started.clone(),
            warn: |_| {},
        };
        let thread = std::thread::spawn(move || worker::run(birth).unwrap());
        eventually("a worker", || (started.get() > 0).then_some(()));
        Self {
            certificates,
            https: addresses.0,
            http: addresses.1,
            control: Mutex::new(control),
            thread: Some(thread),
            _log: Mutex::new(lines),
            _scratch: scratch,
        }
    }

    fn get(&self, host: &str, token: &str) -> crate::harness::http::Response {
        Client::plain(self.http).get(host, &format!("/.well-known/acme-challenge/{token}"))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.control.lock().unwrap().send(Order::Stop);
        let _ = self.thread.take().map(std::thread::JoinHandle::join);
    }
}

fn slot(site: u32, name: &str) -> Slot {
    let policy = AcmePolicy {
        authorities: Vec::new(),
        email: None,
        profile: None,
        challenges: Vec::new(),
        dns: None,
        key: KeyKind::P256,
        names: Vec::new(),
    };
    Slot {
        name: HostPattern::Exact(name.to_owned()),
        identifiers: vec![Identifier::Dns(name.to_owned())],
        policy: Arc::new(policy),
        sites: vec![site],
    }
}

fn pair(leaf: &Leaf) -> Arc<CertifiedPair> {
    let pair = CertifiedPair::from_pem(leaf.certificate_pem.as_bytes(), leaf.key_pem.as_bytes());
    Arc::new(pair.unwrap())
}

#[test]
fn http_01_is_answered_on_plain_listeners_whatever_the_host_is() {
    let worker = Worker::new(&["a.example.com"]);
    assert_eq!(worker.get("a.example.com", "token-1_A").status(), 308);
    worker.certificates.answer_http("token-1_A", "token-1_A.thumbprint");
    std::thread::scope(|threads| {
        for host in ["a.example.com", "unknown.example", "192.0.2.7", "[2001:db8::1]:80", "A.Example.Com."] {
            let worker = &worker;
            for _ in 0..8 {
                threads.spawn(move || {
                    let response = worker.get(host, "token-1_A");
                    assert_eq!((response.status(), &*response.body), (200, &b"token-1_A.thumbprint"[..]));
                    assert_eq!(response.head.get("content-type"), Some("application/octet-stream"));
                });
            }
        }
    });
    let mut client = Client::plain(worker.http);
    for _ in 0..3 {
        client.send("HEAD /.well-known/acme-challenge/token-1_A HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
        let response = client.response_to("HEAD");
        assert_eq!((response.status(), response.head.get("content-length")), (200, Some("20")));
    }
    client.send(
        "POST /.well-known/acme-challenge/token-1_A HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(client.response().status(), 308, "a CA asks with GET");
    assert_eq!(worker.get("a.example.com", "token-1_a").status(), 308);
    assert_eq!(worker.get("unknown.example", "token-1_a").status(), 404);
    worker.certificates.forget_http("token-1_A");
    assert_eq!(worker.get("a.example.com", "token-1_A").status(), 308);
}

#[test]
fn tls_alpn_01_is_a_handshake_and_nothing_more() {
    let worker = Worker::new(&["a.example.com"]);
    let (authority, challenge) = (Authority::new("public"), Authority::new("challenge"));
    let slot = slot(0, "a.example.com");
    worker.certificates.install(&slot, pair(&authority.leaf(&["a.example.com"]))).unwrap();
    let alpn = |root: &Authority, protocols: &[&str]| {
        let roots = std::slice::from_ref(&root.root);
        let mut config = ClientConfig::clone(&trusting(roots, rustls::ALL_VERSIONS));
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        Client::tls(worker.https, "a.example.com", &Arc::new(config))
    };
    let refused = |protocols: &[&str]| alpn(&challenge, protocols).err().unwrap().to_string();
    assert!(refused(&["acme-tls/1"]).contains("NoApplicationProtocol"));
    let identifier = Identifier::Dns("a.example.com".to_owned());
    worker.certificates.answer_tls(&identifier, pair(&challenge.leaf(&["a.example.com"])));
    let mut client = alpn(&challenge, &["acme-tls/1"]).unwrap();
    assert_eq!(client.session().alpn_protocol(), Some(&b"acme-tls/1"[..]));
    let _ = client.try_send("GET / HTTP/1.1\r\nHost: a.example.com\r\n\r\n");
    let (bytes, end) = client.rest();
    assert!(bytes.is_empty() && end == End::Clean, "no request follows: {end:?}");
    assert!(alpn(&authority, &["http/1.1"]).is_ok(), "other clients are served meanwhile");
    assert!(alpn(&authority, &["http/1.1", "acme-tls/1"]).is_ok());
    worker.certificates.forget_tls(&identifier);
    assert!(refused(&["acme-tls/1"]).contains("NoApplicationProtocol"));
}

#[test]
fn a_thousand_renewals_under_load_fail_no_handshake() {
    const RENEWALS: usize = 1000;
    let worker = Worker::new(&["a.example.com"]);
    let authority = Authority::new("public");
    let trust = trusting(std::slice::from_ref(&authority.root), rustls::ALL_VERSIONS);
    let slot = slot(0, "a.example.com");
    let pairs: Vec<_> = (0..4).map(|_| pair(&authority.leaf(&["a.example.com"]))).collect();
    worker.certificates.install(&slot, Arc::clone(&pairs[0])).unwrap();
    let (done, handshakes) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|threads| {
        let connect = || {
            let mut seen = BTreeSet::new();
            while !done.load(Ordering::Relaxed) {
                seen.insert(shown(worker.https, "a.example.com", &trust).unwrap().to_vec());
                handshakes.fetch_add(1, Ordering::Relaxed);
            }
            seen.len()
        };
        let ends = Ends(&done);
        let clients: Vec<_> = (0..2).map(|_| threads.spawn(connect)).collect();
        for renewal in 1..=RENEWALS {
            worker.certificates.install(&slot, Arc::clone(&pairs[renewal % pairs.len()])).unwrap();
            if renewal % 21 == 0 {
                let before = handshakes.load(Ordering::Relaxed);
                eventually("a handshake", || (handshakes.load(Ordering::Relaxed) > before + 1).then_some(()));
            }
        }
        drop(ends);
        let seen: Vec<usize> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        assert!(seen.iter().all(|seen| *seen > 1), "{seen:?}");
    });
    // A worker without visitors lets go of what was replaced.
    let old = {
        let host = HostPattern::Exact("a.example.com".to_owned());
        Arc::downgrade(worker.certificates.published().load().store.of(&host).unwrap())
    };
    worker.certificates.withdraw(&slot);
    eventually("the end of the old key", || (old.strong_count() == 0).then_some(()));
    let mut socket = socket(worker.https).unwrap();
    assert!(std::io::Write::write(&mut socket, b"").is_ok());
    assert!(
        shown(worker.https, "a.example.com", &trust).unwrap_err().to_string().contains("UnrecognisedName")
    );
}
