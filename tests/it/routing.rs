//! Which app a request goes to: hosts, paths, plain HTTP, Unix sockets, TLS upstreams.

use crate::harness::lockring::Scratch;
use crate::harness::pki::Authority;
use crate::harness::refusal::assert_reason;
use crate::harness::{Origin, Setup};

fn named(name: &str) -> Origin {
    Origin::answering(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{name}", name.len()))
}

#[test]
fn port_80_redirects_known_hosts() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).site("*.w.test", origin.address).start();
    let mut client = proxy.plain();
    for (host, target) in [("a.test", "/p/a?q=1&r"), ("x.w.test", "/"), ("a.test:80", "/x"), ("A.TEST", "/y")]
    {
        let response = client.get(host, target);
        assert_eq!(response.status(), 308, "{host}");
        let location = response.head.get("location").unwrap().to_owned();
        let name = host.trim_end_matches(":80").to_ascii_lowercase();
        let rest = location.to_ascii_lowercase();
        let rest = rest.strip_prefix(&format!("https://{name}")).unwrap_or_else(|| panic!("{location}"));
        assert!(rest.ends_with(target), "{location}");
    }
    client.send("POST /form HTTP/1.1\r\nHost: a.test\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(client.response().status(), 308, "308 keeps the method");
    assert!(origin.bytes().is_empty());
    assert_eq!(proxy.line(0)["status"], 308);
}

#[test]
fn port_80_refuses_what_is_malformed() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for bytes in [
        "GET / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET /\r\n\r\n",
        "GET http://a.test/#x HTTP/1.1\r\nHost: a.test\r\n\r\n",
        "\x16\x03\x01\r\n\r\n",
    ] {
        let mut client = proxy.plain();
        client.send(bytes);
        assert_eq!(client.response().status(), 400, "{bytes:?}");
        client.assert_closed();
    }
}

#[test]
fn the_location_of_a_redirect_cannot_be_split() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let response = proxy.plain().get("a.test", "/%0d%0aSet-Cookie:%20x=1");
    assert_eq!(response.status(), 308);
    assert!(response.head.get("location").unwrap().ends_with("/%0d%0aSet-Cookie:%20x=1"));
    assert!(response.head.all("set-cookie").is_empty());
}

#[test]
fn unknown_challenge_tokens_are_ordinary_requests() {
    let origin = Origin::ok();
    let table = format!("[sites.\"p.test\"]\nto = \"{}\"\nredirect = false", origin.address);
    let proxy = Setup::a(origin.address).tables(table).start();
    for token in ["unknown-token", ""] {
        let target = format!("/.well-known/acme-challenge/{token}");
        let response = proxy.plain().get("a.test", &target);
        assert_eq!(response.status(), 308, "{token}");
        assert!(response.head.get("location").unwrap().ends_with(&target));
        assert!(origin.bytes().is_empty());
    }
    // The app may get certificates of its own.
    let response = proxy.plain().get("p.test", "/.well-known/acme-challenge/unknown-token");
    assert_eq!((response.status(), origin.requests().len()), (200, 1));
    assert_eq!(proxy.plain().get("c.test", "/.well-known/acme-challenge/unknown-token").status(), 404);
}

#[test]
fn redirect_false_serves_plain_http_too() {
    let origin = Origin::ok();
    let table = format!("[sites.\"p.test\"]\nto = \"{}\"\nredirect = false", origin.address);
    let proxy = Setup::new().tables(table).start();
    assert_eq!(proxy.plain().get("p.test", "/").status(), 200);
    assert_eq!(proxy.connect("p.test").get("p.test", "/").status(), 200);
    let requests = origin.requests();
    assert_eq!(requests[0].head.get("x-forwarded-proto"), Some("http"));
    assert_eq!(requests[1].head.get("x-forwarded-proto"), Some("https"));
}

#[test]
fn the_longest_path_wins_on_one_normal_view() {
    let (all, app, deep, exact) = (named("all"), named("static"), named("deep"), named("exact"));
    let table = format!(
        "[sites.\"r.test\"]\nto = \"{}\"\n\
         [[sites.\"r.test\".route]]\npath = \"/static/*\"\nto = \"{}\"\n\
         [[sites.\"r.test\".route]]\npath = \"/static/deep/*\"\nto = \"{}\"\n\
         [[sites.\"r.test\".route]]\npath = \"/static/deep/one\"\nto = \"{}\"",
        all.address, app.address, deep.address, exact.address
    );
    let proxy = Setup::new().tables(table).start();
    let mut client = proxy.connect("r.test");
    for (target, answer) in [
        ("/", "all"),
        ("/staticx", "all"),
        ("/static", "static"),
        ("/static/", "static"),
        ("/static/a", "static"),
        ("/static/a?/static/deep/", "static"),
        ("/static/deep/a", "deep"),
        ("/static/deep/one", "exact"),
        ("/static/deep/one/more", "deep"),
        ("/%73tatic/a", "static"),
        ("/x/../static/a", "static"),
        ("/static/../x", "all"),
        ("/static/./deep/a", "deep"),
        ("/STATIC/a", "all"),
    ] {
        let response = client.get("r.test", target);
        assert_eq!(response.text(), answer, "{target}");
    }
}

