//! The certificates of slots: which generation counts, what is done when it is spoilt, and how others see
//! that there is a new one.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use super::acme::{CERTIFICATES, read_anyway, whole_json};
use super::pair::{self, CERTIFICATE, CURRENT, Gate, KEY, Keep, Pair};
use super::{AcmeStore, Error, io_error};
use crate::tls::certs::{CertifiedPair, PairError};

const META: &str = "meta.json";
/// Two older generations stay, for people who want to go back and for readers; a reader that is further
/// behind begins anew.
const KEEP: Keep = Keep { older: 2, while_fresh: false };
/// Times that reading begins anew because another generation became current meanwhile.
const READ_TRIES: u32 = 16;

/// A certificate that was kept.
#[derive(Clone, Debug)]
pub struct Kept {
    /// Chain and key, which belong together.
    pub pair: Arc<CertifiedPair>,
    /// The same in PEM.
    pub pem: Pair,
    /// What [`AcmeStore::save`] was given beside the pair; `None` if it is not there or is not JSON.
    pub meta: Option<Vec<u8>>,
    /// Number of its generation.
    pub generation: u64,
    /// What to give to [`AcmeStore::changed`].
    pub seen: Seen,
}

/// What was found in a slot's place.
#[derive(Debug)]
pub enum Found {
    /// No certificate was ever kept.
    Nothing,
    /// The current one is good.
    Current(Kept),
    /// The current one is not good.
    Spoilt {
        /// The newest one that is good.
        older: Option<Kept>,
        /// What is wrong with those newer than that, and with `current`.
        faults: Vec<Fault>,
    },
}

impl Found {
    /// The certificate to serve, if there is one.
    #[must_use]
    pub fn kept(self) -> Option<Kept> {
        match self {
            Self::Nothing => None,
            Self::Current(kept) => Some(kept),
            Self::Spoilt { older, .. } => older,
        }
    }
}

/// What is wrong with a generation or with the link to it.
#[derive(Debug)]
pub struct Fault {
    /// The generation's directory, or the link, or the slot's place.
    pub path: PathBuf,
    /// What is wrong.
    pub flaw: Flaw,
    /// Where it was moved to, by [`AcmeStore::mend`].
    pub moved: Option<PathBuf>,
}

/// Why something cannot be served.
#[derive(Debug)]
pub enum Flaw {
    /// The link is not there although there are generations.
    NoLink,
    /// The link, or what stands in its place, does not name a generation.
    BadLink,
    /// Something other than a directory stands in the place of one.
    NotADirectory,
    /// A file is not there, by its name.
    Missing(&'static str),
    /// A file is empty, by its name.
    Empty(&'static str),
    /// The files are not a chain with its key.
    Pair(PairError),
    /// A file is not one that this program wrote.
    Damaged(Error),
    /// The system does not give a file now; it may be good.
    Unreadable(Error),
}

impl Flaw {
    /// Whether looking again can not help, so that it may be moved away.
    #[must_use]
    pub fn is_lasting(&self) -> bool {
        !matches!(self, Self::Unreadable(_))
    }
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoLink => f.write_str("the link to the current certificate is not there"),
            Self::BadLink => f.write_str("does not name a generation"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::Missing(name) => write!(f, "{name} is not there"),
            Self::Empty(name) => write!(f, "{name} is empty"),
            Self::Pair(error) => error.fmt(f),
            Self::Damaged(error) | Self::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.flaw)?;
        self.moved.as_ref().map_or(Ok(()), |moved| write!(f, "; moved to {}", moved.display()))
    }
}

/// Which state of a slot's place was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    generation: Option<u64>,
    inode: u64,
    changed: (i64, i64),
}

impl Seen {
    /// Number of the generation that was current.
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        self.generation
    }
}

