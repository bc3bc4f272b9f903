//! Pairs on disk: reading one, and telling whether it has changed since.

use std::fmt;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::config::Files;
use crate::config::model::{CertificateFiles, Secret};
use crate::ops::check::ReadError;
use crate::ops::secret::{self, VariableError};
use crate::tls::certs::{CertifiedPair, PairError};

/// A chain of ten large certificates has 30 KiB.
const PEM_BYTES: u64 = 1024 * 1024;

/// Which state of a file was read: whoever writes to it, replaces it or leads a link elsewhere changes this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Of what is at `path` now, links followed; `None` if it cannot be looked at.
    #[must_use]
    pub fn now(path: &Path) -> Option<Self> {
        fs::metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// The states of both files of a pair; a key that is not in a file has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    certificate: Option<Mark>,
    key: Option<Mark>,
}

impl Marks {
    /// As the files are now.
    #[must_use]
    pub fn now(files: &CertificateFiles) -> Self {
        let key = match &files.key {
            Secret::File(path) => Mark::now(path),
            Secret::Env(_) => None,
        };
        Self { certificate: Mark::now(&files.certificate), key }
    }
}

/// What reading a pair gave.
#[derive(Debug)]
pub struct Reading {
    /// Which states of the files were read.
    pub marks: Marks,
    /// The pair, or everything that is wrong with it.
    pub pair: Result<Arc<CertifiedPair>, Vec<Fault>>,
}

/// What is wrong with a pair on disk.
#[derive(Debug)]
pub enum Fault {
    /// A file cannot be read.
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Whether it is the key's.
        is_key: bool,
        /// Why.
        error: ReadError,
    },
    /// The environment does not have the key.
    Variable(VariableError),
    /// Both can be read and are not a usable pair.
    Refused(PairError),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable { path, error, .. } => write!(f, "{} cannot be read: {error}", path.display()),
            Self::Variable(error) => write!(f, "{error}; {}", error.remedy()),
            Self::Refused(error) => write!(f, "{error}; {}", error.remedy()),
        }
    }
}

/// Reads a pair. The states are those of the open files, so that a change during the reading shows later.
#[must_use]
pub fn read(files: &CertificateFiles, environment: &dyn Files) -> Reading {
    let mut marks = Marks::default();
    let unreadable = |path: &Path, is_key| {
        let path = path.to_owned();
        move |error| Fault::Unreadable { path, is_key, error }
    };
    let certificate = &files.certificate;
    let chain = read_file(certificate, &mut marks.certificate).map_err(unreadable(certificate, false));
    let key = match &files.key {
        Secret::File(path) => read_file(path, &mut marks.key).map_err(unreadable(path, true)),
        Secret::Env(name) => secret::variable(name, environment).map_err(Fault::Variable),
    };
    let pair = match (chain, key) {
        (Ok(chain), Ok(key)) => {
            let pair = CertifiedPair::from_pem(&chain, &key);
            pair.map(Arc::new).map_err(|error| vec![Fault::Refused(error)])
        }
        (chain, key) => Err([chain.err(), key.err()].into_iter().flatten().collect()),
    };
    Reading { marks, pair }
}

/// A regular file of at most [`PEM_BYTES`]; its bytes are wiped when dropped.
fn read_file(path: &Path, mark: &mut Option<Mark>) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // A pipe must not hold the thread; on files the flag means nothing.
    let file: File =
        OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(ReadError::Io)?;
    let metadata = file.metadata().map_err(ReadError::Io)?;
    *mark = Some(Mark::of(&metadata));
    if !metadata.is_file() {
        return Err(ReadError::NotAFile);
    }
    if metadata.len() > PEM_BYTES {
        return Err(ReadError::TooLarge(PEM_BYTES));
    }
    // One byte more shows the end without growing, which would leave a copy of a key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(metadata.len() as usize + 1));
    file.take(PEM_BYTES + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if bytes.len() as u64 > PEM_BYTES { Err(ReadError::TooLarge(PEM_BYTES)) } else { Ok(bytes) }
}

/// The chain that the pair of a file in the certificate directory has; `None` for files of other kinds.
#[must_use]
pub fn chains_of(path: &Path) -> Option<[PathBuf; 2]> {
    let extension = path.extension()?;
    let known = ["pem", "crt", "key"].iter().any(|known| extension == *known);
    known.then(|| [path.with_extension("pem"), path.with_extension("crt")])
}

/// Every `NAME.pem` or `NAME.crt` in the directory, sorted, with whether it is a symbolic link.
///
/// # Errors
/// The system's.
pub fn list(directory: &Path) -> std::io::Result<Vec<(PathBuf, bool)>> {
    let mut chains = Vec::new();
    for entry in fs::read_dir(directory)?.flatten() {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "pem" || extension == "crt") {
            chains.push((path, entry.file_type().is_ok_and(|kind| kind.is_symlink())));
        }
    }
    chains.sort();
    Ok(chains)
}
