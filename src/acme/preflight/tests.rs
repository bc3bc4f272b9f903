//! The judgement as a table, and looks at name servers and listeners of loopback.

#![allow(clippy::disallowed_types, reason = "the rule keeps locks out of the proxy, not out of its tests")]

use std::collections::HashMap;
use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;
use crate::acme::dns::lookup::CaaSet;
use crate::acme::dns::message::{Caa, Data};
use crate::acme::dns::{Name, Resolver, test_server};
use crate::acme::plan::challenge_for;
use crate::config::model::{AcmePolicy, HostPattern, KeyKind};
use crate::tls::certs::CertifiedPair;
use ChallengeKind::{Dns01, Http01, TlsAlpn01};

const NAME: &str = "a.lockring.dev";

fn authority(preset: Option<Preset>) -> Authority {
    Authority { directory: "https://ca.test/dir".to_owned(), preset, eab: None }
}

fn slot(name: &str, kinds: &[ChallengeKind]) -> Slot {
    let host = match name.strip_prefix("*.") {
        Some(parent) => HostPattern::Wildcard(parent.to_owned()),
        None => HostPattern::Exact(name.to_owned()),
    };
    let policy = AcmePolicy {
        authorities: vec![authority(None)],
        email: None,
        profile: None,
        challenges: kinds.to_vec(),
        dns: None,
        key: KeyKind::P256,
        names: Vec::new(),
    };
    Slot { identifiers: vec![Identifier::from(&host)], name: host, policy: Arc::new(policy), sites: vec![0] }
}

/// A name that leads here, as a start.
fn name() -> NameFacts {
    NameFacts {
        identifier: Identifier::Dns(NAME.to_owned()),
        addresses: Some(Ok(vec!["192.0.2.1".parse().unwrap()])),
        caa: Some(Ok(None)),
        probes: vec![probe(Http01, "192.0.2.1:80", Seen::Ourselves)],
        record: None,
    }
}

fn probe(kind: ChallengeKind, address: &str, seen: Seen) -> Probe {
    Probe {
        kind,
        address: address.parse().unwrap(),
        is_ours: false,
        behind_router: false,
        has_listener: true,
        seen,
    }
}

fn verdict(facts: NameFacts, kinds: &[ChallengeKind], preset: Option<Preset>) -> Verdict {
    let (slot, authority, state) =
        (slot(&facts.identifier.to_string(), kinds), authority(preset), SlotState::default());
    let wish = Wish {
        slot: &slot,
        authority: &authority,
        state: &state,
        identities: &[],
        account: None,
        strict: preset.is_some(),
    };
    judge(&wish, &Facts { names: vec![facts] })
}

const LE: Option<Preset> = Some(Preset::LetsEncrypt);

/// The one line of a verdict at Let's Encrypt for HTTP-01, and whether it is an error.
fn line(facts: NameFacts) -> (bool, String) {
    let verdict = verdict(facts, &[Http01], LE);
    let lines = [verdict.lines(Severity::Error), verdict.lines(Severity::Warning)].concat();
    assert_eq!(lines.len(), 1, "{lines:#?}");
    (verdict.forbids(), lines[0].clone())
}

#[test]
fn a_name_that_leads_here_is_fine() {
    assert_eq!(verdict(name(), &[Http01], LE), Verdict::default());
}

#[test]
fn names_without_addresses() {
    let none = || NameFacts { addresses: Some(Ok(Vec::new())), probes: Vec::new(), ..name() };
    let (error, text) = line(none());
    assert!(
        error
            && text.contains("has no address")
            && text.contains("add an A or AAAA record of a.lockring.dev"),
        "{text}"
    );
    assert!(!verdict(none(), &[Http01], None).forbids(), "an authority given by URL may see another DNS");
    let late = NameFacts { addresses: Some(Err(Blind::Late)), probes: Vec::new(), ..name() };
    let (error, text) = line(late);
    assert!(!error && text.contains("cannot be looked up: no answer in time"), "{text}");
    let reserved = NameFacts { identifier: Identifier::Dns("a.test".into()), ..none() };
    let (error, text) = line(reserved);
    assert!(error && text.contains("cannot be ordered"), "{text}");
}

