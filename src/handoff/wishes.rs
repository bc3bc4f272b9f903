//! Names for which clients wait, from workers to the acme thread. A worker never waits for it: a full queue
//! refuses at once, and a verdict rings the worker's bell.

use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::mpsc;

/// Why a wish was not left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Enough handshakes wait, or earlier wishes are unread.
    Full,
    /// Nobody serves any more.
    Gone,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "enough handshakes wait for a certificate",
            Self::Gone => "nobody obtains certificates on demand any more",
        })
    }
}

impl std::error::Error for Error {}

/// A queue for all workers together: at most `waiting` handshakes wait, and at most `unread` wishes, those
/// of clients that have left meanwhile included.
#[must_use]
pub fn wishes(waiting: usize, unread: usize) -> (Wisher, Wishes) {
    let (queue, unread) = mpsc::channel(unread.max(1));
    (Wisher { queue, free: Arc::new(AtomicUsize::new(waiting)), bell: None }, Wishes { queue: unread })
}

/// The side of the workers; clones share the places.
#[derive(Clone, Debug)]
pub struct Wisher {
    queue: mpsc::Sender<Wish>,
    free: Arc<AtomicUsize>,
    bell: Option<Arc<UnixStream>>,
}

impl Wisher {
    /// The end of one worker, and the socket that turns readable when one of its wishes was decided. The
    /// bytes there mean nothing.
    ///
    /// # Errors
    /// The system's, when no socket pair can be made.
    pub fn with_bell(&self) -> io::Result<(Self, UnixStream)> {
        let (bell, wake) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        let bell = Some(Arc::new(bell));
        Ok((Self { queue: self.queue.clone(), free: Arc::clone(&self.free), bell }, wake))
    }

    /// Leaves the wish of `client` for `name`; never waits.
    ///
    /// # Errors
    /// [`Error`].
    pub fn leave(&self, name: &str, client: IpAddr) -> Result<Waiting, Error> {
        let take = |free: usize| free.checked_sub(1);
        if self.free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_err() {
            return Err(Error::Full);
        }
        let verdict = Arc::new(Verdict::default());
        // From here on dropping it frees the place.
        let waiting = Waiting { verdict: Arc::clone(&verdict), free: Arc::clone(&self.free) };
        let place = self.queue.try_reserve().map_err(|error| match error {
            mpsc::error::TrySendError::Full(()) => Error::Full,
            mpsc::error::TrySendError::Closed(()) => Error::Gone,
        })?;
        place.send(Wish { name: name.to_owned(), client, verdict, bell: self.bell.clone() });
        Ok(waiting)
    }
}

/// What is known of a wish on both sides.
#[derive(Debug, Default)]
struct Verdict {
    is_decided: AtomicBool,
    has_left: AtomicBool,
}

/// A handshake that waits; its place is free when this is dropped.
#[derive(Debug)]
pub struct Waiting {
    verdict: Arc<Verdict>,
    free: Arc<AtomicUsize>,
}

impl Waiting {
    /// Whether the certificate is published by now, or will not be.
    #[must_use]
    pub fn is_decided(&self) -> bool {
        self.verdict.is_decided.load(Ordering::Acquire)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.verdict.has_left.store(true, Ordering::Relaxed);
        self.free.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client's wish for a certificate. Dropping it is the verdict: the worker then looks whether there is
/// one, so a thread that ends leaves nobody waiting.
#[derive(Debug)]
pub struct Wish {
    name: String,
    client: IpAddr,
    verdict: Arc<Verdict>,
    bell: Option<Arc<UnixStream>>,
}

impl Wish {
    /// The name, in normal form.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The client's address.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.client
    }

    /// Whether the client waits no more.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.verdict.has_left.load(Ordering::Relaxed)
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.verdict.is_decided.store(true, Ordering::Release);
        if let Some(bell) = &self.bell {
            // Unread bytes fill the socket, so the worker is due to wake anyway; one that ended needs no bell.
            let _ = (&**bell).write(&[1]);
        }
    }
}

/// The side that decides.
#[derive(Debug)]
pub struct Wishes {
    queue: mpsc::Receiver<Wish>,
}

impl Wishes {
    /// The next wish, in the order left; `None` when nobody can wish any more. Dropping the future loses
    /// none.
    pub async fn next(&mut self) -> Option<Wish> {
        self.queue.recv().await
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{IpAddr, Ipv4Addr};

    use super::{Error, wishes};

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn now<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn a_wish_arrives_and_its_end_rings_the_worker() {
        let (wisher, mut desk) = wishes(2, 8);
        let (worker, mut wake) = wisher.with_bell().unwrap();
        let waiting = worker.leave("a.test", CLIENT).unwrap();
        let wish = now(desk.next()).unwrap();
        assert_eq!((wish.name(), wish.client(), wish.has_left()), ("a.test", CLIENT, false));
        assert!(!waiting.is_decided());
        let thread = std::thread::spawn(move || drop(wish));
        assert_eq!(wake.read(&mut [0; 8]).unwrap(), 1);
        assert!(waiting.is_decided());
        thread.join().unwrap();
    }

    #[test]
    fn places_are_shared_by_workers_and_given_back() {
        let (wisher, mut desk) = wishes(2, 8);
        let (other, _wake) = wisher.with_bell().unwrap();
        let first = wisher.leave("a.test", CLIENT).unwrap();
        let _second = other.leave("b.test", CLIENT).unwrap();
        assert_eq!(wisher.leave("c.test", CLIENT).err(), Some(Error::Full));
        drop(first);
        assert!(now(desk.next()).unwrap().has_left());
        assert!(wisher.leave("c.test", CLIENT).is_ok());
    }

    #[test]
    fn clients_that_come_and_go_cannot_fill_memory() {
        let (wisher, mut desk) = wishes(2, 3);
        for _ in 0..3 {
            drop(wisher.leave("a.test", CLIENT).unwrap());
        }
        for _ in 0..10 {
            assert_eq!(
                wisher.leave("a.test", CLIENT).err(),
                Some(Error::Full),
                "and the place is given back"
            );
        }
        drop(now(desk.next()));
        assert!(wisher.leave("a.test", CLIENT).is_ok());
    }

    #[test]
    fn a_thread_that_ends_leaves_nobody_waiting() {
        let (wisher, desk) = wishes(2, 8);
        let waiting = wisher.leave("a.test", CLIENT).unwrap();
        drop(desk);
        assert!(waiting.is_decided());
        assert_eq!(wisher.leave("a.test", CLIENT).err(), Some(Error::Gone));
    }
}
