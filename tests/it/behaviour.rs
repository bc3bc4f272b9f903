//! Honest HTTP/1.1 through the proxy.

use crate::harness::client::End;
use crate::harness::{Origin, Setup, pattern};

#[test]
fn a_get_passes_and_is_logged() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let response = proxy.connect("a.test").get("a.test", "/hello?x=1");
    assert_eq!((response.status(), response.text().as_str()), (200, "ok"));
    assert_eq!(origin.wait_request(0).head.start, "GET /hello?x=1 HTTP/1.1");
    let line = proxy.line(0);
    for key in [
        "time",
        "client",
        "worker",
        "site",
        "host",
        "method",
        "target",
        "version",
        "status",
        "upstream",
        "bytes_in",
        "bytes_out",
        "ms",
        "tls",
        "resumed",
        "attempts",
        "end",
    ] {
        assert!(line.get(key).is_some(), "{key} is missing in {line}");
    }
    assert_eq!(line["status"], 200);
    assert_eq!((&line["method"], &line["target"]), (&"GET".into(), &"/hello?x=1".into()));
    assert_eq!((&line["host"], &line["attempts"]), (&"a.test".into(), &1.into()));
    for phase in ["head", "connect", "first_byte", "total"] {
        assert!(line["ms"].get(phase).is_some(), "ms.{phase} is missing in {line}");
    }
}

#[test]
fn keep_alive_on_both_sides() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    for index in 0..50 {
        assert_eq!(client.get("a.test", &format!("/{index}")).text(), "ok");
    }
    assert_eq!(origin.connections(), 1, "one upstream connection serves them all");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
    assert!(client.response().head.lists("connection", "close"));
    assert_eq!(client.assert_closed(), End::Clean);
    assert_eq!(proxy.line(50)["status"], 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let target = request.head.start.split(' ').nth(1).unwrap().to_owned();
            conn.write(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len()));
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    let mut bytes = String::new();
    for index in 0..20 {
        bytes += &format!("POST /{index} HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    }
    client.send(bytes);
    for index in 0..20 {
        assert_eq!(client.response().text(), format!("/{index}"));
    }
    // A refused one in the middle ends the row: what stands behind it is not looked at.
    client.send("GET /last HTTP/1.1\r\nHost: a.test\r\n\r\nGET /bad HTTP/1.1\r\nbad\r\n\r\nGET /never HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(client.response().text(), "/last");
    assert_eq!(client.response().status(), 400);
    client.assert_closed();
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("never"));
}

#[test]
fn requests_at_every_split() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let bytes = "POST /p HTTP/1.1\r\nHost: a.test\r\nX-Y: z\r\nContent-Length: 4\r\n\r\nbody";
    let mut client = proxy.connect("a.test");
    for split in 1..bytes.len() {
        client.send(&bytes[..split]);
        client.send(&bytes[split..]);
        assert_eq!(client.response().text(), "ok", "split at {split}");
    }
    let requests = origin.requests();
    assert_eq!(requests.len(), bytes.len() - 1);
    assert!(requests.iter().all(|r| r.body == b"body" && r.head.get("x-y") == Some("z")));
}

#[test]
fn responses_at_every_split() {
    const ANSWER: &str =
        "HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nX-T: 1\r\n\r\n";
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.request() {
            let target = request.head.start.split(' ').nth(1).unwrap();
            let (one, two) = ANSWER.split_at(target[1..].parse().unwrap());
            conn.write(one);
            std::thread::sleep(std::time::Duration::from_millis(1));
            conn.write(two);
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    for split in 1..ANSWER.len() {
        let response = client.get("a.test", &format!("/{split}"));
        assert_eq!((response.text().as_str(), response.head.get("x-a")), ("abc", Some("b")), "at {split}");
    }
}

#[test]
fn head_204_and_304_have_no_body() {
    for (method, answer, status) in [
        ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n", 200),
        ("HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5000\r\nETag: \"x\"\r\n\r\n", 304),
    ] {
        let origin = Origin::answering(answer);
        let proxy = Setup::a(origin.address).start();
        let mut client = proxy.connect("a.test");
        for _ in 0..3 {
            client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\n\r\n"));
            let response = client.response_to(method);
            assert_eq!(response.status(), status);
            if answer.contains("5000") && method == "HEAD" {
                assert_eq!(response.head.length(), Some(5000), "the length of what GET would give");
            }
            if status == 204 {
                assert!(response.head.get("transfer-encoding").is_none(), "RFC 9112 §6.1");
            }
        }
        assert_eq!(origin.connections(), 1, "the upstream connection stays usable: {answer}");
    }
}

#[test]
fn chunked_with_trailers_both_ways() {
    let origin = Origin::answering(
        "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nTE: trailers\r\nConnection: TE\r\nTrailer: X-Up\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Up: 7\r\nContent-Length: 3\r\nHost: evil\r\n\r\n",
    );
    let response = client.response();
    if response.status() == 400 {
        // Framing fields in trailers may be refused as well as dropped (RFC 9110 §6.5.1).
        return;
    }
    assert_eq!(response.text(), "ok");
    let request = origin.wait_request(0);
    assert_eq!(request.body, b"hello");
    for name in ["content-length", "host"] {
        assert!(request.trailers.iter().all(|(n, _)| !n.eq_ignore_ascii_case(name)), "{name} in trailers");
    }
    assert!(response.trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case("x-sum") && v == "9"));
    assert!(request.trailers.iter().any(|(n, v)| n.eq_ignore_ascii_case("x-up") && v == "7"));
}

