//! Each kind of challenge, and each kind of name.

use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use serde_json::json;

use super::{APP, assert_private, one_site, served};
use crate::harness::lockring::{Lockring, Scratch, Setup};
use crate::harness::nameserver::{self, Kind, NameServer, Zone};
use crate::harness::pebble::{Options, Pebble, program};
use crate::harness::python::tool;

#[test]
fn http_01_gets_a_certificate() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy = one_site(&pebble, "classic", "challenge = \"http-01\"");
    let mut client = served(&proxy, APP, &pebble.trusting());
    assert_eq!(client.get(APP, "/").status(), 200);
    assert_private(&proxy.state());
}

#[test]
fn tls_alpn_01_needs_the_tls_port_alone() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let proxy = Setup::new()
        .site(APP, "demo")
        .certified_with(&pebble, "classic", "challenge = \"tls-alpn-01\"")
        .listen(pebble.tls_port, 0)
        .start();
    let mut client = served(&proxy, APP, &pebble.trusting());
    assert_eq!(client.get(APP, "/").status(), 200);
}

#[test]
fn twenty_five_names_on_one_certificate() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let names: Vec<String> = (0..25).map(|n| format!("n{n}.example.com")).collect();
    let others = names.iter().skip(1).map(|n| format!("\"{n}\"")).collect::<Vec<_>>().join(", ");
    let mut sites = String::new();
    for name in names.iter().skip(1) {
        let _ = writeln!(sites, "[sites.\"{name}\"]\nto = \"demo\"");
    }
    let proxy = Setup::new()
        .certified_by(&pebble, "classic")
        .tables(format!("[sites.\"{}\"]\nto = \"demo\"\nacme = {{ names = [{others}] }}\n{sites}", names[0]))
        .start();
    let trust = pebble.trusting();
    let mut serials = std::collections::BTreeSet::new();
    for name in &names {
        let mut client = served(&proxy, name, &trust);
        assert_eq!(client.get(name, "/").status(), 200);
        serials.insert(super::serial(&client));
    }
    assert_eq!(serials.len(), 1, "one certificate for all of them");
}

/// A hook as lego calls one, which tells pebble's own DNS server.
fn hook(scratch: &Scratch, pebble: &Pebble) -> String {
    let path = scratch.path().join("hook");
    let script = format!(
        "#!/bin/sh\nset -eu\ncase $1 in\n\
         present) curl -sf -d \"{{\\\"host\\\":\\\"$2\\\",\\\"value\\\":\\\"$3\\\"}}\" {0}/set-txt;;\n\
         cleanup) curl -sf -d \"{{\\\"host\\\":\\\"$2\\\"}}\" {0}/clear-txt;;\nesac\necho \"$1 $2\" >> {1}\n",
        pebble.names_url(),
        scratch.path().join("calls").display()
    );
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    path.display().to_string()
}

#[test]
fn dns_01_through_a_program_gets_a_wildcard_and_its_base() {
    let program = need!(program(), "pebble");
    need!(tool("curl"), "curl");
    let pebble = Pebble::start(&program, Options::new());
    let scratch = Scratch::new();
    let proxy = Setup::new()
        .certified_with(
            &pebble,
            "classic",
            &format!(
                "dns = \"hook\"\nchallenge = \"dns-01\"\n[dns.hook]\nexec = [\"{}\"]\npropagation = \"none\"",
                hook(&scratch, &pebble)
            ),
        )
        .tables("[sites.\"*.example.com\"]\nto = \"demo\"\nacme = { names = [\"example.com\"] }")
        .tables("[sites.\"example.com\"]\nto = \"demo\"")
        .start();
    let trust = pebble.trusting();
    for name in ["www.example.com", "example.com"] {
        let mut client = served(&proxy, name, &trust);
        assert_eq!(client.get(name, "/").status(), 200);
    }
    let calls = std::fs::read_to_string(scratch.path().join("calls")).unwrap();
    assert!(calls.contains("present _acme-challenge.example.com.\n"), "{calls}");
    let (presents, cleanups) = (calls.matches("present ").count(), calls.matches("cleanup ").count());
    assert_eq!(presents, cleanups, "{calls}");
}

