//! Commands to a running proxy, as the operator types them.

use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::lockring::binary;
use crate::harness::{Lockring, Origin, Setup, eventually};

fn run(proxy: &Lockring, words: &[&str]) -> Output {
    let socket = proxy.state().join("admin.sock");
    let mut command = Command::new(binary());
    command.args(words).arg("--admin").arg(socket);
    command.output().unwrap()
}

#[track_caller]
fn text(proxy: &Lockring, words: &[&str]) -> String {
    let out = run(proxy, words);
    assert!(out.status.success(), "{words:?}: {out:?}");
    String::from_utf8(out.stdout).unwrap()
}

#[track_caller]
fn json(proxy: &Lockring, words: &[&str]) -> Value {
    serde_json::from_str(&text(proxy, &[words, &["--json"]].concat())).unwrap()
}

#[test]
fn status_tells_the_figures_of_the_process() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(2).start();
    let mut client = proxy.connect("a.test");
    client.get("a.test", "/");
    let status = eventually("the request is counted", || {
        Some(json(&proxy, &["status"])).filter(|status| status["requests"] == 1)
    });
    assert_eq!((&status["pid"], &status["draining"]), (&proxy.pid().into(), &false.into()));
    assert_eq!(status["release"], env!("CARGO_PKG_VERSION"));
    assert_eq!(status["workers"].as_array().unwrap().len(), 2);
    let open: u64 =
        status["workers"].as_array().unwrap().iter().map(|w| w["connections"].as_u64().unwrap()).sum();
    assert_eq!(open, 1);
    assert_eq!(status["listeners"][0], format!("https://{}", proxy.https));
    let site = &status["sites"][0];
    assert_eq!((&site["host"], &site["responses"][1]), (&"a.test".into(), &1.into()));
    assert!(site["p50_ms"].as_f64().unwrap() > 0.0);
    assert_eq!(site["certificates"][0]["names"][0], "a.test");
    assert!(site["certificates"][0]["not_after"].as_u64() > status["at"].as_u64());
    assert_eq!(status["upstreams"][0]["upstream"], origin.address.to_string());
    assert_eq!(status["upstreams"][0]["requests"], 1);
    let page = text(&proxy, &["status"]);
    assert!(page.contains("a.test") && page.contains(&format!("https://{}", proxy.https)), "{page}");
}

#[test]
fn a_site_without_a_certificate_makes_the_status_degraded() {
    let proxy = Setup::new()
        .site("a.test", "demo")
        .site("later.example.com", "demo")
        .tables("[acme]\ndirectory = \"https://127.0.0.1:1/directory\"")
        .start();
    let out = run(&proxy, &["status"]);
    assert_eq!(out.status.code(), Some(3), "{out:?}");
    let page = String::from_utf8(out.stdout).unwrap();
    let line = page.lines().find(|line| line.starts_with("later.example.com")).unwrap();
    assert_eq!(line.split_whitespace().nth(1), Some("none"), "{line}");
}

#[test]
fn explain_says_what_serving_does() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).server("trusted_proxies = [\"10.0.0.0/8\"]").start();
    let found = json(&proxy, &["explain", "https://a.test/x", "--from", "10.0.0.9"]);
    assert_eq!((&found["site"], &found["route"]), (&"a.test".into(), &"/*".into()));
    assert_eq!(found["upstreams"][0]["addresses"][0], origin.address.to_string());
    assert_eq!((&found["trusted"], &found["answer"]), (&true.into(), &Value::Null));
    assert_eq!(origin.connections(), 0, "nobody was asked");
    let other = json(&proxy, &["explain", "https://other.test/"]);
    assert_eq!(other["tls"]["refused"], "unknown-server-name");
    assert!(crate::harness::Client::tls(proxy.https, "other.test", &proxy.trust).is_err());
    let page = text(&proxy, &["explain", "https://a.test/x"]);
    assert!(page.contains("X-Forwarded-Proto: https") && page.contains("not believed"), "{page}");
    // The plain listener's redirect, as a client gets it.
    let redirect = json(&proxy, &["explain", "http://a.test/x"]);
    let answer = proxy.plain().get("a.test", "/x");
    assert_eq!(redirect["answer"]["status"], answer.status());
    assert_eq!(redirect["answer"]["location"].as_str(), answer.head.get("location"));
    let wrong = run(&proxy, &["explain", "a.test"]);
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
}

