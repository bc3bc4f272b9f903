//! Tests of the lock, between threads and between processes.

use super::Lock;
use crate::acme::store::tests::Scratch;
use crate::acme::store::{AcmeStore, Store};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::process::{Command, Stdio};

const CHILD: &str = "LOCKRING_TEST_HOLD_LOCK";

#[test]
fn one_of_many_threads_has_it() {
    let scratch = Scratch::new("lock");
    let store = AcmeStore::open(&scratch.store());
    let held: Vec<Lock> = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8).map(|_| threads.spawn(|| Lock::take(&store).unwrap())).collect();
        tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 1);
    assert!(held[0].holds());
    assert_eq!(fs::metadata(store.path().join("LOCK")).unwrap().mode() & 0o777, 0o600);
    drop(held);
    assert!(Lock::take(&store).unwrap().is_some());
}

/// The child of the test below: takes the lock, says so, and holds it until it is killed.
#[test]
fn hold_until_killed() {
    let Some(state) = std::env::var_os(CHILD) else { return };
    let store = AcmeStore::open(&Store::open(std::path::Path::new(&state)).unwrap());
    let lock = Lock::take(&store).unwrap();
    println!("held {}", lock.is_some());
    std::thread::park();
}

#[test]
fn the_lock_of_a_killed_process_is_free_at_once() {
    let scratch = Scratch::new("killed");
    let store = AcmeStore::open(&scratch.store());
    for _ in 0..3 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "acme::store::lock::tests::hold_until_killed", "--nocapture"])
            .env(CHILD, scratch.path.join("state"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.find_map(|line| line.unwrap().split_once("held ").map(|(_, held)| held.to_owned()));
        let while_held = Lock::take(&store).map(|lock| lock.is_some());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(told.as_deref(), Some("true"));
        assert!(!while_held.unwrap());
        assert!(Lock::take(&store).unwrap().is_some());
    }
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let scratch = Scratch::new("locklink");
    let store = AcmeStore::open(&scratch.store());
    let victim = scratch.path.join("victim");
    fs::write(&victim, "").unwrap();
    std::os::unix::fs::symlink(&victim, store.path().join("LOCK")).unwrap();
    assert!(Lock::take(&store).is_err());
}
