//! `lockring doctor`: what this machine and its kernel give a proxy, what is missing, and the command that
//! mends it; and `lockring tune`: all of these commands as one script. Facts are read in `facts`, judged by
//! pure functions, and nothing is ever changed.

mod cards;
mod facts;
mod judge;
mod knobs;
mod needs;
mod tune;

use std::fmt::Write as _;
use std::path::Path;

use serde_json::{Value, json};

use super::check::{Format, Report, check_file};

pub use cards::{Card, Interrupt};
pub use facts::Facts;
pub use judge::judge;
pub use needs::Needs;
pub use tune::{File, files, script};

/// How something stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// As it should be.
    Good,
    /// It works, at a cost.
    Better,
    /// Without it the proxy is not what it should be.
    Missing,
    /// It cannot be seen from here.
    Unknown,
}

impl State {
    /// The word for it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Better => "could be better",
            Self::Missing => "missing",
            Self::Unknown => "unknown",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub name: String,
    /// How it stands.
    pub state: State,
    /// What was found.
    pub found: String,
    /// What that means, and how it is known.
    pub means: String,
    /// What mends it, if something can.
    pub mend: Option<Mend>,
}

/// What mends a lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mend {
    /// A command, or what to do where no command will.
    pub command: String,
    /// How `tune` goes about it.
    pub by: By,
}

/// How `tune` mends something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// By one of the files it writes.
    File,
    /// By running the command.
    Command,
    /// Not at all: it is the operator's to do.
    Hand,
}

impl Finding {
    fn new(name: &str, state: State, found: impl Into<String>, means: impl Into<String>) -> Self {
        Self { name: name.to_owned(), state, found: found.into(), means: means.into(), mend: None }
    }

    fn mend(self, by: By, command: impl Into<String>) -> Self {
        Self { mend: Some(Mend { command: command.into(), by }), ..self }
    }
}

/// All that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// Whose needs were compared.
    pub of: String,
    /// How many workers that makes.
    pub workers: usize,
    /// In a fixed order.
    pub findings: Vec<Finding>,
}

impl Diagnosis {
    /// Judges `facts` by `needs`.
    #[must_use]
    pub fn new(facts: &Facts, needs: &Needs) -> Self {
        Self { of: needs.of.clone(), workers: needs.workers.len(), findings: judge(facts, needs) }
    }

    /// How many findings have this state.
    #[must_use]
    pub fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    /// The exit code of the process: 3 if something is missing, otherwise 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        if self.count(State::Missing) > 0 { DEGRADED } else { 0 }
    }

    /// All of it, ending in a line feed.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Text => self.text(),
            Format::Json => format!("{}\n", self.json()),
        }
    }

    fn text(&self) -> String {
        let mut out = format!("{} worker(s), by {}\n\n", self.workers, self.of);
        for finding in &self.findings {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{:<WIDTH$}{}: {}", finding.state.word(), finding.name, finding.found);
            let _ = writeln!(out, "{:WIDTH$}{}", "", finding.means);
            if let Some(mend) = &finding.mend {
                let _ = writeln!(out, "{:WIDTH$}mend: {}", "", mend.command);
            }
        }
        let count = |state: State| format!("{} {}", self.count(state), state.word());
        let counts = [State::Good, State::Better, State::Missing, State::Unknown].map(count);
        let _ = writeln!(out, "\n{}", counts.join(", "));
        out
    }

    fn json(&self) -> Value {
        let finding = |finding: &Finding| {
            json!({
                "name": finding.name, "state": finding.state.word(), "found": finding.found,
                "means": finding.means,
                "mend": finding.mend.as_ref().map(|mend| mend.command.as_str()),
            })
        };
        json!({
            "by": self.of, "workers": self.workers, "missing": self.count(State::Missing),
            "findings": self.findings.iter().map(finding).collect::<Vec<_>>(),
        })
    }
}

const DEGRADED: u8 = 3;
/// The longest word for a state, and two blanks.
const WIDTH: usize = "could be better".len() + 2;

/// What is asked of this machine: by the file at `path`; without one by `lockring.toml` if it is here, and
/// otherwise by the defaults.
///
/// # Errors
/// What is wrong with the file.
pub fn needs_of(path: Option<&Path>) -> Result<Needs, Report> {
    let usual = Path::new(USUAL_FILE);
    let Some(path) = path.or_else(|| usual.exists().then_some(usual)) else {
        return Ok(Needs::of_defaults());
    };
    check_file(path).map(|loaded| Needs::of(&loaded.model, &path.display().to_string()))
}

const USUAL_FILE: &str = "lockring.toml";

#[cfg(test)]
mod tests;
