//! Tests of the choice of a leader over real files.

use super::{LEASE, Leadership, Standing, instance};
use crate::acme::store::AcmeStore;
use crate::acme::store::tests::Scratch;
use std::fs;
use std::time::Instant;

fn part(store: &AcmeStore, instance: &str) -> Leadership {
    Leadership { instance: instance.to_owned(), always_lease: true, ..Leadership::new(store, Instant::now()) }
}

#[test]
fn on_a_file_system_of_one_machine_the_lock_decides_at_once() {
    let scratch = Scratch::in_memory("lead");
    let store = AcmeStore::open(&scratch.store());
    let (mut first, mut second) =
        (Leadership::new(&store, Instant::now()), Leadership::new(&store, Instant::now()));
    assert_eq!((first.leads(), second.leads()), (false, false));
    for _ in 0..2 {
        assert_eq!(first.poll().unwrap(), Standing::Leader);
        assert_eq!(second.poll().unwrap(), Standing::Follower);
    }
    assert_eq!((first.leads(), second.leads()), (true, false));
    first.release();
    assert!(!first.leads());
    assert_eq!(second.poll().unwrap(), Standing::Leader);
    drop(second);
    assert_eq!(first.poll().unwrap(), Standing::Leader, "as after a kill");
    if std::path::Path::new("/dev/shm").is_dir() {
        assert!(!store.path().join(LEASE).exists(), "nothing is written each ten seconds");
    }
}

#[test]
fn where_machines_share_it_the_lease_decides() {
    let scratch = Scratch::new("machines");
    let store = AcmeStore::open(&scratch.store());
    let lease = || fs::read_to_string(store.path().join(LEASE)).unwrap();
    let mut first = part(&store, "a");
    assert_eq!(first.poll().unwrap(), Standing::Leader);
    assert_eq!(part(&store, "a").poll().unwrap(), Standing::Follower, "it has not the lock");
    assert_eq!(first.poll().unwrap(), Standing::Leader);
    let written = lease();
    drop(first);
    assert_eq!(part(&store, "b").poll().unwrap(), Standing::Follower);
    assert_eq!(lease(), written, "another machine waits for silence");
    assert_eq!(part(&store, "a").poll().unwrap(), Standing::Follower, "a claim settles first");
    assert_ne!(lease(), written);
}

#[test]
fn what_is_released_is_claimed() {
    let scratch = Scratch::new("released");
    let store = AcmeStore::open(&scratch.store());
    let lease = || fs::read_to_string(store.path().join(LEASE)).unwrap();
    let mut first = part(&store, "a");
    assert_eq!(first.poll().unwrap(), Standing::Leader);
    first.release();
    assert!(!first.leads());
    assert!(lease().contains(r#""released":true"#));
    let mut other = part(&store, "b");
    assert_eq!(other.poll().unwrap(), Standing::Follower, "a claim settles first");
    assert!(lease().contains(r#""instance":"b""#));
    other.release();
    assert!(lease().contains(r#""released":false"#), "who does not lead gives nothing back");
}

#[test]
fn a_leader_that_finds_another_record_steps_down() {
    let scratch = Scratch::new("lost");
    let store = AcmeStore::open(&scratch.store());
    for content in [r#"{"instance":"b","counter":1}"#, "", "{\"instance\":"] {
        let mut part = part(&store, "a");
        assert_eq!(part.poll().unwrap(), Standing::Leader);
        store.dir.replace_file(LEASE, content.as_bytes(), 0o600).unwrap();
        assert_eq!(part.poll().unwrap(), Standing::Follower, "{content}");
        fs::remove_file(store.path().join(LEASE)).unwrap();
    }
}

#[test]
fn a_lock_whose_file_was_removed_is_none() {
    let scratch = Scratch::in_memory("unlinked");
    let store = AcmeStore::open(&scratch.store());
    let mut first = Leadership::new(&store, Instant::now());
    assert_eq!(first.poll().unwrap(), Standing::Leader);
    fs::remove_file(store.path().join("LOCK")).unwrap();
    let mut second = Leadership::new(&store, Instant::now());
    assert_eq!(second.poll().unwrap(), Standing::Leader);
    assert_eq!(first.poll().unwrap(), Standing::Follower, "it asks for the new file's lock");
}

#[test]
fn the_machine_has_one_name() {
    assert!(instance().len() >= 16);
    if fs::metadata("/proc/sys/kernel/random/boot_id").is_ok() {
        assert_eq!(instance(), instance());
    }
}