#[test]
fn addresses_are_judged_family_by_family() {
    let right = || probe(Http01, "192.0.2.1:80", Seen::Ourselves);
    let other = |address: &str| probe(Http01, address, Seen::Other("status 404".into()));
    let with = |probes: Vec<Probe>| line(NameFacts { probes, ..name() });
    let (error, text) = with(vec![right(), other("[2001:db8::1]:80")]);
    assert!(error && text.contains("somebody else at [2001:db8::1]:80"), "{text}");
    assert!(text.contains("authorities prefer IPv6") && text.contains("remove the AAAA record"), "{text}");
    let (error, text) = with(vec![other("192.0.2.1:80")]);
    assert!(
        error && text.contains("(http-01: status 404)") && text.contains("remove the A record"),
        "{text}"
    );
    let (error, text) = with(vec![Probe { behind_router: true, ..other("192.0.2.1:80") }]);
    assert!(!error && text.contains("somebody else at 192.0.2.1:80"), "the router's own page: {text}");
    let (error, text) = with(vec![right(), other("192.0.2.2:80")]);
    assert!(!error && text.contains("192.0.2.2:80, one of its addresses"), "{text}");
    let (error, text) =
        with(vec![right(), probe(Http01, "[2001:db8::1]:80", Seen::Silent("no route".into()))]);
    assert!(!error && text.contains("cannot be reached from here"), "behind NAT: {text}");
    let (error, text) = with(vec![probe(Http01, "192.0.2.1:80", Seen::Refused)]);
    assert!(!error && text.contains("connection refused"), "{text}");
    let own = Probe { is_ours: true, ..probe(Http01, "192.0.2.1:80", Seen::Refused) };
    let (error, text) = with(vec![own.clone()]);
    assert!(
        error && text.contains("no listener answers") && text.contains("listen on 192.0.2.1:80 too"),
        "{text}"
    );
    let (error, text) = with(vec![Probe { has_listener: false, ..own }]);
    assert!(!error && text.contains("listen on port 80, unless"), "{text}");
    let (error, text) = with(vec![probe(Http01, "192.0.2.1:80", Seen::Redirect("https://x/".into()))]);
    assert!(!error && text.contains("redirected at 192.0.2.1:80 to https://x/"), "{text}");
}

#[test]
fn caa_names_the_record_that_helps() {
    let set = |tag: &str, value: &str| {
        let record = Caa { critical: false, tag: tag.into(), value: value.as_bytes().to_vec() };
        Some(Ok(Some(CaaSet { name: Name::parse("lockring.dev").unwrap(), records: vec![record] })))
    };
    let (error, text) = line(NameFacts { caa: set("issue", "other.example"), ..name() });
    assert!(error && text.contains("CAA at lockring.dev. allows only \"other.example\""), "{text}");
    assert!(text.contains("add the record: lockring.dev. CAA 0 issue \"letsencrypt.org\""), "{text}");
    assert_eq!(
        verdict(NameFacts { caa: set("issue", "letsencrypt.org"), ..name() }, &[Http01], LE),
        Verdict::default()
    );
    assert_eq!(
        verdict(NameFacts { caa: set("issue", "sectigo.com"), ..name() }, &[Http01], Some(Preset::ZeroSsl)),
        Verdict::default()
    );
    let (error, text) =
        line(NameFacts { caa: set("issue", "letsencrypt.org; validationmethods=dns-01"), ..name() });
    assert!(error && text.contains("letsencrypt.org; validationmethods=http-01"), "{text}");
    assert!(!verdict(NameFacts { caa: set("issue", "x.example"), ..name() }, &[Http01], None).forbids());
    assert!(verdict(NameFacts { caa: set("issue", ";"), ..name() }, &[Http01], None).forbids());
    let wildcard = NameFacts {
        identifier: Identifier::Dns("*.lockring.dev".into()),
        caa: set("issuewild", ";"),
        probes: Vec::new(),
        record: Some(Ok(())),
        addresses: None,
    };
    let verdict = verdict(wildcard, &[Dns01], LE);
    assert!(verdict.lines(Severity::Error)[0].contains("CAA 0 issuewild \"letsencrypt.org\""));
}

