//! Rows on request heads: line ends, names, targets, authorities, sizes.

use crate::harness::refusal::{each, guarded, refused};
use crate::harness::{Origin, Setup};

#[test]
fn bare_lf_bare_cr_nul_obs_fold_leading_space() {
    let (proxy, origin) = guarded();
    let cases = [
        ("bare LF in the request line", "GET / HTTP/1.1\nHost: a.test\r\n\r\n"),
        ("bare LF after a field", "GET / HTTP/1.1\r\nHost: a.test\nX: y\r\n\r\n"),
        ("bare LF at the end", "GET / HTTP/1.1\r\nHost: a.test\r\n\n"),
        ("bare CR in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\rb\r\n\r\n"),
        ("bare CR in the request line", "GET /\r HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("NUL in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\0b\r\n\r\n"),
        ("NUL in a name", "GET / HTTP/1.1\r\nHost: a.test\r\nX\0: a\r\n\r\n"),
        ("NUL in the target", "GET /\0 HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("fold by space", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n b\r\n\r\n"),
        ("fold by tab", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\r\n\tb\r\n\r\n"),
        ("space before the first field", "GET / HTTP/1.1\r\n Host: a.test\r\n\r\n"),
        ("space before the request line", " GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("two spaces after the method", "GET  / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("tab between the parts", "GET\t/\tHTTP/1.1\r\nHost: a.test\r\n\r\n"),
        ("space after the version", "GET / HTTP/1.1 \r\nHost: a.test\r\n\r\n"),
        ("control byte in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\u{1}b\r\n\r\n"),
        ("DEL in a value", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\u{7f}b\r\n\r\n"),
        ("many empty lines in front", "\r\n\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a.test\r\n\r\n"),
    ];
    each(cases, |bytes| {
        refused(&proxy, &origin, &[400], bytes);
    });
}

#[test]
fn versions() {
    let (proxy, origin) = guarded();
    let cases = [
        ("HTTP/0.9 with a version", "GET / HTTP/0.9\r\nHost: a.test\r\n\r\n"),
        ("no version", "GET /\r\n\r\n"),
        ("HTTP/2.0", "GET / HTTP/2.0\r\nHost: a.test\r\n\r\n"),
        ("HTTP/1.2", "GET / HTTP/1.2\r\nHost: a.test\r\n\r\n"),
        ("lower case", "GET / http/1.1\r\nHost: a.test\r\n\r\n"),
        ("two digits", "GET / HTTP/1.10\r\nHost: a.test\r\n\r\n"),
        ("no digit", "GET / HTTP/1.\r\nHost: a.test\r\n\r\n"),
        ("other protocol", "GET / ICY/1.1\r\nHost: a.test\r\n\r\n"),
        ("HTTP/2 preface without ALPN", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    ];
    each(cases, |bytes| {
        refused(&proxy, &origin, &[400, 505], bytes);
    });
}

#[test]
fn header_name_trickery() {
    let (proxy, origin) = guarded();
    let cases = [
        ("space before the colon", &b"X-A : v"[..]),
        ("tab before the colon", b"X-A\t: v"),
        ("empty name", b": v"),
        ("no colon", b"X-A"),
        ("space inside", b"X A: v"),
        ("high byte", b"X-\xe4: v"),
        ("slash", b"X/A: v"),
        ("parenthesis", b"X(A): v"),
        ("at sign", b"X@A: v"),
        ("quote", b"\"X\": v"),
        ("pseudo-field", b":path: /x"),
    ];
    each(cases, |field| {
        let bytes = [b"GET / HTTP/1.1\r\nHost: a.test\r\n", *field, b"\r\n\r\n"].concat();
        refused(&proxy, &origin, &[400], bytes);
    });
}

#[test]
fn underscore_names_are_dropped_unless_asked_for() {
    let request =
        "GET / HTTP/1.1\r\nHost: a.test\r\nX_Forwarded_For: 6.6.6.6\r\nX_Plain: 1\r\nX-Ok: 1\r\n\r\n";
    let origin = Origin::ok();
    for (setting, kept) in [("underscores = false", 0), ("underscores = true", 1)] {
        let before = origin.requests().len();
        let proxy = Setup::a(origin.address).server(setting).start();
        let mut client = proxy.connect("a.test");
        client.send(request);
        assert_eq!(client.response().status(), 200);
        let head = origin.wait_request(before).head;
        assert_eq!((head.all("x_plain").len(), head.get("x-ok")), (kept, Some("1")), "{setting}");
        assert!(head.all("x_forwarded_for").is_empty(), "a twin of a forwarding field never passes");
    }
}

#[test]
fn request_target_and_authority() {
    let (proxy, origin) = guarded();
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let host = |lines: &str| format!("GET / HTTP/1.1\r\n{lines}\r\n");
    let cases = [
        ("fragment", get("/a#b")),
        ("only a fragment", get("#b")),
        ("control byte", get("/\u{1}")),
        ("DEL", get("/\u{7f}")),
        ("raw high byte", get("/\u{e4}")),
        ("no leading slash", get("a/b")),
        ("asterisk for GET", get("*")),
        ("authority form for GET", get("a.test:443")),
        ("empty", "GET  HTTP/1.1\r\nHost: a.test\r\n\r\n".to_owned()),
        ("userinfo in the target", get("https://u@a.test/")),
        ("other scheme", get("ftp://a.test/")),
        ("empty authority", get("https:///x")),
        ("backslash in the authority", get("https://a.test\\@b.test/")),
        ("bad percent", get("/%zz")),
        ("cut percent", get("/%a")),
        ("percent NUL", get("/%00")),
        ("no Host", host("")),
        ("two Hosts", host("Host: a.test\r\nHost: a.test\r\n")),
        ("two different Hosts", host("Host: a.test\r\nHost: b.test\r\n")),
        ("empty Host", host("Host:\r\n")),
        ("comma in Host", host("Host: a.test,b.test\r\n")),
        ("userinfo in Host", host("Host: u@a.test\r\n")),
        ("path in Host", host("Host: a.test/b\r\n")),
        ("space in Host", host("Host: a.test b.test\r\n")),
        ("bad port in Host", host("Host: a.test:x\r\n")),
        ("port over 65535", host("Host: a.test:65536\r\n")),
        ("two ports", host("Host: a.test:443:443\r\n")),
        ("open bracket", host("Host: [::1\r\n")),
        ("percent in Host", host("Host: a%2etest\r\n")),
        ("underscore and slash", host("Host: a.test\\b\r\n")),
        ("scheme in Host", host("Host: https://a.test\r\n")),
    ];
    each(cases, |bytes| {
        refused(&proxy, &origin, &[400, 421], bytes);
    });
}

#[test]
fn absolute_form_authority_replaces_host() {
    let (proxy, origin) = guarded();
    let mut client = proxy.connect("a.test");
    client.send("GET https://a.test/p?q HTTP/1.1\r\nHost: A.TEST\r\n\r\n");
    assert_eq!(client.response().status(), 200);
    let head = origin.wait_request(0).head;
    assert_eq!(head.start, "GET /p?q HTTP/1.1", "origin form goes upstream");
    assert_eq!(head.get("host"), Some("a.test"));
    for (host, status) in [("c.test", 421), ("a.test", 400), ("b.test", 400)] {
        let mut client = proxy.connect("a.test");
        client.send(format!("GET https://c.test/ HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(client.response().status(), status, "two authorities that differ are refused: {host}");
    }
    assert_eq!(origin.requests().len(), 1);
}

#[test]
fn the_path_goes_on_byte_for_byte() {
    let (proxy, origin) = guarded();
    let mut client = proxy.connect("a.test");
    let paths = [
        "/",
        "//",
        "//a//b/",
        "/a/./b",
        "/a/../b",
        "/%2F",
        "/%2f%2F",
        "/a%2e%2e/b",
        "/%41",
        "/a;b=c",
        "/?",
        "/?a=/../b",
        "/a?b?c",
        "/~!$&'()*+,;=:@-._",
        "/%C3%A4",
    ];
    for (index, path) in paths.iter().enumerate() {
        let response = client.get("a.test", path);
        assert_eq!(response.status(), 200, "{path}: {}", response.text());
        assert_eq!(origin.wait_request(index).head.start, format!("GET {path} HTTP/1.1"));
    }
}

#[test]
fn paths_that_apps_read_differently_are_refused() {
    let (proxy, origin) = guarded();
    let cases = [
        ("dots with a parameter", "/a/..;/b"),
        ("dots before an encoded slash", "/a/..%2Fb"),
        ("dots before an encoded backslash", "/a/..%5Cb"),
        ("backslash", "/a\\..\\b"),
        ("above the root", "/../a"),
        ("above the root, encoded", "/%2e%2e/a"),
    ];
    each(cases, |path| {
        let mut client = proxy.connect("a.test");
        assert_eq!(client.get("a.test", path).status(), 400);
    });
    assert!(origin.bytes().is_empty());
}

#[test]
fn host_is_compared_without_case_and_with_port() {
    let (proxy, origin) = guarded();
    let mut client = proxy.connect("a.test");
    for host in ["A.Test", "a.test.", "a.test:443", &format!("a.test:{}", proxy.https.port())] {
        assert_eq!(client.get(host, "/").status(), 200, "{host}");
    }
    assert_eq!(origin.requests().len(), 4);
}

#[test]
fn failure_head_too_large() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address)
        .limit("head", "\"4KiB\"")
        .limit("target", "\"1KiB\"")
        .limit("fields", "20")
        .limit("body", "\"10KiB\"")
        .start();
    let request = |target: usize, fields: &str| {
        format!("GET /{} HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n", "t".repeat(target))
    };
    let cases = [
        ("head", (431, request(0, &format!("X: {}\r\n", "v".repeat(5000))))),
        ("head without an end", (431, format!("GET / HTTP/1.1\r\nHost: a.test\r\nX: {}", "v".repeat(5000)))),
        ("target", (414, request(1500, ""))),
        ("target without an end", (414, format!("GET /{}", "t".repeat(6000)))),
        ("fields", (431, request(0, &"X: v\r\n".repeat(30)))),
    ];
    each(cases, |(status, bytes)| {
        refused(&proxy, &origin, &[*status], bytes);
    });
    assert_eq!(proxy.connect("a.test").get("a.test", &format!("/{}", "t".repeat(1000))).status(), 200);
}

#[test]
fn failure_body_too_large() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).limit("body", "\"10KiB\"").start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 10241\r\n\r\n");
    let response = client.response();
    assert_eq!(response.status(), 413);
    // The connection goes on after the body, or is closed; the body is never taken for a request.
    if response.head.lists("connection", "close") {
        client.assert_closed();
    } else {
        client.send("x".repeat(10_241));
        assert_eq!(client.get("a.test", "/").status(), 200);
    }
    assert!(proxy.wait_status(0, 413)["reason"].is_string());
    assert!(origin.requests().iter().all(|r| r.head.start.starts_with("GET")));
}

#[test]
fn failure_chunked_body_too_large() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).limit("body", "\"10KiB\"").start();
    let mut client = proxy.connect("a.test");
    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    for _ in 0..6 {
        client.send(format!("800\r\n{}\r\n", "b".repeat(2048)));
    }
    assert_eq!(client.response().status(), 413);
    client.assert_closed();
    assert!(!String::from_utf8_lossy(&origin.bytes()).contains("0\r\n\r\n"));
    assert!(proxy.wait_status(0, 413)["reason"].is_string());
}
