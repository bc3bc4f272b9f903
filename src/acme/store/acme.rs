//! What the acme thread keeps between runs, in `STATE/acme`. One process writes: the one that holds
//! [`Lock`](super::Lock). Any may read at the same time.
//!
//! ```text
//! acme/                                      0700; files in it 0600
//!   VERSION                                  the form of all this
//!   LOCK, LEASE                              who writes: see `lock` and `lease`
//!   accounts/AUTHORITY/account.json          renamed to account.json.lost when the authority forgot it
//!   certs/SLOT/7/certificate.pem, key.pem, meta.json
//!   certs/SLOT/current -> 7                  the two generations before it stay
//!   orders/SLOT/key.pem, order.json          an order under way
//!   challenges/http-01/TOKEN                 answers that every instance gives: see `challenges`
//!   challenges/tls-alpn-01/NAME
//!   FOLLOWERS                                locked by instances that look for them
//!   plan/SLOT/plan.json, budget.json         when to try again
//!   status.json                              0640, for people and programs that look
//!   corrupt/TIME-SLOT/                       what could not be read, kept for people
//! ```
//!
//! What cannot be read is moved to `corrupt/`, never deleted: a key or an account may be in it that
//! nobody else has.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;
use serde::de::{DeserializeOwned, IgnoredAny};
use zeroize::Zeroizing;

use super::audit::{self, Notice};
use super::{
    Dir, Error, Store, file_name, io_error, make_dir, read_bounded, sync_dir, temporary, unix_seconds,
    word_of,
};

const VERSION: &str = "VERSION";
/// The form that this program writes.
const FORM: u32 = 1;
const ACCOUNTS: &str = "accounts";
const ACCOUNT: &str = "account.json";
/// Where certificates are, one directory for each slot.
pub(super) const CERTIFICATES: &str = "certs";
pub(super) const PLANS: &str = "plan";
const PLAN: &str = "plan.json";
const BUDGET: &str = "budget.json";
/// The only file that others than the owner may read.
pub(super) const STATUS: &str = "status.json";
const CORRUPT: &str = "corrupt";
/// Bytes that must fit on the disk before an order is spent: a chain, its key, and what is written
/// beside them.
const PROBE_BYTES: usize = 16 * 1024;
/// Bytes of a slot's name that a directory in `corrupt` is named by: a time stands before them.
const NAME_IN_CORRUPT: usize = 200;
/// Names tried for what is set aside within one second.
const CORRUPT_TRIES: u32 = 1000;

/// The opened directory of the acme thread.
#[derive(Clone, Debug)]
pub struct AcmeStore {
    pub(super) dir: Dir,
    refusal: Option<Arc<Error>>,
    notices: Vec<Notice>,
}

/// A small document, replaced whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document<'a> {
    /// When to do what for one slot, by its name.
    Plan(&'a str),
    /// What was asked of authorities, and how long they want no more.
    Budget,
}

impl AcmeStore {
    /// Its name in the state directory.
    pub const DIRECTORY: &str = "acme";

    /// Opens `STATE/acme`, and makes it (0700) if it is not there. It is looked through: what this user
    /// owns and others could read is made private again, and [`Self::notices`] tells so. It always opens;
    /// when it cannot be written, [`Self::refusal`] says why, every writing call fails with
    /// [`Error::ReadOnly`], and what can be read is still read, so that certificates are served. Open it
    /// again to see whether that was mended.
    #[must_use]
    pub fn open(store: &Store) -> Self {
        let path = store.path().join(Self::DIRECTORY);
        let dir = Dir { path };
        let made = make_dir(&dir.path);
        let mut notices = Vec::new();
        let found = made.and_then(|()| audit::look_through(&dir.path, &mut notices));
        let refusal = found.and_then(|()| agree_on_form(&dir)).err().map(Arc::new);
        Self { dir, refusal, notices }
    }

    /// Opens it for reading: makes nothing, mends nothing, for a command that another user than the
    /// service's may run, and whose files would be that user's.
    #[must_use]
    pub fn open_for_reading(store: &Store) -> Self {
        let dir = Dir { path: store.path().join(Self::DIRECTORY) };
        Self { dir, refusal: Some(Arc::new(Error::ForReading)), notices: Vec::new() }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir.path
    }

    /// Why nothing is written, if so; its text has the command that helps.
    #[must_use]
    pub fn refusal(&self) -> Option<&Error> {
        self.refusal.as_deref()
    }

    /// What was made private again when it was opened.
    #[must_use]
    pub fn notices(&self) -> &[Notice] {
        &self.notices
    }

    /// Asked before each write.
    pub(super) fn may_write(&self) -> Result<(), Error> {
        self.refusal.as_ref().map_or(Ok(()), |reason| Err(Error::ReadOnly(Arc::clone(reason))))
    }