#[test]
fn records_of_dns_01_need_a_place() {
    let with = |problem| {
        let facts = NameFacts { record: Some(Err(problem)), probes: Vec::new(), addresses: None, ..name() };
        verdict(facts, &[Dns01], LE)
    };
    let outside = with(RecordProblem::OutsideZone { name: "x.other.".into(), zone: "lockring.dev.".into() });
    assert!(
        outside.lines(Severity::Error)[0].contains("at x.other., which is not in the zone lockring.dev.")
    );
    let late = with(RecordProblem::Late);
    assert!(!late.forbids() && late.lines(Severity::Warning).len() == 1, "the order waits longer: {late:?}");
    assert!(with(RecordProblem::NoProvider).forbids() && with(RecordProblem::Blind("x".into())).forbids());
}

#[test]
fn the_kind_of_challenge_that_looks_right_is_taken() {
    let kinds = [TlsAlpn01, Http01];
    let facts = NameFacts {
        probes: vec![
            probe(TlsAlpn01, "192.0.2.1:443", Seen::Other("another certificate".into())),
            probe(Http01, "192.0.2.1:80", Seen::Ourselves),
        ],
        ..name()
    };
    let found = verdict(facts, &kinds, LE);
    assert!(!found.forbids() && found.lines(Severity::Warning).len() == 1, "{found:?}");
    assert_eq!(found.better, [(Identifier::Dns(NAME.into()), Http01)]);
    let mut state = SlotState::default();
    found.steer(&mut state, &kinds);
    assert_eq!(challenge_for(&state, &Identifier::Dns(NAME.into()), &kinds), Some(Http01));
    let back = Verdict { better: vec![(Identifier::Dns(NAME.into()), TlsAlpn01)], ..Verdict::default() };
    back.steer(&mut state, &kinds);
    assert_eq!(challenge_for(&state, &Identifier::Dns(NAME.into()), &kinds), Some(TlsAlpn01));
    let both_bad = [
        probe(TlsAlpn01, "192.0.2.1:443", Seen::Other("another certificate".into())),
        probe(Http01, "192.0.2.1:80", Seen::Other("status 404".into())),
    ];
    let found = verdict(NameFacts { probes: both_bad.to_vec(), ..name() }, &kinds, LE);
    assert!(found.forbids() && found.better.is_empty());
    let unsure =
        [probe(TlsAlpn01, "192.0.2.1:443", Seen::Refused), probe(Http01, "192.0.2.1:80", Seen::Refused)];
    assert!(verdict(NameFacts { probes: unsure.to_vec(), ..name() }, &kinds, LE).better.is_empty());
}

#[test]
fn clocks_that_are_far_off_are_told() {
    assert_eq!(Finding::of_clock(300), None);
    let severity = |skew| Finding::of_clock(skew).map(|finding| finding.severity);
    assert_eq!(severity(301), Some(Severity::Warning));
    assert_eq!(severity(3601), Some(Severity::Error), "a new certificate is not valid yet");
    assert_eq!(severity(-3601), Some(Severity::Warning));
    assert_eq!(severity(-100 * 24 * 3600), Some(Severity::Error));
    assert!(Finding::of_clock(-400).unwrap().to_string().contains("400 s ahead"));
}

#[test]
fn answers_tell_who_sent_them() {
    let read = |answer: &str| super::probe::read_answer(answer.as_bytes(), b"token.key");
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\ntoken.key"), Seen::Ourselves);
    assert_eq!(read("HTTP/1.1 200 OK\r\n\r\nwelcome"), Seen::Other("status 200".into()));
    assert_eq!(read("HTTP/1.1 404 \r\n\r\ntoken.key"), Seen::Other("status 404".into()));
    assert_eq!(
        read("HTTP/1.0 301 x\r\nLOCATION: https://a/\u{1b}\r\n\r\n"),
        Seen::Redirect("https://a/\\u{1b}".into())
    );
    assert_eq!(read("SSH-2.0-x\r\n"), Seen::Other("it does not speak HTTP".into()));
    assert_eq!(read(""), Seen::Silent("the connection was closed".into()));
}

/// Answers that are in service.
#[derive(Default)]
struct Board {
    tokens: Mutex<HashMap<String, String>>,
    names: Mutex<Vec<Identifier>>,
}

impl Install for Board {
    fn install(&self, _: &Slot, _: Arc<CertifiedPair>) -> Result<(), String> {
        panic!("no certificate is made here")
    }

