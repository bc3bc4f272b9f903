//! Tests of certificates on disk: kills, damage, a full disk, readers beside a writer.

use super::{Flaw, Found, Kept, META};
use crate::acme::store::acme::tests::{again, open, pem};
use crate::acme::store::pair::{self, Pair, generations};
use crate::acme::store::tests::Scratch;
use crate::acme::store::{AcmeStore, Document, Error, Store};
use crate::tls::certs::PairError;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc;

const SLOT: &str = "a.test";

fn home(store: &AcmeStore) -> PathBuf {
    store.path().join("certs").join(SLOT)
}

fn current(store: &AcmeStore) -> Kept {
    match store.pair(SLOT).unwrap() {
        Found::Current(kept) => kept,
        other => panic!("{other:?}"),
    }
}

/// Keeps as many pairs as asked for, and gives them.
fn saved(store: &AcmeStore, count: usize) -> Vec<Pair> {
    let pairs: Vec<Pair> = (0..count).map(|_| pem(SLOT)).collect();
    for (n, pair) in pairs.iter().enumerate() {
        store.save(SLOT, pair, n.to_string().as_bytes()).unwrap();
    }
    pairs
}

#[test]
fn a_pair_comes_back_with_what_was_beside_it() {
    let scratch = Scratch::new("kept");
    let store = open(&scratch);
    assert!(matches!(store.pair(SLOT).unwrap(), Found::Nothing));
    assert!(matches!(store.mend(SLOT).unwrap(), Found::Nothing));
    let pairs = saved(&store, 1);
    let kept = current(&open(&scratch));
    assert_eq!((kept.pem, kept.meta.as_deref(), kept.generation), (pairs[0].clone(), Some(&b"0"[..]), 1));
    assert_eq!(kept.pair.names().len(), 1);
    assert!(store.pair("../x").is_ok_and(|found| matches!(found, Found::Nothing)));
    assert!(matches!(store.pair(""), Err(Error::BadName(_))));
}

#[test]
fn two_generations_before_the_current_one_stay() {
    let scratch = Scratch::new("generations");
    let store = open(&scratch);
    saved(&store, 6);
    let mut kept = generations(&home(&store));
    kept.sort_unstable();
    assert_eq!(kept, [4, 5, 6]);
}

#[test]
fn what_does_not_belong_together_is_not_kept() {
    let scratch = Scratch::new("mixed");
    let store = open(&scratch);
    let (a, b) = (pem(SLOT), pem(SLOT));
    let mixed = Pair { certificate: a.certificate.clone(), key: b.key.clone() };
    let refused = store.save(SLOT, &mixed, b"{}").unwrap_err();
    assert!(matches!(refused, Error::NotAPair(PairError::KeyMismatch)));
    assert!(matches!(store.pair(SLOT).unwrap(), Found::Nothing));
}

