//! Rows on TLS: names, certificates, versions, resumption, floods.

use std::io::{Read, Write};
use std::net::TcpStream;

use rustls::HandshakeKind;

use crate::harness::client::{End, socket, trusting};
use crate::harness::lockring::Scratch;
use crate::harness::pki::Authority;
use crate::harness::refusal::assert_reason;
use crate::harness::tickets::mixed_up;
use crate::harness::{Client, Origin, Setup, eventually};

/// A whole ClientHello for `name`, as bytes.
fn hello(name: &str) -> Vec<u8> {
    let config = trusting(&[], rustls::ALL_VERSIONS);
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut session = rustls::ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Everything the proxy answers to `bytes`.
fn raw(proxy: &crate::harness::Lockring, bytes: &[u8]) -> Vec<u8> {
    let mut socket = socket(proxy.https).unwrap();
    let _ = socket.write_all(bytes);
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer);
    answer
}

#[test]
fn failure_unknown_server_name_is_alert_112() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for name in ["unknown.test", "b.a.test", "test", "xa.test"] {
        let mark = proxy.lines().len();
        let answer = raw(&proxy, &hello(name));
        assert_eq!(
            answer,
            [0x15, 3, answer[2], 0, 2, 2, 112],
            "{name}: a fatal unrecognized_name and the end"
        );
        let line = proxy.wait_line(mark, |l| l["end"] == "refused");
        assert_eq!((&line["status"], &line["reason"]), (&0.into(), &"unknown-server-name".into()));
    }
    assert!(origin.bytes().is_empty());
}

#[test]
fn failure_no_server_name() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    // rustls sends no SNI for an IP address.
    let answer = raw(&proxy, &hello("127.0.0.1"));
    assert_eq!(answer, [0x15, 3, answer[2], 0, 2, 2, 112]);
    assert_reason(&proxy.wait_line(0, |l| l["end"] == "refused"));

    let proxy = Setup::a(origin.address).site("127.0.0.1", origin.address).start();
    assert_eq!(proxy.connect("127.0.0.1").get("127.0.0.1", "/").status(), 200, "the IP has a certificate");

    let proxy = Setup::a(origin.address).server("default_site = \"a.test\"").start();
    assert!(raw(&proxy, &hello("unknown.test")).starts_with(&[0x15]), "only for clients without SNI");
    let mut socket = socket(proxy.https).unwrap();
    socket.write_all(&hello("127.0.0.1")).unwrap();
    let mut first = [0; 1];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x16], "a server hello");
}

#[test]
fn sni_differs_from_host() {
    let (a, b) = (Origin::ok(), Origin::ok());
    let proxy = Setup::a(a.address).site("b.test", b.address).start();
    let mut client = proxy.connect("a.test");
    assert_eq!(client.get("a.test", "/").status(), 200);
    assert_eq!(client.get("b.test", "/").status(), 421);
    assert!(b.bytes().is_empty(), "domain fronting");
    // The connection may go on or end; a new one for the right name works.
    assert_eq!(proxy.connect("b.test").get("b.test", "/").status(), 200);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 1));
}

#[test]
fn different_certificates_on_one_port() {
    let scratch = Scratch::new();
    let (one, two) = (Authority::new("one"), Authority::new("two"));
    let (one_pem, one_key) = one.leaf(&["one.test"]).write(scratch.path(), "one");
    let (two_pem, two_key) = two.leaf(&["*.two.test"]).write(scratch.path(), "two");
    let origin = Origin::ok();
    let table = |host: &str, pem: &std::path::Path, key: &std::path::Path| {
        format!(
            "[sites.\"{host}\"]\nto = \"{}\"\ntls = {{ cert = \"{}\", key = \"{}\" }}\n",
            origin.address,
            pem.display(),
            key.display()
        )
    };
    let tables = table("one.test", &one_pem, &one_key) + &table("*.two.test", &two_pem, &two_key);
    let proxy = Setup::a(origin.address).tables(tables).start();
    for (name, root) in [("one.test", &one.root), ("x.two.test", &two.root), ("y.two.test", &two.root)] {
        for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
            let mut client =
                Client::tls(proxy.https, name, &trusting(std::slice::from_ref(root), &[version])).unwrap();
            assert_eq!(client.get(name, "/").status(), 200, "{name}");
        }
    }
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200, "the local CA serves the rest");
    let wrong = trusting(std::slice::from_ref(&one.root), rustls::ALL_VERSIONS);
    assert!(Client::tls(proxy.https, "x.two.test", &wrong).is_err());
}

