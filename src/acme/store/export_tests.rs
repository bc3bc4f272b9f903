//! Tests of plain copies.

use super::{Exported, export};
use crate::acme::store::acme::tests::pem;
use crate::acme::store::tests::Scratch;
use crate::acme::store::{Error, Pair};
use crate::tls::certs::CertifiedPair;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

#[test]
fn both_files_are_there_with_their_permissions() {
    let scratch = Scratch::new("export");
    let pair = pem("a.test");
    assert_eq!(export(&scratch.path, "*.a.test", &pair).unwrap(), Exported::Written);
    assert_eq!(export(&scratch.path, "*.a.test", &pair).unwrap(), Exported::Unchanged);
    let (chain, key) = (scratch.path.join("%2a.a.test.pem"), scratch.path.join("%2a.a.test.key"));
    assert_eq!(fs::read_to_string(&chain).unwrap(), pair.certificate);
    assert_eq!(fs::read_to_string(&key).unwrap(), *pair.key);
    let mode = |path| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!((mode(&chain), mode(&key)), (0o644, 0o600));
    assert_eq!(fs::read_dir(&scratch.path).unwrap().count(), 2, "no temporary stays");
    fs::write(&key, "half").unwrap();
    assert_eq!(export(&scratch.path, "*.a.test", &pair).unwrap(), Exported::Written, "a start repairs it");
    assert_eq!(fs::read_to_string(&key).unwrap(), *pair.key);
}

#[test]
fn links_are_replaced_and_not_followed() {
    let scratch = Scratch::new("export-links");
    let victim = scratch.path.join("victim");
    fs::write(&victim, "theirs").unwrap();
    for name in ["a.test.pem", "a.test.key"] {
        symlink(&victim, scratch.path.join(name)).unwrap();
    }
    export(&scratch.path, "a.test", &pem("a.test")).unwrap();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    assert!(!scratch.path.join("a.test.key").is_symlink());
}

#[test]
fn a_failure_leaves_the_old_files() {
    let scratch = Scratch::new("export-fail");
    let old = pem("a.test");
    export(&scratch.path, "a.test", &old).unwrap();
    fs::remove_file(scratch.path.join("a.test.key")).unwrap();
    fs::create_dir(scratch.path.join("a.test.key")).unwrap();
    assert!(matches!(export(&scratch.path, "a.test", &pem("a.test")), Err(Error::Io { .. })));
    assert_eq!(fs::read_to_string(scratch.path.join("a.test.pem")).unwrap(), old.certificate);
    assert_eq!(fs::read_dir(&scratch.path).unwrap().count(), 2, "no temporary stays");
    let file = scratch.path.join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(export(&file, "a.test", &old), Err(Error::NotADirectory(_))));
    let anew = scratch.path.join("made/anew");
    export(&anew, "a.test", &old).unwrap();
    assert_eq!(fs::read_to_string(anew.join("a.test.pem")).unwrap(), old.certificate);
}

#[test]
fn who_loads_both_when_the_chain_changes_finds_its_key() {
    let scratch = Scratch::in_memory("export-reader");
    let pairs: Vec<Pair> = (0..4).map(|_| pem("a.test")).collect();
    export(&scratch.path, "a.test", &pairs[0]).unwrap();
    let chain = scratch.path.join("a.test.pem");
    let mut loaded = 0;
    std::thread::scope(|threads| {
        let (order, wait) = std::sync::mpsc::sync_channel::<()>(0);
        let writer = threads.spawn({
            let (pairs, path) = (&pairs, &scratch.path);
            move || {
                for n in 1..200 {
                    // The next only when the reader is done: one that is slower than renewals is lost.
                    wait.recv().unwrap();
                    export(path, "a.test", &pairs[n % 4]).unwrap();
                }
            }
        });
        let mut seen = fs::metadata(&chain).unwrap().ino();
        for _ in 1..200 {
            order.send(()).unwrap();
            let mut found = seen;
            while found == seen {
                found = fs::metadata(&chain).unwrap().ino();
            }
            seen = found;
            let (chain, key) =
                (fs::read(&chain).unwrap(), fs::read(scratch.path.join("a.test.key")).unwrap());
            CertifiedPair::from_pem(&chain, &key).unwrap();
            loaded += 1;
        }
        writer.join().unwrap();
    });
    assert_eq!(loaded, 199);
}
