//! `lockring check`, and the same checks before `run` and `reload`: the configuration room over the file
//! system, and what only files and sockets can tell. Changes nothing: no file is written, no socket listens.

mod acme;
mod certificates;
mod disk;
mod listeners;
mod online;
mod preflight;
mod stand;

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::config::{self, Diagnostic, Files, Loaded, Severity, Source, render};

pub use disk::{Disk, ReadError};
pub(super) use listeners::patiently;

use crate::ops::certificates::Pairs;

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// For editors: one JSON array.
    Json,
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All of it, in file order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Report {
    /// Whether the configuration cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.diagnostics.iter().any(|d| d.severity == Severity::Error)
    }

    /// The exit code of the process: 0 (warnings or nothing) or 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.has_errors())
    }

    /// All of it as text ending in a line feed.
    #[must_use]
    pub fn render(&self, format: Format) -> String {
        match format {
            Format::Json => render::json(&self.diagnostics) + "\n",
            Format::Text if self.diagnostics.is_empty() => String::new(),
            Format::Text => {
                let errors = self.diagnostics.iter().filter(|d| d.severity == Severity::Error).count();
                let warnings = self.diagnostics.len() - errors;
                format!("{}\n{errors} error(s), {warnings} warning(s)\n", render::text(&self.diagnostics))
            }
        }
    }
}

/// Loads the file at `path` and all it includes.
///
/// # Errors
/// Everything that is wrong with the texts.
pub fn check_file(path: &Path) -> Result<Loaded, Report> {
    let name = path.display().to_string();
    let root = match Disk.read(path) {
        Ok(text) => Source { name, text },
        Err(cause) => return Err(Report { diagnostics: vec![unreadable(&name, &cause)] }),
    };
    config::load(root, &Disk).map_err(|diagnostics| Report { diagnostics })
}

fn unreadable(name: &str, cause: &str) -> Diagnostic {
    Diagnostic {
        code: config::Code::Unreadable,
        severity: Severity::Error,
        place: config::Place::whole(name),
        also: None,
        cause: format!("the configuration cannot be read: {cause}"),
        remedy: "name another with -c FILE, or start without a file: lockring proxy HOST=UPSTREAM".to_owned(),
    }
}

/// Everything that `lockring check` says of a file: its texts, and if these are right, certificates and
/// sockets.
#[must_use]
pub fn check(path: &Path, now_unix: u64) -> Report {
    judge(path, |loaded| semantic(loaded, &Disk, now_unix))
}

/// The same and, if nothing is wrong with the texts, what authorities and name servers say.
#[must_use]
pub fn check_online(path: &Path, now_unix: u64) -> Report {
    judge(path, |loaded| {
        let mut diagnostics = semantic(loaded, &Disk, now_unix);
        diagnostics.extend(online::check(loaded));
        diagnostics
    })
}

fn judge(path: &Path, further: impl FnOnce(&Loaded) -> Vec<Diagnostic>) -> Report {
    match check_file(path) {
        Ok(loaded) => {
            let mut diagnostics = loaded.warnings.clone();
            diagnostics.extend(further(&loaded));
            // Sources come in the order of the load, and within one the lines decide.
            let order = |d: &Diagnostic| loaded.sources.iter().position(|s| *s.name == *d.place.file);
            diagnostics.sort_by_key(|d| (order(d), d.place.span.start));
            Report { diagnostics }
        }
        Err(report) => report,
    }
}

/// What files and sockets tell: certificates that do not fit their key, host or time; secrets and programs that
/// are not there; names that no authority can be asked for; addresses that cannot
/// be listened on, with the process that has them; upstreams that are this proxy. The environment is that of
/// `files`.
#[must_use]
pub fn semantic(loaded: &Loaded, files: &dyn Files, now_unix: u64) -> Vec<Diagnostic> {
    before_start(loaded, files, now_unix).0
}

/// As [`semantic`], with the pairs that were read for it, so that a start reads each once.
#[must_use]
pub fn before_start(loaded: &Loaded, files: &dyn Files, now_unix: u64) -> (Vec<Diagnostic>, Pairs) {
    let (mut diagnostics, pairs) = certificates::check(loaded, files, now_unix);
    diagnostics.extend(acme::check(loaded, files));
    diagnostics.extend(listeners::check(loaded));
    (diagnostics, pairs)
}

/// A regular file of at most `limit` bytes.
///
/// # Errors
/// Why it cannot be read, in words.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    disk::read_bounded(path, limit).map_err(|error| error.to_string())
}

/// Seconds since 1970 by the system clock.
#[must_use]
pub fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests;