#[test]
fn a_key_in_the_environment_serves_and_is_never_shown() {
    let scratch = Scratch::new();
    let authority = Authority::new("one");
    let leaf = authority.leaf(&["one.test"]);
    let (pem, _) = leaf.write(scratch.path(), "one");
    let origin = Origin::ok();
    let tables = format!(
        "[sites.\"one.test\"]\nto = \"{}\"\ntls = {{ cert = \"{}\", key = \"env:ONE_KEY\" }}\n",
        origin.address,
        pem.display()
    );
    let config = scratch.path().join("check.toml");
    std::fs::write(&config, format!("[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\n{tables}")).unwrap();
    let secret: Vec<&str> = leaf.key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let proxy = Setup::a(origin.address).tables(tables).env("ONE_KEY", &leaf.key_pem).start();
    let trust = trusting(std::slice::from_ref(&authority.root), rustls::ALL_VERSIONS);
    let mut client = Client::tls(proxy.https, "one.test", &trust).unwrap();
    assert_eq!(client.get("one.test", "/").status(), 200);
    let said = format!("{:?}{:?}", proxy.wait_status(0, 200), proxy.messages());
    assert!(!secret.iter().any(|line| said.contains(line)), "{said}");

    // A key of another certificate, none, and an empty one.
    let other = authority.leaf(&["one.test"]).key_pem;
    for (value, cause) in [(Some(other.as_str()), "E027"), (None, "not set"), (Some(""), "is empty")] {
        for command in ["check", "run"] {
            let mut command_line = std::process::Command::new(crate::harness::lockring::binary());
            command_line.args([command, "-c"]).arg(&config).env_remove("ONE_KEY");
            let output = command_line.envs(value.map(|value| ("ONE_KEY", value))).output().unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert_eq!(output.status.code(), Some(1), "{command}: {said}");
            assert!(said.contains(cause), "{command}: {said}");
            let mut lines = value.unwrap_or("").lines().filter(|line| !line.starts_with("-----"));
            assert!(!lines.any(|line| said.contains(line)), "{said}");
        }
    }
}

#[test]
fn both_versions_are_spoken_and_logged() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for (version, name) in [(&rustls::version::TLS12, "1.2"), (&rustls::version::TLS13, "1.3")] {
        let mark = proxy.lines().len();
        let mut client = Client::tls(proxy.https, "a.test", &proxy.trusting(&[version])).unwrap();
        assert_eq!(client.get("a.test", "/").status(), 200);
        let line = proxy.wait_status(mark, 200);
        assert!(line["tls"].as_str().unwrap().contains(name), "{line}");
    }
}

#[test]
fn sessions_are_resumed_on_any_worker() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(2).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = proxy.trusting(&[version]);
        let mut workers = std::collections::BTreeSet::new();
        let mut first = true;
        eventually("a resumed session on every worker", || {
            let mark = proxy.lines().len();
            let mut client = Client::tls(proxy.https, "a.test", &config).unwrap();
            assert_eq!(client.get("a.test", "/").status(), 200);
            let kind = client.session().handshake_kind().unwrap();
            let line = proxy.wait_status(mark, 200);
            if first {
                assert_eq!((kind, &line["resumed"]), (HandshakeKind::Full, &false.into()));
                first = false;
                return None;
            }
            assert_eq!((kind, &line["resumed"]), (HandshakeKind::Resumed, &true.into()), "{line}");
            workers.insert(line["worker"].to_string());
            (workers.len() == 2).then_some(())
        });
    }
}

#[test]
fn a_ticket_is_bound_to_its_site() {
    let (a, b) = (Origin::ok(), Origin::ok());
    let proxy = Setup::a(a.address).site("b.test", b.address).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = mixed_up(&proxy.trusting(&[version]));
        let mut client = Client::tls(proxy.https, "a.test", &config).unwrap();
        assert_eq!(client.get("a.test", "/").status(), 200);
        let mut client = Client::tls(proxy.https, "b.test", &config).unwrap();
        assert_eq!(client.session().handshake_kind(), Some(HandshakeKind::Full), "RFC 8446 §4.6.1");
        assert_eq!(client.get("b.test", "/").status(), 200);
    }
}

