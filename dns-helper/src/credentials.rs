//! Credentials: from a file of `NAME=VALUE` lines that only its owner may read, or from the environment.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use zeroize::{Zeroize, Zeroizing};

#[cfg(test)]
use crate::providers::Provider;

/// Bytes of a file; a service account of Google's has 2 KiB.
const FILE_BYTES: u64 = 64 * 1024;
/// What lockring passes on to hooks begins with this, so that `LOCKRING_NAME` stands for `NAME`.
const PREFIX: &str = "LOCKRING_";

/// Why there are no credentials. No text holds a value.
#[derive(Debug)]
pub enum CredentialsError {
    /// The file cannot be read.
    Io(PathBuf, io::Error),
    /// Others may read the file: its mode.
    Exposed(PathBuf, u32),
    /// Another user owns the file, and this is not root.
    ForeignOwner(PathBuf),
    /// The file is larger than any list of credentials, or not text.
    NotText(PathBuf),
    /// A line, from 1, that is not `NAME=VALUE`.
    Line(usize),
    /// Variables that are not there.
    Missing(Vec<&'static str>),
}

impl fmt::Display for CredentialsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(path, error) => write!(f, "cannot read {}: {error}", path.display()),
            Self::Exposed(path, mode) => {
                let path = path.display();
                write!(
                    f,
                    "{path} holds credentials but is open to other users (mode {mode:04o}); run: chmod 600 {path}"
                )
            }
            Self::ForeignOwner(path) => write!(f, "{} belongs to another user", path.display()),
            Self::NotText(path) => write!(f, "{} is not a list of NAME=VALUE", path.display()),
            Self::Line(line) => write!(f, "line {line} of the credentials is not NAME=VALUE"),
            Self::Missing(names) => write!(f, "not set: {}", names.join(", ")),
        }
    }
}

impl std::error::Error for CredentialsError {}

/// Values by their variables; wiped when dropped.
pub struct Credentials {
    values: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
}

impl Drop for Credentials {
    fn drop(&mut self) {
        self.values.values_mut().chain(self.environment.values_mut()).for_each(Zeroize::zeroize);
    }
}

impl Credentials {
    /// From this file, if one is named, and the environment for what it does not have.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn load(file: Option<&Path>, names: &[&'static str]) -> Result<Self, CredentialsError> {
        let text = file.map(read_private).transpose()?.unwrap_or_default();
        let mut found = Self::read(&text).map_err(CredentialsError::Line)?;
        for name in names {
            let set = std::env::var(name).or_else(|_| std::env::var(format!("{PREFIX}{name}")));
            found.environment.extend(set.ok().map(|value| ((*name).to_owned(), value)));
        }
        Ok(found)
    }

    /// Reads lines of `NAME=VALUE`, with `export` in front, quotes around and comments as shells have them.
    /// The error is the line, from 1.
    pub fn read(text: &str) -> Result<Self, usize> {
        let mut values = BTreeMap::new();
        for (place, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let line = line.strip_prefix("export ").unwrap_or(line);
            let (name, value) = line.split_once('=').ok_or(place + 1)?;
            let name = name.trim();
            let is_name =
                !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            if !is_name {
                return Err(place + 1);
            }
            values.insert(name.to_owned(), unquote(value.trim()).to_owned());
        }
        Ok(Self { values, environment: BTreeMap::new() })
    }

    /// A value that is there.
    pub fn find(&self, name: &str) -> Option<&str> {
        let found = self.values.get(name).or_else(|| self.environment.get(name));
        found.map(String::as_str).filter(|value| !value.is_empty())
    }

    /// A value; empty if it is not there, which [`Self::require`] has ruled out.
    pub fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// Whether all these are there.
    ///
    /// # Errors
    /// Those that are not.
    pub fn require(&self, names: &[&'static str]) -> Result<(), CredentialsError> {
        let missing: Vec<&'static str> =
            names.iter().copied().filter(|name| self.find(name).is_none()).collect();
        if missing.is_empty() { Ok(()) } else { Err(CredentialsError::Missing(missing)) }
    }

    /// `text` without any of the values, which a provider's answer may repeat.
    pub fn redact(&self, text: &str) -> String {
        let mut out = text.to_owned();
        for value in self.values.values().chain(self.environment.values()).filter(|value| value.len() >= 6) {
            out = out.replace(value.as_str(), "[redacted]");
        }
        out
    }

    /// Values that the provider does not list.
    #[cfg(test)]
    pub fn unlisted(&self, provider: &Provider) -> Vec<&str> {
        let listed = |name: &str| provider.needed.contains(&name) || provider.taken.contains(&name);
        self.values.keys().map(String::as_str).filter(|name| !listed(name)).collect()
    }
}

