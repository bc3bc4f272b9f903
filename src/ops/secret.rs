//! Secrets from the environment. Errors say which variable, never what it holds.

use std::fmt;

use zeroize::Zeroizing;

use crate::config::Files;

/// Why an environment variable gives no secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VariableError {
    /// It is not set, or to bytes that are not UTF-8, which [`Files::env`] does not tell apart.
    Unset(String),
    /// It is set to nothing but white space.
    Empty(String),
}

impl VariableError {
    /// What the user can do about it.
    pub fn remedy(&self) -> String {
        let (Self::Unset(name) | Self::Empty(name)) = self;
        format!("set it in the environment of lockring, for `check` too: export {name}=\"$(cat FILE)\"")
    }
}

impl fmt::Display for VariableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unset(name) => {
                write!(f, "the environment variable `{name}` is not set, or not to UTF-8 text")
            }
            Self::Empty(name) => write!(f, "the environment variable `{name}` is empty"),
        }
    }
}

impl std::error::Error for VariableError {}

/// The secret in the environment variable `name`; our copy of it is wiped when dropped.
///
/// # Errors
/// It is not set, or empty.
pub(super) fn variable(name: &str, files: &dyn Files) -> Result<Zeroizing<Vec<u8>>, VariableError> {
    let text = files.env(name).ok_or_else(|| VariableError::Unset(name.to_owned()))?;
    let bytes = Zeroizing::new(text.into_bytes());
    if bytes.trim_ascii().is_empty() {
        return Err(VariableError::Empty(name.to_owned()));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;

    /// One variable, `A`.
    struct One(Option<&'static str>);

    impl Files for One {
        fn read(&self, _: &Path) -> Result<String, String> {
            Err("there are no files".to_owned())
        }

        fn glob(&self, _: &str, _: &Path) -> Result<Vec<PathBuf>, String> {
            Ok(Vec::new())
        }

        fn env(&self, name: &str) -> Option<String> {
            self.0.filter(|_| name == "A").map(str::to_owned)
        }

        fn is_root(&self) -> bool {
            false
        }
    }

    #[test]
    fn variables_are_read_whole_or_refused_by_name() {
        assert_eq!(**variable("A", &One(Some(" pem\n"))).unwrap(), *b" pem\n");
        for (held, error) in [
            (None, VariableError::Unset("A".to_owned())),
            (Some(""), VariableError::Empty("A".to_owned())),
            (Some(" \r\n"), VariableError::Empty("A".to_owned())),
        ] {
            let found = variable("A", &One(held)).unwrap_err();
            assert_eq!(found, error);
            assert!(found.to_string().contains("`A`") && found.remedy().contains("export A="));
        }
        assert_eq!(variable("B", &One(Some("x"))).unwrap_err(), VariableError::Unset("B".to_owned()));
    }
}
