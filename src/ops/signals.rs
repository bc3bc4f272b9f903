//! Signals, on a thread of their own: the first SIGTERM or SIGINT drains, the second ends at once.

use std::io;
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::handoff::mailbox::{Command, Sender};

/// How long workers and the log may take after the second signal.
const STOP_PATIENCE: Duration = Duration::from_millis(500);

/// Hands the workers over to the signals.
///
/// # Errors
/// If the handlers cannot be set.
pub fn watch(mut workers: Vec<Sender>, drain: Duration, say: fn(&str)) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        let mut draining = false;
        for _ in signals.forever() {
            let command = if draining {
                say("stopping now");
                Command::Stop
            } else {
                say("draining: requests under way are answered, new connections are refused");
                Command::Drain { deadline: Instant::now() + drain }
            };
            draining = true;
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
