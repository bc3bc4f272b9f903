//! What each failure answers: one test for each row of the design's table that no other module holds.
//! Elsewhere: sizes in `request_head`, slowness in `timeouts`, limits in `descriptors`, SNI in `tls`.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::harness::refusal::assert_reason;
use crate::harness::{Client, Origin, Setup};

#[test]
fn failure_plain_http_on_the_tls_port() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = Client::plain(proxy.https);
    client.send("GET /x HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 400);
    assert!(response.text().contains("https"), "it names the remedy: {}", response.text());
    client.assert_closed();
    let line = proxy.wait_line(0, |_| true);
    assert_reason(&line);
    assert!(origin.bytes().is_empty());
}

#[test]
fn failure_bytes_that_are_not_tls() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for bytes in [&b"SSH-2.0-OpenSSH_9.9\r\n"[..], &[0; 64], &[0xff; 64], &[0x16, 9, 9, 0xff, 0xff, 1, 2, 3]]
    {
        let mark = proxy.lines().len();
        let mut socket = crate::harness::client::socket(proxy.https).unwrap();
        socket.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = socket.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer[0] == 0x15, "nothing or an alert: {answer:?}");
        let line = proxy.wait_line(mark, |l| l["end"] == "refused");
        assert_eq!(line["status"], 0);
        assert_reason(&line);
        if bytes.starts_with(b"SSH") {
            assert_eq!(line["reason"], "not-tls");
        }
    }
    assert!(origin.bytes().is_empty());
}

#[test]
fn failure_host_not_covered_by_the_connection() {
    let (a, b) = (Origin::ok(), Origin::ok());
    let proxy = Setup::a(a.address).site("b.test", b.address).start();
    let mut client = proxy.connect("a.test");
    for host in ["b.test", "c.test", "127.0.0.1", "xa.test", "a.test.evil"] {
        let mark = proxy.lines().len();
        let mut client = proxy.connect("a.test");
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status(), 421, "{host}");
        assert_reason(&proxy.wait_status(mark, 421));
    }
    assert!(a.bytes().is_empty() && b.bytes().is_empty());
    assert_eq!(client.get("a.test", "/").status(), 200);
}

#[test]
fn failure_no_route_is_404() {
    let origin = Origin::ok();
    let proxy = Setup::new()
        .tables(format!(
            "[sites.\"r.test\"]\n[[sites.\"r.test\".route]]\npath = \"/only/*\"\nto = \"{}\"",
            origin.address
        ))
        .start();
    let mut client = proxy.connect("r.test");
    assert_eq!(client.get("r.test", "/only/x").status(), 200);
    assert_eq!(client.get("r.test", "/other").status(), 404);
    assert_reason(&proxy.wait_status(0, 404));
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn failure_unknown_host_on_port_80_is_404() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for host in ["unknown.test", "127.0.0.1", "a.test.evil"] {
        let mut client = proxy.plain();
        let response = client.get(host, "/");
        assert_eq!(response.status(), 404, "{host}");
        assert!(response.head.get("location").is_none(), "no redirect to a name we do not serve");
    }
    assert_reason(&proxy.wait_status(0, 404));
}

#[test]
fn failure_upstream_refused() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Setup::a(address).start();
    let mut client = proxy.connect("a.test");
    for index in 0..3 {
        let response = client.get("a.test", "/");
        assert_eq!(response.status(), 502);
        assert!(response.text().to_ascii_lowercase().contains("refused"), "{}", response.text());
        let line = proxy.line(index);
        assert_eq!(line["status"], 502);
        assert_reason(&line);
    }
}

#[test]
fn failure_upstream_reset() {
    let origin = Origin::start(|conn| {
        conn.request();
        conn.reset();
    });
    let proxy = Setup::a(origin.address).start();
    let response = proxy.connect("a.test").get("a.test", "/");
    assert_eq!(response.status(), 502);
    assert!(!response.body.is_empty());
    assert_reason(&proxy.wait_status(0, 502));
}

#[test]
fn failure_upstream_closed_early() {
    let origin = Origin::start(|conn| {
        conn.request();
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    let response = client.response();
    assert_eq!(response.status(), 502);
    assert!(!response.body.is_empty());
    assert_reason(&proxy.wait_status(0, 502));
    assert_eq!(origin.connections(), 1, "a POST is not tried again");
}

#[test]
fn failure_upstream_unresolvable_does_not_stop_the_start() {
    let origin = Origin::ok();
    let proxy = Setup::a("no-such-host.invalid:80").site("b.test", origin.address).start();
    let response = proxy.connect("a.test").get("a.test", "/");
    assert_eq!(response.status(), 502, "{}", response.text());
    assert_reason(&proxy.wait_status(0, 502));
    assert_eq!(proxy.connect("b.test").get("b.test", "/").status(), 200);
}

#[test]
fn failure_upstream_unix_socket_missing() {
    let proxy = Setup::a("unix:/nonexistent/app.sock").start();
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 502);
    assert_reason(&proxy.wait_status(0, 502));
}

#[test]
fn failure_client_goes_away_before_any_upstream_byte() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.t");
    client.reset();
    let mut client = proxy.connect("a.test");
    assert_eq!(client.get("a.test", "/").status(), 200);
    assert_eq!(origin.connections(), 1);
}

#[test]
fn failure_answers_to_head_have_no_body() {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let proxy = Setup::a(address).start();
    let mut client = proxy.connect("a.test");
    for _ in 0..2 {
        client.send("HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.response_to("HEAD").status(), 502);
    }
}

#[test]
fn failure_draining() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        while conn.request().is_some() {
            let _ = gate.lock().unwrap().recv();
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        }
    });
    let mut proxy = Setup::a(origin.address).start();
    let mut idle = proxy.connect("a.test");
    let mut busy = proxy.connect("a.test");
    busy.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_request(0);
    proxy.signal("TERM");
    idle.assert_closed();
    go.send(()).unwrap();
    let response = busy.response();
    assert_eq!(response.text(), "late", "every request whose head was read is answered");
    assert!(response.head.lists("connection", "close"));
    busy.assert_closed();
    assert!(proxy.wait_exit().success());
    assert_eq!(proxy.lines().len(), 1, "the log is whole at the end");
}

#[test]
fn a_second_sigterm_ends_at_once() {
    let origin = Origin::silent();
    let mut proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_request(0);
    proxy.signal("TERM");
    crate::harness::eventually("the end of accepting", || {
        std::net::TcpStream::connect(proxy.https).is_err().then_some(())
    });
    proxy.signal("TERM");
    proxy.wait_exit();
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let origin = Origin::silent();
    let mut proxy = Setup::a(origin.address).timeout("drain", "500ms").start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_request(0);
    proxy.signal("TERM");
    proxy.wait_exit();
}

#[test]
fn failure_bad_configuration_says_where() {
    let scratch = crate::harness::lockring::Scratch::new();
    let path = scratch.path().join("bad.toml");
    std::fs::write(&path, "[sites]\n\"a.test\" = \"127.0.0.1:99999\"\nnonsense_key = 1\n").unwrap();
    let output = std::process::Command::new(crate::harness::lockring::binary())
        .args(["run", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let mut text = String::new();
    (&output.stderr[..]).read_to_string(&mut text).unwrap();
    assert!(text.contains("bad.toml:2"), "{text}");
}