#[test]
fn closes_are_announced() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut client = Client::tls(proxy.https, "a.test", &proxy.trusting(&[version])).unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        assert_eq!(client.response().status(), 200);
        assert_eq!(client.assert_closed(), End::Clean);
        let mut client = Client::tls(proxy.https, "a.test", &proxy.trusting(&[version])).unwrap();
        client.half_close();
        assert_eq!(client.assert_closed(), End::Clean, "close_notify answers close_notify");
    }
}

#[test]
fn a_hello_in_small_pieces_is_read() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let bytes = hello("a.test");
    let mut socket = socket(proxy.https).unwrap();
    for byte in &bytes {
        socket.write_all(std::slice::from_ref(byte)).unwrap();
    }
    let mut first = [0; 1];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x16]);
}

#[test]
fn a_hello_over_several_records_is_read() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let bytes = hello("a.test");
    let message = &bytes[5..];
    let mut records = Vec::new();
    for piece in message.chunks(message.len() / 3 + 1) {
        records.extend([0x16, 3, 1]);
        records.extend(u16::try_from(piece.len()).unwrap().to_be_bytes());
        records.extend(piece);
    }
    let mut socket = socket(proxy.https).unwrap();
    socket.write_all(&records).unwrap();
    let mut first = [0; 1];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(first, [0x16]);
}

#[test]
fn tls_floods() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).timeout("hello", "2s").start();
    let mut honest = proxy.connect("a.test");
    assert_eq!(honest.get("a.test", "/").status(), 200);
    let base = proxy.rss();
    let good = hello("a.test");
    let huge = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xff][..], &vec![0; 0x4000]].concat();
    let floods: [(&str, Vec<u8>); 7] = [
        ("garbage", crate::harness::pattern(5000)),
        ("a hello longer than its bound", huge.repeat(4)),
        ("empty handshake records", [0x16, 3, 1, 0, 0].repeat(2000)),
        ("one-byte records", [0x16, 3, 1, 0, 1, 1].repeat(2000)),
        ("warnings", [0x15, 3, 1, 0, 2, 1, 90].repeat(2000)),
        ("two hellos", [good.clone(), good.clone()].concat()),
        ("ChangeCipherSpec", [&good[..], &[0x14, 3, 3, 0, 1, 1].repeat(5000)].concat()),
    ];
    for (name, bytes) in &floods {
        for _ in 0..20 {
            let answer = raw(&proxy, bytes);
            assert!(answer.is_empty() || answer[0] == 0x15 || answer[0] == 0x16, "{name}");
        }
        assert_eq!(honest.get("a.test", "/").status(), 200, "{name}");
    }
    assert!(proxy.rss() < base + 8 * 1024 * 1024, "{} bytes grew to {}", base, proxy.rss());
    let refused = proxy.lines().iter().filter(|l| l["end"] == "refused").count();
    assert!(refused >= 80, "refusals are counted with a reason: {refused}");
}

#[test]
fn many_held_handshakes_leave_honest_clients_alone() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let bytes = hello("a.test");
    let held: Vec<TcpStream> = (0..300)
        .map(|index| {
            let mut socket = socket(proxy.https).unwrap();
            socket.write_all(&bytes[..bytes.len() * (index % 3) / 2]).unwrap();
            socket
        })
        .collect();
    for _ in 0..5 {
        assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
    }
    drop(held);
}

#[test]
fn log_injection() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let targets = ["/%0a{\"status\":200}", "/\"},{\"x\":\"", "/\\u000a\\\"", "/%1b[31m", "/?q=\\"];
    let mut sent = 0;
    for target in targets {
        let mut client = proxy.connect("a.test");
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a.test\r\nUser-Agent: \"x\\\r\n\r\n"));
        let status = client.response().status();
        sent += 1;
        let line = proxy.line(sent - 1);
        assert_eq!(line["status"], status);
        if status == 200 {
            assert_eq!(line["target"], target, "what was sent comes back from the line");
        }
    }
    let hostile: [&[u8]; 4] = [
        b"GET /\x1b[2J HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"G\"ET / HTTP/1.1\r\nHost: a.test\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\"\n.test\r\n\r\n",
    ];
    for bytes in hostile {
        let mut client = proxy.connect("a.test");
        client.send(bytes);
        assert_eq!(client.response().status(), 400);
        sent += 1;
        // `line` panics on anything that is not one JSON value per line.
        assert_eq!(proxy.line(sent - 1)["status"], 400);
    }
    assert_eq!(proxy.lines().len(), sent, "one event, one line");
}
