//! DNS by a program, called as lego calls one (its `exec` provider): `present FQDN VALUE` and
//! `cleanup FQDN VALUE`, or raw, `present -- DOMAIN TOKEN KEY_AUTHORIZATION`. No shell takes part.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::io::sys::kill_group;
use crate::limits;

/// Variables that a hook is given; those of [`PASSED_PREFIXES`] too.
const PASSED: [&str; 4] = ["PATH", "HOME", "LANG", "TZ"];
/// Beginnings of variables that a hook is given.
const PASSED_PREFIXES: [&str; 3] = ["EXEC_", "LEGO_", "LOCKRING_"];
/// Parts of a variable's name that tell that it holds a secret.
const SECRET_WORDS: [&str; 5] = ["TOKEN", "KEY", "SECRET", "PASSWORD", "CREDENTIAL"];
/// A shorter value is not looked for in output: it would be found everywhere.
const SECRET_BYTES: usize = 6;
/// What stands for a secret in output.
const REDACTED: &str = "[redacted]";
/// Bytes read at once.
const PIECE_BYTES: usize = 4096;

/// Why a hook did not do its work.
#[derive(Debug)]
pub enum ExecError {
    /// It could not be started.
    Start {
        /// The program.
        program: String,
        /// Why.
        error: io::Error,
    },
    /// It ended, but not well.
    Failed {
        /// The program.
        program: String,
        /// `present` or `cleanup`.
        verb: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its output, escaped.
        output: Vec<String>,
    },
    /// It did not end in time and was killed with all its children.
    TimedOut {
        /// The program.
        program: String,
        /// `present` or `cleanup`.
        verb: &'static str,
        /// Its time.
        timeout: Duration,
        /// The end of its output, escaped.
        output: Vec<String>,
    },
}

impl fmt::Display for ExecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let output = match self {
            Self::Start { program, error } => {
                return write!(f, "cannot start the hook {program}: {error}");
            }
            Self::Failed { program, verb, status, output } => {
                write!(f, "the hook {program} failed to {verb}: {status}")?;
                output
            }
            Self::TimedOut { program, verb, timeout, output } => {
                let seconds = timeout.as_secs_f32();
                write!(f, "the hook {program} did not {verb} within {seconds} s and was killed")?;
                output
            }
        };
        if output.is_empty() {
            f.write_str(", without output")
        } else {
            write!(f, ": {}", output.join(" | "))
        }
    }
}

impl std::error::Error for ExecError {}

/// What a hook is told.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `present` or `cleanup`.
    pub verb: &'static str,
    /// Its further arguments.
    pub arguments: [&'a str; 3],
    /// Whether it is `-- DOMAIN TOKEN KEY_AUTHORIZATION`, or `FQDN VALUE` and nothing.
    pub raw: bool,
}

/// A program and how it is run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The program and its first arguments.
    pub command: Vec<String>,
    /// After which it is killed.
    pub timeout: Duration,
}

