//! Tests of accounts, documents, the probe, permissions and owners.

use super::{AcmeStore, Document, read_anyway};
use crate::acme::store::pair::Pair;
use crate::acme::store::tests::Scratch;
use crate::acme::store::{Error, Found, Lock, Store};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use serde::{Deserialize, Serialize};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A certificate for `name` with a fresh key, in PEM.
pub(in crate::acme::store) fn pem(name: &str) -> Pair {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    Pair { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem().into() }
}

/// The acme directory of a fresh state directory.
pub(in crate::acme::store) fn open(scratch: &Scratch) -> AcmeStore {
    let store = AcmeStore::open(&scratch.store());
    assert!(store.refusal().is_none(), "{:?}", store.refusal());
    store
}

/// Runs one test of this binary again, alone in a process that is told where the state is; whether it
/// passed, and what it printed.
pub(in crate::acme::store) fn again(test: &str, variable: &str, state: &Path, shell: &str) -> (bool, String) {
    let (ok, text) = child(test, variable, state, shell).output().map_or((false, String::new()), |output| {
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    });
    (ok && text.contains("1 passed"), text)
}

fn child(test: &str, variable: &str, state: &Path, shell: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", &format!("{shell} exec \"$0\" --exact \"$1\" --nocapture")])
        .arg(std::env::current_exe().unwrap())
        .arg(format!("acme::store::{test}"))
        .env(variable, state)
        .stdin(Stdio::null());
    command
}

/// Every entry below a directory, with its permissions.
fn tree(top: &Path) -> Vec<(PathBuf, u32)> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(path) = open.pop() {
        let about = fs::symlink_metadata(&path).unwrap();
        if about.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        if !about.is_symlink() {
            found.push((path, about.mode() & 0o7777));
        }
    }
    found
}

fn write_everything(store: &AcmeStore) {
    store.save("*.a.test", &pem("a.test"), b"{}").unwrap();
    store.save_order("b.test", &pem("b.test").key, b"{}").unwrap();
    store.save_account("letsencrypt", b"{\"key\":1}").unwrap();
    store.replace_json(Document::Plan("a.test"), &1).unwrap();
    store.replace_json(Document::Budget, &2).unwrap();
    store.write_status(b"{}").unwrap();
    store.probe().unwrap();
}

fn assert_private(store: &AcmeStore) {
    let found = tree(store.path());
    assert!(found.len() > 15, "{found:?}");
    for (path, mode) in found {
        let expected = match (path.is_dir(), path.file_name().unwrap() == "status.json") {
            (true, _) => 0o700,
            (false, true) => 0o640,
            (false, false) => 0o600,
        };
        assert_eq!(mode, expected, "{}", path.display());
    }
}

#[test]
fn everything_is_private_but_the_status() {
    let scratch = Scratch::new("acme-modes");
    let store = open(&scratch);
    write_everything(&store);
    assert_private(&store);
    assert_eq!(fs::read_to_string(store.path().join("VERSION")).unwrap(), "1\n");
    assert!(open(&scratch).notices().is_empty());
}

/// The child of the test below.
#[test]
fn write_under_a_umask() {
    let Some(state) = std::env::var_os("LOCKRING_TEST_UMASK") else { return };
    let store = AcmeStore::open(&Store::open(Path::new(&state)).unwrap());
    write_everything(&store);
    assert_private(&store);
}

#[test]
fn no_umask_changes_permissions() {
    for umask in ["000", "022", "077", "0377", "0777"] {
        let scratch = Scratch::new("umask");
        fs::create_dir(scratch.path.join("state")).unwrap();
        let state = scratch.path.join("state");
        let (ok, text) = again(
            "acme::tests::write_under_a_umask",
            "LOCKRING_TEST_UMASK",
            &state,
            &format!("umask {umask};"),
        );
        assert!(ok, "{umask}: {text}");
        assert!(state.join("acme/certs/%2a.a.test/current").is_symlink(), "{umask}: the child wrote");
    }
}

