//! Answers of challenges that all instances with one state directory give, since an authority may come to
//! any of them: to the other process at the same port during an upgrade, or to another machine. The leader
//! writes them before it tells the authority to look, the others read them, and nobody believes more of
//! them than their form: an answer is public, and can only be one to a challenge.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::{AcmeStore, Dir, Error, STALE, check, file_name, io_error, is_stale, make_dir, sweep, word_of};
use crate::acme::ca::base64url;
use crate::acme::slot::Identifier;
use crate::config::host::host;
use crate::config::model::HostPattern;
use crate::io::sys;
use crate::limits;

const CHALLENGES: &str = "challenges";
const HTTP: &str = "http-01";
const TLS: &str = "tls-alpn-01";
const FOLLOWERS: &str = "FOLLOWERS";
/// Bytes of a token: RFC 8555 asks for 128 bits of randomness, authorities send 43.
const TOKEN_BYTES: usize = 128;
/// Characters of a SHA-256 digest in base64url (RFC 4648 §5).
const DIGEST_CHARACTERS: usize = 43;

/// What an authority asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SharedName {
    /// HTTP-01 (RFC 8555 §8.3): a token.
    Http(String),
    /// TLS-ALPN-01 (RFC 8737): a name or an address, never a wildcard.
    Tls(Identifier),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SharedAnswer {
    /// The key authorization (RFC 8555 §8.1).
    Http(String),
    /// Its SHA-256 digest.
    Tls([u8; 32]),
}

/// Who may be looking for answers, beside the one who writes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Nobody.
    Nobody,
    /// Processes of this machine.
    Here,
    /// Perhaps other machines, which cannot be seen from here.
    Elsewhere,
}

/// Tells a leader that this process looks for answers, until it is dropped or the process dies.
#[derive(Debug)]
pub struct Attendance {
    _file: File,
}

impl AcmeStore {
    /// Lets every instance give an answer. One that is there under that name is replaced, and what is older
    /// than an hour is removed.
    ///
    /// # Errors
    /// [`Error::BadName`] for what cannot be a token or a name, [`Error::ReadOnly`], [`Error::Io`]; then the
    /// others do not give it.
    pub fn share(&self, name: &SharedName, answer: &SharedAnswer) -> Result<(), Error> {
        self.may_write()?;
        let (kind, file) = place_of(name)?;
        self.sweep_shared();
        let text = match answer {
            SharedAnswer::Http(key_authorization) => key_authorization.clone(),
            SharedAnswer::Tls(digest) => base64url::encode(digest),
        };
        self.dir.dir(CHALLENGES)?.dir(kind)?.replace_file(&file, text.as_bytes(), 0o600)
    }

    /// No longer lets others give the answer of this name; nothing happens if it is not there.
    ///
    /// # Errors
    /// As of [`Self::share`]; then they give it for an hour at most.
    pub fn unshare(&self, name: &SharedName) -> Result<(), Error> {
        self.may_write()?;
        let (kind, file) = place_of(name)?;
        let path = self.shared(kind).join(file);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(io_error("remove", &path, error)),
            _ => Ok(()),
        }
    }

    /// The answers to give. Left out are files that are not of the form that [`Self::share`] writes, that
    /// belong to another user, or that are older than an hour, and all beyond
    /// [`limits::ACME_SHARED_ANSWERS`].
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot be told what there is.
    pub fn shared_answers(&self) -> Result<Vec<(SharedName, SharedAnswer)>, Error> {
        let mut found = Vec::new();
        for kind in [HTTP, TLS] {
            let directory = self.shared(kind);
            let entries = match fs::read_dir(&directory) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(io_error("list", &directory, error)),
            };
            for entry in entries.flatten().take(limits::ACME_SHARED_ANSWERS) {
                let read = |file: &str| read(&entry.path(), &name_of(kind, file)?);
                found.extend(entry.file_name().to_str().and_then(read));
            }
        }
        found.truncate(limits::ACME_SHARED_ANSWERS);
        Ok(found)
    }

    /// Removes answers that are older than an hour, which a leader left that was killed.
    pub fn sweep_shared(&self) {
        if self.may_write().is_err() {
            return;
        }
        for kind in [HTTP, TLS] {
            let directory = self.shared(kind);
            sweep(&directory);
            let Ok(entries) = fs::read_dir(&directory) else { continue };
            for path in entries.flatten().map(|entry| entry.path()).filter(|path| is_stale(path)) {
                // What cannot be removed is not given by anybody either.
                let _ = fs::remove_file(path);
            }
        }
    }

    /// Says that this process looks for answers; `None` if that cannot be said in this moment.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn attend(&self) -> Result<Option<Attendance>, Error> {
        if self.may_write().is_ok() {
            make_dir(&self.dir.path)?;
            self.dir.create_file_once(FOLLOWERS)?;
        }
        let path = self.dir.path.join(FOLLOWERS);
        let file = open(&path).map_err(|error| io_error("open", &path, error))?;
        let had = sys::try_lock_shared(&file).map_err(|error| io_error("lock", &path, error))?;
        Ok(had.then_some(Attendance { _file: file }))
    }

    /// Who has to be given time to read what is shared.
    #[must_use]
    pub fn audience(&self) -> Audience {
        if !File::open(&self.dir.path).is_ok_and(|directory| sys::is_local(&directory)) {
            return Audience::Elsewhere;
        }
        match open(&self.dir.path.join(FOLLOWERS)) {
            // Whoever comes after this look finds what was written before it.
            Ok(file) if matches!(sys::try_lock(&file), Ok(true)) => Audience::Nobody,
            Err(error) if error.kind() == ErrorKind::NotFound => Audience::Nobody,
            _ => Audience::Here,
        }
    }

    fn shared(&self, kind: &str) -> PathBuf {
        self.dir.path.join(CHALLENGES).join(kind)
    }
}

