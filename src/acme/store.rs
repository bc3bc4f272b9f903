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
//! ```

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

mod pair;

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
                    "{} belongs to another user (uid {uid}), who could replace keys in it",
                    path.display()
                )
            }
            Self::BadName(name) => write!(f, "{name:?} cannot be the name of a file"),
            Self::Damaged { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { error, .. } => Some(error),
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
        let path = self.path.join(file_name(name)?);
        let temporary = write_temporary(&self.path, content)?;
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
        let path = self.path.join(file_name(name)?);
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

fn make_dir(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    match DirBuilder::new().mode(0o700).recursive(true).create(path) {
        Ok(()) => path.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Error::NotADirectory(path.to_owned())),
        Err(error) => Err(io_error("make directory", path, error)),
    }
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
    let ours = fs::metadata("/proc/self").map(|process| process.uid());
    match ours {
        Ok(uid) if uid != 0 && uid != found.uid() => {
            Err(Error::ForeignOwner { path: path.to_owned(), uid: found.uid() })
        }
        _ => Ok(()),
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
    let mut content = Vec::new();
    file.take(FILE_BYTES + 1).read_to_end(&mut content).map_err(|error| io_error("read", path, error))?;
    if content.len() as u64 > FILE_BYTES {
        return Err(Error::Damaged { path: path.to_owned(), what: "larger than 1 MiB" });
    }
    Ok(Some(content))
}

/// A new file (0600) in `dir` with this content, on disk, under a name that nobody else uses.
fn write_temporary(dir: &Path, content: &[u8]) -> Result<PathBuf, Error> {
    let (path, mut file) =
        temporary(dir, |path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path))?;
    let written = file.write_all(content).and_then(|()| file.sync_all());
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

fn io_error(step: &'static str, path: &Path, error: io::Error) -> Error {
    Error::Io { step, path: path.to_owned(), error }
}

#[cfg(test)]
#[path = "store_tests.rs"]
pub(crate) mod tests;
