//! Which process of this machine writes to the acme directory.

use std::fs::{self, File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use super::{AcmeStore, Error, io_error};
use crate::io::sys;

const LOCK: &str = "LOCK";

/// The right to write, held until it is dropped. The kernel takes it back when the process dies, however
/// it dies (`flock(2)`), so there is no such thing as a lock that was left behind; the file stays, and
/// says nothing. Network file systems may keep it between machines or not: there the lease decides.
#[derive(Debug)]
pub struct Lock {
    file: File,
    store: AcmeStore,
}

impl Lock {
    /// Takes the lock, unless another process has it: `None`.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`].
    pub fn take(store: &AcmeStore) -> Result<Option<Self>, Error> {
        store.may_write()?;
        let path = store.dir.path.join(LOCK);
        let open = || {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)
        };
        let file = open().or_else(|error| match error.kind() {
            ErrorKind::NotFound => store
                .dir
                .create_file(LOCK, b"")
                .map(drop)
                .and_then(|()| open().map_err(|error| io_error("open", &path, error))),
            _ => Err(io_error("open", &path, error)),
        })?;
        if !sys::try_lock(&file).map_err(|error| io_error("lock", &path, error))? {
            return Ok(None);
        }
        let lock = Self { file, store: store.clone() };
        // Somebody removed the file between the two calls: the next try makes a new one.
        Ok(lock.holds().then_some(lock))
    }

    /// Whether it keeps out all there are: other machines do not see the file system.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        sys::is_local(&self.file)
    }

    /// Whether it still keeps others out: somebody may have removed the file, and then another process
    /// can lock a new one.
    #[must_use]
    pub fn holds(&self) -> bool {
        let ours = self.file.metadata().map(|found| (found.dev(), found.ino()));
        let there =
            fs::symlink_metadata(self.store.dir.path.join(LOCK)).map(|found| (found.dev(), found.ino()));
        matches!((ours, there), (Ok(ours), Ok(there)) if ours == there)
    }
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
