//! Which of several machines with one storage writes to it: a pure machine over what was read from the
//! file `LEASE` and when, by the reader's own monotonic clock. No clock is compared with another's, so
//! steps of the wall clock do nothing.
//!
//! The leader writes a new number into the record each [`limits::LEASE_INTERVAL`]. Another instance that has
//! seen no change for [`limits::LEASE_QUIET`] writes a record of its own, waits for
//! [`limits::LEASE_SETTLE`], and leads if its record is then still there: 60 s after the last change in all.
//! A leader that finds another's record, or has not written its own for [`limits::LEASE_VALID`], leads no
//! more.
//!
//! What that guarantees: two never lead at the same time, if their monotonic clocks run at the same
//! pace (within a third), a write that has returned is seen by every later read, and [`Lease::leads`] is asked
//! before each act. A file has no compare-and-swap, so the gap between asking and acting cannot be closed:
//! a leader that is stopped in it for 60 s finishes that one act. So does one on a machine that was
//! suspended, whose monotonic clock stood still, until its next look. Such an act costs one order too
//! many; it cannot mix files, since generations have exclusive numbers and are replaced whole.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use crate::limits;

/// What stands in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which instance wrote it.
    pub instance: String,
    /// Grows with each writing.
    pub counter: u64,
    /// Whether the instance gave leadership back.
    #[serde(default)]
    pub released: bool,
}

/// What a look at the file found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// No file.
    Absent,
    /// A record.
    Record(Record),
    /// A file with something else in it, by its content: what changes is being written by somebody.
    Unreadable(Vec<u8>),
    /// The storage did not answer.
    Failed,
}

/// What to do after a look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a record unless there is one now, and say how that went.
    Create(Record),
    /// Write a record in place of what is there, and say how that went.
    Replace(Record),
    /// Nothing until the next look.
    Wait,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing was seen yet.
    New,
    /// Another leads, or may.
    Following,
    /// A first record is being written, which needs no settling: nobody can have led before.
    Founding,
    /// A record is being written that others may write over.
    Claiming,
    /// The claim was written then.
    Settling { written: Instant },
    /// Until when, if it is not renewed.
    Leading { until: Instant },
}

/// One instance's view of who leads.
#[derive(Clone, Debug)]
pub struct Lease {
    instance: String,
    state: State,
    /// What was seen last, and since when.
    seen: Option<(Look, Instant)>,
    /// The record that is being written or was written last, and the one before it: a writing that
    /// failed may have left either in the file.
    own: [Option<Record>; 2],
    /// When the look began that the writing under way follows from.
    looked: Instant,
    next_look: Instant,
}

impl Lease {
    /// An instance that has seen nothing yet. `instance` must be another on each machine, and the same
    /// for all processes of one machine between which [`Lock`](super::Lock) decides: one that finds its
    /// own name there at first need not wait for silence.
    #[must_use]
    pub fn new(instance: &str, now: Instant) -> Self {
        Self {
            instance: instance.to_owned(),
            state: State::New,
            seen: None,
            own: [None, None],
            looked: now,
            next_look: now,
        }
    }

    /// When to look at the file next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next_look
    }

    /// Whether this instance may write now.
    #[must_use]
    pub fn leads(&self, now: Instant) -> bool {
        matches!(self.state, State::Leading { until } if now < until)
    }

    /// What was found by a look at the file that began at `began` and ended at `now`.
    pub fn looked(&mut self, found: Look, began: Instant, now: Instant) -> Action {
        self.next_look = now + limits::LEASE_INTERVAL;
        if let State::Leading { until } = self.state
            && now >= until
        {
            self.state = State::Following;
        }
        if found == Look::Failed {
            return Action::Wait;
        }
        let is_own =
            matches!(&found, Look::Record(there) if self.own.iter().flatten().any(|own| own == there));
        let quiet_since = match &self.seen {
            Some((before, since)) if *before == found => *since,
            _ => now,
        };
        self.seen = Some((found.clone(), quiet_since));
        self.looked = began;
        match self.state {
            State::New => self.first(&found),
            State::Leading { .. } if is_own => self.write(&found, State::Claiming, true),
            State::Settling { written } if is_own => {
                if now.saturating_duration_since(written) < limits::LEASE_SETTLE {
                    self.next_look = self.next_look.min(written + limits::LEASE_SETTLE);
                    return Action::Wait;
                }
                // Renewed at once: others count from what they see of it.
                self.state = State::Leading { until: began + limits::LEASE_VALID };
                self.write(&found, State::Claiming, true)
            }
            _ => {
                self.state = State::Following;
                self.follow(&found, quiet_since, now)
            }
        }
    }

    /// Whether the record that was asked for is in the file now; `now` is after the writing ended.
    pub fn wrote(&mut self, done: bool, now: Instant) {
        // One that took long may have been seen, and written over, in any order.
        let in_time = now.saturating_duration_since(self.looked) <= limits::LEASE_WRITE;
        let state = self.state;
        self.state = match state {
            State::Founding if done && in_time => State::Leading { until: self.looked + limits::LEASE_VALID },
            State::Claiming if done && in_time => State::Settling { written: now },
            State::Leading { .. } if done && in_time => {
                State::Leading { until: self.looked + limits::LEASE_VALID }
            }
            // What was written before stands, or this: either way the next look tells.
            State::Leading { until } if !done && in_time => State::Leading { until },
            _ => State::Following,
        };
        if let ([Some(own), _], true) = (&self.own, done) {
            self.seen = Some((Look::Record(own.clone()), now));
        }
        if let State::Settling { written } = self.state {
            self.next_look = self.next_look.min(written + limits::LEASE_SETTLE);
        }
    }

    /// Gives leadership back, so that others need not wait for silence: the record to write.
    pub fn release(&mut self, now: Instant) -> Option<Record> {
        let led = self.leads(now);
        self.state = State::Following;
        let [last, _] = &self.own;
        let last = last.as_ref().filter(|_| led)?;
        Some(Record { counter: last.counter.wrapping_add(1), released: true, ..last.clone() })
    }

    fn first(&mut self, found: &Look) -> Action {
        match found {
            Look::Absent => {
                let Action::Replace(record) = self.write(found, State::Founding, false) else {
                    return Action::Wait;
                };
                Action::Create(record)
            }
            // Left by a process before this one, which the lock says is gone. It settles nevertheless: a
            // late writing of that process may have replaced the record of one that leads.
            Look::Record(record) if record.released || record.instance == self.instance => {
                self.write(found, State::Claiming, false)
            }
            _ => {
                self.state = State::Following;
                Action::Wait
            }
        }
    }

    fn follow(&mut self, found: &Look, quiet_since: Instant, now: Instant) -> Action {
        let released = matches!(found, Look::Record(record) if record.released);
        let claim_at = quiet_since + limits::LEASE_QUIET;
        if released || now >= claim_at {
            return self.write(found, State::Claiming, false);
        }
        self.next_look = self.next_look.min(claim_at);
        Action::Wait
    }

    /// Writes the next record; a leader that renews stays one while it writes.
    fn write(&mut self, found: &Look, state: State, renews: bool) -> Action {
        let before = match found {
            Look::Record(record) => record.counter,
            _ => 0,
        };
        // Somebody wrote the largest number: any other is a change too.
        let counter = before.wrapping_add(1);
        let record = Record { instance: self.instance.clone(), counter, released: false };
        if !self.own.iter().flatten().any(|own| *own == record) {
            let [last, before] = &mut self.own;
            *before = last.replace(record.clone());
        }
        if !renews {
            self.state = state;
        }
        Action::Replace(record)
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