#[test]
fn expect_100_continue_is_relayed() {
    let origin = Origin::start(|conn| {
        while let Some(request) = conn.head() {
            assert_eq!(request.head.get("expect"), Some("100-continue"));
            assert!(conn.reader.buffered().is_empty(), "the body waits");
            conn.write("HTTP/1.1 100 Continue\r\n\r\n");
            let body = conn.reader.exactly(5).unwrap();
            conn.write(format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
                String::from_utf8_lossy(&body)
            ));
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    for _ in 0..2 {
        client.send("POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
        assert_eq!(client.response().status(), 100);
        client.send("hello");
        assert_eq!(client.response().text(), "hello");
    }
}

#[test]
fn expect_100_continue_can_be_declined() {
    let origin = Origin::start(|conn| {
        while conn.head().is_some() {
            conn.write("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno");
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.response().status(), 417, "no 100 of our own in between");
}

#[test]
fn http_1_0_clients() {
    let origin =
        Origin::answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "ok");
    assert!(response.head.get("transfer-encoding").is_none(), "RFC 9112 §6.1: no chunks for 1.0");
    client.assert_closed();
    assert_eq!(origin.wait_request(0).head.start, "GET / HTTP/1.1", "the proxy speaks its own version");
    assert!(proxy.line(0)["version"].as_str().unwrap().contains("1.0"));
}

#[test]
fn http_1_0_keep_alive() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n");
    let response = client.response();
    assert_eq!(response.text(), "ok");
    // Keeping it needs the answer to say so; closing is right too.
    if response.head.lists("connection", "keep-alive") {
        client.send("GET / HTTP/1.0\r\nHost: a.test\r\n\r\n");
        assert_eq!(client.response().text(), "ok");
    }
    client.assert_closed();
}

#[test]
fn http_1_0_upstream() {
    let origin = Origin::once("HTTP/1.0 200 OK\r\nX-Old: 1\r\n\r\nold");
    let proxy = Setup::a(origin.address).start();
    for _ in 0..2 {
        let response = proxy.connect("a.test").get("a.test", "/");
        assert_eq!((response.text().as_str(), response.head.get("x-old")), ("old", Some("1")));
    }
    let origin = Origin::answering("HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nold");
    let proxy = Setup::a(origin.address).start();
    for index in 0..3 {
        assert_eq!(proxy.connect("a.test").get("a.test", "/").text(), "old");
        assert_eq!(origin.connections(), index + 1, "1.0 without keep-alive is not pooled");
    }
}

#[test]
fn early_response_to_a_large_upload() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig");
            conn.half_close();
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 50000000\r\n\r\n");
    let piece = pattern(100_000);
    for _ in 0..500 {
        if client.try_send(&piece).is_err() {
            break;
        }
    }
    let response = client.response();
    assert_eq!((response.status(), response.text().as_str()), (413, "big"));
    assert_eq!(proxy.line(0)["status"], 413);
}

#[test]
fn uploads_pass_whole_in_both_framings() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let body = pattern(3_000_000);
    let mut client = proxy.connect("a.test");
    client.send(format!("PUT /1 HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body);
    assert_eq!(client.response().status(), 200);
    client.send("PUT /2 HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for piece in body.chunks(99_991) {
        client.send([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let requests = origin.requests();
    assert!(requests.iter().all(|r| r.body == body), "a body changed");
    assert!(proxy.line(1)["bytes_in"].as_u64().unwrap() >= body.len() as u64);
}

#[test]
fn half_close() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            // Long enough for the end of the client's side to be seen first.
            std::thread::sleep(std::time::Duration::from_millis(200));
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        }
    });
    let table = format!("[sites.\"p.test\"]\nto = \"{}\"\nredirect = false", origin.address);
    let proxy = Setup::new().tables(table).start();
    // On TLS, close_notify ends one direction; with a FIN behind it the client has left.
    let mut client = proxy.connect("p.test");
    client.send("GET / HTTP/1.1\r\nHost: p.test\r\n\r\n");
    client.close_notify();
    assert_eq!(client.response().text(), "late");
    assert_eq!(client.assert_closed(), End::Clean);
    let mut client = proxy.plain();
    client.send("GET / HTTP/1.1\r\nHost: p.test\r\n\r\n");
    client.half_close();
    assert_eq!(client.response().text(), "late");
    client.assert_closed();
}

#[test]
fn streaming_does_not_wait_for_the_whole() {
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let origin = Origin::start(move |conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for index in 0..5 {
                conn.write(format!("2\r\ne{index}\r\n"));
                gate.lock().unwrap().recv().unwrap();
            }
            conn.write("0\r\n\r\n");
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(client.reader.head().unwrap().chunked());
    for index in 0..5 {
        // The next event is sent only when this one has arrived.
        assert_eq!(client.reader.chunk_size().unwrap(), 2);
        assert_eq!(client.reader.exactly(4).unwrap(), format!("e{index}\r\n").as_bytes());
        go.send(()).unwrap();
    }
    assert_eq!(client.reader.chunk_size().unwrap(), 0);
}