    /// A directory in this one for writing, made if it is not there.
    pub(super) fn home(&self, folder: &str, name: &str) -> Result<Dir, Error> {
        self.may_write()?;
        self.dir.dir(folder)?.dir(name)
    }

    /// The path of a directory or file in a folder of this one.
    pub(super) fn place(&self, folder: &str, name: &str) -> Result<PathBuf, Error> {
        Ok(self.dir.path.join(folder).join(file_name(name)?))
    }

    /// Tries what an order needs of the disk: writes 16 KiB, waits until they are on it, reads them back
    /// and removes them. Asked before each new order, so that none is spent that cannot be kept.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`], and [`Error::Damaged`] when other bytes come back.
    pub fn probe(&self) -> Result<(), Error> {
        self.may_write()?;
        // Not zeros, which some file systems keep without a block.
        let content: Vec<u8> = (0..PROBE_BYTES).map(|place| (place % 251) as u8).collect();
        let (path, mut file) = temporary(&self.dir.path, |path| {
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
        })?;
        let mut back = Vec::with_capacity(PROBE_BYTES);
        let tried = file
            .write_all(&content)
            .and_then(|()| file.sync_all())
            .and_then(|()| file.seek(SeekFrom::Start(0)))
            .and_then(|_| (&file).take(PROBE_BYTES as u64).read_to_end(&mut back));
        let removed = fs::remove_file(&path);
        tried.and(removed).map_err(|error| io_error("write a probe in", &self.dir.path, error))?;
        if back == content {
            return Ok(());
        }
        Err(Error::Damaged { path: self.dir.path.clone(), what: "other bytes come back than were written" })
    }

    /// The account at an authority, by a word for it, as [`Self::save_account`] was given it; `None` if
    /// there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is there and is not JSON: [`Self::lose_account`] sets it aside.
    /// [`Error::Io`] when it cannot be read now.
    pub fn account(&self, authority: &str) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
        let path = self.place(ACCOUNTS, authority)?.join(ACCOUNT);
        let Some(content) = read_anyway(&path)?.map(Zeroizing::new) else { return Ok(None) };
        whole_json(&path, &content)?;
        Ok(Some(content))
    }

    /// Keeps the account at an authority: JSON, with its key.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`]; then the old one stands.
    pub fn save_account(&self, authority: &str, json: &[u8]) -> Result<(), Error> {
        self.home(ACCOUNTS, authority)?.replace(ACCOUNT, json)
    }

    /// Sets an account aside that its authority does not know any more, or that cannot be read: it is
    /// renamed, to `.lost` or, if there is one already, to `.lost-` and the time. Gives the new path, or
    /// `None` if there is no account.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn lose_account(&self, authority: &str) -> Result<Option<PathBuf>, Error> {
        let home = self.home(ACCOUNTS, authority)?;
        let path = home.path.join(ACCOUNT);
        for attempt in 0..CORRUPT_TRIES {
            let lost = home.path.join(match attempt {
                0 => format!("{ACCOUNT}.lost"),
                1 => format!("{ACCOUNT}.lost-{}", unix_seconds()),
                more => format!("{ACCOUNT}.lost-{}-{more}", unix_seconds()),
            });
            // A link, unlike a rename, never replaces one that was lost before.
            match fs::hard_link(&path, &lost) {
                Ok(()) => {
                    fs::remove_file(&path).map_err(|error| io_error("rename", &path, error))?;
                    sync_dir(&home.path)?;
                    return Ok(Some(lost));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(io_error("rename", &path, error)),
            }
        }
        Err(io_error("rename", &path, ErrorKind::AlreadyExists.into()))
    }

    /// A document, or `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Damaged`] when it is there and is not what `T` is read from: [`Self::set_aside`] makes
    /// room for a new one. [`Error::Io`] when it cannot be read now.
    pub fn read_json<T: DeserializeOwned>(&self, document: Document<'_>) -> Result<Option<T>, Error> {
        let path = self.document(document)?;
        let Some(content) = read_anyway(&path)? else { return Ok(None) };
        let read = serde_json::from_slice(&content);
        read.map(Some).map_err(|_| Error::Damaged { path, what: "not the JSON that was written" })
    }

    /// Replaces a document.
    ///
    /// # Errors
    /// [`Error::NotJson`], [`Error::ReadOnly`], [`Error::Io`]; then the old one stands.
    pub fn replace_json<T: Serialize>(&self, document: Document<'_>, value: &T) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(value).map_err(Error::NotJson)?;
        match document {
            Document::Plan(slot) => self.home(PLANS, slot)?.replace(PLAN, &json),
            Document::Budget => {
                self.may_write()?;
                self.dir.replace(BUDGET, &json)
            }
        }
    }

    /// Moves a document to `corrupt/`; where it is then, or `None` if there was none.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn set_aside(&self, document: Document<'_>) -> Result<Option<PathBuf>, Error> {
        let path = self.document(document)?;
        let slot = match document {
            Document::Plan(slot) => slot,
            Document::Budget => "budget",
        };
        self.quarantine(&path, slot)
    }

    fn document(&self, document: Document<'_>) -> Result<PathBuf, Error> {
        match document {
            Document::Plan(slot) => Ok(self.place(PLANS, slot)?.join(PLAN)),
            Document::Budget => Ok(self.dir.path.join(BUDGET)),
        }
    }

    /// Replaces what `acme status` prints while no process runs (0640, so no secrets): JSON.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`]; then the old one stands.
    pub fn write_status(&self, json: &[u8]) -> Result<(), Error> {
        self.may_write()?;
        self.dir.replace_file(STATUS, json, 0o640)
    }

    /// What [`Self::write_status`] wrote last.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn status(&self) -> Result<Option<Vec<u8>>, Error> {
        let path = self.dir.path.join(STATUS);
        let Some(content) = read_anyway(&path)? else { return Ok(None) };
        whole_json(&path, &content)?;
        Ok(Some(content))
    }

    /// Names of the slots that have a place for certificates, sorted. Names that this program does not
    /// write are left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn list(&self) -> Result<Vec<String>, Error> {
        let path = self.dir.path.join(CERTIFICATES);
        let entries = match fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(io_error("list", &path, error)),
        };
        let names = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let mut slots: Vec<String> = names.filter_map(|entry| word_of(entry.file_name().to_str()?)).collect();
        slots.sort_unstable();
        Ok(slots)
    }

    /// Moves something into a fresh directory of `corrupt/`; where it is then, or `None` if it is gone.
    pub(super) fn quarantine(&self, what: &Path, slot: &str) -> Result<Option<PathBuf>, Error> {
        self.may_write()?;
        if fs::symlink_metadata(what).is_err_and(|error| error.kind() == ErrorKind::NotFound) {
            return Ok(None);
        }
        let corrupt = self.dir.dir(CORRUPT)?;
        // Cut between bytes that are all ASCII.
        let slot = file_name(slot)?.chars().take(NAME_IN_CORRUPT).collect::<String>();
        let name = what.file_name().unwrap_or_default();
        let seconds = unix_seconds();
        for attempt in 0..CORRUPT_TRIES {
            let home = corrupt.path.join(match attempt {
                0 => format!("{seconds}-{slot}"),
                more => format!("{seconds}-{slot}-{more}"),
            });
            match DirBuilder::new().mode(0o700).create(&home) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(io_error("make directory", &home, error)),
            }
            let place = home.join(name);
            if let Err(error) = fs::rename(what, &place) {
                let _ = fs::remove_dir(&home);
                return Err(io_error("move", what, error));
            }
            sync_dir(&home)?;
            sync_dir(&corrupt.path)?;
            what.parent().map_or(Ok(()), sync_dir)?;
            return Ok(Some(place));
        }
        Err(io_error("make directory", &corrupt.path, ErrorKind::AlreadyExists.into()))
    }
}