#[test]
fn wildcard_sites_cover_one_label() {
    let (exact, wild) = (named("exact"), named("wild"));
    let proxy = Setup::new().site("www.w.test", exact.address).site("*.w.test", wild.address).start();
    assert_eq!(proxy.connect("www.w.test").get("www.w.test", "/").text(), "exact");
    assert_eq!(proxy.connect("x.w.test").get("x.w.test", "/").text(), "wild");
    for name in ["w.test", "a.b.w.test", "xw.test"] {
        assert!(crate::harness::Client::tls(proxy.https, name, &proxy.trust).is_err(), "{name}");
    }
    // The certificate may cover it, the site does not.
    assert_eq!(proxy.connect("x.w.test").get("a.b.w.test", "/").status(), 421);
}

#[test]
fn unix_socket_upstream() {
    let scratch = Scratch::new();
    let path = scratch.path().join("app.sock");
    let origin = Origin::unix(&path, |conn| {
        while conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix");
        }
    });
    let proxy = Setup::a(format!("unix:{}", path.display())).start();
    let mut client = proxy.connect("a.test");
    for _ in 0..3 {
        assert_eq!(client.get("a.test", "/").text(), "unix");
    }
    assert_eq!((origin.connections(), origin.requests().len()), (1, 3));
    assert_eq!(origin.requests()[0].head.get("host"), Some("a.test"));
    assert!(proxy.line(0)["upstream"].as_str().unwrap().contains("app.sock"));
}

#[test]
fn named_upstream() {
    let origin = Origin::ok();
    let proxy = Setup::a(format!("localhost:{}", origin.address.port()))
        .site("b.test", format!(":{}", origin.address.port()))
        .start();
    for name in ["a.test", "b.test"] {
        assert_eq!(proxy.connect(name).get(name, "/").status(), 200, "{name}");
    }
}

#[test]
fn tls_upstreams_are_verified() {
    let ca = Authority::new("test upstream CA");
    let scratch = Scratch::new();
    let bundle = scratch.path().join("ca.pem");
    std::fs::write(&bundle, &ca.root_pem).unwrap();
    for (names, trusted, status) in
        [(["localhost"], true, 200), (["localhost"], false, 502), (["other.test"], true, 502)]
    {
        let (listener, wrap) = ca.leaf(&names).server();
        let origin = Origin::wrapping(listener, wrap, |conn| {
            while conn.request().is_some() {
                conn.write("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\ntls");
            }
        });
        let mut setup = Setup::a(format!("https://localhost:{}", origin.address.port()));
        if trusted {
            setup = setup.env("SSL_CERT_FILE", bundle.display());
        }
        let proxy = setup.start();
        let mut client = proxy.connect("a.test");
        for _ in 0..2 {
            let response = client.get("a.test", "/");
            assert_eq!(response.status(), status, "{names:?} {trusted}: {}", response.text());
        }
        if status == 200 {
            assert_eq!(origin.connections(), 1, "TLS upstream connections are pooled");
        } else {
            assert!(origin.bytes().is_empty(), "nothing goes to an unverified upstream");
            assert_reason(&proxy.wait_status(0, 502));
        }
    }
}

#[test]
fn a_tls_upstream_cut_without_close_notify_is_a_cut() {
    let ca = Authority::new("test upstream CA");
    let scratch = Scratch::new();
    let bundle = scratch.path().join("ca.pem");
    std::fs::write(&bundle, &ca.root_pem).unwrap();
    let (listener, wrap) = ca.leaf(&["localhost"]).server();
    let origin = Origin::wrapping(listener, wrap, |conn| {
        if conn.request().is_some() {
            conn.write("HTTP/1.1 200 OK\r\n\r\npartial");
        }
    });
    let setup = Setup::a(format!("https://localhost:{}", origin.address.port()));
    let proxy = setup.env("SSL_CERT_FILE", bundle.display()).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    let (bytes, end) = client.rest();
    let text = String::from_utf8_lossy(&bytes);
    assert!(!text.ends_with("0\r\n\r\n"), "RFC 9112 §9.8: the cut is hidden: {text}");
    assert!(text.contains("chunked") || text.contains(" 502 ") || end != crate::harness::client::End::Clean);
}

#[test]
fn bytes_before_the_tls_handshake_of_an_upstream_are_no_answer() {
    let answers = ["HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "\x15\x03\x03\0\x02\x02\x28", ""];
    for answer in answers {
        let origin = Origin::start(move |conn| {
            conn.write(answer);
            if !answer.is_empty() {
                conn.hang();
            }
        });
        let proxy = Setup::a(format!("https://localhost:{}", origin.address.port())).start();
        let response = proxy.connect("a.test").get("a.test", "/");
        assert_eq!(response.status(), 502, "{answer:?}");
        assert!(!response.text().contains("evil"));
        assert_reason(&proxy.wait_status(0, 502));
        assert!(!String::from_utf8_lossy(&origin.bytes()).contains("GET"), "nothing in the clear");
    }
}

#[test]
fn a_tls_upstream_that_never_answers_its_handshake_is_504() {
    let origin = Origin::silent();
    let setup = Setup::a(format!("https://localhost:{}", origin.address.port()));
    let proxy = setup.timeout("connect", "300ms").timeout("handshake", "300ms").start();
    let response = proxy.connect("a.test").get("a.test", "/");
    assert_eq!(response.status(), 504, "{}", response.text());
    assert_reason(&proxy.wait_status(0, 504));
    origin.wait_ended(0);
}