impl Dir {
    /// Makes an empty file unless there is one.
    fn create_file_once(&self, file: &str) -> Result<(), Error> {
        if self.path.join(file).is_file() { Ok(()) } else { self.create_file(file, b"").map(drop) }
    }
}

/// For reading, not through a symbolic link, and without waiting for the writer of a pipe.
fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

/// Directory and file of an answer.
fn place_of(name: &SharedName) -> Result<(&'static str, String), Error> {
    match name {
        SharedName::Http(token) if is_token(token) => Ok((HTTP, token.clone())),
        SharedName::Http(token) => Err(Error::BadName(token.clone())),
        SharedName::Tls(identifier) if identifier.is_wildcard() => {
            Err(Error::BadName(identifier.to_string()))
        }
        SharedName::Tls(identifier) => Ok((TLS, file_name(&identifier.to_string())?)),
    }
}

/// What a file of this name would be the answer to, if it can be one.
fn name_of(kind: &str, file: &str) -> Option<SharedName> {
    if kind == HTTP {
        return is_token(file).then(|| SharedName::Http(file.to_owned()));
    }
    let word = word_of(file)?;
    let identifier = match host(&word).ok()? {
        HostPattern::Wildcard(_) => return None,
        pattern => Identifier::from(&pattern),
    };
    (identifier.to_string() == word).then_some(SharedName::Tls(identifier))
}

fn read(path: &Path, name: &SharedName) -> Option<(SharedName, SharedAnswer)> {
    let file = open(path).ok()?;
    let found = file.metadata().ok()?;
    let age = found.modified().ok()?.elapsed().unwrap_or_default();
    if !found.is_file() || check(path, &found, 0o077).is_err() || age > STALE {
        return None;
    }
    let mut text = String::new();
    file.take(limits::ACME_SHARED_BYTES).read_to_string(&mut text).ok()?;
    let answer = match name {
        SharedName::Http(token) => {
            let thumbprint = text.strip_prefix(token.as_str())?.strip_prefix('.')?;
            (thumbprint.len() == DIGEST_CHARACTERS && is_token(thumbprint))
                .then_some(SharedAnswer::Http(text))?
        }
        SharedName::Tls(_) => {
            let digest = (text.len() == DIGEST_CHARACTERS).then(|| base64url::decode(&text))??;
            SharedAnswer::Tls(digest.as_slice().try_into().ok()?)
        }
    };
    Some((name.clone(), answer))
}

/// Characters of base64url and nothing else, so it is a file's name and no path.
fn is_token(text: &str) -> bool {
    (1..=TOKEN_BYTES).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

#[cfg(test)]
#[path = "challenges_tests.rs"]
mod tests;
