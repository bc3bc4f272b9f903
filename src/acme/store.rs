//! The state directory. It is private (directories 0700, files 0600, checked each time), and every
//! change is atomic: a process killed at any point leaves the old content or the new, never a mixture.
//!
//! ```text
//! STATE/
//!   local-ca/root.key, root.pem             made once, by exclusive link
//!   local-ca/leafs/NAME/                    one pair each
//!   NAME/                                   a pair: certificate chain and key as one unit
//!     7/certificate.pem, key.pem            a generation: written whole, then never changed
//!     current -> 7                          replaced by rename
//!   acme/                                   what the acme thread keeps: see `acme`
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::io::sys;
use crate::tls::certs::PairError;

mod acme;
mod audit;
mod certificates;
mod challenges;
mod export;
mod leadership;
mod lease;
mod lock;
mod orders;
mod pair;

pub use acme::{AcmeStore, Document};
pub use audit::Notice;
pub use certificates::{Fault, Flaw, Found, Kept, Seen};
pub use challenges::{Attendance, Audience, SharedAnswer, SharedName};
pub use export::{Exported, export};
pub use leadership::{Leadership, Standing};
pub use lease::{Action, Lease, Look, Record};
pub use lock::Lock;
pub use orders::SavedOrder;
pub use pair::Pair;

/// Bytes of a file that is read from the state directory: chains are 2 to 10 KiB.
const FILE_BYTES: u64 = 1024 * 1024;
/// Age at which nobody is in the middle of writing or reading something any more.
const STALE: Duration = Duration::from_secs(3600);
/// Tries at a temporary name: each differs by the clock.
const NAME_TRIES: u32 = 16;

