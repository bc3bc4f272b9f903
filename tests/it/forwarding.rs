//! Rows on what the proxy says about the client, and on fields that concern one hop only.

use crate::harness::http::Head;
use crate::harness::refusal::each;
use crate::harness::{Client, Lockring, Origin, Setup};

/// The head that the origin gets for a GET with `fields`.
#[track_caller]
fn forwarded(proxy: &Lockring, origin: &Origin, fields: &str) -> Head {
    let before = origin.requests().len();
    let mut client = proxy.connect("a.test");
    client.send(format!("GET / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n"));
    let response = client.response();
    assert_eq!(response.status(), 200, "{}", response.text());
    origin.wait_request(before).head
}

#[test]
fn x_forwarded_fields_are_ours() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let cases = [
        ("none sent", ""),
        (
            "spoofed",
            "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: evil\r\nX-Real-IP: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\n",
        ),
        ("other case", "x-FORWARDED-for: 6.6.6.6\r\nX-REAL-ip: 6.6.6.6\r\nfoRWARDED: for=6.6.6.6\r\n"),
        ("twice", "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 6.6.6.6\r\n"),
        ("underscores", "X_Forwarded_For: 6.6.6.6\r\nX_FORWARDED-FOR: 6.6.6.6\r\n"),
        ("others of the family", "X-Forwarded-Port: 666\r\nX-Forwarded-Server: evil\r\n"),
    ];
    each(cases, |fields| {
        let head = forwarded(&proxy, &origin, fields);
        assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
        assert_eq!(head.get("x-forwarded-proto"), Some("https"));
        assert_eq!(head.get("x-forwarded-host"), Some("a.test"));
        assert!(head.get("forwarded").is_none());
        let text = format!("{head:?}");
        assert!(!text.contains("6.6.6.6") && !text.contains("evil") && !text.contains("666"), "{text}");
    });
}

#[test]
fn trusted_proxies_are_believed_and_appended_to() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).server("trusted_proxies = [\"127.0.0.0/8\"]").start();
    let head = forwarded(&proxy, &origin, "X-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n");
    let all = head.all("x-forwarded-for").join(", ");
    assert_eq!(all, "203.0.113.7, 127.0.0.1");
    assert_eq!(proxy.line(0)["client"].as_str().map(|c| c.starts_with("203.0.113.7")), Some(true));
}

#[test]
fn forwarded_is_sent_when_asked_for() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).server("forwarded = true").start();
    let head = forwarded(&proxy, &origin, "Forwarded: for=6.6.6.6;proto=http\r\n");
    let value = head.get("forwarded").unwrap().to_ascii_lowercase();
    assert!(value.contains("for=127.0.0.1") && value.contains("proto=https"), "{value}");
    assert!(!value.contains("6.6.6.6"));
}

#[test]
fn hop_by_hop_fields_do_not_pass() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let head = forwarded(
        &proxy,
        &origin,
        "Connection: keep-alive, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         TE: gzip\r\nProxy-Authorization: Basic x\r\nX-Kept: 1\r\n",
    );
    for name in ["x-mine", "keep-alive", "proxy-connection"] {
        assert!(head.all(name).is_empty(), "{name}");
    }
    assert!(!head.lists("te", "gzip"), "only TE: trailers may pass");
    assert_eq!(head.get("x-kept"), Some("1"));
}

#[test]
fn connection_cannot_name_away_fields_of_the_proxy() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let head = forwarded(
        &proxy,
        &origin,
        "Connection: close, Host, X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host, Content-Length\r\n",
    );
    assert_eq!(head.get("host"), Some("a.test"));
    assert_eq!(head.get("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(head.get("x-forwarded-proto"), Some("https"));

    let before = origin.requests().len();
    let mut client = proxy.connect("a.test");
    client.send(
        "POST / HTTP/1.1\r\nHost: a.test\r\nConnection: Content-Length\r\nContent-Length: 5\r\n\r\nhello",
    );
    assert_eq!(client.response().status(), 200);
    assert_eq!(origin.wait_request(before).body, b"hello", "framing cannot be named away");
}

fn v2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([0x20 | command, family]);
    header.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
    header.extend(addresses);
    header
}