#[test]
fn dns_01_by_signed_updates_of_real_name_servers() {
    let program = need!(program(), "pebble");
    need!(nameserver::programs(), "name servers (tests/get-dns-servers)");
    for kind in [Kind::Bind, Kind::Knot] {
        let zone = Zone { name: "example.com", records: "@ NS ns1\nns1 A 127.0.0.1\n", open: true };
        let server = NameServer::start(kind, &[zone]);
        let pebble = Pebble::start(&program, Options::new().dns(server.address));
        let lines = format!(
            "dns = \"zone\"\n[dns.zone]\nserver = \"{0}\"\npropagation = \"resolver\"\n\
             resolvers = [\"{0}\"]\nkey = {{ name = \"acme\", secret = \"env:TSIG\" }}",
            server.address
        );
        let proxy = Setup::new()
            .env("TSIG", nameserver::SECRET)
            .certified_with(&pebble, "classic", &lines)
            .tables("[sites.\"*.example.com\"]\nto = \"demo\"\nacme = { names = [\"example.com\"] }")
            .tables("[sites.\"example.com\"]\nto = \"demo\"")
            .start();
        let trust = pebble.trusting();
        for name in ["www.example.com", "example.com"] {
            assert_eq!(served(&proxy, name, &trust).get(name, "/").status(), 200);
        }
        assert!(!proxy.messages().iter().any(|line| line.contains(nameserver::SECRET)));
    }
}

#[test]
fn addresses_of_both_families_get_certificates() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    for (challenge, profile) in [("http-01", "shortlived"), ("tls-alpn-01", "shortlived")] {
        let lines = format!("challenge = \"{challenge}\"");
        let proxy = Setup::new()
            .certified_with(&pebble, profile, &lines)
            .also_on_ipv6()
            .tables("[sites.\"127.0.0.1\"]\nto = \"demo\"\nacme = {}")
            .tables("[sites.\"::1\"]\nto = \"demo\"\nacme = {}")
            .start();
        let trust = pebble.trusting();
        for name in ["127.0.0.1", "::1"] {
            let client = served_at(&proxy, name, &trust);
            let chain = client.session().peer_certificates().unwrap().to_vec();
            assert!(!chain.is_empty());
        }
    }
}

/// A client of an address sends no server name, so it must be told by the address it connects to.
fn served_at(
    proxy: &Lockring,
    ip: &str,
    trust: &std::sync::Arc<rustls::ClientConfig>,
) -> crate::harness::Client {
    let address = std::net::SocketAddr::new(ip.parse().unwrap(), proxy.https.port());
    crate::harness::eventually("a certificate for the address", || {
        crate::harness::Client::tls(address, ip, trust).ok()
    })
}

#[test]
fn an_external_account_is_bound_and_its_key_stays_secret() {
    const KEY: &str = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new().external_account("kid-1", KEY));
    let with = |eab: &str, key: &str| {
        Setup::new().site(APP, "demo").env("EAB_KEY", key).certified_with(&pebble, "classic", eab).start()
    };
    let mut none = with("", "");
    let said = none.wait_message("externalAccountRequired");
    assert!(said.contains("eab"), "it says what to write: {said}");
    drop(none);
    let mut wrong = with("eab = { kid = \"kid-1\", hmac = \"env:EAB_KEY\" }", &KEY.replace('z', "y"));
    wrong.wait_message("unauthorized");
    drop(wrong);
    let good = with("eab = { kid = \"kid-1\", hmac = \"env:EAB_KEY\" }", KEY);
    served(&good, APP, &pebble.trusting());
    assert!(!good.messages().iter().any(|line| line.contains(KEY)), "the key is in no message");
}

#[test]
fn a_profile_that_the_authority_lacks_costs_no_order() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let mut proxy = one_site(&pebble, "nope", "");
    let said = proxy.wait_message("nope");
    assert!(said.contains("classic") && said.contains("tiny"), "it names the profiles there are: {said}");
    assert!(!pebble.log().iter().any(|line| line.contains("/order-plz")), "no order was made");
}

#[test]
fn a_name_that_does_not_resolve_is_told_with_the_reason_of_the_authority() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    pebble.tell_dns("/set-servfail", &json!({"host": APP}));
    let mut proxy = one_site(&pebble, "classic", "");
    let said = proxy.wait_message("next try");
    assert!(said.contains("app.example.com by tls-alpn-01: ") && said.contains("resolve"), "{said}");
}

#[test]
fn a_refused_name_is_told_once_and_not_asked_for_again_and_again() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let mut proxy = Setup::new().site("www.blocked.example", "demo").certified_by(&pebble, "classic").start();
    let said = proxy.wait_message("rejectedIdentifier");
    assert!(said.contains("www.blocked.example"), "{said}");
}

/// The promise of the first page: one command, one name.
#[test]
fn one_command_is_all_it_takes() {
    let program = need!(program(), "pebble");
    let pebble = Pebble::start(&program, Options::new());
    let trust = pebble.trusting();
    let began = Instant::now();
    let proxy = Lockring::proxy_on(
        (pebble.tls_port, pebble.http_port),
        &[
            &format!("{APP}=demo"),
            "--acme",
            &pebble.directory(),
            "--acme-ca-file",
            pebble.ca_file.to_str().unwrap(),
        ],
    );
    let mut client = served(&proxy, APP, &trust);
    assert_eq!(client.get(APP, "/").status(), 200);
    println!("from start to the first good answer: {:?}", began.elapsed());
}