#[test]
fn what_became_open_is_made_private_and_told() {
    let scratch = Scratch::new("mend-modes");
    let store = open(&scratch);
    write_everything(&store);
    let open_up =
        [("accounts/letsencrypt/account.json", 0o644), ("certs", 0o755), ("status.json", 0o644), ("", 0o750)];
    for (name, mode) in open_up {
        fs::set_permissions(store.path().join(name), Permissions::from_mode(mode)).unwrap();
    }
    let store = open(&scratch);
    assert_private(&store);
    let told: Vec<(PathBuf, u32)> =
        store.notices().iter().map(|notice| (notice.path.clone(), notice.mode)).collect();
    assert_eq!(told.len(), open_up.len());
    for (name, mode) in open_up {
        assert!(
            told.iter().any(|(path, was)| *path == store.path().join(name).components().collect::<PathBuf>()
                && *was == mode),
            "{name}"
        );
    }
    assert!(store.notices()[0].to_string().contains("is private again"));
    assert!(open(&scratch).notices().is_empty(), "told once");
}

/// The child of the test below, as another user: reads, and is refused to write.
#[test]
fn use_what_is_anothers() {
    let Some(state) = std::env::var_os("LOCKRING_TEST_FOREIGN") else { return };
    let store = AcmeStore::open(&Store::open(Path::new(&state)).unwrap());
    let refusal = store.refusal().unwrap().to_string();
    assert!(refusal.contains("run: chown -R 65534"), "{refusal}");
    assert!(matches!(store.save("a.test", &pem("a.test"), b"{}"), Err(Error::ReadOnly(_))));
    assert!(matches!(store.probe(), Err(Error::ReadOnly(_))));
    assert!(matches!(store.drop_order("a.test"), Err(Error::ReadOnly(_))));
    assert!(matches!(store.pair("a.test").unwrap(), Found::Current(_)), "it is served nevertheless");
    assert!(matches!(store.mend("b.test").unwrap(), Found::Spoilt { older: Some(_), .. }));
    assert_eq!(store.list().unwrap(), ["a.test", "b.test"]);
}

#[test]
fn what_belongs_to_another_is_read_and_not_written() {
    let Ok(Some(0)) = fs::metadata("/proc/self").map(|own| Some(own.uid())) else {
        println!("not checked: only root can give files away");
        return;
    };
    let scratch = Scratch::new("foreign");
    let store = open(&scratch);
    store.save("a.test", &pem("a.test"), b"{}").unwrap();
    for _ in 0..2 {
        store.save("b.test", &pem("b.test"), b"{}").unwrap();
    }
    fs::write(store.path().join("certs/b.test/2/key.pem"), "").unwrap();
    for (path, _) in tree(&scratch.path) {
        std::os::unix::fs::chown(&path, Some(65534), Some(65534)).unwrap();
    }
    // Root's, but readable: as a backup that was played back by hand.
    let key = store.path().join("certs/a.test/1/key.pem");
    std::os::unix::fs::chown(&key, Some(0), Some(65534)).unwrap();
    fs::set_permissions(&key, Permissions::from_mode(0o640)).unwrap();
    // A copy of this program that the other user can start, wherever it was built.
    let program = scratch.path.join("program");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    let output = Command::new(&program)
        .args(["--exact", "acme::store::acme::tests::use_what_is_anothers"])
        .env("LOCKRING_TEST_FOREIGN", scratch.path.join("state"))
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    assert!(!store.path().join("corrupt").exists());
}

