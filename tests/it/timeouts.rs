//! The row on slow attacks, phase by phase, and the row on CPU: what makes no progress is ended at its
//! deadline, told why, and costs nothing while it waits.

use std::io::{Read, Write};
use std::time::{Duration, Instant};

use crate::harness::refusal::assert_reason;
use crate::harness::{Client, Origin, PATIENCE, Setup};

#[test]
fn failure_slow_hello() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("hello", "300ms").start();
    for first in [&b""[..], &[0x16, 3, 1, 2, 0], &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]] {
        let mark = proxy.lines().len();
        let mut socket = crate::harness::client::socket(proxy.https).unwrap();
        socket.write_all(first).unwrap();
        let mut rest = Vec::new();
        let _ = socket.read_to_end(&mut rest);
        assert!(rest.len() < 32, "an alert at most: {rest:?}");
        if !first.is_empty() {
            let line = proxy.wait_line(mark, |l| l["end"] == "refused");
            assert_eq!((&line["status"], &line["reason"]), (&0.into(), &"hello-timeout".into()));
        }
    }
}

#[test]
fn failure_slow_handshake() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("handshake", "300ms").start();
    let name = rustls::pki_types::ServerName::try_from("a.test").unwrap();
    let mut session = rustls::ClientConnection::new(proxy.trust.clone(), name).unwrap();
    let mut socket = crate::harness::client::socket(proxy.https).unwrap();
    while session.wants_write() {
        session.write_tls(&mut socket).unwrap();
    }
    // The server's flight is read and never answered.
    let mut flight = Vec::new();
    let _ = socket.read_to_end(&mut flight);
    assert!(flight.len() > 100, "the server hello came");
    let line = proxy.wait_line(0, |l| l["end"] == "refused");
    assert_reason(&line);
}

#[test]
fn failure_slow_head() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("head", "400ms").start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.te");
    assert_eq!(client.response().status(), 408);
    client.assert_closed();
    assert_reason(&proxy.wait_status(0, 408));

    // One byte at a time is no progress of a head: its deadline counts from its first byte.
    let mut client = proxy.connect("a.test");
    let started = Instant::now();
    let endless = b"GET / HTTP/1.1\r\nHost: a.test\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
    for byte in endless {
        if client.try_send([*byte]).is_err() || started.elapsed() > PATIENCE {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(started.elapsed() < PATIENCE, "slowloris is served for ever");
    assert!(origin.bytes().is_empty());
}

#[test]
fn failure_stalled_body() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("body", "300ms").start();
    for fields in ["Content-Length: 100\r\n\r\npartial", "Transfer-Encoding: chunked\r\n\r\n7\r\npartial\r\n"]
    {
        let mark = proxy.lines().len();
        let mut client = proxy.connect("a.test");
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}"));
        assert_eq!(client.response().status(), 408);
        client.assert_closed();
        assert_reason(&proxy.wait_status(mark, 408));
        origin.wait_ended(origin.connections() - 1);
    }
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("0\r\n\r\n"));
}

#[test]
fn a_body_that_makes_progress_has_no_total_limit() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("body", "400ms").timeout("first_byte", "400ms").start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 12\r\n\r\n");
    for _ in 0..12 {
        client.send("x");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(client.response().status(), 200);
}

#[test]
fn failure_stalled_reader() {
    let origin = Origin::answering(
        [&b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n"[..], &vec![b'x'; 30_000_000]].concat(),
    );
    let proxy = Setup::a(origin.address).timeout("write", "400ms").start();
    let before = proxy.rss();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let line = proxy.wait_line(0, |l| l["method"] == "GET");
    assert_reason(&line);
    origin.wait_ended(0);
    assert!(proxy.rss() < before + 16 * 1024 * 1024, "back-pressure, not buffers");
    let (bytes, _) = client.rest();
    assert!(bytes.len() < 30_000_000, "the cut shows");
}

#[test]
fn an_idle_connection_ends_at_its_timeout() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("idle", "400ms").start();
    let mut fresh = proxy.connect("a.test");
    let mut used = proxy.connect("a.test");
    assert_eq!(used.get("a.test", "/").status(), 200);
    assert_eq!(used.assert_closed(), crate::harness::client::End::Clean);
    fresh.assert_closed();
    assert_eq!(proxy.lines().iter().filter(|l| l["status"] != 0).count(), 1, "idleness is no request");
}

#[test]
fn failure_upstream_connect_timeout() {
    // A backlog that is full: the handshake of the next connection is never answered.
    let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    for _ in 0..4 {
        match std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            Ok(stream) => waiting.push(stream),
            Err(_) => break,
        }
    }
    let proxy = Setup::a(address).timeout("connect", "300ms").start();
    let response = proxy.connect("a.test").get("a.test", "/");
    assert_eq!(response.status(), 504, "{}", response.text());
    assert!(!response.body.is_empty());
    assert_reason(&proxy.wait_status(0, 504));
}

#[test]
fn failure_upstream_first_byte_timeout() {
    let origin = Origin::silent();
    let proxy = Setup::a(origin.address).timeout("first_byte", "300ms").start();
    let mut client = proxy.connect("a.test");
    let response = client.get("a.test", "/");
    assert_eq!(response.status(), 504, "{}", response.text());
    assert!(!response.body.is_empty());
    assert_reason(&proxy.wait_status(0, 504));
    origin.wait_ended(0);
    assert_eq!(origin.connections(), 1, "a request that may be at work is not sent again");
}

#[test]
fn failure_upstream_dribbles_its_head() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            let endless = b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x'));
            for byte in endless {
                if conn.try_write([*byte]).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let setup = Setup::a(origin.address).timeout("first_byte", "500ms").timeout("between_bytes", "500ms");
    let proxy = setup.limit("head", "\"1KiB\"").limit("target", "\"512B\"").start();
    let status = proxy.connect("a.test").get("a.test", "/").status();
    assert!([502, 504].contains(&status), "{status}");
}

#[test]
fn failure_upstream_between_bytes_timeout() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial");
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).timeout("between_bytes", "300ms").start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (bytes, _) = client.rest();
    assert!(bytes.ends_with(b"partial"), "what came goes on, and the cut shows");
    assert_reason(&proxy.wait_line(0, |l| l["method"] == "GET"));
    origin.wait_ended(0);
}

#[test]
fn cpu_spin() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npartial");
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut held: Vec<Client> = Vec::new();
    let beginnings = [
        "",
        "GET / HT",
        "GET / HTTP/1.1\r\nHost: a.test\r\nX: ",
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 100\r\n\r\npartial",
        "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
    ];
    for bytes in beginnings {
        for half_closed in [false, true] {
            let mut client = proxy.connect("a.test");
            client.send(bytes);
            if half_closed {
                client.half_close();
            }
            held.push(client);
        }
    }
    let mut sockets: Vec<_> = (0..3).map(|_| crate::harness::client::socket(proxy.https).unwrap()).collect();
    sockets[1].write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    origin.wait_request(0);
    std::thread::sleep(Duration::from_millis(300));
    let before = proxy.cpu_ticks();
    std::thread::sleep(Duration::from_secs(1));
    let used = proxy.cpu_ticks() - before;
    assert!(used <= 5, "{used} hundredths of a second of CPU in a second of waiting");
    drop(held);
}
