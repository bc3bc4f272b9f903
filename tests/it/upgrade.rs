//! The row on upgrades: HTTP framing holds until the upstream's own 101 to an upgrade that was offered.

use crate::harness::client::End;
use crate::harness::{Origin, Setup, contains, eventually};

const OFFER: &str = "GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Switches and echoes until the end.
fn echo() -> Origin {
    Origin::start(|conn| {
        if conn.head().is_none() {
            return;
        }
        conn.write(SWITCH);
        loop {
            let waiting = conn.reader.buffered().len();
            if waiting > 0 {
                let bytes = conn.reader.exactly(waiting).unwrap();
                conn.write(bytes);
            }
            if conn.reader.fill().is_err() {
                return;
            }
        }
    })
}

#[test]
fn a_tunnel_after_101_carries_bytes_both_ways() {
    let origin = echo();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(OFFER);
    let head = client.response().head;
    assert_eq!((head.status(), head.get("upgrade")), (101, Some("websocket")));
    assert!(head.lists("connection", "upgrade"));
    let sent = origin.wait_request(0).head;
    assert!(sent.lists("connection", "upgrade") && sent.get("upgrade") == Some("websocket"));
    let data = crate::harness::pattern(300_000);
    for piece in data.chunks(50_000) {
        client.send(piece);
        assert_eq!(client.reader.exactly(piece.len()).unwrap(), piece);
    }
    client.half_close();
    client.assert_closed();
    origin.wait_ended(0);
    let line = proxy.wait_status(0, 101);
    assert!(line["bytes_out"].as_u64().unwrap() >= 300_000, "{line}");
}

#[test]
fn early_bytes_wait_for_the_101() {
    let origin = echo();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(format!("{OFFER}early"));
    assert_eq!(client.response().status(), 101);
    assert_eq!(client.reader.exactly(5).unwrap(), b"early");
}

#[test]
fn a_refused_upgrade_stays_http() {
    let origin = Origin::answering("HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno");
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    // What follows is a second request, never bytes of a tunnel.
    client.send(format!("{OFFER}GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n"));
    assert_eq!(client.response().status(), 403);
    if client.response().status() == 403 {
        let second = origin.wait_request(1).head;
        assert_eq!(second.start, "GET /second HTTP/1.1");
        assert!(second.get("x-forwarded-for").is_some(), "it went through the proxy as a request");
    }
}

#[test]
fn upgrade_with_a_body_is_never_pooled() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 5\r\n\r\nhello",
    );
    let status = client.response().status();
    assert!([200, 400].contains(&status), "{status}");
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
    let requests = origin.requests();
    if status == 200 {
        assert_ne!(requests[0].connection, requests[1].connection, "that connection is not used again");
    }
}

#[test]
fn h2c_is_not_forwarded() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    );
    assert_eq!(client.response().status(), 200);
    let head = origin.wait_request(0).head;
    assert!(head.get("upgrade").is_none() && head.get("http2-settings").is_none(), "{head:?}");
}

#[test]
fn upgrade_not_named_by_connection_is_dropped() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    assert!(origin.wait_request(0).head.get("upgrade").is_none());
}

#[test]
fn unasked_101_is_502() {
    for request in [
        "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n",
    ] {
        let origin = Origin::once(format!("{SWITCH}HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"));
        let proxy = Setup::a(origin.address).start();
        let mut client = proxy.connect("a.test");
        client.send(request);
        let response = client.response();
        assert_eq!(response.status(), 502, "{request}");
        assert!(!contains(&response.body, b"bad"));
        assert!(proxy.wait_status(0, 502)["reason"].is_string());
    }
}

#[test]
fn tunnel_ends_show_on_the_other_side() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.write(format!("{SWITCH}bye"));
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(OFFER);
    assert_eq!(client.response().status(), 101);
    let (bytes, end) = client.rest();
    assert_eq!((bytes.as_slice(), end), (&b"bye"[..], End::Clean));

    let origin = echo();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(OFFER);
    assert_eq!(client.response().status(), 101);
    client.reset();
    origin.wait_ended(0);
}

#[test]
fn an_idle_tunnel_ends_at_its_timeout() {
    let origin = echo();
    let proxy = Setup::a(origin.address).timeout("tunnel", "300ms").start();
    let mut client = proxy.connect("a.test");
    client.send(OFFER);
    assert_eq!(client.response().status(), 101);
    client.assert_closed();
    origin.wait_ended(0);
    eventually("its log line", || proxy.lines().iter().any(|l| l["status"] == 101).then_some(()));
}

#[test]
fn failure_connect_is_refused() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for target in ["a.test:443", "127.0.0.1:22"] {
        let mut client = proxy.connect("a.test");
        client.send(format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        let status = client.response().status();
        assert!([400, 405, 421, 501].contains(&status), "{status}");
        client.assert_closed();
    }
    assert!(origin.bytes().is_empty());
}
