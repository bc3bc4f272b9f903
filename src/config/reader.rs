//! Reads options by their full names over all files of a load, each by its kind and bounds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Source;
use super::diagnostic::{Code, Findings, Spot};
use super::model::Secret;
use super::nearest::nearest;
use super::raw::{Entry, Node, Raw};
use super::reference::{self, Kind};
use super::secret::{self, SecretError, Written};
use super::value::{self, ValueError};

/// Reads options by their full names over all files.
pub(super) struct Reader<'a> {
    pub roots: &'a [Node],
    pub sources: &'a [Source],
    pub findings: &'a mut Findings,
}

impl<'a> Reader<'a> {
    /// The entry of `section.key`; written in two files it is a finding.
    pub fn entry(&mut self, name: &str) -> Option<&'a Entry> {
        let mut found: Option<&'a Entry> = None;
        for root in self.roots {
            let (sections, key) = name.rsplit_once('.').unwrap_or(("", name));
            let names = sections.split('.').filter(|section| !section.is_empty());
            let table = names
                .into_iter()
                .try_fold(root, |table, section| table.entry(section).map(|entry| &entry.node));
            let entry = table.and_then(|table| table.entry(key));
            match (found, entry) {
                (None, Some(entry)) => found = Some(entry),
                (Some(first), Some(second)) => {
                    let other = (first.key_spot, "it is set here first");
                    let cause = format!("`{name}` is set in two files");
                    self.findings.conflict(
                        Code::DuplicateKey,
                        second.key_spot,
                        other,
                        cause,
                        "keep one of the two",
                    );
                }
                (_, None) => {}
            }
        }
        found
    }

    pub fn node(&mut self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|entry| &entry.node)
    }

    pub fn text(&mut self, name: &str) -> Option<(&'a str, Spot)> {
        let node = self.node(name)?;
        match &node.value {
            Raw::Text(text) => Some((text, node.spot)),
            _ => None,
        }
    }

    pub fn flag(&mut self, name: &str) -> Option<bool> {
        match self.node(name)?.value {
            Raw::Flag(flag) => Some(flag),
            _ => None,
        }
    }

    pub fn count(&mut self, name: &str, slot: &mut usize) {
        let Some(node) = self.node(name) else { return };
        let (Raw::Integer(number), Some(Kind::Count(low, high))) = (&node.value, kind(name)) else { return };
        match usize::try_from(*number) {
            Ok(count) if (low..=high).contains(number) => *slot = count,
            _ => self.out_of_range(node.spot, &number.to_string(), &low.to_string(), &high.to_string()),
        }
    }

    pub fn duration(&mut self, name: &str, slot: &mut Duration) {
        if let Some(node) = self.node(name) {
            self.duration_at(node, name, slot);
        }
    }

    /// The duration written at `node`, which is the value of an option named `name` in the table of options.
    pub fn duration_at(&mut self, node: &Node, name: &str, slot: &mut Duration) {
        let (Raw::Text(text), spot) = (&node.value, node.spot) else { return };
        let Some(Kind::Duration(low, high)) = kind(name) else { return };
        let (low, high) = (Duration::from_millis(low), Duration::from_millis(high));
        match value::duration(text) {
            Ok(duration) if (low..=high).contains(&duration) => *slot = duration,
            Ok(_) => {
                self.out_of_range(spot, text, &value::show_duration(low), &value::show_duration(high));
            }
            Err(error) => {
                let remedy =
                    unit_remedy(error, text, "s", "a whole number and ms, s, m or h, such as \"30s\"");
                self.refuse(Code::BadDuration, spot, text, error, &remedy);
            }
        }
    }

    /// `None` if nothing usable was written, `Some(None)` for `"none"`.
    pub fn size(&mut self, name: &str) -> Option<Option<u64>> {
        let (text, spot) = self.text(name)?;
        let (low, high) = match kind(name)? {
            Kind::SizeOrNone(..) if text == "none" => return Some(None),
            Kind::Size(low, high) | Kind::SizeOrNone(low, high) => (low, high),
            _ => return None,
        };
        match value::size(text) {
            Ok(size) if (low..=high).contains(&size) => return Some(Some(size)),
            Ok(_) => self.out_of_range(spot, text, &value::show_size(low), &value::show_size(high)),
            Err(error) => {
                let form = "a whole number and B, KiB, MiB, GiB, KB, MB or GB, such as \"10MiB\"";
                let remedy = unit_remedy(error, text, "B", form);
                self.refuse(Code::BadSize, spot, text, error, &remedy);
            }
        }
        None
    }

    pub fn bytes(&mut self, name: &str, slot: &mut usize) {
        if let Some(Some(size)) = self.size(name) {
            *slot = usize::try_from(size).unwrap_or(usize::MAX);
        }
    }

    pub fn file(&mut self, name: &str) -> Option<(PathBuf, Spot)> {
        let (text, spot) = self.text(name)?;
        Some((self.path(text, spot)?, spot))
    }

    /// A path as seen from the directory of the file in which it stands.
    pub fn path(&mut self, text: &str, spot: Spot) -> Option<PathBuf> {
        if text.is_empty() || text.contains('\0') {
            let cause = if text.is_empty() { "the path is empty" } else { "the path has a NUL byte" };
            self.findings.note(Code::BadFile, spot, cause, "write the path of a file");
            return None;
        }
        if text.starts_with("~/") {
            let cause = format!("`{text}` starts with `~`, which only a shell expands");
            self.findings.note(Code::BadFile, spot, cause, "write the whole path");
            return None;
        }
        Some(self.directory(spot).join(text))
    }

    /// One of the words that an option takes; `what` is what they are, in the singular.
    pub fn choice<T: Copy>(&mut self, node: &Node, what: &str, words: &[(&str, T)]) -> Option<T> {
        let Raw::Text(text) = &node.value else { return None };
        self.word(text, node.spot, what, words)
    }

    /// The same for a text of its own.
    pub fn word<T: Copy>(&mut self, text: &str, spot: Spot, what: &str, words: &[(&str, T)]) -> Option<T> {
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let remedy = match nearest(text, words.iter().map(|(word, _)| *word)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => {
                let known: Vec<String> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
                format!("write {}", known.join(" or "))
            }
        };
        self.findings.note(Code::BadChoice, spot, format!("there is no {what} `{text}`"), remedy);
        None
    }

    /// A word without blanks, such as a name or an identifier.
    pub fn label(&mut self, node: &Node, what: &str) -> Option<String> {
        let Raw::Text(text) = &node.value else { return None };
        if text.is_empty() || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
            let cause = format!("`{text}` is not the name of {what}");
            self.findings.note(Code::BadChoice, node.spot, cause, "write it as one word, without blanks");
            return None;
        }
        Some(text.clone())
    }

    /// An email address.
    pub fn email(&mut self, node: &Node) -> Option<String> {
        let Raw::Text(text) = &node.value else { return None };
        let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control());
        let parts =
            text.split_once('@').is_some_and(|(user, domain)| !user.is_empty() && domain.contains('.'));
        if plain && parts {
            return Some(text.clone());
        }
        let cause = format!("`{text}` is not an email address");
        self.findings.note(Code::BadChoice, node.spot, cause, "write one such as \"ops@example.com\"");
        None
    }

    /// The place of a secret, never a secret: what has neither `file:` nor `env:` in front is taken for one and
    /// not shown.
    pub fn secret(&mut self, node: &Node) -> Option<Secret> {
        let Raw::Text(text) = &node.value else { return None };
        let error = match secret::marked(text) {
            Ok(Written::Path(path)) => return self.path(path, node.spot).map(Secret::File),
            Ok(Written::Variable(name)) => return Some(Secret::Env(name.to_owned())),
            Err(error) => error,
        };
        if matches!(error, SecretError::Inline | SecretError::Unmarked) {
            self.findings.hide(node.spot);
        }
        self.findings.note(Code::BadSecret, node.spot, error.cause(), error.remedy());
        None
    }

    /// A program and its arguments. A program with a `/` in it is seen from the directory of the file.
    pub fn command(&mut self, node: &Node) -> Option<Vec<String>> {
        let words = node.texts();
        let Some(((program, spot), arguments)) = words.split_first() else {
            let remedy = "write [\"/usr/local/bin/program\", \"argument\"]";
            if matches!(&node.value, Raw::List(_)) {
                self.findings.note(Code::Missing, node.spot, "no program is named", remedy);
            }
            return None;
        };
        let nul = words.iter().find(|(word, _)| word.contains('\0'));
        if let Some((_, spot)) = nul {
            let cause = "an argument of a program has a NUL byte";
            self.findings.note(Code::BadFile, *spot, cause, "write it without");
            return None;
        }
        let program = match program.contains('/') || program.is_empty() {
            true => self.path(program, *spot)?.display().to_string(),
            false => (*program).to_owned(),
        };
        Some(std::iter::once(program).chain(arguments.iter().map(|(word, _)| (*word).to_owned())).collect())
    }

    /// The directory from which paths of the file of `spot` start.
    pub fn directory(&self, spot: Spot) -> &'a Path {
        let source = usize::try_from(spot.file).ok().and_then(|index| self.sources.get(index));
        source.and_then(|source| Path::new(&source.name).parent()).unwrap_or(Path::new(""))
    }

    pub fn refuse(&mut self, code: Code, spot: Spot, text: &str, error: ValueError, remedy: &str) {
        self.findings.note(code, spot, format!("`{text}` {}", error.cause()), remedy);
    }

    pub fn out_of_range(&mut self, spot: Spot, text: &str, low: &str, high: &str) {
        let cause = format!("`{text}` is out of bounds");
        self.findings.note(Code::OutOfRange, spot, cause, format!("write {low} to {high}"));
    }
}

fn kind(name: &str) -> Option<Kind> {
    reference::find(name).map(|option| option.kind)
}

/// The commonest slip is a number without its unit.
fn unit_remedy(error: ValueError, text: &str, unit: &str, form: &str) -> String {
    if error == ValueError::NoUnit {
        return format!("add the unit: \"{text}{unit}\"");
    }
    format!("write {form}")
}
