//! What the rest of the process asks of the acme thread.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::ca::Reason;
use super::preflight::Finding;
use super::slot::Slot;
use super::status::Status;
use crate::config::model::Model;
use crate::handoff::desk::{self, Answer, Asker, Desk};
use crate::handoff::published::Published;

/// Commands that may wait unread: people give them one by one.
const WAITING: usize = 64;
/// How long a caller waits for the thread to take a command; it may be in the middle of writing to a disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// The same for a command that asks an authority.
const PATIENCE_AUTHORITY: Duration = Duration::from_secs(150);

/// Why a command was not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    /// The thread does not take commands now.
    Busy,
    /// The thread has ended.
    Gone,
    /// No certificate has this name.
    Unknown(String),
    /// Another process renews; it has to be asked.
    NotLeader,
    /// There is no certificate to revoke.
    NoCertificate(String),
    /// It was tried, and failed with this text.
    Failed(String),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy => f.write_str("the acme thread is busy; try again"),
            Self::Gone => f.write_str("the acme thread has ended"),
            Self::Unknown(name) => write!(f, "no certificate from an authority is named {name:?}"),
            Self::NotLeader => f.write_str("another process renews certificates; ask that one"),
            Self::NoCertificate(name) => write!(f, "{name} has no certificate"),
            Self::Failed(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for CommandError {}

/// What a look at one slot found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// Name of the slot.
    pub name: String,
    /// What may stand in the way of an order.
    pub findings: Vec<Finding>,
}

/// One command, with the place for its answer.
#[derive(Debug)]
pub(super) enum Command {
    /// Renew a slot, or all of them.
    Renew { name: Option<String>, force: bool, answer: Answer<Result<usize, CommandError>> },
    /// Revoke a slot's certificate.
    Revoke { name: String, reason: Reason, answer: Answer<Result<(), CommandError>> },
    /// Look at what an order would fail at.
    Look { answer: Answer<Result<Vec<Look>, CommandError>> },
    /// Another configuration.
    Reload { model: Arc<Model>, slots: Vec<Slot> },
    /// End.
    Stop { answer: Answer<()> },
    /// End by a defect, for a test of the restart.
    #[cfg(debug_assertions)]
    Panic,
}

/// The way to the acme thread; clones lead to the same.
#[derive(Clone, Debug)]
pub struct Handle {
    commands: Asker<Command>,
    status: Published<Status>,
}

/// A handle, and what the thread holds of it.
pub(super) fn handle(first: Status) -> (Handle, Desk<Command>, Published<Status>) {
    let (commands, desk) = desk::desk(WAITING);
    let status = Published::new(Arc::new(first));
    (Handle { commands, status: status.clone() }, desk, status)
}

impl Handle {
    /// Tries for a new certificate at once where one is due and waits; with `force` also where none is due.
    /// `name`: of one slot; none: all. Gives how many are tried for.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn renew(&self, name: Option<&str>, force: bool) -> Result<usize, CommandError> {
        let name = name.map(str::to_owned);
        self.ask(PATIENCE, |answer| Command::Renew { name, force, answer })
    }

    /// Revokes the certificate of a slot at its authority; a new one is then due.
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn revoke(&self, name: &str, reason: Reason) -> Result<(), CommandError> {
        let name = name.to_owned();
        self.ask(PATIENCE_AUTHORITY, |answer| Command::Revoke { name, reason, answer })
    }

    /// Looks at what orders would fail at, and places none; may take [`crate::limits::PREFLIGHT_ALL`].
    ///
    /// # Errors
    /// [`CommandError`].
    pub fn look(&self) -> Result<Vec<Look>, CommandError> {
        self.ask(PATIENCE_AUTHORITY, |answer| Command::Look { answer })
    }

    /// What was known at the last change; never waits.
    #[must_use]
    pub fn status(&self) -> Arc<Status> {
        self.status.load()
    }

    /// Goes over to another configuration; orders for slots that stay as they are go on.
    ///
    /// # Errors
    /// [`CommandError::Busy`], [`CommandError::Gone`].
    pub fn reload(&self, model: Arc<Model>, slots: Vec<Slot>) -> Result<(), CommandError> {
        self.leave(Command::Reload { model, slots })
    }

    /// Ends the thread; what is under way is resumed at the next start. `false`: it did not end in time.
    #[must_use]
    pub fn stop(&self, patience: Duration) -> bool {
        let (answer, ended) = desk::answer();
        self.leave(Command::Stop { answer }) == Err(CommandError::Gone) || ended.wait(patience).is_some()
    }

    /// Makes the thread panic.
    #[cfg(debug_assertions)]
    pub fn panic(&self) {
        let _ = self.leave(Command::Panic);
    }

    fn leave(&self, command: Command) -> Result<(), CommandError> {
        self.commands.leave(command).map_err(|error| match error {
            desk::Error::Full => CommandError::Busy,
            desk::Error::Gone => CommandError::Gone,
        })
    }

    fn ask<T>(
        &self,
        patience: Duration,
        command: impl FnOnce(Answer<Result<T, CommandError>>) -> Command,
    ) -> Result<T, CommandError> {
        let (answer, awaited) = desk::answer();
        self.leave(command(answer))?;
        awaited.wait(patience).unwrap_or(Err(CommandError::Busy))
    }
}
