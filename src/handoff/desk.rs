//! Requests from any thread to the one that serves them on an event loop of its own, and one answer to
//! each. Unlike a mailbox it is not for workers: whoever asks may wait.

use std::fmt;
use std::sync::mpsc as once;
use std::time::Duration;

use tokio::sync::mpsc;

/// Why a request was not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Earlier requests wait unread.
    Full,
    /// Nobody serves any more.
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "earlier requests still wait",
            Self::Gone => "nobody serves requests any more",
        })
    }
}

impl std::error::Error for Error {}

/// A desk at which `waiting` requests may wait unread.
#[must_use]
pub fn desk<T>(waiting: usize) -> (Asker<T>, Desk<T>) {
    let (asker, desk) = mpsc::channel(waiting.max(1));
    (Asker { requests: asker }, Desk { requests: desk })
}

/// The side that asks; clones ask at the same desk.
#[derive(Debug)]
pub struct Asker<T> {
    requests: mpsc::Sender<T>,
}

impl<T> Asker<T> {
    /// Leaves a request; never waits.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::Gone`].
    pub fn leave(&self, request: T) -> Result<(), Error> {
        self.requests.try_send(request).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Error::Full,
            mpsc::error::TrySendError::Closed(_) => Error::Gone,
        })
    }
}

impl<T> Clone for Asker<T> {
    fn clone(&self) -> Self {
        Self { requests: self.requests.clone() }
    }
}

/// The side that serves.
#[derive(Debug)]
pub struct Desk<T> {
    requests: mpsc::Receiver<T>,
}

impl<T> Desk<T> {
    /// The next request, in the order left; `None` when nobody can ask any more. Dropping the future loses
    /// no request.
    pub async fn next(&mut self) -> Option<T> {
        self.requests.recv().await
    }
}

/// A place for one answer, and its taker.
#[must_use]
pub fn answer<T>() -> (Answer<T>, Awaited<T>) {
    let (answer, awaited) = once::sync_channel(1);
    (Answer { place: answer }, Awaited { place: awaited })
}

/// Where an answer goes.
#[derive(Debug)]
pub struct Answer<T> {
    place: once::SyncSender<T>,
}

impl<T> Answer<T> {
    /// Answers; nothing happens if nobody waits any more.
    pub fn give(self, value: T) {
        // The place has room for the one answer, so this never waits.
        let _ = self.place.try_send(value);
    }
}

/// An answer to come.
#[derive(Debug)]
pub struct Awaited<T> {
    place: once::Receiver<T>,
}

impl<T> Awaited<T> {
    /// Blocks until the answer is there; `None` after `patience`, or when none will come.
    #[must_use]
    pub fn wait(&self, patience: Duration) -> Option<T> {
        self.place.recv_timeout(patience).ok()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Error, answer, desk};

    const LONG: Duration = Duration::from_secs(10);

    #[test]
    fn requests_are_served_in_order_and_answered_once() {
        let (asker, mut desk) = desk(2);
        let server = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let mut served = 0;
                while let Some((n, reply)) = desk.next().await {
                    served += 1;
                    let reply: super::Answer<u32> = reply;
                    reply.give(n * 2);
                }
                served
            })
        });
        for n in 1..=3 {
            let (reply, awaited) = answer();
            asker.clone().leave((n, reply)).unwrap();
            assert_eq!(awaited.wait(LONG), Some(n * 2));
            assert_eq!(awaited.wait(LONG), None, "an answer comes once");
        }
        drop(asker);
        assert_eq!(server.join().unwrap(), 3);
    }

    #[test]
    fn a_full_or_closed_desk_says_so() {
        let (asker, desk) = desk(1);
        asker.leave(1).unwrap();
        assert_eq!(asker.leave(2), Err(Error::Full));
        drop(desk);
        assert_eq!(asker.leave(3), Err(Error::Gone));
    }
}
