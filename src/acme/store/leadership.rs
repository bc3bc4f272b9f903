//! Lock and lease together, over the files: who writes to the acme directory. On a file system of one machine
//! the lock decides alone and at once; only where other machines may see it, the lease is asked too.

use std::collections::hash_map::RandomState;
use std::fs;
use std::hash::BuildHasher;
use std::time::Instant;

use super::acme::read_anyway;
use super::lease::{Action, Lease, Look, Record};
use super::{AcmeStore, Error, Lock};
use crate::limits;

const LEASE: &str = "LEASE";

/// Who leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// This process: it alone orders certificates and writes.
    Leader,
    /// Another, or nobody yet: this process reads what the leader keeps.
    Follower,
}

/// One process's part in the choice of a leader.
#[derive(Debug)]
pub struct Leadership {
    store: AcmeStore,
    instance: String,
    /// Asks for the lease on every file system.
    always_lease: bool,
    held: Option<Held>,
    next: Instant,
}

#[derive(Debug)]
struct Held {
    lock: Lock,
    /// Where the lock is not enough.
    lease: Option<Lease>,
}

impl Held {
    fn leads(&self, now: Instant) -> bool {
        self.lease.as_ref().is_none_or(|lease| lease.leads(now))
    }
}

impl Leadership {
    /// A part in the choice; follows until the first [`Self::poll`].
    #[must_use]
    pub fn new(store: &AcmeStore, now: Instant) -> Self {
        Self { store: store.clone(), instance: instance(), always_lease: false, held: None, next: now }
    }

    /// When to call [`Self::poll`] next; at most 10 s after the last call. A leader that is 30 s late
    /// leads no more.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.next
    }

    /// Looks who leads, and keeps or takes leadership where it may.
    ///
    /// # Errors
    /// [`Error::ReadOnly`], [`Error::Io`]; then this process follows.
    pub fn poll(&mut self) -> Result<Standing, Error> {
        let now = Instant::now();
        self.next = now + limits::LEASE_INTERVAL;
        if self.held.as_ref().is_some_and(|held| !held.lock.holds()) {
            self.held = None;
        }
        if self.held.is_none() {
            self.held = Lock::take(&self.store)?.map(|lock| {
                let shared = self.always_lease || !lock.is_enough();
                Held { lock, lease: shared.then(|| Lease::new(&self.instance, now)) }
            });
        }
        let Some(held) = &mut self.held else { return Ok(Standing::Follower) };
        let Some(lease) = &mut held.lease else { return Ok(Standing::Leader) };
        let trouble = turn(&self.store, lease);
        self.next = lease.deadline();
        match trouble {
            _ if lease.leads(Instant::now()) => Ok(Standing::Leader),
            Some(error) => Err(error),
            None => Ok(Standing::Follower),
        }
    }

    /// Whether this process may still write, by its own clock and without a look at the file: ask before
    /// each order and each writing.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.held.as_ref().is_some_and(|held| held.leads(Instant::now()))
    }

    /// Gives leadership back, so that another process may take it without waiting for silence.
    pub fn release(&mut self) {
        let lease = self.held.as_mut().and_then(|held| held.lease.as_mut());
        if let Some(record) = lease.and_then(|lease| lease.release(Instant::now())) {
            // Not written, it costs the next leader half a minute.
            let _ = put(&self.store, &record);
        }
        // The lock last: the next process of this machine is to find what was written.
        self.held = None;
    }
}

/// One look at the file, and the writing that follows from it; what went wrong.
fn turn(store: &AcmeStore, lease: &mut Lease) -> Option<Error> {
    let began = Instant::now();
    let (look, mut trouble) = match read_anyway(&store.dir.path.join(LEASE)) {
        Ok(None) => (Look::Absent, None),
        Ok(Some(content)) => match serde_json::from_slice::<Record>(&content) {
            Ok(record) => (Look::Record(record), None),
            Err(_) => (Look::Unreadable(content), None),
        },
        Err(Error::Damaged { .. }) => (Look::Unreadable(Vec::new()), None),
        Err(error) => (Look::Failed, Some(error)),
    };
    let written = match lease.looked(look, began, Instant::now()) {
        Action::Wait => return trouble,
        Action::Create(record) => {
            json(&record).and_then(|json| store.dir.create_file(LEASE, json.as_bytes()))
        }
        Action::Replace(record) => put(store, &record).map(|()| true),
    };
    let done = written.unwrap_or_else(|error| {
        trouble = Some(error);
        false
    });
    lease.wrote(done, Instant::now());
    trouble
}

fn put(store: &AcmeStore, record: &Record) -> Result<(), Error> {
    store.dir.replace_file(LEASE, json(record)?.as_bytes(), 0o600)
}

fn json(record: &Record) -> Result<String, Error> {
    serde_json::to_string(record).map_err(Error::NotJson)
}

/// A name for this machine since it was started: within it the lock decides, since its processes share
/// a kernel. Where the kernel does not tell, a name for this process alone.
fn instance() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    match boot.trim() {
        "" => format!("{:016x}", RandomState::new().hash_one(std::process::id())),
        boot => boot.to_owned(),
    }
}

#[cfg(test)]
#[path = "leadership_tests.rs"]
mod tests;
