//! Where a secret is, as written: `env:NAME`, `file:PATH`, or a path alone. The secret itself is not read here.

/// What a text names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'a> {
    /// A file, by the path as written.
    Path(&'a str),
    /// An environment variable, by its name.
    Variable(&'a str),
}

/// Why a text names no secret. No case holds the text: it may be a secret in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretError {
    /// A PEM text instead of the place where one is.
    Inline,
    /// Neither `file:` nor `env:` in front, where only these are taken: most likely a secret.
    Unmarked,
    /// Nothing after `env:`.
    NoName,
    /// A name that a shell cannot set.
    BadName,
}

impl SecretError {
    /// What is wrong, as a sentence without its end.
    #[must_use]
    pub const fn cause(self) -> &'static str {
        match self {
            Self::Inline => "this is a secret itself, which a configuration must not hold",
            Self::Unmarked => {
                "this starts with neither `file:` nor `env:`, so it may be a secret itself (not shown)"
            }
            Self::NoName => "no environment variable is named after `env:`",
            Self::BadName => "what follows `env:` is not the name of an environment variable",
        }
    }

    /// What to write instead.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Inline | Self::Unmarked => {
                "put it into a file of mode 0600 and write \"file:PATH\", or write \"env:NAME\""
            }
            Self::NoName => "write the name, such as \"env:APP_KEY\"",
            Self::BadName => "use letters, digits and `_`, no digit first, such as \"env:APP_KEY\"",
        }
    }
}

/// Reads the place of a secret. A file whose name starts with `env:` is written `file:env:…`.
///
/// # Errors
/// [`SecretError`]; whether a path can be one is the caller's to judge.
pub fn secret(text: &str) -> Result<Written<'_>, SecretError> {
    if text.contains("-----BEGIN ") {
        return Err(SecretError::Inline);
    }
    let Some(name) = text.strip_prefix("env:") else {
        return Ok(Written::Path(text.strip_prefix("file:").unwrap_or(text)));
    };
    // POSIX.1-2024, Base Definitions §3.216: the names that every shell and service manager can set.
    let first = name.bytes().next().ok_or(SecretError::NoName)?;
    if first.is_ascii_digit() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Err(SecretError::BadName);
    }
    Ok(Written::Variable(name))
}

/// The same for secrets that look like any other word, so that a path has to be marked as one.
///
/// # Errors
/// [`SecretError`].
pub fn marked(text: &str) -> Result<Written<'_>, SecretError> {
    let written = secret(text)?;
    if text.starts_with("file:") || text.starts_with("env:") {
        Ok(written)
    } else {
        Err(SecretError::Unmarked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_variables_are_told_apart() {
        for (text, written) in [
            ("/etc/a.key", Written::Path("/etc/a.key")),
            ("file:/etc/a.key", Written::Path("/etc/a.key")),
            ("file:a.key", Written::Path("a.key")),
            ("file:", Written::Path("")),
            ("", Written::Path("")),
            ("file:env:A", Written::Path("env:A")),
            ("./env:A", Written::Path("./env:A")),
            ("environment", Written::Path("environment")),
            ("env:A", Written::Variable("A")),
            ("env:_app_KEY_2", Written::Variable("_app_KEY_2")),
        ] {
            assert_eq!(secret(text), Ok(written), "{text}");
        }
    }

    #[test]
    fn words_that_may_be_secrets_have_to_be_marked() {
        assert_eq!(marked("file:a"), Ok(Written::Path("a")));
        assert_eq!(marked("env:A"), Ok(Written::Variable("A")));
        for text in ["", "a", "/etc/a", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajV"] {
            assert_eq!(marked(text), Err(SecretError::Unmarked), "{text}");
        }
        assert_eq!(marked("env:2"), Err(SecretError::BadName));
    }

    #[test]
    fn everything_else_is_refused() {
        assert_eq!(secret("env:"), Err(SecretError::NoName));
        for name in ["2A", "A=B", "A B", " A", "A\0", "A-B", "$A", "É", "file:A", "A\n"] {
            assert_eq!(secret(&format!("env:{name}")), Err(SecretError::BadName), "{name}");
        }
        for front in ["", "env:", "file:", "\n"] {
            let text = format!("{front}-----BEGIN PRIVATE KEY-----\nMC4C");
            assert_eq!(secret(&text), Err(SecretError::Inline), "{text}");
        }
    }
}
