//! Signals, on a thread of their own: the first SIGTERM or SIGINT drains, the second ends at once. A drain
//! asked for over the admin socket goes the same way.

use std::io;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::handoff::counters::Once;
use crate::handoff::mailbox::{Command, Sender};

/// How long workers and the log may take after the second signal.
const STOP_PATIENCE: Duration = Duration::from_millis(500);
/// How often whoever asks for a drain looks whether it has begun.
const DRAIN_POLL: Duration = Duration::from_millis(5);
/// How long it may take to begin.
const DRAIN_PATIENCE: Duration = Duration::from_secs(5);

/// The drain of the process, for whoever may ask for it.
#[derive(Clone, Debug, Default)]
pub struct Drain {
    begun: Once,
    asked: Once,
}

impl Drain {
    /// Whether it has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun.has_happened()
    }

    /// Begins it; whether it had begun already, or was asked for.
    ///
    /// # Errors
    /// When the process cannot be signalled, or does not heed it.
    pub fn begin(&self) -> io::Result<bool> {
        // A second signal would end the process at once, so only the first who asks gives one.
        let already = self.has_begun() || !self.asked.happens();
        if !already {
            signal_hook::low_level::raise(SIGTERM)?;
        }
        let end = Instant::now() + DRAIN_PATIENCE;
        while !self.has_begun() {
            if Instant::now() >= end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(DRAIN_POLL);
        }
        Ok(already)
    }
}

/// Hands the workers over to the signals.
///
/// # Errors
/// If the handlers cannot be set.
pub fn watch(mut workers: Vec<Sender>, drain: Duration, state: &Drain, say: fn(&str)) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let begun = state.begun.clone();
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for _ in signals.forever() {
            let command = if !begun.happens() {
                say("stopping now");
                Command::Stop
            } else {
                say("draining: requests under way are answered, new connections are refused");
                Command::Drain { deadline: Instant::now() + drain }
            };
            for worker in &mut workers {
                // A worker that has ended needs no telling.
                let _ = worker.send(command);
            }
            if command == Command::Stop {
                // A worker that does not come back must not keep the process.
                std::thread::sleep(STOP_PATIENCE);
                std::process::exit(0);
            }
        }
    })?;
    Ok(())
}
