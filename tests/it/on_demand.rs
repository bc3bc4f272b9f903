//! Certificates on demand: names that no site lists, an application that is asked, a real authority.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use rustls::ClientConfig;

use crate::harness::client::{reset, socket};
use crate::harness::lockring::Scratch;
use crate::harness::pebble::{Options, Pebble, program};
use crate::harness::{Client, Lockring, Origin, Setup, eventually};

/// The operator's application: allows what begins with `ok`, and hangs on what begins with `slow`. Which
/// questions it got, by name.
struct Application {
    origin: Origin,
    asked: Arc<Mutex<BTreeMap<String, Vec<String>>>>,
}

impl Application {
    fn start() -> Self {
        let asked: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
        let seen = Arc::clone(&asked);
        let origin = Origin::start(move |conn| {
            let Some(request) = conn.request() else { return };
            let target = request.head.start.split(' ').nth(1).unwrap().to_owned();
            let (_, query) = target.split_once('?').unwrap();
            let name = query.strip_prefix("domain=").unwrap().split('&').next().unwrap().to_owned();
            seen.lock().unwrap().entry(name.clone()).or_default().push(target);
            if name.starts_with("slow") {
                return conn.hang();
            }
            let status = if name.starts_with("ok") { "204 No Content" } else { "403 Forbidden" };
            conn.write(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n"));
        });
        Self { origin, asked }
    }

    /// Lines of `[acme.on_demand]`.
    fn lines(&self, more: &str) -> String {
        format!("[acme.on_demand]\nask = \"http://{}/may\"\n{more}", self.origin.address)
    }

    fn asked(&self, name: &str) -> Vec<String> {
        self.asked.lock().unwrap().get(name).cloned().unwrap_or_default()
    }
}

/// A site with a certificate of the local CA, which serves names on demand too.
fn setup() -> Setup {
    Setup::new().site("a.test", "demo").server("default_site = \"a.test\"")
}

/// The same with an authority that nobody runs.
fn without_authority(application: &Application, more: &str) -> Setup {
    let directory = "directory = \"https://127.0.0.1:1/dir\"";
    setup().tables(format!("[acme]\n{directory}\n{}", application.lines(more)))
}

#[track_caller]
fn refused(proxy: &Lockring, name: &str, trust: &Arc<ClientConfig>) {
    let error = Client::tls(proxy.https, name, trust).err().expect("no certificate").to_string();
    assert!(error.contains("UnrecognisedName"), "{name}: {error}");
}

/// Waits for the log line of a refused connection.
#[track_caller]
fn reason(proxy: &Lockring, mark: usize, reason: &str) {
    proxy.wait_line(mark, |line| line["reason"] == reason);
}

#[test]
fn the_first_client_waits_and_the_others_do_not() {
    let program = need!(program(), "pebble");
    let mut pebble = Pebble::start(&program, Options::new());
    let (application, state) = (Application::start(), Scratch::new());
    let start = || {
        let lines = application.lines("");
        setup()
            .site("*.shop.example.com", "demo")
            .state(state.path())
            .certified_with(&pebble, "classic", &lines)
    };
    let proxy = start().start();
    let trust = pebble.trusting();
    let began = Instant::now();
    let mut client = Client::tls(proxy.https, "ok.shop.example.com", &trust).expect("it waits");
    let first = began.elapsed();
    assert_eq!(client.get("ok.shop.example.com", "/").status(), 200);
    assert_eq!(client.get("other.shop.example.com", "/").status(), 421);
    let began = Instant::now();
    Client::tls(proxy.https, "ok.shop.example.com", &trust).unwrap();
    println!("the first handshake took {first:?}, the second one {:?}", began.elapsed());
    // A name that only the default site can serve, over both listeners; and one deeper than a wildcard goes.
    for name in ["ok.customer.example.org", "ok.deep.shop.example.com"] {
        let mut client = Client::tls(proxy.https, name, &trust).expect("it waits");
        assert_eq!(client.get(name, "/").status(), 200, "{name}");
        let redirect = proxy.plain().get(name, "/x");
        assert_eq!(redirect.status(), 308, "{name}");
    }
    assert_eq!(proxy.plain().get("ok.unknown.example.org", "/").status(), 404);
    let asked = application.asked("ok.shop.example.com");
    assert_eq!(asked, ["/may?domain=ok.shop.example.com&remote_ip=127.0.0.1"]);
    assert_eq!(pebble.issued(), 3);
    // The next process serves all of it from disk: neither application nor authority is there any more.
    let ports = [proxy.https, proxy.http];
    drop((client, proxy));
    // The kernel takes a ring's sockets back a moment after its process has ended.
    eventually("free ports", || ports.iter().all(|port| TcpListener::bind(port).is_ok()).then_some(()));
    let again = start();
    pebble.kill();
    let proxy = again.start();
    for name in ["ok.shop.example.com", "ok.customer.example.org"] {
        Client::tls(proxy.https, name, &trust).expect("it is served from disk");
        assert_eq!(application.asked(name).len(), 1, "{name}");
    }
    assert_eq!(Client::tls(proxy.https, "a.test", &proxy.trust).unwrap().get("a.test", "/").status(), 200);
}

#[test]
fn many_clients_for_one_name_share_one_order() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let application = Application::start();
    let lines = application.lines("ask_timeout = \"10s\"");
    let proxy = setup().workers(2).certified_with(&pebble, "classic", &lines).start();
    let trust = pebble.trusting();
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                let mut client = Client::tls(proxy.https, "ok.example.com", &trust).expect("it waits");
                assert_eq!(client.get("ok.example.com", "/").status(), 200);
            });
        }
    });
    assert_eq!(application.asked("ok.example.com").len(), 1);
    assert_eq!(pebble.issued(), 1);
}

