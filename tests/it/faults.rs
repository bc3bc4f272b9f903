//! Cuts at every byte, a log that cannot be written, keys that change all the time, sites without a
//! certificate: what goes wrong shows on the other side and leaves nothing dirty behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::client::{End, Stream};
use crate::harness::refusal::assert_reason;
use crate::harness::{Client, Origin, Setup, eventually};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX-T: 1\r\n\r\n";
const COUNTED: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody";

/// Answers the request for `/N` with the first N bytes of `answer`, then FIN or RST.
fn cutting(answer: &'static str, reset: bool) -> Origin {
    Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            let target = request.head.start.split(' ').nth(1).unwrap();
            let Ok(length) = target[1..].parse::<usize>() else {
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext");
                continue;
            };
            conn.write(&answer[..length]);
            if reset {
                // Bytes that a reset overtakes were not cut at this place.
                std::thread::sleep(Duration::from_millis(2));
                conn.reset();
            }
            return;
        }
    })
}

#[test]
fn upstream_cut_at_every_byte() {
    for (answer, reset) in [(CHUNKED, false), (CHUNKED, true), (COUNTED, false), (COUNTED, true)] {
        let origin = cutting(answer, reset);
        let proxy = Setup::a(origin.address).timeout("between_bytes", "2s").start();
        for length in 0..answer.len() {
            let mut client = proxy.connect("a.test");
            client.send(format!("GET /{length} HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            if let Ok(response) = client.try_response("GET") {
                assert_eq!(response.status(), 502, "cut at {length} of {answer:?} passed for whole");
            }
            let line = proxy.line(2 * length);
            assert_reason(&line);
            assert_eq!(
                proxy.connect("a.test").get("a.test", "/next").text(),
                "next",
                "after a cut at {length}"
            );
            proxy.line(2 * length + 1);
        }
    }
}

/// Sends every beginning of `request` and leaves.
fn leave_at_every_byte(request: &str, reset: bool) {
    let whole = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&whole);
    let origin = Origin::start(move |conn| {
        while let Some(request) = conn.request() {
            if request.head.start.starts_with("POST") {
                counter.fetch_add(1, Ordering::SeqCst);
            }
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let proxy = Setup::a(origin.address).start();
    let base = proxy.descriptors();
    for length in 0..request.len() {
        let mut client = proxy.connect("a.test");
        client.send(&request[..length]);
        if reset {
            client.reset();
        }
    }
    let mut last = proxy.connect("a.test");
    last.send(request);
    assert_eq!(last.response().status(), 200);
    eventually("the end of all connections", || (proxy.descriptors() <= base + 3).then_some(()));
    assert_eq!(whole.load(Ordering::SeqCst), 1, "a cut request passed for whole");
}

#[test]
fn client_cut_at_every_byte() {
    let counted = "POST /p HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody";
    let chunked = "POST /p HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\nX: 1\r\n\r\n";
    for reset in [false, true] {
        leave_at_every_byte(counted, reset);
        leave_at_every_byte(chunked, reset);
    }
}

#[test]
fn failure_log_disk_full() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).tables("[log]\naccess = \"/dev/full\"").start();
    let mut client = proxy.connect("a.test");
    for index in 0..5_000 {
        assert_eq!(client.get("a.test", "/").status(), 200, "request {index}");
    }
    assert!(proxy.lines().is_empty());
}

#[test]
fn failure_log_reader_is_slow() {
    let origin = Origin::ok();
    let scratch = crate::harness::lockring::Scratch::new();
    let pipe = scratch.path().join("log.pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // A reader that never reads: the pipe is full after 64 KiB.
    let held = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let table = format!("[log]\naccess = \"{}\"", pipe.display());
    let proxy = Setup::a(origin.address).tables(table).start();
    let mut client = proxy.connect("a.test");
    for index in 0..5_000 {
        assert_eq!(client.get("a.test", "/").status(), 200, "request {index}");
    }
    drop(held);
}

#[test]
fn failure_site_whose_certificate_is_not_there_yet() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).site("app.example.com", origin.address).start();
    let error = Client::tls(proxy.https, "app.example.com", &proxy.trust).err().expect("never a silent one");
    let alert = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let expected = rustls::Error::AlertReceived(rustls::AlertDescription::UnrecognisedName);
    assert_eq!(alert, Some(&expected));
    assert_reason(&proxy.wait_line(0, |l| l["end"] == "refused"));
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}

/// Sends a KeyUpdate record.
fn update_keys(client: &mut Client) -> std::io::Result<()> {
    let Stream::Tls(tls) = &mut client.reader.stream else { panic!("not a TLS connection") };
    tls.conn.refresh_traffic_keys().unwrap();
    while tls.conn.wants_write() {
        tls.conn.write_tls(&mut tls.sock)?;
    }
    Ok(())
}

#[test]
fn key_updates_are_followed_and_floods_of_them_ended() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let config = proxy.trusting(&[&rustls::version::TLS13]);
    let mut client = Client::tls(proxy.https, "a.test", &config).unwrap();
    for index in 0..50 {
        update_keys(&mut client).unwrap();
        assert_eq!(client.get("a.test", "/").status(), 200, "after update {index}");
    }
    let before = proxy.rss();
    let mut flood = Client::tls(proxy.https, "a.test", &config).unwrap();
    let ended = (0..100_000).any(|_| update_keys(&mut flood).is_err());
    assert!(ended || flood.rest().1 != End::Clean, "a flood of updates is served for ever");
    assert!(proxy.rss() < before + 8 * 1024 * 1024, "replies are bounded");
    assert_eq!(client.get("a.test", "/").status(), 200, "others go on");
}

#[test]
fn one_byte_records_are_read() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::tls(proxy.https, "a.test", &proxy.trusting(&[version])).unwrap();
        for byte in b"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\n\r\nbody" {
            client.send([*byte]);
        }
        assert_eq!(client.response().status(), 200);
    }
    assert!(origin.requests().iter().all(|r| r.body == b"body"));
}

#[test]
fn sigkill_leaves_a_valid_state() {
    let origin = Origin::ok();
    let scratch = crate::harness::lockring::Scratch::new();
    let config = scratch.path().join("lockring.toml");
    let state = scratch.path().join("state");
    std::fs::write(
        &config,
        format!(
            "[server]\nhttps = [\"127.0.0.1:0\"]\nhttp = [\"127.0.0.1:0\"]\nworkers = 1\nstate = \"{}\"\n\
             [sites]\n\"a.test\" = \"{}\"\n",
            state.display(),
            origin.address
        ),
    )
    .unwrap();
    for round in 0..8 {
        let mut child = std::process::Command::new(crate::harness::lockring::binary())
            .args(["run", "-c"])
            .arg(&config)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(6 * round));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let proxy = Setup::a(origin.address).state(&state).start();
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "it starts from what is left");
}