    fn withdraw(&self, _: &Slot) {}

    fn answer_http(&self, token: &str, key_authorization: &str) {
        self.tokens.lock().unwrap().insert(token.to_owned(), key_authorization.to_owned());
    }

    fn answer_tls(&self, identifier: &Identifier, _: Arc<CertifiedPair>) {
        self.names.lock().unwrap().push(identifier.clone());
    }

    fn forget_http(&self, token: &str) {
        self.tokens.lock().unwrap().remove(token);
    }

    fn forget_tls(&self, identifier: &Identifier) {
        self.names.lock().unwrap().retain(|name| name != identifier);
    }
}

/// A web server at `ip` that answers from `board`, or like a stranger.
async fn serve(ip: &str, port: u16, board: Option<Arc<Board>>) -> u16 {
    let listener = TcpListener::bind((ip, port)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let token = request.split(' ').nth(1).unwrap().rsplit('/').next().unwrap().to_owned();
            let found = board.as_ref().and_then(|board| board.tokens.lock().unwrap().get(&token).cloned());
            let answer = found.map_or("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), |text| {
                format!("HTTP/1.1 200 OK\r\n\r\n{text}")
            });
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    port
}

async fn look_at(
    records: Vec<crate::acme::dns::message::Record>,
    kinds: &[ChallengeKind],
    port: u16,
    board: &Arc<Board>,
) -> Verdict {
    let server = test_server::start_with(records).await;
    let (slot, authority, state) = (slot("a.test", kinds), authority(None), SlotState::default());
    let wish = Wish {
        slot: &slot,
        authority: &authority,
        state: &state,
        identities: &[],
        account: None,
        strict: true,
    };
    let port = Some(Port { number: port, ours: true });
    let eyes = Eyes::with(Resolver::new(&[server]), Ports { http: port, https: port });
    preflight(&wish, &eyes, Some(Arc::clone(board) as _)).await
}

fn run(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

#[test]
fn looks_at_name_servers_and_listeners() {
    run(async {
        let board = Arc::new(Board::default());
        let port = serve("127.0.0.1", 0, Some(Arc::clone(&board))).await;
        let four = || test_server::record("a.test", Data::A("127.0.0.1".parse().unwrap()));
        let six = || test_server::record("a.test", Data::Aaaa("::1".parse().unwrap()));
        assert_eq!(look_at(vec![four()], &[Http01], port, &board).await, Verdict::default());
        let found = look_at(Vec::new(), &[Http01], port, &board).await;
        assert!(matches!(found.findings[0].problem, Problem::NoAddress), "{found:?}");
        // Nobody listens at the other family's address, which is this machine's.
        let found = look_at(vec![four(), six()], &[Http01], port, &board).await;
        assert!(matches!(found.findings[0].problem, Problem::Refused(Http01, _, true)), "{found:?}");
        serve("::1", port, None).await;
        let found = look_at(vec![four(), six()], &[Http01], port, &board).await;
        assert!(found.forbids() && found.lines(Severity::Error)[0].contains("[::1]"), "{found:?}");
        let caa = Caa { critical: false, tag: "issue".into(), value: b";".to_vec() };
        let forbidden = test_server::record("test", Data::Caa(caa));
        let found = look_at(vec![four(), forbidden], &[Http01], port, &board).await;
        assert!(matches!(&found.findings[0].problem, Problem::Caa { at, .. } if at == "test."), "{found:?}");
        assert!(board.tokens.lock().unwrap().is_empty(), "no answer stays in service");
    });
}

#[test]
fn another_certificate_is_somebody_else() {
    run(async {
        let board = Arc::new(Board::default());
        // Speaks HTTP where TLS is expected: nobody of ours.
        let port = serve("127.0.0.1", 0, None).await;
        let four = test_server::record("a.test", Data::A("127.0.0.1".parse().unwrap()));
        let found = look_at(vec![four], &[TlsAlpn01], port, &board).await;
        let problem = &found.findings[0].problem;
        assert!(matches!(problem, Problem::Elsewhere { kind: TlsAlpn01, .. }), "{problem:?}");
        assert!(board.names.lock().unwrap().is_empty(), "no answer stays in service");
    });
}