#[test]
fn proxy_protocol() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address)
        .server("trusted_proxies = [\"127.0.0.1/32\"]\nproxy_protocol = true")
        .start();
    let v4 = [203, 0, 113, 9, 127, 0, 0, 1, 0x12, 0x34, 1, 187];
    let mut v6 = [0u8; 36];
    v6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    v6[15] = 9;
    let with_tlv = [&v4[..], &[0x04, 0, 3, 1, 2, 3]].concat();
    let cases = [
        ("v1 TCP4", (b"PROXY TCP4 203.0.113.9 127.0.0.1 4660 443\r\n".to_vec(), "203.0.113.9")),
        ("v1 TCP6", (b"PROXY TCP6 2001:db8::9 ::1 4660 443\r\n".to_vec(), "2001:db8::9")),
        ("v1 UNKNOWN", (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1")),
        ("v2 IPv4", (v2(1, 0x11, &v4), "203.0.113.9")),
        ("v2 IPv6", (v2(1, 0x21, &v6), "2001:db8::9")),
        ("v2 with TLV", (v2(1, 0x11, &with_tlv), "203.0.113.9")),
        ("v2 LOCAL", (v2(0, 0, &[]), "127.0.0.1")),
        ("v2 LOCAL with addresses", (v2(0, 0x11, &v4), "127.0.0.1")),
        ("v2 Unix sockets", (v2(1, 0x31, &[b'x'; 216]), "127.0.0.1")),
        ("v2 unspecified family", (v2(1, 0, &[]), "127.0.0.1")),
    ];
    each(cases, |(prefix, client_ip)| {
        let before = origin.requests().len();
        let mut client = prefixed(&proxy, prefix).unwrap();
        assert_eq!(client.get("a.test", "/").status(), 200);
        let head = origin.wait_request(before).head;
        assert_eq!(head.get("x-forwarded-for"), Some(*client_ip));
    });
    let (before, mark) = (origin.requests().len(), proxy.lines().len());
    let cases = [
        ("none", Vec::new()),
        ("v1 with a bad address", b"PROXY TCP4 203.0.113.999 127.0.0.1 1 443\r\n".to_vec()),
        ("v1 with a bad port", b"PROXY TCP4 203.0.113.9 127.0.0.1 65536 443\r\n".to_vec()),
        ("v1 too long", [b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200], b"\r\n".to_vec()].concat()),
        ("v1 without CR", b"PROXY TCP4 203.0.113.9 127.0.0.1 1 443\n".to_vec()),
        ("v2 shorter than its family", v2(1, 0x11, &v4[..8])),
        ("v2 version 3", [b"\r\n\r\n\0\r\nQUIT\n".to_vec(), vec![0x31, 0x11, 0, 12], v4.to_vec()].concat()),
        ("v2 TLV longer than the rest", v2(1, 0x11, &[&v4[..], &[4, 0, 200, 1]].concat())),
        ("v2 huge", v2(1, 0x11, &[&v4[..], &[0; 60_000]].concat())),
    ];
    each(cases, |prefix| {
        assert!(prefixed(&proxy, prefix).is_err(), "accepted");
    });
    assert_eq!(origin.requests().len(), before);
    let line = proxy.wait_line(mark, |l| l["end"] == "refused");
    assert_eq!(line["status"], 0);
}

/// A TLS connection that sends `prefix` first.
fn prefixed(proxy: &Lockring, prefix: &[u8]) -> std::io::Result<Client> {
    let mut socket = crate::harness::client::socket(proxy.https)?;
    std::io::Write::write_all(&mut socket, prefix)?;
    Client::tls_over(socket, "a.test", &proxy.trust)
}

#[test]
fn proxy_protocol_is_off_unless_configured_and_only_from_trusted_peers() {
    let origin = Origin::ok();
    let prefix = b"PROXY TCP4 203.0.113.9 127.0.0.1 4660 443\r\n";
    let off = Setup::a(origin.address).start();
    assert!(prefixed(&off, prefix).is_err(), "off by default");
    let other = Setup::a(origin.address)
        .server("trusted_proxies = [\"192.0.2.0/24\"]\nproxy_protocol = true")
        .start();
    assert!(prefixed(&other, prefix).is_err(), "not from a trusted peer");
    assert!(origin.bytes().is_empty());
}
