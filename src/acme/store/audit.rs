//! Looks through the acme directory when it is opened: whether everything in it is this user's, and
//! nothing is open to others.

use std::fmt;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::acme::STATUS;
use super::{Error, io_error, sweep};
use crate::io::sys;

/// How deep the directory is: `acme/corrupt/TIME-SLOT/GENERATION/key.pem`.
const DEPTH: u32 = 5;

/// Something that others could read or change, and that was made private.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// What it is.
    pub path: PathBuf,
    /// The permission bits it had.
    pub mode: u32,
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} was open to other users (mode {:04o}) and is private again; if it holds a key, think of replacing it",
            self.path.display(),
            self.mode
        )
    }
}

/// Makes private what this user owns; what was made so is added to `notices`. Removes what processes that
/// were killed an hour ago or more left half written.
///
/// # Errors
/// The first reason not to write here: [`Error::ForeignOwner`], [`Error::Exposed`] if permissions cannot
/// be mended, [`Error::NotADirectory`], [`Error::Io`]. All the rest is looked through nevertheless.
pub(super) fn look_through(top: &Path, notices: &mut Vec<Notice>) -> Result<(), Error> {
    let found = fs::symlink_metadata(top).map_err(|error| io_error("look at", top, error))?;
    if !found.is_dir() {
        return Err(Error::NotADirectory(top.to_owned()));
    }
    let mut refusal = None;
    let mut open = vec![(top.to_owned(), 0)];
    while let Some((path, depth)) = open.pop() {
        let looked = look_at(&path, depth == 1, sys::user_id());
        let is_directory = match looked {
            Ok((is_directory, notice)) => {
                notices.extend(notice);
                is_directory
            }
            Err(error) => {
                // Removed by the one who writes since its name was read: nothing to say.
                if !is_gone(&error) {
                    refusal.get_or_insert(error);
                }
                false
            }
        };
        if is_directory && depth < DEPTH {
            sweep(&path);
            let inside = fs::read_dir(&path).into_iter().flatten().flatten();
            open.extend(inside.map(|entry| (entry.path(), depth + 1)));
        }
    }
    refusal.map_or(Ok(()), Err)
}

/// One entry: whether it is a directory, and whether it was open.
fn look_at(path: &Path, in_top: bool, ours: u32) -> Result<(bool, Option<Notice>), Error> {
    let found = fs::symlink_metadata(path).map_err(|error| io_error("look at", path, error))?;
    // Root may read a service user's state; network file systems also show root's files as nobody's.
    if ours != 0 && ours != found.uid() {
        return Err(Error::ForeignOwner { path: path.to_owned(), uid: found.uid() });
    }
    let kind = found.file_type();
    if !kind.is_dir() && !kind.is_file() {
        // A link has no permissions of its own, and what it names is not trusted by any reader here.
        return Ok((false, None));
    }
    let allowed = if kind.is_dir() {
        0o700
    } else if in_top && path.file_name().is_some_and(|name| name == STATUS) {
        0o640
    } else {
        0o600
    };
    let mode = found.mode() & 0o7777;
    if mode & 0o077 & !allowed == 0 {
        return Ok((kind.is_dir(), None));
    }
    make_private(path, allowed, mode)?;
    Ok((kind.is_dir(), Some(Notice { path: path.to_owned(), mode })))
}

/// Through a descriptor, so that nothing else is hit if the name changes meanwhile.
fn make_private(path: &Path, allowed: u32, mode: u32) -> Result<(), Error> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open(path)
        .and_then(|file| file.set_permissions(Permissions::from_mode(allowed)))
        .map_err(|_| Error::Exposed { path: path.to_owned(), mode })
}

fn is_gone(error: &Error) -> bool {
    matches!(error, Error::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound)
}
