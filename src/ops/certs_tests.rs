//! The commands over state directories made for them, with and without a running process.

use std::fs;
use std::sync::Arc;

use super::*;
use crate::acme::local_ca::LocalCa;
use crate::acme::status::{AuthorityStatus, Severity, SlotStatus, State, Status};
use crate::acme::store::tests::Scratch;
use crate::acme::store::{AcmeStore, Pair};
use crate::config::model::{HostPattern, Preset};
use crate::ops::admin::{Admin, Answers};

/// 2026-01-01.
const NOW: u64 = 1_767_225_600;
const DAY: u64 = 86_400;

struct Running(Status);

impl Answers for Running {
    fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Renew { name, force } => {
                Answer::Renewing { certificates: usize::from(force && name.as_deref() == Some("a.example")) }
            }
            Request::Revoke { name, reason } if name == "a.example" && reason == "superseded" => {
                Answer::Revoked
            }
            Request::Status {} => Answer::Status { status: Box::new(self.0.clone()) },
            other => Answer::Error { text: format!("not done: {}", other.word()) },
        }
    }
}

fn pair(name: &str, days: u64) -> Pair {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let end = (NOW + days * DAY) as i64;
    parameters.not_before = rcgen::date_time_ymd(2025, 12, 1);
    parameters.not_after =
        parameters.not_before + std::time::Duration::from_secs((end - 1_764_547_200) as u64);
    let certificate = parameters.self_signed(&key).unwrap().pem();
    Pair { certificate, key: key.serialize_pem().into() }
}

fn status() -> Status {
    let slot = SlotStatus {
        name: "a.example".into(),
        state: State::Backoff,
        severity: Severity::Error,
        issuer: Some(Preset::LetsEncrypt.directory().into()),
        last_error: Some("\u{1b}no".into()),
        ..SlotStatus::default()
    };
    let absent = SlotStatus { name: "b.example".into(), ..SlotStatus::default() };
    let authority = |preset: Preset, account: Option<&str>| AuthorityStatus {
        directory: preset.directory().into(),
        name: preset.word().into(),
        account: account.map(str::to_owned),
        ..AuthorityStatus::default()
    };
    let authorities = vec![
        authority(Preset::LetsEncrypt, Some("https://ca.example/acct/1")),
        authority(Preset::ZeroSsl, None),
    ];
    Status {
        version: 1,
        at: NOW - 9,
        leader: true,
        slots: vec![slot, absent],
        authorities,
        ..Status::default()
    }
}

/// A state directory with a certificate of an authority and one of the local CA.
fn stage(name: &str) -> (Scratch, Target, AcmeStore) {
    let scratch = Scratch::new(name);
    let store = scratch.store();
    let ca = LocalCa::open(&store, NOW).unwrap();
    let leaf = ca.leaf(&HostPattern::Wildcard("app.localhost".into()), NOW).unwrap();
    assert!(leaf.unsaved.is_none());
    let acme = AcmeStore::open(&store);
    acme.save("a.example", &pair("a.example", 40), b"{}").unwrap();
    let target = Target { state: Some(store.path().to_owned()), ..Target::default() };
    (scratch, target, acme)
}

#[test]
fn certificates_are_listed_while_nothing_runs() {
    let (_scratch, target, acme) = stage("certs-list");
    let text = certs(&target, &CertsAction::List, NOW).unwrap().text;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 3, "{text}");
    assert!(lines[1].starts_with("a.example") && lines[1].contains("2026-02-10  40"), "{text}");
    assert!(lines[1].contains("authority") && lines[1].ends_with("valid"), "{text}");
    assert!(lines[2].starts_with("*.app.localhost") && lines[2].contains("local CA"), "{text}");
    acme.write_status(&status().to_json()).unwrap();
    let text = certs(&target, &CertsAction::List, NOW + 41 * DAY).unwrap().text;
    assert!(text.contains("-1         authority  expired"), "{text}");
    assert!(text.contains("b.example") && text.contains("none yet"), "{text}");
}

#[test]
fn one_is_shown_and_copied() {
    let (scratch, target, acme) = stage("certs-show");
    acme.write_status(&status().to_json()).unwrap();
    let show = |name: &str| certs(&target, &CertsAction::Show { name: name.into() }, NOW);
    let text = show("A.example").unwrap().text;
    for part in ["40 days left", "generation:", "backoff", "last error:  ?no", "ECDSA"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("PRIVATE"));
    assert_eq!(show("c.example").unwrap_err().code, RUN_TIME);
    let export = |name: &str, to: &str| {
        certs(&target, &CertsAction::Export { name: name.into(), to: scratch.path.join(to) }, NOW)
    };
    fs::write(scratch.path.join("file"), "").unwrap();
    assert_eq!(export("a.example", "file").unwrap_err().code, RUN_TIME);
    assert!(export("a.example", "out").unwrap().text.contains("written to"));
    assert!(export("a.example", "out").unwrap().text.contains("there already"));
    let kept = acme.pair("a.example").unwrap().kept().unwrap();
    assert_eq!(fs::read_to_string(scratch.path.join("out/a.example.key")).unwrap(), *kept.pem.key);
}

#[test]
fn a_damaged_certificate_is_told_in_its_line() {
    let (_scratch, target, acme) = stage("certs-damaged");
    fs::write(acme.path().join("certs/a.example/current/certificate.pem"), "").unwrap();
    let text = certs(&target, &CertsAction::List, NOW).unwrap().text;
    assert!(text.lines().nth(1).is_some_and(|line| line.ends_with("unusable")), "{text}");
    let show = certs(&target, &CertsAction::Show { name: "a.example".into() }, NOW).unwrap().text;
    assert!(show.contains("fault:") && show.contains("empty"), "{show}");
}