/// Why the state directory could not be used.
#[derive(Debug)]
pub enum Error {
    /// The system refused a step.
    Io {
        /// What was being done, as in "cannot {step} {path}".
        step: &'static str,
        /// To which file.
        path: PathBuf,
        /// The system's reason.
        error: io::Error,
    },
    /// Something other than a directory stands in the place of one.
    NotADirectory(PathBuf),
    /// Others can read keys, or can put files of theirs in their place.
    Exposed {
        /// What is exposed.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It belongs to another user, who could change it.
    ForeignOwner {
        /// What belongs to another.
        path: PathBuf,
        /// The owner's number.
        uid: u32,
    },
    /// A name that cannot be a file's name.
    BadName(String),
    /// A file is not what this program wrote.
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// What should be kept is not a chain with its key.
    NotAPair(PairError),
    /// A newer version of this program made the directory, in a form that this one does not know.
    NewerForm(PathBuf),
    /// What should be kept cannot be written as JSON.
    NotJson(serde_json::Error),
    /// It was opened for reading only.
    ForReading,
    /// Nothing is written here, for a reason found when it was opened; reading works.
    ReadOnly(Arc<Error>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { step, path, error } => write!(f, "cannot {step} {}: {error}", path.display()),
            Self::NotADirectory(path) => write!(f, "{} is not a directory", path.display()),
            Self::Exposed { path, mode } => write!(
                f,
                "{} holds private keys but is open to other users (mode {mode:04o}); run: chmod go-rwx {}",
                path.display(),
                path.display()
            ),
            Self::ForeignOwner { path, uid } => {
                write!(
                    f,
                    "{} belongs to another user (uid {uid}), who could replace keys in it; run: chown -R {} {}",
                    path.display(),
                    sys::user_id(),
                    path.display()
                )
            }
            Self::BadName(name) => write!(f, "{name:?} cannot be the name of a file"),
            Self::Damaged { path, what } => write!(f, "{}: {what}", path.display()),
            Self::NotAPair(error) => write!(f, "not kept: {error}"),
            Self::NewerForm(path) => write!(
                f,
                "{} was made by a newer version of lockring; install that version, or name another state directory",
                path.display()
            ),
            Self::NotJson(error) => write!(f, "cannot be written as JSON: {error}"),
            Self::ForReading => f.write_str("it was opened for reading only"),
            Self::ReadOnly(reason) => write!(f, "nothing is written to the state directory: {reason}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
            Self::NotAPair(error) => Some(error),
            Self::NotJson(error) => Some(error),
            Self::ReadOnly(reason) => Some(&**reason),
            _ => None,
        }
    }
}

/// The opened state directory.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// Opens the state directory, and makes it (0700) if it is not there.
    ///
    /// # Errors
    /// [`Error::Exposed`] when others may write to it (reading is refused one level down, since service
    /// managers make it 0755), [`Error::ForeignOwner`], [`Error::NotADirectory`], [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self, Error> {
        make_dir(root)?;
        let found = fs::metadata(root).map_err(|error| io_error("look at", root, error))?;
        check(root, &found, 0o022)?;
        Ok(Self { root: root.to_owned() })
    }

    /// A private directory in it, made (0700) if it is not there.
    ///
    /// # Errors
    /// As [`Store::open`], and [`Error::Exposed`] when others may read it.
    pub fn dir(&self, name: &str) -> Result<Dir, Error> {
        Dir::open(self.root.join(file_name(name)?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }
}

/// A directory that only this user may read.
#[derive(Clone, Debug)]
pub struct Dir {
    path: PathBuf,
}

impl Dir {
    fn open(path: PathBuf) -> Result<Self, Error> {
        make_dir(&path)?;
        // Not through a symbolic link: what it names may be anybody's.
        let found = fs::symlink_metadata(&path).map_err(|error| io_error("look at", &path, error))?;
        check(&path, &found, 0o077)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A private directory in this one; see [`Store::dir`].
    ///
    /// # Errors
    /// As [`Store::dir`].
    pub fn dir(&self, name: &str) -> Result<Self, Error> {
        Self::open(self.path.join(file_name(name)?))
    }

    /// The content of a file, or `None` if it is not there.
    ///
    /// # Errors
    /// [`Error::Exposed`] when others may read it, [`Error::Damaged`] when it is larger than any file
    /// this program writes, [`Error::Io`].
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        read(&self.path.join(file_name(name)?))
    }

    /// Writes a file (0600) in place of what was there.
    ///
    /// # Errors
    /// [`Error::Io`]; then the old content stands.
    pub fn replace(&self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.replace_file(&file_name(name)?, content, 0o600)
    }

    /// [`Self::replace`] with a file's own name, and with permissions.
    fn replace_file(&self, file: &str, content: &[u8], mode: u32) -> Result<(), Error> {
        let path = self.path.join(file);
        let temporary = write_temporary_as(&self.path, content, mode)?;
        let renamed = fs::rename(&temporary, &path).map_err(|error| io_error("replace", &path, error));
        if renamed.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        renamed?;
        sync_dir(&self.path)
    }

    /// Writes a file (0600) unless there is one: `false` means that another was first, and its content
    /// stands. Of many that try at once exactly one wins.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn create(&self, name: &str, content: &[u8]) -> Result<bool, Error> {
        self.create_file(&file_name(name)?, content)
    }

    /// [`Self::create`] with a file's own name.
    fn create_file(&self, file: &str, content: &[u8]) -> Result<bool, Error> {
        let path = self.path.join(file);
        let temporary = write_temporary(&self.path, content)?;
        // A link, unlike a rename, fails if the name is taken.
        let linked = fs::hard_link(&temporary, &path);
        let _ = fs::remove_file(&temporary);
        match linked {
            Ok(()) => sync_dir(&self.path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(io_error("create", &path, error)),
        }
    }
}

/// Makes a host pattern or other word a file's name: all but `a-z0-9.-_` is written `%XX`, so that
/// different words have different names and none has a `/` or begins with a dot.
fn file_name(word: &str) -> Result<String, Error> {
    let mut name = String::with_capacity(word.len());
    for (place, byte) in word.bytes().enumerate() {
        let plain = byte.is_ascii_lowercase()
            || byte.is_ascii_digit()
            || matches!(byte, b'-' | b'_')
            || (byte == b'.' && place > 0);
        if plain {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02x}"));
        }
    }
    // NAME_MAX of Linux file systems.
    if name.is_empty() || name.len() > 255 { Err(Error::BadName(word.to_owned())) } else { Ok(name) }
}

/// The word that [`file_name`] made a name of, or `None` if it never made this one.
fn word_of(name: &str) -> Option<String> {
    let mut word = Vec::with_capacity(name.len());
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let digits = [bytes.next()?, bytes.next()?];
            word.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
        } else {
            word.push(byte);
        }
    }
    let word = String::from_utf8(word).ok()?;
    file_name(&word).is_ok_and(|again| again == name).then_some(word)
}

fn make_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => {
            own_all_of(path)?;
            path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::NotADirectory(path.to_owned())),
        Err(error) => Err(io_error("make directory", path, error)),
    }
}

