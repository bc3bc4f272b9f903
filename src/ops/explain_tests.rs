//! Explanations of a small configuration: they say what serving does.

use super::*;
use crate::acme::store::tests::Scratch;
use crate::config::{self, Source};
use crate::ops::certificates::{Certificates, Pairs};
use crate::ops::check::{Disk, now_unix};

struct World {
    certificates: Certificates,
    _scratch: Scratch,
}

impl World {
    fn new(name: &str, text: &str) -> Self {
        let scratch = Scratch::new(name);
        let text = format!(
            "[server]\nhttps = \"127.0.0.1:0\"\nhttp = []\nstate = \"{}\"\n{text}",
            scratch.path.display()
        );
        let loaded = config::load(Source { name: "test".to_owned(), text }, &Disk);
        let loaded = loaded.unwrap_or_else(|faults| panic!("{}", config::render::text(&faults)));
        let certificates =
            Certificates::open(&Arc::new(loaded.model), Pairs::default(), now_unix(), |_| {}).unwrap();
        Self { certificates, _scratch: scratch }
    }

    fn try_ask(&self, url: &str, from: Option<&str>) -> Result<Explanation, ExplainError> {
        let question = Question { url: url.to_owned(), from: from.map(str::to_owned), https_port: 8443 };
        explain(&self.certificates.published().load(), &Resolved::default(), &question)
    }

    fn ask(&self, url: &str, from: Option<&str>) -> Explanation {
        self.try_ask(url, from).unwrap()
    }
}

const SITES: &str = "trusted_proxies = [\"10.0.0.0/8\"]\n[sites.\"a.test\"]\nto = \"127.0.0.1:8000\"\n\
    [[sites.\"a.test\".route]]\npath = \"/static/*\"\nto = [\"unix:/run/s.sock\", \"127.0.0.1:8001\"]\n\
    [sites.\"b.test\"]\nto = \"demo\"\n[sites.\"127.0.0.1\"]\nto = \"127.0.0.1:8002\"\n[acme]\ndirectory = \"off\"\n[sites.\"c.example.com\"]\nto = \"127.0.0.1:1\"\n";

fn set<'a>(explanation: &'a Explanation, name: &str) -> Vec<&'a str> {
    let found = explanation.set.iter().filter(|(set, _)| set == name);
    found.map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_request_is_followed_to_its_upstreams() {
    let world = World::new("explain", SITES);
    let found = world.ask("https://a.test/static/x?y#z", None);
    let tls = found.tls.as_ref().unwrap();
    assert_eq!((tls.server_name.as_deref(), &tls.refused), (Some("a.test"), &None));
    assert_eq!(tls.certificates[0].names, ["a.test"]);
    assert_eq!((found.site.as_deref(), found.route.as_deref()), (Some("a.test"), Some("/static/*")));
    let upstreams: Vec<&str> = found.upstreams.iter().map(|upstream| upstream.upstream.as_str()).collect();
    assert_eq!(upstreams, ["unix:/run/s.sock", "127.0.0.1:8001"]);
    assert_eq!(found.upstreams[1].error.as_deref(), Some("not looked up yet"));
    assert_eq!(set(&found, "Host"), ["a.test"]);
    assert_eq!(set(&found, "X-Forwarded-For"), ["192.0.2.1"]);
    assert_eq!(set(&found, "X-Forwarded-Proto"), ["https"]);
    for name in ["X-Real-IP", "Forwarded", "X_Under_Score", "Keep-Alive", "X-Forwarded-Host"] {
        assert!(found.removed.iter().any(|removed| removed == name), "{name}: {:?}", found.removed);
    }
    assert!(!found.removed.iter().any(|removed| removed == "Accept"));
    let text = found.text();
    assert!(text.contains("route") && text.contains("X-Forwarded-For: 192.0.2.1"), "{text}");
    assert_eq!(world.ask("https://A.test:8443", None).route.as_deref(), Some("/*"));
}

#[test]
fn trusted_clients_continue_their_fields() {
    let world = World::new("explain-trusted", SITES);
    let found = world.ask("https://a.test/", Some("::ffff:10.1.1.1"));
    assert!(found.trusted);
    assert_eq!(set(&found, "X-Forwarded-For"), ["203.0.113.7, 10.1.1.1"]);
    assert!(!world.ask("https://a.test/", Some("11.1.1.1")).trusted);
}

#[test]
fn what_is_not_forwarded_says_why() {
    let world = World::new("explain-refused", SITES);
    let refused = |url| world.ask(url, None).tls.unwrap().refused;
    assert_eq!(refused("https://nobody.test/").as_deref(), Some("unknown-server-name"));
    assert_eq!(refused("https://127.0.0.2/").as_deref(), Some("no-server-name"));
    assert_eq!(refused("https://c.example.com/").as_deref(), Some("certificate-not-ready"));
    let address = world.ask("https://127.0.0.1/", None);
    assert_eq!((address.tls.unwrap().server_name, address.site.as_deref()), (None, Some("127.0.0.1")));
    let answer = |url| world.ask(url, None).answer.unwrap();
    let redirect = answer("http://a.test/x");
    assert_eq!((redirect.status, redirect.location.as_deref()), (308, Some("https://a.test:8443/x")));
    let unknown = answer("http://nobody.test/");
    assert_eq!((unknown.status, unknown.reason.as_deref()), (404, Some("unknown-host")));
    assert_eq!(answer("https://a.test/../..").status, 400);
    let demo = world.ask("https://b.test/", None);
    assert_eq!((demo.upstreams[0].upstream.as_str(), demo.answer), ("demo", None));
}

#[test]
fn what_is_no_request_is_an_error() {
    let world = World::new("explain-errors", SITES);
    let cases = [
        ("a.test", ExplainError::Scheme),
        ("ftp://a.test/", ExplainError::Scheme),
        ("https://", ExplainError::Host),
        ("https://a@b/", ExplainError::Host),
        ("https://a.test/ x", ExplainError::Byte),
        ("https://a.test/\r\nX: y", ExplainError::Byte),
    ];
    for (url, error) in cases {
        assert_eq!(world.try_ask(url, None), Err(error), "{url}");
    }
    assert_eq!(world.try_ask("https://a.test/", Some("x")), Err(ExplainError::From));
}
