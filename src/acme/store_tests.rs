//! Tests of the state directory's files; pairs are tested beside their code.

use super::{Error, Store, file_name, word_of};
use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A directory of one test, removed at its end.
pub(crate) struct Scratch {
    pub(crate) path: PathBuf,
}

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let path = std::env::temp_dir().join(format!("lockring-{name}-{}-{nanos}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    /// In memory where the system has a place for that: for tests that write thousands of files.
    pub(crate) fn in_memory(name: &str) -> Self {
        let memory = std::path::Path::new("/dev/shm");
        if !memory.is_dir() {
            return Self::new(name);
        }
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let path = memory.join(format!("lockring-{name}-{}-{nanos}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self { path }
    }

    pub(crate) fn store(&self) -> Store {
        Store::open(&self.path.join("state")).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

#[test]
fn everything_is_made_private() {
    let scratch = Scratch::new("private");
    let store = scratch.store();
    let dir = store.dir("local-ca").unwrap();
    dir.replace("a", b"1").unwrap();
    assert!(dir.create("b", b"2").unwrap());
    assert_eq!((mode(store.path()), mode(dir.path())), (0o700, 0o700));
    assert_eq!((mode(&dir.path().join("a")), mode(&dir.path().join("b"))), (0o600, 0o600));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "no temporary stays");
}

#[test]
fn what_others_can_read_or_change_is_refused() {
    let scratch = Scratch::new("exposed");
    let store = scratch.store();
    let dir = store.dir("keys").unwrap();
    dir.replace("k", b"secret").unwrap();
    fs::set_permissions(dir.path().join("k"), Permissions::from_mode(0o640)).unwrap();
    let refused = dir.read("k").unwrap_err();
    assert!(refused.to_string().contains("chmod go-rwx"), "{refused}");
    for open in [0o750, 0o705, 0o701] {
        fs::set_permissions(dir.path(), Permissions::from_mode(open)).unwrap();
        assert!(matches!(store.dir("keys"), Err(Error::Exposed { mode, .. }) if mode == open));
    }
    fs::set_permissions(store.path(), Permissions::from_mode(0o755)).unwrap();
    assert!(Store::open(store.path()).is_ok(), "names of certificates are no secret");
    fs::set_permissions(store.path(), Permissions::from_mode(0o775)).unwrap();
    assert!(matches!(Store::open(store.path()), Err(Error::Exposed { .. })));
}

#[test]
fn links_and_files_are_no_directories() {
    let scratch = Scratch::new("links");
    let store = scratch.store();
    fs::create_dir(scratch.path.join("elsewhere")).unwrap();
    symlink(scratch.path.join("elsewhere"), store.path().join("keys")).unwrap();
    assert!(store.dir("keys").is_err());
    fs::write(store.path().join("file"), "").unwrap();
    assert!(matches!(store.dir("file"), Err(Error::NotADirectory(_))));
}

#[test]
fn one_of_many_creates() {
    let scratch = Scratch::new("create");
    let dir = scratch.store().dir("local-ca").unwrap();
    let wins: Vec<u8> = std::thread::scope(|threads| {
        let tries: Vec<_> = (0..8u8)
            .map(|n| {
                threads.spawn({
                    let dir = &dir;
                    move || dir.create("k", &[n]).unwrap().then_some(n)
                })
            })
            .collect();
        tries.into_iter().filter_map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(wins.len(), 1);
    assert_eq!(dir.read("k").unwrap().unwrap(), wins);
}

#[test]
fn replacing_is_whole_and_reading_is_bounded() {
    let scratch = Scratch::new("replace");
    let dir = scratch.store().dir("accounts").unwrap();
    assert_eq!(dir.read("a").unwrap(), None);
    dir.replace("a", b"old").unwrap();
    dir.replace("a", b"new").unwrap();
    assert_eq!(dir.read("a").unwrap().unwrap(), b"new");
    dir.replace("a", &vec![0; 1024 * 1024 + 1]).unwrap();
    assert!(matches!(dir.read("a"), Err(Error::Damaged { .. })));
}

#[test]
fn words_become_distinct_safe_names() {
    let cases = [
        ("app.example.com", "app.example.com"),
        ("*.example.com", "%2a.example.com"),
        ("::1", "%3a%3a1"),
        ("../x", "%2e.%2fx"),
        ("%2a", "%252a"),
        (".", "%2e"),
    ];
    for (word, name) in cases {
        assert_eq!(file_name(word).unwrap(), name);
        assert_eq!(word_of(name).as_deref(), Some(word));
    }
    for name in ["", ".new-1", "A", "%2A", "%61", "a%", "a%2", "%ff", "a b"] {
        assert_eq!(word_of(name), None, "{name}");
    }
    assert!(matches!(file_name(""), Err(Error::BadName(_))));
    assert!(file_name(&"a".repeat(256)).is_err());
}

#[test]
fn stale_temporaries_are_swept() {
    let scratch = Scratch::new("sweep");
    let old = SystemTime::now() - Duration::from_secs(7200);
    for (name, time) in [(".new-1-1-0", old), (".new-2-2-0", SystemTime::now()), ("kept", old)] {
        let file = fs::File::create(scratch.path.join(name)).unwrap();
        file.set_modified(time).unwrap();
    }
    super::sweep(&scratch.path);
    assert!(!scratch.path.join(".new-1-1-0").exists());
    assert!(scratch.path.join(".new-2-2-0").exists() && scratch.path.join("kept").exists());
}
