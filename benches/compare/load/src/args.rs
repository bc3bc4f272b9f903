//! The words of the command line: `--name value` pairs and bare flags.

use std::collections::HashMap;
use std::io;
use std::str::FromStr;

/// Names with their values; a flag's value is empty.
pub struct Args(HashMap<String, String>);

impl Args {
    /// Reads `words`; a word that begins with `--` begins a pair, and what does not is its value.
    pub fn read(words: impl Iterator<Item = String>) -> io::Result<Self> {
        let mut pairs: HashMap<String, String> = HashMap::new();
        let mut last: Option<String> = None;
        for word in words {
            match (word.strip_prefix("--"), last.take()) {
                (Some(name), _) => {
                    pairs.insert(name.to_owned(), String::new());
                    last = Some(name.to_owned());
                }
                (None, Some(name)) => drop(pairs.insert(name, word)),
                (None, None) => return Err(io::Error::other(format!("what is {word:?}?"))),
            }
        }
        Ok(Self(pairs))
    }

    /// Whether `name` was given.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The text of `name`.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The number of `name`, or `default` if it was not given.
    pub fn number<T: FromStr>(&self, name: &str, default: T) -> io::Result<T> {
        match self.0.get(name) {
            Some(text) => {
                text.parse().map_err(|_| io::Error::other(format!("--{name} {text}: not a number")))
            }
            None => Ok(default),
        }
    }

    /// The number of `name`, which must be given.
    pub fn needed<T: FromStr>(&self, name: &str) -> io::Result<T> {
        let text = self.0.get(name).ok_or_else(|| io::Error::other(format!("--{name} is needed")))?;
        text.parse().map_err(|_| io::Error::other(format!("--{name} {text}: not a number")))
    }
}