#[test]
fn a_name_that_the_application_refuses_is_asked_about_once() {
    let application = Application::start();
    let proxy = without_authority(&application, "").start();
    for _ in 0..5 {
        refused(&proxy, "no.example.com", &proxy.trust);
    }
    reason(&proxy, 0, "on-demand-refused");
    assert_eq!(application.asked("no.example.com").len(), 1);
    assert!(!proxy.state().join("acme/orders").exists(), "nothing was ordered");
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}

#[test]
fn waiting_is_bounded_in_number_and_in_time() {
    let application = Application::start();
    let more = "ask_timeout = \"60s\"";
    let proxy = without_authority(&application, more).workers(2).timeout("handshake", "2s").start();
    let waiting: Vec<_> = (0..10)
        .map(|number| {
            let (address, trust) = (proxy.https, Arc::clone(&proxy.trust));
            let name = format!("slow{number}.example.com");
            std::thread::spawn(move || Client::tls(address, &name, &trust).err().unwrap().to_string())
        })
        .collect();
    eventually("ten questions", || (application.asked.lock().unwrap().len() == 10).then_some(()));
    let began = Instant::now();
    refused(&proxy, "ok.example.com", &proxy.trust);
    assert!(began.elapsed().as_millis() < 1000, "at once: {:?}", began.elapsed());
    reason(&proxy, 0, "on-demand-busy");
    assert_eq!(application.asked("ok.example.com").len(), 0);
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "other sites know nothing of it");
    for thread in waiting {
        assert!(thread.join().unwrap().contains("UnrecognisedName"));
    }
    reason(&proxy, 0, "on-demand-timeout");
}

#[test]
fn a_client_that_leaves_makes_room() {
    let application = Application::start();
    let proxy = without_authority(&application, "ask_timeout = \"60s\"").start();
    for number in 0..9 {
        let mut client = socket(proxy.https).unwrap();
        client.write_all(&hello(&format!("slow{number}.example.com"), &proxy.trust)).unwrap();
        let name = format!("slow{number}.example.com");
        eventually("a question", || (!application.asked(&name).is_empty()).then_some(()));
    }
    // Nine questions are still under way; their clients are gone, and a tenth finds a place.
    refused(&proxy, "no.example.com", &proxy.trust);
    assert_eq!(application.asked("no.example.com").len(), 1);
    reason(&proxy, 0, "on-demand-cut");
}

#[test]
fn a_client_that_talks_while_it_waits_is_not_listened_to() {
    let application = Application::start();
    let proxy = without_authority(&application, "ask_timeout = \"60s\"").timeout("handshake", "2s").start();
    let before = proxy.rss();
    let mut client = socket(proxy.https).unwrap();
    client.write_all(&hello("slow.example.com", &proxy.trust)).unwrap();
    let piece = vec![0x16; 64 * 1024];
    client.set_write_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    // What the kernel does not take stays here.
    for _ in 0..512 {
        if client.write(&piece).is_err() {
            break;
        }
    }
    let grown = proxy.rss().saturating_sub(before);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes");
    let mut answer = Vec::new();
    let _ = client.read_to_end(&mut answer);
    reason(&proxy, 0, "on-demand-timeout");
}

#[test]
fn ten_thousand_random_names_cost_a_question_each() {
    let application = Application::start();
    let proxy = without_authority(&application, "").workers(2).start();
    let count = if cfg!(debug_assertions) { 10_000 } else { 20_000 };
    let (next, busy) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let flood = |from: usize, to: usize| {
        next.store(from, Ordering::Relaxed);
        std::thread::scope(|threads| {
            for _ in 0..12 {
                threads.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= to {
                            return;
                        }
                        // Each name twice.
                        let name = format!("r{}.example.com", number / 2);
                        let alert = alert(proxy.https, &hello(&name, &proxy.trust));
                        assert_eq!(alert, [0x15, 3, 3, 0, 2, 2, 112], "{name}");
                        busy.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
    };
    let began = Instant::now();
    flood(0, count / 4);
    let before = proxy.rss();
    let mut client = proxy.connect("a.test");
    flood(count / 4, count);
    assert_eq!(client.get("a.test", "/").status(), 200);
    let grown = proxy.rss().saturating_sub(before);
    let asked = application.asked.lock().unwrap();
    assert!(asked.values().all(|questions| questions.len() == 1), "no name is asked about twice");
    println!("{count} handshakes in {:?}, {} questions, {grown} bytes more", began.elapsed(), asked.len());
    assert!(asked.len() > count / 10);
    assert!(grown < 8 * 1024 * 1024, "{grown} bytes");
    assert!(!proxy.state().join("acme/orders").exists(), "nothing was ordered");
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}

/// A whole ClientHello for `name`.
fn hello(name: &str, config: &Arc<ClientConfig>) -> Vec<u8> {
    let mut session =
        rustls::ClientConnection::new(Arc::clone(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// What a hello is answered with.
fn alert(address: SocketAddr, hello: &[u8]) -> Vec<u8> {
    let mut client = socket(address).unwrap();
    client.write_all(hello).unwrap();
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).unwrap();
    // No port is left in TIME_WAIT: ten thousand of them would be missing elsewhere.
    reset(&client);
    answer
}
