//! A certificate chain and its key as one unit. Each version is a directory that is written whole under
//! a temporary name, and a symbolic link names the one that counts, so the two can never be mixed.

use std::fmt;
use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{Dir, Error, file_name, io_error, is_stale, own_all_of, read, sweep, sync_dir, temporary};

pub(super) const CERTIFICATE: &str = "certificate.pem";
pub(super) const KEY: &str = "key.pem";
pub(super) const CURRENT: &str = "current";
/// Times that reading begins anew because a generation went away meanwhile, which takes a reader that
/// sleeps for an hour.
const READ_TRIES: u32 = 4;
/// Generation numbers tried in one writing: each is lost only to another writer that was faster.
const NUMBER_TRIES: u64 = 64;

/// A chain and its key, in PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The chain, leaf first.
    pub certificate: String,
    /// The private key; wiped when dropped.
    pub key: Zeroizing<String>,
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the key.
        f.debug_struct("Pair").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}

/// Asked before each step of writing; an error stops there, as a kill would.
pub(super) type Gate<'a> = &'a mut dyn FnMut(&'static str) -> io::Result<()>;

/// A file of a generation: the step that writes it, as in "cannot {step} {home}", its name, its content.
pub(super) type Part<'a> = (&'static str, &'static str, &'a [u8]);

/// Which generations beside the current one stay.
#[derive(Clone, Copy)]
pub(super) struct Keep {
    /// How many older ones, whatever their age.
    pub(super) older: usize,
    /// Whether more of them stay for an hour, for readers that cannot begin anew.
    pub(super) while_fresh: bool,
}

/// The files of a pair.
pub(super) fn parts(pair: &Pair) -> [Part<'_>; 2] {
    [
        ("write a certificate in", CERTIFICATE, pair.certificate.as_bytes()),
        ("write a key in", KEY, pair.key.as_bytes()),
    ]
}