impl AcmeStore {
    /// Where the files of a slot's current chain and key are, whether or not there are any.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn files(&self, slot: &str) -> Result<(PathBuf, PathBuf), Error> {
        let current = self.place(CERTIFICATES, slot)?.join(CURRENT);
        Ok((current.join(CERTIFICATE), current.join(KEY)))
    }

    /// The certificate of a slot, and what is wrong with its place; changes nothing.
    ///
    /// # Errors
    /// [`Error::BadName`].
    pub fn pair(&self, slot: &str) -> Result<Found, Error> {
        let home = self.place(CERTIFICATES, slot)?;
        match fs::symlink_metadata(&home) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => return Ok(spoilt(&home, Flaw::NotADirectory)),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Found::Nothing),
            Err(error) => return Ok(spoilt(&home, Flaw::Unreadable(io_error("look at", &home, error)))),
        }
        let mut looked = look(&home);
        for _ in 0..READ_TRIES {
            let seen = match &looked {
                Looked::Bad(_, seen) => *seen,
                Looked::Good(kept) if kept.meta.is_none() => kept.seen,
                _ => break,
            };
            // The writer may have made another one current and removed this one meanwhile.
            if seen == see(&home) {
                break;
            }
            looked = look(&home);
        }
        Ok(match looked {
            Looked::Good(kept) => Found::Current(kept),
            Looked::Nothing => Found::Nothing,
            Looked::Bad(faults, _) => fall_back(&home, faults),
        })
    }

    /// [`Self::pair`], and then mends the place: spoilt generations are moved to `corrupt/`, and `current`
    /// names the newest good one. For the process that writes.
    ///
    /// # Errors
    /// [`Error::BadName`]. What cannot be mended stays as it was, and is told again at the next look.
    pub fn mend(&self, slot: &str) -> Result<Found, Error> {
        let mut found = self.pair(slot)?;
        let Found::Spoilt { older, faults } = &mut found else { return Ok(found) };
        if self.may_write().is_err() || faults.iter().any(|fault| !fault.flaw.is_lasting()) {
            return Ok(found);
        }
        let home = self.place(CERTIFICATES, slot)?;
        let current = home.join(CURRENT);
        let is_link = |path: &Path| fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
        // What stands in the way of the link goes first, the rest last, so that there is a good current
        // certificate for as much of the time as can be.
        if !is_link(&current) {
            self.move_away(faults, slot, |path| path == current);
        }
        if let Some(kept) = older
            && pair::repoint(&home, kept.generation).is_ok()
        {
            kept.seen = see(&home);
        }
        // A link is replaced, and has nothing in it to keep.
        self.move_away(faults, slot, |path| path != current);
        Ok(found)
    }

    fn move_away(&self, faults: &mut [Fault], slot: &str, which: impl Fn(&Path) -> bool) {
        for fault in faults.iter_mut().filter(|fault| which(&fault.path)) {
            fault.moved = self.quarantine(&fault.path, slot).ok().flatten();
        }
    }

    /// Keeps a certificate for a slot, with JSON of the caller's beside it. When this returns it is on
    /// disk and current, and the two generations before it are there still.
    ///
    /// # Errors
    /// [`Error::NotAPair`] when chain and key do not belong together; [`Error::ReadOnly`], [`Error::Io`].
    /// Then the one before it stands, whole; or this one does, if only the last sync failed. Saving it
    /// again is right in either case.
    pub fn save(&self, slot: &str, pair: &Pair, meta: &[u8]) -> Result<Seen, Error> {
        self.save_through(slot, pair, meta, &mut |_| Ok(()))
    }

    fn save_through(&self, slot: &str, pair: &Pair, meta: &[u8], gate: Gate<'_>) -> Result<Seen, Error> {
        CertifiedPair::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes()).map_err(Error::NotAPair)?;
        let home = self.home(CERTIFICATES, slot)?;
        let [certificate, key] = pair::parts(pair);
        let parts = [certificate, key, ("write what is known of a certificate in", META, meta)];
        pair::save(&home.path, &parts, KEEP, gate)?;
        Ok(see(&home.path))
    }

    /// Whether another certificate is current than the one seen; what to compare with next. Costs two
    /// system calls, so it may be asked often.
    #[must_use]
    pub fn changed(&self, slot: &str, seen: &Seen) -> Option<Seen> {
        let home = self.place(CERTIFICATES, slot).ok()?;
        let now = see(&home);
        (now != *seen).then_some(now)
    }

    /// What [`Self::changed`] compares with, for a slot whose certificate was not read.
    #[must_use]
    pub fn seen(&self, slot: &str) -> Seen {
        self.place(CERTIFICATES, slot).map_or(NOT_THERE, |home| see(&home))
    }
}

