//! What every refusal has in common: the status, the close, the log line, and nothing upstream.

use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};

use serde_json::Value;

use super::client::End;
use super::http::Response;
use super::{Lockring, Origin, Setup};

/// Runs `check` on every case and fails at the end with the names of all cases that failed.
#[track_caller]
pub fn each<T: Debug>(cases: impl IntoIterator<Item = (&'static str, T)>, mut check: impl FnMut(&T)) {
    let mut failed = Vec::new();
    for (name, case) in cases {
        if catch_unwind(AssertUnwindSafe(|| check(&case))).is_err() {
            eprintln!("FAILED CASE {name}: {case:?}");
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "cases that failed: {failed:#?}");
}

/// A proxy for `a.test` and `b.test` in front of an origin that must not be reached.
pub fn guarded() -> (Lockring, Origin) {
    let origin = Origin::ok();
    let proxy = Setup::a(origin.address).site("b.test", origin.address).start();
    (proxy, origin)
}

/// Asserts that `bytes` are refused with one of `statuses` on a connection of their own.
#[track_caller]
pub fn refused(proxy: &Lockring, origin: &Origin, statuses: &[u16], bytes: impl AsRef<[u8]>) -> Response {
    let (mark, before) = (proxy.lines().len(), origin.bytes().len());
    let mut client = proxy.connect("a.test");
    client.send(bytes);
    let response = client.response();
    let status = response.status();
    assert!(statuses.contains(&status), "status {status}, not one of {statuses:?}: {}", response.text());
    assert!(response.head.lists("connection", "close"), "the close is announced: {:?}", response.head);
    assert!(!response.body.is_empty(), "the answer names the cause");
    assert_eq!(client.assert_closed(), End::Clean, "close_notify ends the answer");
    assert_eq!(origin.bytes().len(), before, "nothing reaches the upstream");
    assert_reason(&proxy.wait_status(mark, status));
    response
}

/// Asserts that the body in `bytes` is refused: the client gets 400 and a close, and the origin, which may
/// have the head already, never a whole request nor anything after it.
#[track_caller]
pub fn refused_body(proxy: &Lockring, origin: &Origin, bytes: impl AsRef<[u8]>) {
    let (mark, before) = (proxy.lines().len(), origin.bytes().len());
    let mut client = proxy.connect("a.test");
    client.send(bytes);
    let response = client.response();
    assert_eq!(response.status(), 400, "{}", response.text());
    assert_eq!(client.assert_closed(), End::Clean, "close_notify ends the answer");
    let forwarded = origin.bytes()[before..].to_vec();
    let text = String::from_utf8_lossy(&forwarded);
    assert!(!text.contains("0\r\n\r\n"), "the upstream saw a whole body: {text:?}");
    assert!(!text.contains("smuggled"), "the upstream saw what follows: {text:?}");
    assert_reason(&proxy.wait_status(mark, 400));
}

/// Asserts that `line` says why.
#[track_caller]
pub fn assert_reason(line: &Value) {
    assert!(line["reason"].as_str().is_some_and(|r| !r.is_empty()), "no reason in {line}");
}