fn unquote(value: &str) -> &str {
    let quoted = |quote| value.strip_prefix(quote).and_then(|inner| inner.strip_suffix(quote));
    quoted('"').or_else(|| quoted('\'')).unwrap_or(value)
}

/// The content of a file that only its owner may read.
fn read_private(path: &Path) -> Result<Zeroizing<String>, CredentialsError> {
    let failed = |error| CredentialsError::Io(path.to_owned(), error);
    let file = File::open(path).map_err(failed)?;
    // Of the file that is open: its name may be given to another one meanwhile.
    let found = file.metadata().map_err(failed)?;
    let mode = found.mode() & 0o7777;
    if !found.is_file() {
        return Err(CredentialsError::NotText(path.to_owned()));
    }
    if mode & 0o077 != 0 {
        return Err(CredentialsError::Exposed(path.to_owned(), mode));
    }
    let ours = std::fs::metadata("/proc/self").map(|process| process.uid()).map_err(failed)?;
    if found.uid() != ours && found.uid() != 0 && ours != 0 {
        return Err(CredentialsError::ForeignOwner(path.to_owned()));
    }
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(FILE_BYTES).unwrap_or_default() + 1));
    let read = file.take(FILE_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(length) if length as u64 <= FILE_BYTES => Ok(text),
        Err(error) if error.kind() != io::ErrorKind::InvalidData => Err(failed(error)),
        _ => Err(CredentialsError::NotText(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::{Credentials, CredentialsError};
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    fn read(text: &str) -> Result<Credentials, usize> {
        Credentials::read(text)
    }

    #[test]
    fn lines_are_read_as_a_shell_reads_them() {
        let found = read("# a comment\n\nexport A=1\nB = \"two words\" \nC='x=y'\nD=\nE=\"\n").unwrap();
        assert_eq!((found.get("A"), found.get("B"), found.get("C")), ("1", "two words", "x=y"));
        assert_eq!((found.find("D"), found.find("E"), found.find("F")), (None, Some("\""), None));
        for (text, line) in [("A", 1), ("A=1\nno line", 2), ("=1", 1), ("a b=1", 1)] {
            assert_eq!(read(text).err(), Some(line), "{text}");
        }
    }

    #[test]
    fn what_is_missing_is_listed_and_no_value_is_shown() {
        let found = read("A=secret-value\n").unwrap();
        let error = found.require(&["A", "B", "C"]).unwrap_err().to_string();
        assert_eq!(error, "not set: B, C");
        assert!(found.require(&["A"]).is_ok());
        assert_eq!(found.redact("bad token secret-value!"), "bad token [redacted]!");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let path = std::env::temp_dir().join(format!("lockring-dns-{}", std::process::id()));
        fs::write(&path, "A_TEST_ONLY=1\n").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o620] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let refused = Credentials::load(Some(&path), &[]).err().unwrap();
            assert!(matches!(refused, CredentialsError::Exposed(_, found) if found == mode), "{refused}");
            assert!(refused.to_string().contains("chmod 600"), "{refused}");
        }
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Credentials::load(Some(&path), &["PATH"]).unwrap().get("A_TEST_ONLY"), "1");
        assert!(Credentials::load(Some(&path), &["PATH"]).unwrap().find("PATH").is_some());
        fs::write(&path, [0xff]).unwrap();
        assert!(matches!(Credentials::load(Some(&path), &[]), Err(CredentialsError::NotText(_))));
        fs::write(&path, vec![b'\n'; 70_000]).unwrap();
        assert!(matches!(Credentials::load(Some(&path), &[]), Err(CredentialsError::NotText(_))));
        fs::remove_file(&path).unwrap();
        assert!(matches!(Credentials::load(Some(&path), &[]), Err(CredentialsError::Io(..))));
    }
}