#[test]
fn rejects_name_the_byte_and_the_peer() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    assert_eq!(json(&proxy, &["rejects"]), Value::Array(Vec::new()));
    let mut client = proxy.connect("a.test");
    let peer = client.reader.stream.socket().local_addr().unwrap().to_string();
    let head = "GET / HTTP/1.1\r\nHost: a.test\r\nBad Name: x\r\n\r\n";
    client.send(head);
    assert_eq!(client.response().status(), 400);
    let refused = eventually("the refusal", || json(&proxy, &["rejects"]).get(0).cloned());
    let line = proxy.line(0);
    assert_eq!((&refused["status"], &refused["peer"]), (&400.into(), &peer.as_str().into()));
    assert_eq!((&refused["reason"], &refused["at"]), (&line["reason"], &line["at"]));
    assert_eq!(refused["at"].as_u64(), head.find(" Name").map(|at| at as u64), "{refused}");
    let page = text(&proxy, &["rejects"]);
    assert!(page.lines().nth(1).is_some_and(|line| line.contains(&peer)), "{page}");
}

#[test]
fn tls_failures_are_told_by_name_and_reason() {
    let proxy = Setup::new().site("a.test", "demo").start();
    for _ in 0..3 {
        assert!(crate::harness::Client::tls(proxy.https, "other.test", &proxy.trust).is_err());
    }
    let mut plain = crate::harness::Client::plain(proxy.https);
    plain.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert_eq!(plain.response().status(), 400);
    let all = eventually("four failures", || {
        let all = json(&proxy, &["tls", "failures"]);
        (all.as_array().unwrap().len() == 4).then_some(all)
    });
    assert_eq!((&all[0]["name"], &all[0]["reason"]), (&"other.test".into(), &"unknown-server-name".into()));
    let page = text(&proxy, &["tls", "failures"]);
    let first: Vec<&str> = page.lines().nth(1).unwrap().split_whitespace().collect();
    assert_eq!(first[..3], ["3", "other.test", "unknown-server-name"], "{page}");
}

#[test]
fn drain_answers_what_is_under_way_and_ends() {
    let origin = Origin::start(|conn| {
        if conn.request().is_some() {
            std::thread::sleep(std::time::Duration::from_millis(300));
            conn.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    let mut proxy = Setup::a(origin.address).start();
    let mut client = proxy.connect("a.test");
    client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
    origin.wait_request(0);
    assert_eq!(text(&proxy, &["drain"]), "draining\n");
    let again = text(&proxy, &["drain"]);
    assert_eq!(again, "draining already\n", "asking twice does not cut what is under way");
    assert_eq!(client.response().text(), "ok");
    assert!(proxy.wait_exit().success());
    let after = run(&proxy, &["status"]);
    assert_eq!(after.status.code(), Some(2));
    assert!(String::from_utf8(after.stderr).unwrap().contains("no lockring listens"));
}

#[test]
fn top_shows_the_rate_of_a_second() {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let page = std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut client = proxy.connect("a.test");
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                client.get("a.test", "/");
            }
        });
        eventually("the first requests", || {
            json(&proxy, &["status"])["requests"].as_u64().filter(|n| *n > 0)
        });
        let page = text(&proxy, &["top", "--once"]);
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        page
    });
    let site = page.lines().find(|line| line.starts_with("a.test")).unwrap();
    let rate: u64 = site.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(rate > 0 && !page.contains('\u{1b}'), "{page}");
}