const NOT_THERE: Seen = Seen { generation: None, inode: 0, changed: (0, 0) };

/// The state of the link, which every change of certificate makes anew.
fn see(home: &Path) -> Seen {
    let current = home.join(CURRENT);
    let Ok(found) = fs::symlink_metadata(&current) else { return NOT_THERE };
    let generation = fs::read_link(&current).ok().and_then(|target| pair::generation(&target));
    Seen { generation, inode: found.ino(), changed: (found.mtime(), found.mtime_nsec()) }
}

enum Looked {
    Good(Kept),
    Nothing,
    /// With the state of the link that this was found under.
    Bad(Vec<Fault>, Seen),
}

/// Reads what `current` names.
fn look(home: &Path) -> Looked {
    let seen = see(home);
    let bad = |path: PathBuf, flaw| Looked::Bad(vec![Fault { path, flaw, moved: None }], seen);
    if seen == NOT_THERE {
        // A process killed in its first saving may have left a generation, which is good then.
        return if pair::generations(home).is_empty() {
            Looked::Nothing
        } else {
            bad(home.join(CURRENT), Flaw::NoLink)
        };
    }
    let Some(generation) = seen.generation else { return bad(home.join(CURRENT), Flaw::BadLink) };
    match load(home, generation, seen) {
        Ok(kept) => Looked::Good(kept),
        Err(flaw) => bad(home.join(generation.to_string()), flaw),
    }
}

/// The newest generation that is good, after `faults` of the current one.
fn fall_back(home: &Path, mut faults: Vec<Fault>) -> Found {
    let mut numbers = pair::generations(home);
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    for number in numbers {
        let path = home.join(number.to_string());
        if faults.iter().any(|fault| fault.path == path) {
            continue;
        }
        match load(home, number, see(home)) {
            Ok(kept) => return Found::Spoilt { older: Some(kept), faults },
            Err(flaw) => faults.push(Fault { path, flaw, moved: None }),
        }
    }
    Found::Spoilt { older: None, faults }
}

fn spoilt(path: &Path, flaw: Flaw) -> Found {
    Found::Spoilt { older: None, faults: vec![Fault { path: path.to_owned(), flaw, moved: None }] }
}

/// Reads a generation and checks that its key belongs to its certificate.
fn load(home: &Path, generation: u64, seen: Seen) -> Result<Kept, Flaw> {
    let place = home.join(generation.to_string());
    match fs::symlink_metadata(&place) {
        Ok(found) if found.is_dir() => {}
        Ok(_) => return Err(Flaw::NotADirectory),
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Flaw::Missing("the generation")),
        Err(error) => return Err(Flaw::Unreadable(io_error("look at", &place, error))),
    }
    let certificate = text(&place, CERTIFICATE)?;
    let key = Zeroizing::new(text(&place, KEY)?);
    let pair = CertifiedPair::from_pem(certificate.as_bytes(), key.as_bytes()).map_err(Flaw::Pair)?;
    // Worth less than the pair: what it says can be asked for again.
    let path = place.join(META);
    let meta = read_anyway(&path).ok().flatten().filter(|meta| whole_json(&path, meta).is_ok());
    Ok(Kept { pair: Arc::new(pair), pem: Pair { certificate, key }, meta, generation, seen })
}

fn text(place: &Path, name: &'static str) -> Result<String, Flaw> {
    let path = place.join(name);
    let content = match read_anyway(&path) {
        Ok(Some(content)) if content.is_empty() => return Err(Flaw::Empty(name)),
        Ok(Some(content)) => content,
        Ok(None) => return Err(Flaw::Missing(name)),
        Err(error @ Error::Damaged { .. }) => return Err(Flaw::Damaged(error)),
        Err(error) => return Err(Flaw::Unreadable(error)),
    };
    String::from_utf8(content).map_err(|_| Flaw::Damaged(Error::Damaged { path, what: "not text" }))
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