#[test]
fn accounts_come_back_and_are_lost_without_loss() {
    let scratch = Scratch::new("account");
    let store = open(&scratch);
    assert!(store.account("letsencrypt").unwrap().is_none());
    assert_eq!(store.lose_account("letsencrypt").unwrap(), None);
    let mut lost = Vec::new();
    for n in 0..4 {
        let json = format!("{{\"key\":{n}}}");
        store.save_account("letsencrypt", json.as_bytes()).unwrap();
        assert_eq!(store.account("letsencrypt").unwrap().unwrap().as_slice(), json.as_bytes());
        assert!(store.account("zerossl").unwrap().is_none());
        lost.push((store.lose_account("letsencrypt").unwrap().unwrap(), json));
        assert!(store.account("letsencrypt").unwrap().is_none());
    }
    assert!(lost[0].0.ends_with("accounts/letsencrypt/account.json.lost"));
    for (path, json) in lost {
        assert_eq!(fs::read_to_string(path).unwrap(), json, "each is there still");
    }
    for bad in ["", "{\"key\":", "\0\0\0"] {
        fs::write(store.path().join("accounts/letsencrypt/account.json"), bad).unwrap();
        assert!(matches!(store.account("letsencrypt"), Err(Error::Damaged { .. })), "{bad:?}");
    }
    assert!(store.lose_account("letsencrypt").unwrap().is_some());
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Plan {
    fails: u32,
    until: u64,
}

#[test]
fn documents_come_back_and_damage_is_set_aside() {
    let scratch = Scratch::new("documents");
    let store = open(&scratch);
    let long = "a".repeat(253);
    for document in
        [Document::Plan("*.a.test"), Document::Budget, Document::Plan("::1"), Document::Plan(&long)]
    {
        assert_eq!(store.read_json::<Plan>(document).unwrap(), None);
        assert_eq!(store.set_aside(document).unwrap(), None);
        for fails in 0..2 {
            let plan = Plan { fails, until: 9 };
            store.replace_json(document, &plan).unwrap();
            assert_eq!(store.read_json(document).unwrap(), Some(plan));
        }
        let path = store.document(document).unwrap();
        for bad in ["", "{\"fails\":1", "{\"fails\":-1,\"until\":0}"] {
            fs::write(&path, bad).unwrap();
            assert!(matches!(store.read_json::<Plan>(document), Err(Error::Damaged { .. })), "{bad}");
        }
        let moved = store.set_aside(document).unwrap().unwrap();
        assert!(moved.starts_with(store.path().join("corrupt")));
        assert!(moved.exists() && store.read_json::<Plan>(document).unwrap().is_none());
    }
    assert!(matches!(
        store.replace_json(Document::Budget, &std::collections::HashMap::from([((1, 2), 3)])),
        Err(Error::NotJson(_))
    ));
}

#[test]
fn the_status_is_there_for_a_program_that_is_not_the_daemon() {
    let scratch = Scratch::new("status");
    let store = open(&scratch);
    assert_eq!(store.status().unwrap(), None);
    store.write_status(b"{\"slots\":[]}").unwrap();
    assert_eq!(open(&scratch).status().unwrap().unwrap(), b"{\"slots\":[]}");
}

#[test]
fn a_probe_leaves_nothing_and_fails_where_nothing_can_be_written() {
    let scratch = Scratch::new("probe");
    let store = open(&scratch);
    let before = tree(store.path()).len();
    store.probe().unwrap();
    assert_eq!(tree(store.path()).len(), before);
    fs::remove_dir_all(store.path()).unwrap();
    assert!(matches!(store.probe(), Err(Error::Io { .. })));
}

#[test]
fn a_newer_form_is_read_and_not_written() {
    let scratch = Scratch::new("form");
    let store = open(&scratch);
    store.save("a.test", &pem("a.test"), b"{}").unwrap();
    for (version, newer) in [("2\n", true), ("99", true), ("x", false)] {
        fs::write(store.path().join("VERSION"), version).unwrap();
        let store = AcmeStore::open(&scratch.store());
        assert_eq!(matches!(store.refusal(), Some(Error::NewerForm(_))), newer, "{version}");
        assert!(matches!(store.save("a.test", &pem("a.test"), b"{}"), Err(Error::ReadOnly(_))));
        assert!(matches!(store.pair("a.test").unwrap(), Found::Current(_)));
    }
    fs::write(store.path().join("VERSION"), "").unwrap();
    assert!(AcmeStore::open(&scratch.store()).refusal().is_none(), "a full disk left it empty");
    assert_eq!(fs::read(store.path().join("VERSION")).unwrap(), b"1\n");
}

#[test]
fn links_and_pipes_are_not_read_or_written_through() {
    let scratch = Scratch::new("acme-links");
    let elsewhere = scratch.path.join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("secret"), "{}").unwrap();
    let state = scratch.store();
    symlink(&elsewhere, state.path().join("acme")).unwrap();
    let through = AcmeStore::open(&state);
    assert!(through.refusal().is_some());
    assert!(through.write_status(b"{}").is_err());
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
    fs::remove_file(state.path().join("acme")).unwrap();
    let store = open(&scratch);
    symlink(elsewhere.join("secret"), store.path().join("status.json")).unwrap();
    assert!(matches!(store.status(), Err(Error::Damaged { .. })));
    store.write_status(b"[]").unwrap();
    assert_eq!(fs::read(elsewhere.join("secret")).unwrap(), b"{}", "the link was replaced");
    symlink(&elsewhere, store.path().join("accounts")).unwrap();
    assert!(store.save_account("letsencrypt", b"{}").is_err());
    let pipe = store.path().join("budget.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    assert!(matches!(store.read_json::<Plan>(Document::Budget), Err(Error::Damaged { .. })));
    assert!(matches!(read_anyway(&elsewhere), Err(Error::Damaged { .. })), "a directory");
}

#[test]
fn opening_for_reading_makes_nothing() {
    let scratch = Scratch::new("reading");
    let state = scratch.store();
    let store = AcmeStore::open_for_reading(&state);
    assert!(store.list().unwrap().is_empty() && store.status().unwrap().is_none());
    assert!(matches!(store.pair("a.test").unwrap(), Found::Nothing));
    assert!(matches!(store.save("a.test", &pem("a.test"), b"{}"), Err(Error::ReadOnly(_))));
    assert!(matches!(Lock::take(&store), Err(Error::ReadOnly(_))));
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    write_everything(&open(&scratch));
    assert!(matches!(store.pair("*.a.test").unwrap(), Found::Current(_)));
}

#[test]
fn what_killed_processes_left_is_removed_in_time() {
    let scratch = Scratch::new("left");
    let store = open(&scratch);
    write_everything(&store);
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
    for name in ["", "accounts/letsencrypt", "orders/b.test", "plan/a.test"] {
        for (file, time) in [(".new-1-1-0", old), (".new-2-2-0", std::time::SystemTime::now())] {
            let path = store.path().join(name).join(file);
            fs::write(&path, "half a key").unwrap();
            fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
    }
    open(&scratch);
    let left = tree(store.path()).into_iter().filter(|(path, _)| path.to_string_lossy().contains("/.new-"));
    let left: Vec<PathBuf> = left.map(|(path, _)| path).collect();
    assert_eq!(left.len(), 4, "{left:?}");
    assert!(left.iter().all(|path| path.ends_with(".new-2-2-0")), "another may be writing");
}

#[test]
fn slots_are_listed_by_name() {
    let scratch = Scratch::new("list");
    let store = open(&scratch);
    assert!(store.list().unwrap().is_empty());
    for slot in ["b.test", "*.a.test", "::1"] {
        store.save(slot, &pem("a.test"), b"{}").unwrap();
    }
    fs::create_dir(store.path().join("certs/Not ours")).unwrap();
    fs::write(store.path().join("certs/file"), "").unwrap();
    assert_eq!(store.list().unwrap(), ["*.a.test", "::1", "b.test"]);
}
