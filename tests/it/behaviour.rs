//! Honest HTTP/1.1 through the proxy.

use crate::harness::{Origin, Setup};

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
    assert_eq!(
        (&line["status"], &line["method"], &line["target"]),
        (&200.into(), &"GET".into(), &"/hello?x=1".into())
    );
}
