//! Tests of answers that instances share.

use super::{Audience, SharedAnswer, SharedName};
use crate::acme::slot::Identifier;
use crate::acme::store::acme::tests::open;
use crate::acme::store::tests::Scratch;
use crate::acme::store::{AcmeStore, Error};
use crate::limits;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

const THUMBPRINT: &str = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ";

fn http(token: &str) -> (SharedName, SharedAnswer) {
    (SharedName::Http(token.to_owned()), SharedAnswer::Http(format!("{token}.{THUMBPRINT}")))
}

fn tls(identifier: Identifier) -> (SharedName, SharedAnswer) {
    (SharedName::Tls(identifier), SharedAnswer::Tls([7; 32]))
}

fn dns(name: &str) -> Identifier {
    Identifier::Dns(name.to_owned())
}

fn found(store: &AcmeStore) -> Vec<(SharedName, SharedAnswer)> {
    let mut found = store.shared_answers().unwrap();
    found.sort_by(|one, other| one.0.cmp(&other.0));
    found
}

fn place(store: &AcmeStore, below: &str) -> PathBuf {
    store.path().join("challenges").join(below)
}

#[test]
fn answers_come_back_until_they_are_taken_away() {
    let scratch = Scratch::new("shared");
    let store = open(&scratch);
    assert_eq!(found(&store), []);
    let long = format!("{}.example", ["a".repeat(63), "b".repeat(63), "c".repeat(63)].join("."));
    let longest = "-".repeat(128);
    let all = [
        http(&longest),
        http("aB_9"),
        tls(dns("a.example")),
        tls(dns(&long)),
        tls(Identifier::Ip("192.0.2.1".parse().unwrap())),
        tls(Identifier::Ip("2001:db8::1".parse().unwrap())),
    ];
    for (name, answer) in &all {
        store.share(name, answer).unwrap();
    }
    assert_eq!(found(&open(&scratch)), all);
    let mode = fs::metadata(place(&store, "http-01/aB_9")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let newer = (all[2].0.clone(), SharedAnswer::Tls([8; 32]));
    store.share(&newer.0, &newer.1).unwrap();
    assert!(found(&store).contains(&newer));
    for (name, _) in &all {
        store.unshare(name).unwrap();
        store.unshare(name).unwrap();
    }
    assert_eq!(found(&store), []);
}

#[test]
fn what_is_no_token_and_no_name_becomes_no_path() {
    let scratch = Scratch::new("shared-names");
    let store = open(&scratch);
    let long = "a".repeat(129);
    for token in ["", ".", "..", "../aB_9", "a/b", "/etc/passwd", "a.b", "a b", "a\0", "é", &long] {
        let (name, answer) = http(token);
        assert!(matches!(store.share(&name, &answer), Err(Error::BadName(_))), "{token:?}");
        assert!(matches!(store.unshare(&name), Err(Error::BadName(_))), "{token:?}");
    }
    let (name, answer) = tls(dns("*.example"));
    assert!(matches!(store.share(&name, &answer), Err(Error::BadName(_))));
    // Not a name that any configuration holds, and still no way out of the directory.
    let (name, answer) = tls(dns("../../x"));
    store.share(&name, &answer).unwrap();
    assert!(place(&store, "tls-alpn-01/%2e.%2f..%2fx").is_file());
    assert_eq!(found(&store), [], "and nobody believes it");
}

#[test]
fn files_of_another_form_are_passed_over() {
    let scratch = Scratch::new("shared-form");
    let store = open(&scratch);
    let (name, answer) = http("good");
    store.share(&name, &answer).unwrap();
    let (other, digest) = tls(dns("good.example"));
    store.share(&other, &digest).unwrap();
    let put = |below: &str, content: &[u8]| {
        let path = place(&store, below);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    };
    let answer_of = |token: &str| format!("{token}.{THUMBPRINT}").into_bytes();
    for content in [&b""[..], b"x", b"another.", b"t1.short", &[0xff; 64], &[b'a'; 4096]] {
        put("http-01/t1", content);
        put("tls-alpn-01/t1.example", content);
        assert_eq!(found(&store).len(), 2, "{content:?}");
    }
    put("http-01/t1", &answer_of("another"));
    put("http-01/t2", format!("t2.{THUMBPRINT}\r\nx").as_bytes());
    put("http-01/a.b", &answer_of("a.b"));
    put("http-01/.new-1-2-0", &answer_of(".new-1-2-0"));
    put("tls-alpn-01/*.example", &[b'A'; 43]);
    put("tls-alpn-01/%2a.example", &[b'A'; 43]);
    put("tls-alpn-01/UPPER.example", &[b'A'; 43]);
    put("http-01/open", &answer_of("open"));
    fs::set_permissions(place(&store, "http-01/open"), Permissions::from_mode(0o666)).unwrap();
    fs::create_dir(place(&store, "http-01/directory")).unwrap();
    symlink(place(&store, "http-01/good"), place(&store, "http-01/link")).unwrap();
    assert_eq!(found(&store), [(name, answer), (other, digest)]);
}

#[test]
fn what_a_killed_leader_left_is_given_for_an_hour_and_then_removed() {
    let scratch = Scratch::new("shared-stale");
    let store = open(&scratch);
    let (name, answer) = http("old");
    store.share(&name, &answer).unwrap();
    let path = place(&store, "http-01/old");
    let age = |minutes: u64| {
        let at = SystemTime::now() - Duration::from_secs(60 * minutes);
        File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    };
    age(58);
    store.sweep_shared();
    assert_eq!(found(&store).len(), 1);
    age(62);
    assert_eq!(found(&store), []);
    assert!(path.exists());
    let (name, answer) = http("new");
    store.share(&name, &answer).unwrap();
    assert!(!path.exists());
    assert_eq!(found(&store), [(name, answer)]);
}

#[test]
fn a_flood_of_files_is_bounded() {
    let scratch = Scratch::in_memory("shared-flood");
    let store = open(&scratch);
    let (name, answer) = http("first");
    store.share(&name, &answer).unwrap();
    for number in 0..limits::ACME_SHARED_ANSWERS + 10 {
        let token = format!("t{number}");
        let path = place(&store, "http-01").join(&token);
        fs::write(&path, format!("{token}.{THUMBPRINT}")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    }
    assert_eq!(store.shared_answers().unwrap().len(), limits::ACME_SHARED_ANSWERS);
}

#[test]
fn a_leader_knows_whether_somebody_looks() {
    let scratch = Scratch::in_memory("shared-audience");
    let store = open(&scratch);
    assert_eq!(store.audience(), Audience::Nobody, "no file");
    let first = store.attend().unwrap().unwrap();
    let second = open(&scratch).attend().unwrap().unwrap();
    drop(first);
    assert_eq!(store.audience(), Audience::Here);
    drop(second);
    assert_eq!(store.audience(), Audience::Nobody);
    assert!(store.attend().unwrap().is_some(), "looking costs nobody the place");
}