impl Hook {
    /// Runs it to its end. Gives the lines of its output, errors and all, for the log: control characters
    /// and secrets of its environment are not in them. Whatever it leaves running in its group is killed; so
    /// is all of it when this is given up.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn run(&self, call: &Call<'_>) -> Result<Vec<String>, ExecError> {
        self.run_with(call, &[]).await
    }

    /// [`Self::run`] with more variables.
    ///
    /// # Errors
    /// See [`ExecError`].
    pub async fn run_with(
        &self,
        call: &Call<'_>,
        more: &[(&'static str, String)],
    ) -> Result<Vec<String>, ExecError> {
        let program = self.command.first().cloned().unwrap_or_default();
        let failed = |error| ExecError::Start { program: escape(program.as_bytes()), error };
        let (mut child, group) = self.start(call, environment(more)).map_err(failed)?;
        let mut lines = Lines::new(secrets(std::env::vars_os()));
        let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(failed(io::Error::other("it has no output")));
        };
        let mut pipes = Pipes { stdout: Some(stdout), stderr: Some(stderr), rest: [Vec::new(), Vec::new()] };
        let ended = timeout(self.timeout, wait(&mut child, &mut pipes, &mut lines)).await;
        // A child of it that runs on could write into a zone that nobody watches any more.
        drop(group);
        let ended = match ended {
            Ok(status) => Some(status.map_err(failed)?),
            Err(_) => {
                let _ = child.wait().await;
                None
            }
        };
        // One that left the group may hold the output open for ever.
        let _ = timeout(limits::HOOK_OUTPUT_TIMEOUT, pipes.drain(&mut lines)).await;
        pipes.flush(&mut lines);
        let (program, verb, output) = (escape(program.as_bytes()), call.verb, lines.take());
        match ended {
            Some(status) if status.success() => Ok(output),
            Some(status) => Err(ExecError::Failed { program, verb, status, output }),
            None => Err(ExecError::TimedOut { program, verb, timeout: self.timeout, output }),
        }
    }

    fn start(
        &self,
        call: &Call<'_>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> io::Result<(Child, Group)> {
        let Some((program, first)) = self.command.split_first() else {
            return Err(io::Error::other("no program is configured"));
        };
        let [one, two, three] = call.arguments;
        let mut command = Command::new(program);
        command.args(first).arg(call.verb);
        if call.raw {
            command.args(["--", one, two, three])
        } else {
            command.args([one, two].iter().filter(|argument| !argument.is_empty()))
        };
        command.env_clear().envs(environment.filter(|(name, _)| is_passed(name)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.process_group(0).kill_on_drop(true);
        let child = command.spawn()?;
        let group = Group { leader: child.id() };
        Ok((child, group))
    }
}

/// That of this process, and more.
fn environment(more: &[(&'static str, String)]) -> impl Iterator<Item = (OsString, OsString)> {
    let more = more.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    std::env::vars_os().chain(more)
}

/// Kills a process and its group when dropped.
struct Group {
    leader: Option<u32>,
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.leader {
            kill_group(leader);
        }
    }
}

/// Both outputs of a hook, and what each has of a line that is not over.
struct Pipes<O, E> {
    stdout: Option<O>,
    stderr: Option<E>,
    rest: [Vec<u8>; 2],
}

impl<O: AsyncRead + Unpin, E: AsyncRead + Unpin> Pipes<O, E> {
    /// Takes the next piece of either; `false` when both have ended.
    async fn next(&mut self, lines: &mut Lines) -> bool {
        let [out_rest, err_rest] = &mut self.rest;
        let (mut out, mut err) = ([0; PIECE_BYTES], [0; PIECE_BYTES]);
        tokio::select! {
            got = piece(&mut self.stdout, &mut out), if self.stdout.is_some() => {
                if !lines.take_piece(out_rest, out.get(..got).unwrap_or_default()) {
                    self.stdout = None;
                }
            }
            got = piece(&mut self.stderr, &mut err), if self.stderr.is_some() => {
                if !lines.take_piece(err_rest, err.get(..got).unwrap_or_default()) {
                    self.stderr = None;
                }
            }
            else => return false,
        }
        true
    }

    async fn drain(&mut self, lines: &mut Lines) {
        while self.next(lines).await {}
    }

    /// Ends lines that have no end.
    fn flush(&mut self, lines: &mut Lines) {
        self.rest.iter_mut().for_each(|rest| lines.end(rest));
    }
}

/// Reads a piece; 0 at the end or a failure, after which nothing comes either.
async fn piece(from: &mut Option<impl AsyncRead + Unpin>, into: &mut [u8]) -> usize {
    match from {
        Some(from) => from.read(into).await.unwrap_or(0),
        None => 0,
    }
}

/// Waits for the end of a process while taking its output, so that it cannot get stuck in a full pipe.
async fn wait<O: AsyncRead + Unpin, E: AsyncRead + Unpin>(
    child: &mut Child,
    pipes: &mut Pipes<O, E>,
    lines: &mut Lines,
) -> io::Result<ExitStatus> {
    loop {
        tokio::select! {
            status = child.wait() => return status,
            more = pipes.next(lines) => if !more { return child.wait().await },
        }
    }
}

/// The last lines of output.
struct Lines {
    kept: VecDeque<String>,
    secrets: Vec<String>,
}

impl Lines {
    fn new(secrets: Vec<String>) -> Self {
        Self { kept: VecDeque::new(), secrets }
    }

    /// Takes bytes behind the `rest` of a line; `false` if there are none.
    fn take_piece(&mut self, rest: &mut Vec<u8>, bytes: &[u8]) -> bool {
        for byte in bytes {
            if *byte == b'\n' {
                self.end(rest);
            } else if rest.len() < limits::HOOK_LINE_BYTES {
                rest.push(*byte);
            }
        }
        !bytes.is_empty()
    }

    fn end(&mut self, rest: &mut Vec<u8>) {
        let line = std::mem::take(rest);
        if line.trim_ascii().is_empty() {
            return;
        }
        let mut text = String::from_utf8_lossy(&line).into_owned();
        for secret in &self.secrets {
            text = text.replace(secret, REDACTED);
        }
        if self.kept.len() == limits::HOOK_LINES {
            self.kept.pop_front();
        }
        self.kept.push_back(escape(text.trim_end().as_bytes()));
    }

    fn take(self) -> Vec<String> {
        self.kept.into()
    }
}

/// Makes text harmless for a terminal and a log: control characters are written as Rust writes them.
fn escape(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        // Characters that turn the direction of text hide what stands there.
        let turns =
            matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        if character.is_control() || turns {
            out.extend(character.escape_default());
        } else {
            out.push(character);
        }
    }
    out
}

fn is_passed(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    PASSED.contains(&name) || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Values of variables that hold secrets by their name, the longest first so that no part of one stays.
fn secrets(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<String> {
    let mut found: Vec<String> = environment
        .filter(|(name, _)| {
            is_passed(name)
                && name.to_str().is_some_and(|name| SECRET_WORDS.iter().any(|word| name.contains(word)))
        })
        .filter_map(|(_, value)| value.into_string().ok())
        .filter(|value| value.len() >= SECRET_BYTES)
        .collect();
    found.sort_by_key(|value| std::cmp::Reverse(value.len()));
    found
}

#[cfg(test)]
#[path = "exec_tests.rs"]
mod tests;
