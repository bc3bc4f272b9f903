//! What one connection may cost, attacked: many connections in the state that costs most, and the growth of
//! the process per connection against its bound.

use std::time::Duration;

use crate::harness::client::trusting;
use crate::harness::lockring::Scratch;
use crate::harness::pki::Authority;
use crate::harness::{Client, Lockring, Origin, Setup, eventually, long, pattern};

/// Bulk buffers of one worker, which long bodies share: `limits::BULK_BUFFERS_PER_WORKER` of 304 KiB.
const BULK: usize = 128 * 304 * 1024;
const KIB: usize = 1024;

/// Growth of the proxy while `hold` makes `count` connections and keeps them.
fn growth<T>(proxy: &Lockring, count: usize, hold: impl Fn(usize) -> T) -> usize {
    // The first connections pay for what all share.
    let warm: Vec<T> = (0..20).map(&hold).collect();
    std::thread::sleep(Duration::from_millis(200));
    let before = proxy.rss();
    let held: Vec<T> = (0..count).map(&hold).collect();
    std::thread::sleep(Duration::from_millis(300));
    let grown = proxy.rss().saturating_sub(before);
    drop((warm, held));
    grown
}

#[test]
fn memory_of_a_connection_in_the_middle_of_its_head() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(1).start();
    let count = 300;
    let head = format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "x".repeat(30 * KIB));
    let grown = growth(&proxy, count, |_| {
        let mut client = proxy.connect("a.test");
        client.send(&head);
        client
    });
    assert!(grown / count <= 56 * KIB, "{} bytes per connection", grown / count);
}

#[test]
fn memory_of_a_connection_that_waits() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(1).start();
    let count = 400;
    let idle = |_| {
        let mut client = proxy.connect("a.test");
        assert_eq!(client.get("a.test", "/").status(), 200);
        client
    };
    let warm: Vec<Client> = (0..100).map(idle).collect();
    // After `limits::REST_AFTER` a connection holds no buffer and no key schedule.
    std::thread::sleep(Duration::from_millis(1300));
    let before = proxy.rss();
    let held: Vec<Client> = (0..count).map(idle).collect();
    std::thread::sleep(Duration::from_millis(1300));
    let grown = proxy.rss().saturating_sub(before);
    drop((warm, held));
    assert!(grown / count <= 5 * KIB, "{} bytes per connection", grown / count);
}

#[test]
fn memory_of_a_connection_that_does_not_read() {
    let body = pattern(8 << 20);
    let origin = Origin::start(move |conn| {
        if conn.head().is_some() {
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            let _ = conn.try_write(&body);
        }
    });
    let proxy = Setup::a(origin.address).workers(1).start();
    let count = 300;
    let grown = growth(&proxy, count, |_| {
        let mut client = proxy.connect("a.test");
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        client
    });
    assert!(grown <= 2 * BULK + count * 64 * KIB, "{grown} bytes for {count} connections");
}

#[test]
fn memory_of_a_connection_whose_app_does_not_read() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).workers(1).start();
    let count = 60;
    let piece = pattern(6 << 20);
    let grown = growth(&proxy, count, |_| {
        let mut client = proxy.connect("a.test");
        client.send(format!("PUT / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", 1 << 30));
        client.send_what_fits(&piece);
        client
    });
    assert!(grown <= 2 * BULK + count * 320 * KIB, "{grown} bytes for {count} connections");
}

/// What is replaced is given back: keys, chains and what was made of them.
#[test]
fn swaps_of_certificates_leave_memory_as_it_was() {
    let (scratch, authority) = (Scratch::new(), Authority::new("one"));
    let path = |name: &str| scratch.path().join(name);
    let put = || {
        let leaf = authority.leaf(&["one.test"]);
        for (name, text) in [("one.key", &leaf.key_pem), ("one.pem", &leaf.certificate_pem)] {
            std::fs::write(path("new"), text).unwrap();
            std::fs::rename(path("new"), path(name)).unwrap();
        }
    };
    put();
    let files = format!(
        "tls = {{ cert = \"{}\", key = \"{}\" }}",
        path("one.pem").display(),
        path("one.key").display()
    );
    let proxy = Setup::new().tables(format!("[sites.\"one.test\"]\nto = \"demo\"\n{files}")).start();
    let trust = trusting(std::slice::from_ref(&authority.root), rustls::ALL_VERSIONS);
    let shown = || {
        let client = Client::tls(proxy.https, "one.test", &trust).unwrap();
        client.session().peer_certificates().unwrap()[0].clone()
    };
    let swaps = if long() { 1000 } else { 100 };
    let (mut served, mut warm) = (shown(), 0);
    for swap in 0..swaps {
        put();
        served = eventually("the next certificate", || Some(shown()).filter(|now| *now != served));
        if swap == swaps / 4 {
            warm = proxy.rss();
        }
    }
    let now = proxy.rss();
    println!("{swaps} swaps: {} KiB at a quarter, {} KiB at the end", warm / 1024, now / 1024);
    assert!(now < warm + 1024 * 1024, "{warm} bytes became {now}");
}
