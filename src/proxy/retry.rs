//! May a request be sent again? Only while all that was sent is still held, and only if the app cannot
//! have acted on it twice.

use crate::limits;

/// What was sent upstream so far, held for one replay.
#[derive(Debug, Default)]
pub struct Replay {
    sent: Vec<u8>,
    lost: bool,
    attempts: u32,
}

/// How the upstream connection of a request failed before any byte of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It was never connected, so nothing was sent.
    NotConnected,
    /// A connection that had served before was closed. `untouched`: not a byte of this request was
    /// acknowledged by the peer's TCP, so the app cannot have seen it.
    Reused {
        /// Whether nothing of the request arrived.
        untouched: bool,
    },
    /// A connection made for this request was closed.
    Fresh,
}

impl Replay {
    /// For the next request; keeps the memory.
    pub fn reset(&mut self) {
        self.forget();
        self.lost = false;
        self.attempts = 0;
    }

    /// Holds bytes that go upstream, up to [`limits::REPLAY_BYTES`].
    pub fn hold(&mut self, bytes: &[u8]) {
        if self.lost {
            return;
        }
        if self.sent.len() + bytes.len() > limits::REPLAY_BYTES {
            self.forget();
        } else {
            self.sent.extend_from_slice(bytes);
        }
    }

    /// A replay is no longer possible (a response has begun, or too much was sent).
    pub fn forget(&mut self) {
        self.lost = true;
        self.sent.clear();
        if self.sent.capacity() > limits::HEAD_BYTES {
            self.sent = Vec::new();
        }
    }

    /// An attempt begins.
    pub fn attempt(&mut self) {
        self.attempts += 1;
    }

    /// Attempts so far.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether the request may be sent again after `failure`, given `endpoints` to choose from.
    #[must_use]
    pub fn allows(&self, failure: Failure, idempotent: bool, endpoints: usize) -> bool {
        match failure {
            // What was not sent need not be held.
            Failure::NotConnected => (self.attempts as usize) < endpoints.clamp(1, limits::CONNECT_ADDRESSES),
            Failure::Reused { .. } if self.lost => false,
            Failure::Reused { untouched } => self.attempts < limits::ATTEMPTS && (idempotent || untouched),
            Failure::Fresh => false,
        }
    }

    /// All that was sent, to be sent again.
    #[must_use]
    pub fn sent(&self) -> &[u8] {
        &self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(attempts: u32) -> Replay {
        Replay { attempts, ..Replay::default() }
    }

    #[test]
    fn only_what_cannot_act_twice_is_sent_again() {
        let replay = after(1);
        assert!(replay.allows(Failure::Reused { untouched: false }, true, 1));
        assert!(replay.allows(Failure::Reused { untouched: true }, false, 1));
        assert!(!replay.allows(Failure::Reused { untouched: false }, false, 1));
        assert!(!replay.allows(Failure::Fresh, true, 3));
        assert!(!after(2).allows(Failure::Reused { untouched: true }, true, 1), "once only");
    }

    #[test]
    fn another_endpoint_is_tried_when_one_refuses() {
        assert!(!after(1).allows(Failure::NotConnected, false, 1));
        assert!(after(1).allows(Failure::NotConnected, false, 2));
        assert!(!after(2).allows(Failure::NotConnected, false, 2));
    }

    #[test]
    fn what_is_not_held_cannot_be_sent_again() {
        let mut replay = after(1);
        replay.hold(&vec![0; limits::REPLAY_BYTES]);
        assert_eq!(replay.sent().len(), limits::REPLAY_BYTES);
        assert!(replay.allows(Failure::Reused { untouched: true }, true, 1));
        replay.hold(b"x");
        assert!(!replay.allows(Failure::Reused { untouched: true }, true, 1));
        assert!(replay.sent().is_empty());
    }
}