/// Gives a directory that was just made the permissions that a umask took away from its owner.
fn own_all_of(path: &Path) -> Result<(), Error> {
    let whole = fs::symlink_metadata(path).and_then(|found| match found.mode() & 0o777 {
        0o700 => Ok(()),
        _ => fs::set_permissions(path, fs::Permissions::from_mode(0o700)),
    });
    whole.map_err(|error| io_error("make directory", path, error))
}

/// Refuses what others could read or change, by the permission bits that must not be set.
fn check(path: &Path, found: &fs::Metadata, forbidden: u32) -> Result<(), Error> {
    if !found.is_dir() && !found.is_file() {
        return Err(Error::NotADirectory(path.to_owned()));
    }
    let mode = found.mode() & 0o7777;
    if mode & forbidden != 0 {
        return Err(Error::Exposed { path: path.to_owned(), mode });
    }
    // Root may read a service user's state; network file systems also show root's files as nobody's.
    match sys::user_id() {
        0 => Ok(()),
        ours if ours == found.uid() => Ok(()),
        _ => Err(Error::ForeignOwner { path: path.to_owned(), uid: found.uid() }),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error("open", path, error)),
    };
    let found = file.metadata().map_err(|error| io_error("look at", path, error))?;
    check(path, &found, 0o077)?;
    read_bounded(file, path, &found).map(Some)
}

/// The content of a file of at most [`FILE_BYTES`].
fn read_bounded(file: File, path: &Path, found: &fs::Metadata) -> Result<Vec<u8>, Error> {
    // Room for all of it at once: a buffer that grows leaves copies of a key in freed memory.
    let room = usize::try_from(found.len().min(FILE_BYTES)).unwrap_or_default() + 64;
    let mut content = Vec::with_capacity(room);
    file.take(FILE_BYTES + 1).read_to_end(&mut content).map_err(|error| io_error("read", path, error))?;
    if content.len() as u64 > FILE_BYTES {
        return Err(Error::Damaged { path: path.to_owned(), what: "larger than 1 MiB" });
    }
    Ok(content)
}

/// A new file (0600) in `dir` with this content, on disk, under a name that nobody else uses.
fn write_temporary(dir: &Path, content: &[u8]) -> Result<PathBuf, Error> {
    write_temporary_as(dir, content, 0o600)
}

/// [`write_temporary`] with other permissions.
fn write_temporary_as(dir: &Path, content: &[u8], mode: u32) -> Result<PathBuf, Error> {
    let (path, mut file) =
        temporary(dir, |path| OpenOptions::new().write(true).create_new(true).mode(mode).open(path))?;
    // Only a umask can have taken permissions away; what others may not have was never given.
    let as_asked = file.metadata().and_then(|found| match found.mode() & 0o777 {
        found if found == mode => Ok(()),
        _ => file.set_permissions(fs::Permissions::from_mode(mode)),
    });
    let written = as_asked.and_then(|()| file.write_all(content)).and_then(|()| file.sync_all());
    if let Err(error) = written {
        let _ = fs::remove_file(&path);
        return Err(io_error("write", &path, error));
    }
    Ok(path)
}

/// Makes something under a fresh name in `dir`, by a `make` that fails if the name is taken.
fn temporary<T>(dir: &Path, make: impl Fn(&Path) -> io::Result<T>) -> Result<(PathBuf, T), Error> {
    let mut tries = 0;
    loop {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let path = dir.join(format!(".new-{}-{nanos}-{tries}", std::process::id()));
        match make(&path) {
            Ok(made) => return Ok((path, made)),
            Err(error) if error.kind() == ErrorKind::AlreadyExists && tries < NAME_TRIES => tries += 1,
            Err(error) => return Err(io_error("create", &path, error)),
        }
    }
}

/// Removes temporaries of processes that were killed; failures do not matter, the next call tries again.
fn sweep(dir: &Path) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        if entry.file_name().as_encoded_bytes().starts_with(b".new-") && is_stale(&entry.path()) {
            let _ = fs::remove_file(entry.path()).or_else(|_| fs::remove_dir_all(entry.path()));
        }
    }
}

/// Whether something was last changed so long ago that nobody is in the middle of using it.
fn is_stale(path: &Path) -> bool {
    let changed = fs::symlink_metadata(path).and_then(|found| found.modified());
    changed.is_ok_and(|changed| changed.elapsed().is_ok_and(|age| age > STALE))
}

/// Makes the names in a directory last: without it a rename may be lost with the power.
fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(|error| io_error("sync", path, error))
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

fn io_error(step: &'static str, path: &Path, error: io::Error) -> Error {
    Error::Io { step, path: path.to_owned(), error }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
