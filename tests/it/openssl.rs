//! OpenSSL's own client: another TLS stack than ours at both ends.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::harness::lockring::Scratch;
use crate::harness::python::tool;
use crate::harness::{Lockring, Origin, Setup, eventually};

/// Runs `openssl s_client` with one request on its input and returns everything it printed.
fn s_client(proxy: &Lockring, name: &str, arguments: &[&str]) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.https.to_string(), "-servername", name, "-CAfile"])
        .arg(proxy.root_pem())
        .args(["-verify_return_error", "-ign_eof"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n");
    let _ = child.stdin.take().unwrap().write_all(request.as_bytes());
    let output = child.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn openssl_speaks_both_versions() {
    need!(tool("openssl"), "openssl");
    let origin = Origin::answering("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nanswered");
    let proxy = Setup::a(origin.address).start();
    for (option, version) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let text = s_client(&proxy, "a.test", &[option]);
        assert!(text.contains("answered") && text.contains(version), "{option}: {text}");
        assert!(text.contains("Verify return code: 0") || text.contains("Verification: OK"), "{text}");
    }
    for cipher in
        ["ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-CHACHA20-POLY1305"]
    {
        let text = s_client(&proxy, "a.test", &["-tls1_2", "-cipher", cipher]);
        assert!(text.contains("answered") && text.contains(cipher), "{cipher}: {text}");
    }
    for suite in ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"] {
        let text = s_client(&proxy, "a.test", &["-tls1_3", "-ciphersuites", suite]);
        assert!(text.contains("answered") && text.contains(suite), "{suite}: {text}");
    }
}

#[test]
fn openssl_old_versions_are_refused() {
    need!(tool("openssl"), "openssl");
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for option in ["-tls1", "-tls1_1"] {
        let text = s_client(&proxy, "a.test", &[option, "-cipher", "ALL:@SECLEVEL=0"]);
        assert!(!text.contains("HTTP/1.1 200"), "{option}: {text}");
    }
    assert!(origin.bytes().is_empty());
}

#[test]
fn openssl_unknown_server_name_is_alert_112() {
    need!(tool("openssl"), "openssl");
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    for option in ["-tls1_2", "-tls1_3"] {
        let text = s_client(&proxy, "unknown.test", &[option]);
        assert!(text.contains("alert number 112") || text.contains("unrecognized name"), "{text}");
    }
}

#[test]
fn openssl_resumes_across_workers() {
    need!(tool("openssl"), "openssl");
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).workers(2).start();
    let scratch = Scratch::new();
    for option in ["-tls1_2", "-tls1_3"] {
        let file = scratch.path().join(option);
        let file = file.to_str().unwrap();
        let mark = proxy.lines().len();
        s_client(&proxy, "a.test", &[option, "-sess_out", file]);
        let first = proxy.wait_status(mark, 200);
        assert_eq!(first["resumed"], false);
        eventually("a resumed session on another worker", || {
            let mark = proxy.lines().len();
            s_client(&proxy, "a.test", &[option, "-sess_in", file]);
            let line = proxy.wait_status(mark, 200);
            assert_eq!(line["resumed"], true, "{option}: {line}");
            (line["worker"] != first["worker"]).then_some(())
        });
    }
}

#[test]
fn openssl_renegotiation_is_absent() {
    need!(tool("openssl"), "openssl");
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).start();
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect", &proxy.https.to_string(), "-servername", "a.test", "-tls1_2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A line that is only "R" asks s_client to renegotiate.
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"R\n").unwrap();
    eventually("the refusal", || child.try_wait().unwrap());
    drop(input);
    assert!(origin.bytes().is_empty());
    assert_eq!(proxy.connect("a.test").get("a.test", "/").status(), 200);
}