#[test]
fn a_kill_at_any_step_leaves_the_old_or_the_new_whole() {
    for has_old in [false, true] {
        let scratch = Scratch::in_memory("kept-kill");
        let store = open(&scratch);
        let (old, new) = (pem(SLOT), pem(SLOT));
        let mut steps = 0;
        loop {
            let _ = fs::remove_dir_all(home(&store));
            if has_old {
                store.save(SLOT, &old, b"1").unwrap();
            }
            let place = store.home("certs", SLOT).unwrap();
            let [chain, key] = pair::parts(&new);
            let mut left = steps;
            let done =
                pair::steps(&place.path, &[chain, key, ("write", META, b"2")], &mut Vec::new(), &mut |_| {
                    left = usize::checked_sub(left, 1).ok_or(io::ErrorKind::Other)?;
                    Ok(())
                });
            match store.mend(SLOT).unwrap().kept() {
                None => assert!(!has_old && done.is_err()),
                Some(kept) if kept.pem == old => {
                    assert_eq!((kept.meta.as_deref(), has_old), (Some(&b"1"[..]), true))
                }
                Some(kept) => assert_eq!((kept.pem == new, kept.meta.as_deref()), (true, Some(&b"2"[..]))),
            }
            assert!(!matches!(store.pair(SLOT).unwrap(), Found::Spoilt { .. }), "mended, after {steps}");
            store.save(SLOT, &new, b"3").unwrap();
            assert_eq!(current(&store).meta.as_deref(), Some(&b"3"[..]), "the next renewal works");
            if done.is_ok() {
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, 9, "every step was a stop once");
        assert!(!store.path().join("corrupt").exists(), "nothing was spoilt");
    }
}

#[test]
fn a_full_disk_at_any_step_leaves_the_old_pair_and_nothing_else() {
    let scratch = Scratch::in_memory("kept-full");
    let store = open(&scratch);
    let old = saved(&store, 1).remove(0);
    for stop in 0..8 {
        let mut left = stop;
        let refused = store.save_through(SLOT, &pem(SLOT), b"2", &mut |_| {
            left = usize::checked_sub(left, 1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        });
        assert!(
            matches!(refused, Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::StorageFull)
        );
        assert_eq!(current(&store).pem, old, "stopped at {stop}");
        let mut left: Vec<_> =
            fs::read_dir(home(&store)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["1", "current"], "stopped at {stop}");
    }
    let mut left = 8;
    let new = pem(SLOT);
    let refused = store.save_through(SLOT, &new, b"2", &mut |_| {
        left = usize::checked_sub(left, 1).ok_or(io::ErrorKind::StorageFull)?;
        Ok(())
    });
    assert!(refused.is_err());
    assert_eq!(current(&store).pem, new, "the last step comes after the new pair became current");
}

/// The child of the test below, which may write no byte into any file.
#[test]
fn write_what_does_not_fit() {
    let Some(state) = std::env::var_os("LOCKRING_TEST_NO_BYTE") else { return };
    let store = AcmeStore::open(&Store::open(Path::new(&state)).unwrap());
    let old = current(&store);
    assert!(matches!(store.probe(), Err(Error::Io { .. })));
    assert!(matches!(store.save(SLOT, &pem(SLOT), b"2"), Err(Error::Io { .. })));
    assert!(matches!(store.save_order(SLOT, &old.pem.key, b"{}"), Err(Error::Io { .. })));
    assert!(matches!(store.replace_json(Document::Budget, &2), Err(Error::Io { .. })));
    assert_eq!(current(&store).pem, old.pem);
}

#[test]
fn a_process_that_cannot_write_leaves_all_as_it_was() {
    let scratch = Scratch::new("no-byte");
    let store = open(&scratch);
    let old = saved(&store, 1).remove(0);
    store.replace_json(Document::Budget, &1).unwrap();
    // Ignored, the signal becomes an error of the writing call.
    let shell = "trap '' XFSZ; ulimit -f 0;";
    let test = "certificates::tests::write_what_does_not_fit";
    let (ok, text) = again(test, "LOCKRING_TEST_NO_BYTE", &scratch.path.join("state"), shell);
    assert!(ok, "{text}");
    assert_eq!(current(&store).pem, old);
    assert_eq!(store.read_json::<u32>(Document::Budget).unwrap(), Some(1));
    assert_eq!(store.order(SLOT).unwrap(), None);
}

/// A file system of 64 KiB, unmounted at the end.
struct Small(PathBuf);

impl Small {
    /// `None`, with a word about it, where this user may not mount.
    fn mount(place: &Path) -> Option<Self> {
        fs::create_dir(place).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs"])
            .arg(place)
            .output()
            .is_ok_and(|output| output.status.success());
        if !mounted {
            let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
            let must = is_root && std::env::var("CI").is_ok_and(|ci| ci == "true");
            assert!(!must, "root, but a small file system cannot be mounted");
            println!("not checked: a small file system cannot be mounted");
            return None;
        }
        Some(Self(place.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_disk_that_is_full_keeps_what_was_there() {
    let scratch = Scratch::new("full");
    let Some(small) = Small::mount(&scratch.path.join("small")) else { return };
    let store = AcmeStore::open(&Store::open(&small.0).unwrap());
    store.probe().unwrap();
    let old = saved(&store, 1).remove(0);
    // All but two pages, so that a pair is begun and not ended.
    let filler = small.0.join("filler");
    let mut content = vec![1; 64 * 1024];
    while fs::write(&filler, &content).is_err() {
        content.truncate(content.len() - 4096);
    }
    content.truncate(content.len().saturating_sub(2 * 4096));
    fs::write(&filler, &content).unwrap();
    assert!(
        matches!(store.probe(), Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::StorageFull)
    );
    for _ in 0..3 {
        let refused = store.save(SLOT, &pem(SLOT), b"2");
        assert!(
            matches!(refused, Err(Error::Io { error, .. }) if error.kind() == io::ErrorKind::StorageFull)
        );
        assert_eq!(current(&store).pem, old);
    }
    assert_eq!(fs::read_dir(home(&store)).unwrap().count(), 2, "what was begun is gone");
    fs::remove_file(filler).unwrap();
    store.probe().unwrap();
    let new = pem(SLOT);
    store.save(SLOT, &new, b"3").unwrap();
    assert_eq!(current(&store).pem, new);
}

/// Spoils a slot of three generations, mends it, and gives what mending found.
fn spoil(name: &str, spoil: impl Fn(&Path, &[Pair])) -> Found {
    let scratch = Scratch::new("spoilt");
    let store = open(&scratch);
    let pairs = saved(&store, 3);
    let seen = current(&store).seen;
    spoil(&home(&store), &pairs);
    let read_only = store.pair(SLOT).unwrap().kept().map(|kept| kept.generation);
    let found = store.mend(SLOT).unwrap();
    let Found::Spoilt { older, faults } = &found else { panic!("{name}: {found:?}") };
    assert_eq!(older.as_ref().map(|kept| kept.generation), read_only, "{name}: reading finds the same");
    for fault in faults {
        assert!(fault.flaw.is_lasting(), "{name}: {fault}");
        let gone = matches!(fault.flaw, Flaw::NoLink | Flaw::Missing("the generation"));
        assert!(
            gone || fault.path.ends_with("current")
                || fs::symlink_metadata(fault.moved.as_ref().unwrap()).is_ok(),
            "{name}: {fault}"
        );
    }
    if let Some(older) = older {
        let now = current(&store);
        assert_eq!(
            (now.generation, now.pem),
            (older.generation, pairs[older.generation as usize - 1].clone())
        );
        assert_eq!(store.changed(SLOT, &seen), Some(older.seen), "{name}: followers see it");
    }
    store.save(SLOT, &pem(SLOT), b"{}").unwrap();
    current(&store);
    found
}

fn older(found: Found) -> Option<u64> {
    found.kept().map(|kept| kept.generation)
}

#[test]
fn a_spoilt_generation_is_set_aside_and_the_one_before_it_is_used() {
    let files: [(&str, &[u8]); 6] = [
        ("key.pem", b""),
        ("certificate.pem", b""),
        ("certificate.pem", b"-----BEGIN CERTIFICATE-----\nMIIB"),
        ("key.pem", b"\xff\xfe"),
        ("key.pem", &[b'a'; 1024 * 1024 + 1]),
        ("key.pem", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"),
    ];
    for (file, content) in files {
        let found = spoil(file, |home, _| fs::write(home.join("3").join(file), content).unwrap());
        assert_eq!(older(found), Some(2), "{file}");
    }
    let cut = spoil("truncated", |home, pairs| {
        let half = pairs[2].certificate.len() / 2;
        fs::write(home.join("3/certificate.pem"), &pairs[2].certificate[..half]).unwrap();
    });
    assert_eq!(older(cut), Some(2));
    let mixed = spoil("mismatch", |home, pairs| fs::write(home.join("3/key.pem"), &*pairs[1].key).unwrap());
    let Found::Spoilt { older: Some(kept), faults } = mixed else { panic!() };
    assert!(matches!(faults[0].flaw, Flaw::Pair(PairError::KeyMismatch)), "{faults:?}");
    assert_eq!(kept.meta.as_deref(), Some(&b"1"[..]));
    let two = spoil("two", |home, _| {
        fs::write(home.join("3/key.pem"), "").unwrap();
        fs::remove_file(home.join("2/certificate.pem")).unwrap();
    });
    assert_eq!(older(two), Some(1));
    let all = spoil("all", |home, _| {
        (1..4).for_each(|n| fs::write(home.join(format!("{n}/key.pem")), "").unwrap());
    });
    assert_eq!(older(all), None);
}

#[test]
fn a_link_that_names_no_generation_is_replaced() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, u64); 6] = [
        ("gone", |_| {}, 3),
        ("elsewhere", |current| symlink("../b.test/1", current).unwrap(), 3),
        ("absolute", |current| symlink("/etc", current).unwrap(), 3),
        ("dangling", |current| symlink("9", current).unwrap(), 3),
        ("file", |current| fs::write(current, "3").unwrap(), 3),
        ("directory", |current| fs::create_dir(current).unwrap(), 3),
    ];
    for (name, spoiling, expected) in cases {
        let found = spoil(name, |home, _| {
            fs::remove_file(home.join("current")).unwrap();
            spoiling(&home.join("current"));
        });
        assert_eq!(older(found), Some(expected), "{name}");
    }
    let found = spoil("generation elsewhere", |home, _| {
        fs::rename(home.join("3"), home.join("moved")).unwrap();
        symlink("moved", home.join("3")).unwrap();
    });
    assert_eq!(older(found), Some(2), "a link is no generation");
}

#[test]
fn a_slot_that_is_a_link_is_moved_away() {
    let scratch = Scratch::new("slot-link");
    let store = open(&scratch);
    saved(&store, 1);
    let elsewhere = scratch.path.join("elsewhere");
    fs::rename(home(&store), &elsewhere).unwrap();
    symlink(&elsewhere, home(&store)).unwrap();
    let Found::Spoilt { older: None, faults } = store.mend(SLOT).unwrap() else { panic!() };
    assert!(faults[0].moved.as_ref().unwrap().is_symlink());
    assert!(elsewhere.join("current").is_symlink(), "untouched");
    assert!(matches!(store.pair(SLOT).unwrap(), Found::Nothing));
}

#[test]
fn a_damaged_remark_does_not_cost_the_certificate() {
    let scratch = Scratch::new("meta");
    let store = open(&scratch);
    let pairs = saved(&store, 2);
    for content in ["", "{\"directory\":"] {
        fs::write(home(&store).join("2/meta.json"), content).unwrap();
        let kept = current(&store);
        assert_eq!((kept.pem, kept.meta), (pairs[1].clone(), None));
    }
}

#[test]
fn followers_see_a_change_and_only_a_change() {
    let scratch = Scratch::new("changed");
    let store = open(&scratch);
    let nothing = store.seen(SLOT);
    assert_eq!(store.changed(SLOT, &nothing), None);
    let first = store.save(SLOT, &pem(SLOT), b"{}").unwrap();
    let follower = open(&scratch);
    assert_eq!(follower.changed(SLOT, &nothing), Some(first));
    assert_eq!((follower.changed(SLOT, &first), current(&follower).seen), (None, first));
    let second = store.save(SLOT, &pem(SLOT), b"{}").unwrap();
    assert_eq!(follower.changed(SLOT, &first), Some(second));
    fs::write(home(&store).join("2/key.pem"), "").unwrap();
    store.mend(SLOT).unwrap();
    let third = store.save(SLOT, &pem(SLOT), b"{}").unwrap();
    assert_eq!(current(&store).generation, 2, "the number is used again");
    assert_eq!(follower.changed(SLOT, &second), Some(third), "and is still a change");
}

#[test]
fn readers_beside_a_thousand_savings_see_whole_pairs() {
    let scratch = Scratch::in_memory("thousand");
    let store = open(&scratch);
    let pairs: Vec<Pair> = (0..8).map(|_| pem(SLOT)).collect();
    store.save(SLOT, &pairs[0], b"0").unwrap();
    let looks: u32 = std::thread::scope(|threads| {
        let (done, is_done) = mpsc::channel::<()>();
        let writer = threads.spawn({
            let (store, pairs) = (&store, &pairs);
            move || {
                for n in 1..=1000usize {
                    store.save(SLOT, &pairs[n % 8], (n % 8).to_string().as_bytes()).unwrap();
                }
                drop(done);
            }
        });
        let mut looks = 0;
        while is_done.try_recv() == Err(mpsc::TryRecvError::Empty) {
            let kept = current(&store);
            let number: usize = String::from_utf8(kept.meta.unwrap()).unwrap().parse().unwrap();
            assert_eq!(kept.pem, pairs[number], "all three files are of one generation");
            looks += 1;
        }
        writer.join().unwrap();
        looks
    });
    assert!(looks > 50, "{looks}");
    assert_eq!(generations(&home(&store)).len(), 3);
}

#[test]
fn no_key_is_shown() {
    let scratch = Scratch::new("debug");
    let store = open(&scratch);
    let pair = saved(&store, 1).remove(0);
    let secret = pair.key.lines().nth(1).unwrap().to_owned();
    let found = store.pair(SLOT).unwrap();
    assert!(format!("{pair:?}").contains("BEGIN CERTIFICATE"));
    for shown in [format!("{pair:?}"), format!("{found:?}")] {
        assert!(!shown.contains(&secret) && !shown.contains("PRIVATE KEY"), "{shown}");
    }
    fs::write(home(&store).join("1/key.pem"), &pair.key[..60]).unwrap();
    let Found::Spoilt { faults, .. } = store.pair(SLOT).unwrap() else { panic!() };
    let told = format!("{faults:?} {}", faults[0]);
    assert!(!told.contains(&secret[..10]), "{told}");
}