impl Dir {
    /// The pair kept for `name` (a host pattern), or `None` if none was ever kept.
    ///
    /// # Errors
    /// [`Error::Damaged`] when the files are not a pair that this program wrote, [`Error::Exposed`],
    /// [`Error::Io`].
    pub fn pair(&self, name: &str) -> Result<Option<Pair>, Error> {
        let home = self.path.join(file_name(name)?);
        let current = home.join(CURRENT);
        for _ in 0..READ_TRIES {
            let generation = match fs::read_link(&current) {
                Ok(target) => {
                    generation(&target).ok_or_else(|| damaged(&current, "does not name a generation"))?
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(io_error("read", &current, error)),
            };
            let place = home.join(generation.to_string());
            if let (Some(certificate), Some(key)) = (read(&place.join(CERTIFICATE))?, read(&place.join(KEY))?)
            {
                return parse(&place, certificate, key).map(Some);
            }
        }
        Err(damaged(&current, "names a generation that is not there"))
    }

    /// Keeps a pair for `name`. When this returns it is on disk, and [`Dir::pair`] gives it.
    ///
    /// # Errors
    /// [`Error::Io`]: then the pair before it stands.
    pub fn save_pair(&self, name: &str, pair: &Pair) -> Result<(), Error> {
        let home = self.dir(name)?;
        let keep = Keep { older: 1, while_fresh: true };
        save(&home.path, &parts(pair), keep, &mut |_| Ok(())).map(drop)
    }
}

/// Makes a generation of these files and lets `current` name it; gives its number. An error leaves
/// nothing of it behind.
pub(super) fn save(home: &Path, parts: &[Part<'_>], keep: Keep, gate: Gate<'_>) -> Result<u64, Error> {
    sweep(home);
    let mut made = Vec::new();
    let saved = steps(home, parts, &mut made, gate);
    if saved.is_err() {
        for path in made {
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir_all(&path));
        }
    } else {
        prune(home, keep);
    }
    saved
}

/// The steps of keeping a generation; `made` lists what an error leaves behind.
pub(super) fn steps(
    home: &Path,
    parts: &[Part<'_>],
    made: &mut Vec<PathBuf>,
    gate: Gate<'_>,
) -> Result<u64, Error> {
    let mut step = |name: &'static str| gate(name).map_err(|error| io_error(name, home, error));
    step("make a generation in")?;
    let (fresh, ()) = temporary(home, |path| DirBuilder::new().mode(0o700).create(path))?;
    made.push(fresh.clone());
    own_all_of(&fresh)?;
    let fresh = Dir { path: fresh };
    for (writing, name, content) in parts {
        step(writing)?;
        fresh.create(name, content)?;
    }
    step("name a generation in")?;
    let number = name_generation(home, &fresh.path)?;
    made.push(home.join(number.to_string()));
    step("sync")?;
    sync_dir(home)?;
    step("make a link in")?;
    point_at(home, number, made, &mut step)?;
    step("sync")?;
    sync_dir(home)?;
    Ok(number)
}

/// Lets `current` name a generation; nothing that `made` lists may be taken away from then on.
fn point_at(
    home: &Path,
    number: u64,
    made: &mut Vec<PathBuf>,
    step: &mut dyn FnMut(&'static str) -> Result<(), Error>,
) -> Result<(), Error> {
    let (link, ()) = temporary(home, |path| symlink(number.to_string(), path))?;
    made.push(link.clone());
    step("replace the link in")?;
    let current = home.join(CURRENT);
    fs::rename(&link, &current).map_err(|error| io_error("replace", &current, error))?;
    made.clear();
    Ok(())
}

/// Lets `current` name a generation that is there.
pub(super) fn repoint(home: &Path, number: u64) -> Result<(), Error> {
    let mut made = Vec::new();
    let pointed = point_at(home, number, &mut made, &mut |_| Ok(()));
    for path in made {
        let _ = fs::remove_file(path);
    }
    pointed?;
    sync_dir(home)
}

/// Gives a whole generation the next free number.
fn name_generation(home: &Path, fresh: &Path) -> Result<u64, Error> {
    let first = generations(home).into_iter().max().unwrap_or(0) + 1;
    let mut last = None;
    for number in first..first + NUMBER_TRIES {
        // A directory cannot be renamed onto one that has files, so two writers never share a number.
        match fs::rename(fresh, home.join(number.to_string())) {
            Ok(()) => return Ok(number),
            Err(error) if matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty) => {
                last = Some(error);
            }
            Err(error) => return Err(io_error("rename", fresh, error)),
        }
    }
    Err(io_error("rename", fresh, last.unwrap_or_else(|| ErrorKind::AlreadyExists.into())))
}

/// Removes generations that nobody needs: those before the ones that stay, and those that a killed
/// process never made current, once they are old: another writer may be about to make a fresh one current.
fn prune(home: &Path, keep: Keep) {
    let Some(current) = fs::read_link(home.join(CURRENT)).ok().and_then(|target| generation(&target)) else {
        return;
    };
    let (mut older, newer): (Vec<u64>, Vec<u64>) = generations(home)
        .into_iter()
        .filter(|number| *number != current)
        .partition(|number| *number < current);
    older.sort_unstable();
    older.truncate(older.len().saturating_sub(keep.older));
    let place = |number: u64| home.join(number.to_string());
    let unused = older.into_iter().map(place).filter(|place| !keep.while_fresh || is_stale(place));
    let left_over = newer.into_iter().map(place).filter(|place| is_stale(place));
    for place in unused.chain(left_over) {
        let _ = fs::remove_dir_all(place);
    }
}

/// The numbers of the generations that are there.
pub(super) fn generations(home: &Path) -> Vec<u64> {
    let entries = fs::read_dir(home).into_iter().flatten().flatten();
    entries.filter_map(|entry| generation(Path::new(&entry.file_name()))).collect()
}

/// The number that is the whole name; leading zeros and signs are not ours.
pub(super) fn generation(name: &Path) -> Option<u64> {
    let text = name.to_str()?;
    let number: u64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn parse(place: &Path, certificate: Vec<u8>, key: Vec<u8>) -> Result<Pair, Error> {
    let key = String::from_utf8(key).map(Zeroizing::new);
    let certificate = String::from_utf8(certificate);
    match (certificate, key) {
        (Ok(certificate), Ok(key))
            if certificate.contains("BEGIN CERTIFICATE") && key.contains("PRIVATE KEY") =>
        {
            Ok(Pair { certificate, key })
        }
        _ => Err(damaged(place, "not a certificate and a key in PEM")),
    }
}

fn damaged(path: &Path, what: &'static str) -> Error {
    Error::Damaged { path: path.to_owned(), what }
}

#[cfg(test)]
mod tests {
    use super::{Gate, Keep, Pair, generations, parts, prune, steps};
    use crate::acme::store::tests::Scratch;
    use crate::acme::store::{Dir, Error, Store};
    use std::fs;
    use std::io;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    fn pair(n: u32) -> Pair {
        Pair {
            certificate: format!("-----BEGIN CERTIFICATE-----\n{n}\n"),
            key: format!("-----BEGIN PRIVATE KEY-----\n{n}\n").into(),
        }
    }

    fn save_until(dir: &Dir, name: &str, pair: &Pair, gate: Gate<'_>) -> Result<(), Error> {
        steps(&dir.dir(name).unwrap().path, &parts(pair), &mut Vec::new(), gate).map(drop)
    }

    #[test]
    fn a_pair_comes_back_and_the_newest_wins() {
        let scratch = Scratch::new("pair");
        let dir = scratch.store().dir("certificates").unwrap();
        assert_eq!(dir.pair("*.example.com").unwrap(), None);
        for n in 1..=5 {
            dir.save_pair("*.example.com", &pair(n)).unwrap();
            assert_eq!(dir.pair("*.example.com").unwrap(), Some(pair(n)));
        }
        let home = dir.dir("*.example.com").unwrap();
        assert_eq!(generations(&home.path).len(), 5, "fresh ones may be in use");
        for number in generations(&home.path) {
            let old = std::time::SystemTime::now() - std::time::Duration::from_secs(7200);
            fs::File::open(home.path.join(number.to_string())).unwrap().set_modified(old).unwrap();
        }
        prune(&home.path, Keep { older: 1, while_fresh: true });
        let mut kept = generations(&home.path);
        kept.sort_unstable();
        assert_eq!(kept, [4, 5], "the last two stay");
        assert_eq!(dir.pair("example.com").unwrap(), None, "another name");
    }

    /// Stops a writing after some steps, and checks what is there then; whether it came to its end.
    fn killed_after(steps: usize, old: Option<&Pair>) -> bool {
        let scratch = Scratch::new("kill");
        let dir = scratch.store().dir("certificates").unwrap();
        if let Some(old) = old {
            dir.save_pair("a.test", old).unwrap();
        }
        let mut left = steps;
        let done = save_until(&dir, "a.test", &pair(2), &mut |_| {
            left = left.checked_sub(1).ok_or(io::ErrorKind::Other)?;
            Ok(())
        });
        let found = dir.pair("a.test").unwrap();
        assert!(found.as_ref() == old || found == Some(pair(2)), "stopped after {steps} steps: {found:?}");
        assert!(done.is_err() || found == Some(pair(2)));
        dir.save_pair("a.test", &pair(3)).unwrap();
        assert_eq!(dir.pair("a.test").unwrap(), Some(pair(3)), "the next renewal works");
        done.is_ok()
    }

    #[test]
    fn a_kill_at_any_step_leaves_the_old_pair_or_the_new_one() {
        for old in [None, Some(pair(1))] {
            let whole = (0..100).find(|steps| killed_after(*steps, old.as_ref()));
            assert_eq!(whole, Some(8), "every step was a stop once");
        }
    }

    /// The child of the test below: writes pairs until it is killed.
    #[test]
    fn write_until_killed() {
        let Some(state) = std::env::var_os("LOCKRING_TEST_WRITE_UNTIL_KILLED") else { return };
        let dir = Store::open(std::path::Path::new(&state)).unwrap().dir("certificates").unwrap();
        for n in 1.. {
            dir.save_pair("a.test", &pair(n)).unwrap();
        }
    }

    #[test]
    fn a_process_killed_at_random_leaves_whole_pairs() {
        let scratch = Scratch::new("sigkill");
        let dir = scratch.store().dir("certificates").unwrap();
        dir.save_pair("a.test", &pair(0)).unwrap();
        for round in 0..15u64 {
            let mut child = Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "acme::store::pair::tests::write_until_killed"])
                .env("LOCKRING_TEST_WRITE_UNTIL_KILLED", scratch.path.join("state"))
                .stdout(Stdio::null())
                .spawn()
                .unwrap();
            std::thread::sleep(Duration::from_micros(30_000 + round * 7_919));
            child.kill().unwrap();
            child.wait().unwrap();
            let found = dir.pair("a.test").unwrap().unwrap();
            assert_eq!(found.certificate.lines().nth(1), found.key.lines().nth(1), "round {round}");
        }
        assert!(generations(&dir.dir("a.test").unwrap().path).len() > 1, "the children wrote");
    }

    #[test]
    fn an_error_leaves_nothing_behind() {
        let scratch = Scratch::new("error");
        let dir = scratch.store().dir("certificates").unwrap();
        dir.save_pair("a.test", &pair(1)).unwrap();
        let home = dir.dir("a.test").unwrap().path;
        // A directory in the place of the link makes the last rename fail.
        fs::remove_file(home.join("current")).unwrap();
        fs::create_dir(home.join("current")).unwrap();
        assert!(matches!(dir.save_pair("a.test", &pair(2)), Err(Error::Io { step: "replace", .. })));
        let left = fs::read_dir(&home).unwrap().flatten();
        assert!(left.map(|entry| entry.file_name()).all(|name| !name.to_str().unwrap().starts_with('.')));
    }

    #[test]
    fn damage_is_told_apart_from_absence() {
        let scratch = Scratch::new("damage");
        let dir = scratch.store().dir("certificates").unwrap();
        dir.save_pair("a.test", &pair(1)).unwrap();
        let home = dir.dir("a.test").unwrap().path;
        fs::write(home.join("1/key.pem"), "").unwrap();
        assert!(matches!(dir.pair("a.test"), Err(Error::Damaged { .. })));
        fs::remove_dir_all(home.join("1")).unwrap();
        assert!(matches!(dir.pair("a.test"), Err(Error::Damaged { .. })));
        for target in ["../b.test/1", "01", "+1", "x"] {
            fs::remove_file(home.join("current")).unwrap();
            std::os::unix::fs::symlink(target, home.join("current")).unwrap();
            assert!(matches!(dir.pair("a.test"), Err(Error::Damaged { .. })), "{target}");
        }
        dir.save_pair("a.test", &pair(2)).unwrap();
        assert_eq!(dir.pair("a.test").unwrap(), Some(pair(2)), "a renewal repairs it");
    }

    #[test]
    fn readers_and_writers_at_once_see_whole_pairs() {
        let scratch = Scratch::new("race");
        let dir = scratch.store().dir("certificates").unwrap();
        dir.save_pair("a.test", &pair(0)).unwrap();
        std::thread::scope(|threads| {
            let writers: Vec<_> = (0..2)
                .map(|_| threads.spawn(|| (0..20).for_each(|n| dir.save_pair("a.test", &pair(n)).unwrap())))
                .collect();
            while !writers.iter().all(|writer| writer.is_finished()) {
                let found = dir.pair("a.test").unwrap().unwrap();
                let number = found.certificate.lines().nth(1).unwrap().to_owned();
                assert_eq!(found.key.lines().nth(1), Some(number.as_str()));
            }
        });
        assert!(dir.pair("a.test").unwrap().is_some());
    }
}
