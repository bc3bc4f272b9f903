//! Commands from the control thread to one worker: a bounded ring, and a socket pair that makes the
//! worker's event loop look into it.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rtrb::{Consumer, Producer, PushError, RingBuffer};

/// Commands that may wait for one worker; control sends a handful in a process' life.
const COMMANDS: usize = 16;

/// What the control thread may tell a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Accept nothing more, let requests end, close what is left at the deadline, then end.
    Drain {
        /// When what is left is closed.
        deadline: Instant,
    },
    /// Close everything and end at once.
    Stop,
}

/// Why a command was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The worker has not looked at the commands before this one.
    Full,
    /// The worker has ended.
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "the worker does not read its commands",
            Self::Gone => "the worker has ended",
        })
    }
}

impl std::error::Error for Error {}

/// A mailbox: control's end and the worker's end. Both ends of the socket pair are non-blocking.
///
/// # Errors
/// The system's, when no socket pair can be made (no descriptor left).
pub fn mailbox() -> io::Result<(Sender, Receiver)> {
    let (bell, wake) = UnixStream::pair()?;
    bell.set_nonblocking(true)?;
    wake.set_nonblocking(true)?;
    let (producer, consumer) = RingBuffer::new(COMMANDS);
    Ok((Sender { commands: producer, bell }, Receiver { commands: consumer, wake: Some(wake) }))
}

/// The control thread's end.
#[derive(Debug)]
pub struct Sender {
    commands: Producer<Command>,
    bell: UnixStream,
}

impl Sender {
    /// Leaves a command and wakes the worker.
    ///
    /// # Errors
    /// [`Error::Full`] when earlier commands wait unread, [`Error::Gone`] when the worker has ended.
    pub fn send(&mut self, command: Command) -> Result<(), Error> {
        if self.commands.is_abandoned() {
            return Err(Error::Gone);
        }
        self.commands.push(command).map_err(|PushError::Full(_)| Error::Full)?;
        loop {
            return match self.bell.write(&[1]) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                // Unread bytes fill the socket, so the worker is due to wake anyway.
                Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
                Err(_) => Err(Error::Gone),
            };
        }
    }
}

/// The worker's end.
#[derive(Debug)]
pub struct Receiver {
    commands: Consumer<Command>,
    wake: Option<UnixStream>,
}

impl Receiver {
    /// The socket that turns readable when a command was left; its bytes mean nothing.
    ///
    /// The worker takes it once, gives it to its event loop, and after each read empties [`Self::next`].
    /// End of file there means that the control thread is gone.
    pub fn take_wake(&mut self) -> Option<UnixStream> {
        self.wake.take()
    }

    /// The oldest command not yet taken.
    #[expect(clippy::should_implement_trait, reason = "later calls may give more after a `None`")]
    pub fn next(&mut self) -> Option<Command> {
        self.commands.pop().ok()
    }

    /// The socket of [`Self::take_wake`], while it has not been taken.
    #[must_use]
    pub fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        self.wake.as_ref().map(AsFd::as_fd)
    }
}

#[cfg(test)]
mod tests {
    use super::{COMMANDS, Command, Error, mailbox};
    use std::io::Read;
    use std::time::{Duration, Instant};

    #[test]
    fn a_command_wakes_the_worker_and_arrives() {
        let (mut sender, mut receiver) = mailbox().unwrap();
        assert!(receiver.wake_fd().is_some());
        let mut wake = receiver.take_wake().unwrap();
        assert!(receiver.take_wake().is_none());
        wake.set_nonblocking(false).unwrap();
        let deadline = Instant::now() + Duration::from_secs(1);
        let worker = std::thread::spawn(move || {
            let mut commands = Vec::new();
            while commands.len() < 2 {
                assert!(wake.read(&mut [0; 16]).unwrap() > 0);
                commands.extend(std::iter::from_fn(|| receiver.next()));
            }
            commands
        });
        sender.send(Command::Drain { deadline }).unwrap();
        sender.send(Command::Stop).unwrap();
        assert_eq!(worker.join().unwrap(), [Command::Drain { deadline }, Command::Stop]);
        assert_eq!(sender.send(Command::Stop), Err(Error::Gone));
    }

    #[test]
    fn a_worker_that_does_not_read_never_blocks_control() {
        let (mut sender, mut receiver) = mailbox().unwrap();
        for _ in 0..COMMANDS {
            sender.send(Command::Stop).unwrap();
        }
        assert_eq!(sender.send(Command::Stop), Err(Error::Full));
        assert_eq!(receiver.next(), Some(Command::Stop));
        assert_eq!(sender.send(Command::Stop), Ok(()));
    }

    #[test]
    fn control_that_is_gone_is_seen_as_end_of_file() {
        let (sender, mut receiver) = mailbox().unwrap();
        drop(sender);
        assert_eq!(receiver.take_wake().unwrap().read(&mut [0; 1]).unwrap(), 0);
        assert_eq!(receiver.next(), None);
    }
}