#[test]
fn an_absent_state_directory_is_not_made() {
    let scratch = Scratch::new("certs-absent");
    let target = Target { state: Some(scratch.path.join("none")), ..Target::default() };
    assert_eq!(certs(&target, &CertsAction::List, NOW).unwrap().text, "no certificates\n");
    let error = acme(&target, &AcmeAction::Status { form: StatusForm::Table }, NOW).unwrap_err();
    assert!(
        error.text.contains("no lockring listens") && error.text.contains("status.json"),
        "{}",
        error.text
    );
    assert!(!scratch.path.join("none").exists());
}

#[test]
fn the_running_process_is_asked() {
    let (_scratch, target, _acme) = stage("certs-running");
    let place = target.place().unwrap();
    let renew = |name: &str, force| certs(&target, &CertsAction::Renew { name: name.into(), force }, NOW);
    let error = renew("a.example", false).unwrap_err();
    assert!(error.code == RUN_TIME && error.text.contains("admin.sock"), "{}", error.text);
    let _admin = Admin::listen(&place.admin, Arc::new(Running(status()))).unwrap();
    assert!(renew("A.example", true).unwrap().text.contains("under way"));
    assert!(renew("a.example", false).unwrap().text.contains("not due"));
    let revoke = |name: &str| {
        let reason = Reason::Superseded;
        certs(&target, &CertsAction::Revoke { name: name.into(), reason }, NOW)
    };
    assert!(revoke("a.example").unwrap().text.contains("revoked (superseded)"));
    assert_eq!(revoke("b.example").unwrap_err().text, "not done: certs.revoke");
}

#[test]
fn status_is_live_or_that_of_the_last_run_and_says_so_by_its_code() {
    let (_scratch, target, store) = stage("acme-status");
    store.write_status(&status().to_json()).unwrap();
    let done = acme(&target, &AcmeAction::Status { form: StatusForm::Table }, NOW).unwrap();
    assert_eq!(done.code, DEGRADED);
    assert!(done.text.contains("as written 9 s ago: no lockring listens"), "{}", done.text);
    let json = acme(&target, &AcmeAction::Status { form: StatusForm::Json }, NOW).unwrap();
    assert_eq!((Status::from_json(json.text.as_bytes()).unwrap(), json.code), (status(), DEGRADED));
    let metrics = acme(&target, &AcmeAction::Status { form: StatusForm::Metrics }, NOW).unwrap();
    assert!(metrics.text.contains("\nlockring_acme_storage_ok 1\n"), "{}", metrics.text);
    let mut fine = status();
    fine.slots.clear();
    let _admin = Admin::listen(&target.place().unwrap().admin, Arc::new(Running(fine))).unwrap();
    let done = acme(&target, &AcmeAction::Status { form: StatusForm::Table }, NOW).unwrap();
    assert!(done.code == OK && !done.text.contains("as written"), "{}", done.text);
}

#[test]
fn accounts_and_the_record_that_names_them() {
    let (_scratch, target, store) = stage("acme-account");
    store.write_status(&status().to_json()).unwrap();
    let text = acme(&target, &AcmeAction::Account, NOW).unwrap().text;
    assert!(text.contains("https://ca.example/acct/1") && text.contains("none yet"), "{text}");
    let record = |name: &str, issuer: Option<&str>| {
        let action = AcmeAction::DnsRecord { name: name.into(), issuer: issuer.map(str::to_owned) };
        acme(&target, &action, NOW).unwrap().text
    };
    assert_eq!(
        record("a.example", None),
        "; letsencrypt\n_validation-persist.a.example. IN TXT \
         \"letsencrypt.org; accounturi=https://ca.example/acct/1\"\n"
    );
    assert!(
        record("*.a.example", Some("ca.test"))
            .contains("\"ca.test; accounturi=https://ca.example/acct/1; policy=wildcard\"")
    );
    store.write_status(b"{\"slots\":7}").unwrap();
    assert!(acme(&target, &AcmeAction::Account, NOW).unwrap_err().text.contains("damaged"));
}

#[test]
fn the_target_is_the_file_then_the_directory_then_the_socket() {
    let scratch = Scratch::new("certs-target");
    let file = scratch.path.join("lockring.toml");
    fs::write(&file, "[server]\nstate = \"s\"\nadmin = \"a.sock\"\n[sites]\nlocalhost = \"demo\"\n").unwrap();
    let target = Target { config: Some(file.clone()), ..Target::default() };
    let place = target.place().unwrap_or_else(|failure| panic!("{}", failure.text));
    assert_eq!((place.state, place.admin), (scratch.path.join("s"), scratch.path.join("a.sock")));
    let place = Target { state: Some("/other".into()), ..target.clone() }.place().ok().unwrap();
    assert_eq!((place.state, place.admin), ("/other".into(), "/other/admin.sock".into()));
    let place = Target { admin: Some("/x.sock".into()), ..target.clone() }.place().ok().unwrap();
    assert_eq!((place.state, place.admin), (scratch.path.join("s"), "/x.sock".into()));
    fs::write(&file, "[sites\n").unwrap();
    let failure = certs(&target, &CertsAction::List, NOW).unwrap_err();
    assert!(failure.code == WRONG_WORDS && failure.text.contains("E002"), "{}", failure.text);
}
