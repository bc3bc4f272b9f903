//! Rows on how a request body ends: nothing ambiguous passes, and what passes is re-framed by our hand.

use crate::harness::client::End;
use crate::harness::refusal::{each, guarded, refused, refused_body};
use crate::harness::{Origin, Setup};

/// Follows each ambiguous request: where it reaches the app, the request was smuggled.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

fn post(fields: &str, body: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}{SMUGGLED}")
}

#[test]
fn cl_te_and_te_cl() {
    let (proxy, origin) = guarded();
    let cases = [
        ("cl.te", post("Content-Length: 4\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("te.cl", post("Transfer-Encoding: chunked\r\nContent-Length: 4\r\n", "0\r\n\r\n")),
        ("cl.te with zero length", post("Content-Length: 0\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\n")),
        ("get", "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned()),
    ];
    each(cases, |bytes| {
        refused(&proxy, &origin, &[400], bytes);
    });
}

#[test]
fn te_obfuscation() {
    let (proxy, origin) = guarded();
    let cases = [
        ("xchunked", "Transfer-Encoding: xchunked\r\n"),
        ("quoted", "Transfer-Encoding: \"chunked\"\r\n"),
        ("vertical tab", "Transfer-Encoding: \u{b}chunked\r\n"),
        ("form feed", "Transfer-Encoding: chunked\u{c}\r\n"),
        ("no-break space", "Transfer-Encoding: chunked\u{a0}\r\n"),
        ("identity last", "Transfer-Encoding: chunked, identity\r\n"),
        ("identity", "Transfer-Encoding: identity\r\n"),
        ("doubled in one line", "Transfer-Encoding: chunked, chunked\r\n"),
        ("doubled in two lines", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
        ("parameter", "Transfer-Encoding: chunked;q=1\r\n"),
        ("gzip in front", "Transfer-Encoding: gzip, chunked\r\n"),
        ("gzip alone", "Transfer-Encoding: gzip\r\n"),
        ("empty", "Transfer-Encoding:\r\n"),
        ("space before the colon", "Transfer-Encoding : chunked\r\n"),
        ("folded", "Transfer-Encoding:\r\n chunked\r\n"),
        ("in a folded neighbour", "X: y\r\n Transfer-Encoding: chunked\r\n"),
        ("underscore twin", "Transfer_Encoding: chunked\r\nTransfer-Encoding: x\r\n"),
    ];
    each(cases, |fields| {
        refused(&proxy, &origin, &[400, 501], post(fields, "0\r\n\r\n"));
    });
}

#[test]
fn one_canonical_transfer_encoding_goes_upstream() {
    let (proxy, origin) = guarded();
    for coding in ["chunked", "Chunked", "CHUNKED", " chunked \t"] {
        let mut client = proxy.connect("a.test");
        let before = origin.requests().len();
        client.send(format!(
            "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:{coding}\r\n\r\n5;ext=\"v\"\r\nhello\r\n0\r\n\r\n"
        ));
        assert_eq!(client.response().status(), 200, "{coding:?}");
        let request = origin.wait_request(before);
        assert_eq!(request.head.all("transfer-encoding"), ["chunked"]);
        assert_eq!((request.head.length(), request.body.as_slice()), (None, &b"hello"[..]));
    }
}

#[test]
fn cl_0_and_0_cl() {
    let (proxy, origin) = guarded();
    let cases = [
        ("empty", "Content-Length:\r\n"),
        ("blank", "Content-Length:  \r\n"),
        ("plus", "Content-Length: +5\r\n"),
        ("minus", "Content-Length: -5\r\n"),
        ("hex", "Content-Length: 0x5\r\n"),
        ("list of equals", "Content-Length: 5, 5\r\n"),
        ("list of different", "Content-Length: 5, 6\r\n"),
        ("two different", "Content-Length: 5\r\nContent-Length: 6\r\n"),
        ("fraction", "Content-Length: 5.0\r\n"),
        ("space inside", "Content-Length: 5 0\r\n"),
        ("letters", "Content-Length: five\r\n"),
        ("overflow by one", "Content-Length: 18446744073709551616\r\n"),
        ("overflow", "Content-Length: 99999999999999999999999999\r\n"),
        ("folded", "Content-Length:\r\n 5\r\n"),
        ("tab before the colon", "Content-Length\t: 5\r\n"),
        ("full-width digit", "Content-Length: \u{ff15}\r\n"),
    ];
    each(cases, |fields| {
        refused(&proxy, &origin, &[400], post(fields, "hello"));
    });
}

#[test]
fn the_body_length_does_not_depend_on_the_method() {
    let (proxy, origin) = guarded();
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT", "PATCH", "FOO"] {
        let before = origin.requests().len();
        let mut client = proxy.connect("a.test");
        client.send(format!("{method} / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\n\r\nhello"));
        // A HEAD answer with a body would desynchronise the scripted origin's connection: read the head only.
        assert_eq!(client.response_to(method).status(), 200, "{method}");
        let request = origin.wait_request(before);
        assert_eq!((request.head.length(), request.body.as_slice()), (Some(5), &b"hello"[..]), "{method}");
        assert_eq!(request.head.start, format!("{method} / HTTP/1.1"));
    }
}

#[test]
fn expect_never_changes_framing() {
    let (proxy, origin) = guarded();
    let before = origin.requests().len();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello");
    let mut response = client.response();
    if response.status() == 100 {
        response = client.response();
    }
    assert_eq!(response.status(), 200);
    assert_eq!(origin.wait_request(before).body, b"hello");
    let cases = [
        ("unknown", "Expect: 200-ok\r\n"),
        ("obfuscated", "Expect: y 100-continue\r\n"),
        ("doubled", "Expect: 100-continue, 100-continue\r\n"),
    ];
    each(cases, |fields| {
        let mut client = proxy.connect("a.test");
        client.send(format!(
            "POST /e HTTP/1.1\r\nHost: a.test\r\n{fields}Content-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        ));
        while client.response().status() < 200 {}
        assert!(origin.requests().iter().all(|r| r.head.start != "GET /smuggled HTTP/1.1"));
    });
}

#[test]
fn te_in_http_1_0() {
    let (proxy, origin) = guarded();
    let cases = [
        ("plain", "Transfer-Encoding: chunked\r\n"),
        ("with length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
        ("kept alive", "Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
    ];
    each(cases, |fields| {
        let bytes = format!("POST / HTTP/1.0\r\nHost: a.test\r\n{fields}\r\n0\r\n\r\n{SMUGGLED}");
        refused(&proxy, &origin, &[400], bytes);
    });
}

#[test]
fn chunk_framing() {
    let (proxy, origin) = guarded();
    let long_extension = format!("5;{}\r\nhello\r\n0\r\n\r\n", "x".repeat(300));
    let many_extensions = format!("{}0\r\n\r\n", format!("1;{}\r\na\r\n", "x".repeat(200)).repeat(100));
    let many_trailers = format!("0\r\n{}\r\n", format!("X: {}\r\n", "y".repeat(100)).repeat(200));
    let cases = [
        ("bare LF after the size", "5\nhello\r\n0\r\n\r\n"),
        ("bare CR after the size", "5\rhello\r\n0\r\n\r\n"),
        ("bare LF after the data", "5\r\nhello\n0\r\n\r\n"),
        ("no CRLF after the data", "5\r\nhello0\r\n\r\n"),
        ("two bytes that are not CRLF", "5\r\nhelloXX0\r\n\r\n"),
        ("LF after the last chunk", "0\n\n"),
        ("empty size", "\r\nhello\r\n0\r\n\r\n"),
        ("sign", "+5\r\nhello\r\n0\r\n\r\n"),
        ("minus", "-5\r\nhello\r\n0\r\n\r\n"),
        ("0x", "0x5\r\nhello\r\n0\r\n\r\n"),
        ("space in front", " 5\r\nhello\r\n0\r\n\r\n"),
        ("underscore", "1_0\r\nhello\r\n0\r\n\r\n"),
        ("letters", "5g\r\nhello\r\n0\r\n\r\n"),
        ("seventeen digits", "00000000000000005\r\nhello\r\n0\r\n\r\n"),
        ("overflow", "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n"),
        ("sixteen digits, over 2^63", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
        ("LF in an extension", "5;a\nb\r\nhello\r\n0\r\n\r\n"),
        ("CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"),
        ("NUL in an extension", "5;a=\0\r\nhello\r\n0\r\n\r\n"),
        ("unclosed quote in an extension", "5;a=\"b\r\nhello\r\n0\r\n\r\n"),
        ("long extension", &long_extension),
        ("many extensions", &many_extensions),
        ("many trailers", &many_trailers),
        ("trailer without a colon", "0\r\nfoo\r\n\r\n"),
        ("folded trailer", "0\r\nX: y\r\n z\r\n\r\n"),
        ("trailer with a space before the colon", "0\r\nX : y\r\n\r\n"),
        ("bare LF in trailers", "0\r\nX: y\n\r\n"),
        ("NUL in a trailer", "0\r\nX: \0\r\n\r\n"),
    ];
    each(cases, |body| {
        refused_body(&proxy, &origin, post("Transfer-Encoding: chunked\r\n", body));
    });
}

#[test]
fn chunks_at_every_split_are_put_together_again() {
    let (proxy, origin) = guarded();
    let head = "POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n";
    let body = "5;a=b\r\nhello\r\nB\r\n wide world\r\n0\r\nX-T: 1\r\n\r\n";
    let mut client = proxy.connect("a.test");
    for split in 1..body.len() {
        let before = origin.requests().len();
        client.send(head);
        client.send(&body[..split]);
        client.send(&body[split..]);
        assert_eq!(client.response().status(), 200, "split at {split}");
        assert_eq!(origin.wait_request(before).body, b"hello wide world", "split at {split}");
    }
}

#[test]
fn announced_more_than_sent() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let cases = [
        ("length, FIN", ("Content-Length: 100\r\n", "partial", false)),
        ("length, RST", ("Content-Length: 100\r\n", "partial", true)),
        ("chunk, FIN", ("Transfer-Encoding: chunked\r\n", "64\r\npartial", false)),
        ("chunk, RST", ("Transfer-Encoding: chunked\r\n", "64\r\npartial", true)),
        ("between chunks, FIN", ("Transfer-Encoding: chunked\r\n", "7\r\npartial\r\n", false)),
    ];
    each(cases, |(fields, body, reset)| {
        let (mark, before) = (proxy.lines().len(), origin.requests().len());
        let mut client = proxy.connect("a.test");
        client.send(format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n{body}"));
        let dirty = origin.wait_request(before).connection;
        crate::harness::eventually("the beginning of the body", || {
            origin
                .bytes()
                .ends_with(b"partial")
                .then_some(())
                .or_else(|| origin.bytes().ends_with(b"partial\r\n").then_some(()))
        });
        if *reset {
            client.reset();
        } else {
            client.half_close();
            drop(client);
        }
        origin.wait_ended(dirty);
        let text = String::from_utf8_lossy(&origin.bytes()).into_owned();
        assert!(!text.ends_with("0\r\n\r\n"), "the cut body was ended by a last chunk");
        let line = proxy.wait_line(mark, |l| l["method"] == "POST");
        assert!([499, 400].iter().any(|s| line["status"] == *s), "{line}");
        assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
        let next = origin.wait_request(before + 1).connection;
        assert_ne!(next, dirty, "the dirty connection was used again");
    });
}

#[test]
fn an_unread_body_is_drained_or_the_connection_closed() {
    let origin = Origin::start(|conn| {
        if conn.head().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nearly");
            conn.hang();
        }
    });
    let proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send(format!(
        "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: {}\r\n\r\n{SMUGGLED}",
        SMUGGLED.len() * 1000
    ));
    assert_eq!(client.response().text(), "early");
    // Either answer is right; taking the rest of the body for a request is not.
    let _ = client.try_send(SMUGGLED.repeat(999));
    client.half_close();
    let (rest, end) = client.rest();
    assert!(rest.is_empty() || end == End::Reset, "{:?}", String::from_utf8_lossy(&rest));
    assert!(origin.requests().iter().all(|r| r.head.start.starts_with("POST")));
}
