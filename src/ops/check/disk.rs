//! The configuration room's view of the file system: bounded reads, and patterns over directories.

use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::config::Files;
use crate::limits;

/// The real files and environment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> Result<String, String> {
        let bytes = read_bounded(path, limits::CONFIG_BYTES).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map_err(|error| {
            format!("byte {} is not UTF-8; save the file as UTF-8", error.utf8_error().valid_up_to() + 1)
        })
    }

    fn glob(&self, pattern: &str, base: &Path) -> Result<Vec<PathBuf>, String> {
        let whole = base.join(pattern);
        if !pattern.contains(['*', '?']) {
            return Ok(vec![whole]);
        }
        let mut found = vec![PathBuf::new()];
        for component in whole.components() {
            let Component::Normal(name) = component else {
                found.iter_mut().for_each(|path| path.push(component));
                continue;
            };
            let name = name.to_str().ok_or("the path is not UTF-8")?;
            if !name.contains(['*', '?']) {
                found.iter_mut().for_each(|path| path.push(name));
                continue;
            }
            let mut next = Vec::new();
            for directory in &found {
                next.extend(matching(directory, name)?);
            }
            found = next;
        }
        found.retain(|path| path.exists());
        found.sort();
        Ok(found)
    }

    fn env(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    fn is_root(&self) -> bool {
        // The owner of /proc/self is the effective user, without a system call of our own.
        fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
    }
}

/// Why a file was not read.
#[derive(Debug)]
pub enum ReadError {
    /// A directory, pipe or device, whose reading may never end.
    NotAFile,
    /// More bytes than allowed.
    TooLarge(u64),
    /// What the system says.
    Io(std::io::Error),
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAFile => f.write_str("it is not a regular file"),
            Self::TooLarge(limit) => write!(f, "it has more than {limit} bytes"),
            Self::Io(error) => match error.kind() {
                ErrorKind::NotFound => f.write_str("it does not exist"),
                ErrorKind::PermissionDenied => f.write_str("permission denied"),
                _ => error.fmt(f),
            },
        }
    }
}

/// A regular file of at most `limit` bytes.
pub(super) fn read_bounded(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    if !fs::metadata(path).map_err(ReadError::Io)?.is_file() {
        return Err(ReadError::NotAFile);
    }
    let file = File::open(path).map_err(ReadError::Io)?;
    let mut bytes = Vec::new();
    let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(ReadError::Io)?;
    if read as u64 > limit { Err(ReadError::TooLarge(limit)) } else { Ok(bytes) }
}

fn matching(directory: &Path, pattern: &str) -> Result<Vec<PathBuf>, String> {
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = match fs::read_dir(listed) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(format!("{}: {error}", listed.display())),
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry.map_err(|error| format!("{}: {error}", listed.display()))?.file_name();
        let Some(name) = name.to_str() else { continue };
        // As in a shell: an editor's hidden swap file is not meant by `*`.
        let hidden = name.starts_with('.') && !pattern.starts_with('.');
        if !hidden && matches(pattern.as_bytes(), name.as_bytes()) {
            found.push(directory.join(name));
        }
    }
    Ok(found)
}

/// `*` for any bytes, `?` for one. Goes back to the last star only, so the work is at most the product of the
/// lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while let Some(byte) = name.get(n) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') => (p, n) = (p + 1, n + 1),
            Some(wanted) if wanted == byte => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns() {
        let m = |pattern: &str, name: &str| matches(pattern.as_bytes(), name.as_bytes());
        assert!(
            m("*.toml", "a.toml") && m("*", "") && m("a?c", "abc") && m("*a*b*", "xaxbx") && m("**", "a")
        );
        assert!(!m("*.toml", "a.tom") && !m("a?c", "ac") && !m("", "a") && !m("*a", "ab"));
        assert!(!m(&"*a".repeat(30), &"a".repeat(29)));
    }
}