/// Whether this program knows the form of what is there; writes its own into an empty directory.
fn agree_on_form(dir: &Dir) -> Result<(), Error> {
    let path = dir.path.join(VERSION);
    let form = match read_anyway(&path)? {
        Some(content) if !content.is_empty() => content,
        // Written first of all, so an empty one is what a full disk or a lost write left of this form.
        _ => return dir.replace_file(VERSION, format!("{FORM}\n").as_bytes(), 0o600),
    };
    match std::str::from_utf8(&form).ok().and_then(|text| text.trim().parse::<u32>().ok()) {
        Some(form) if form <= FORM => Ok(()),
        Some(_) => Err(Error::NewerForm(dir.path.clone())),
        None => Err(Error::Damaged { path, what: "not a version number" }),
    }
}

/// The content of a file whoever owns it, or `None` if it is not there. Not through a symbolic link, and
/// without waiting for the writer of a pipe.
pub(super) fn read_anyway(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_a_file(path)),
        Err(error) => return Err(io_error("open", path, error)),
    };
    let found = file.metadata().map_err(|error| io_error("look at", path, error))?;
    if !found.is_file() {
        return Err(not_a_file(path));
    }
    read_bounded(file, path, &found).map(Some)
}

fn not_a_file(path: &Path) -> Error {
    Error::Damaged { path: path.to_owned(), what: "not a plain file" }
}

/// Refuses what is empty or was cut short.
pub(super) fn whole_json(path: &Path, content: &[u8]) -> Result<(), Error> {
    let whole = serde_json::from_slice::<IgnoredAny>(content);
    whole.map(drop).map_err(|_| Error::Damaged { path: path.to_owned(), what: "not whole JSON" })
}

#[cfg(test)]
#[path = "acme_tests.rs"]
pub(super) mod tests;
