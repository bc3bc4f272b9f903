//! Counters that one worker writes and the control thread sums. Each worker has its own block on cache
//! lines of its own, so that counting never makes two CPUs fight for a line.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use crate::telemetry::metrics::{COUNTERS, Counter, Snapshot};

/// One worker's counters. 128 bytes of alignment: CPUs prefetch cache lines in pairs.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    cells: [AtomicU64; COUNTERS],
}

impl Counters {
    /// All zero, shared between its worker and the control thread.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::new(Self { cells: [const { AtomicU64::new(0) }; COUNTERS] })
    }

    /// Adds `n`. Only the owning worker may call this: load and store are apart, which is cheaper than
    /// an atomic addition, and right with a single writer.
    pub fn add(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.cells.get(counter as usize) {
            cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
        }
    }

    /// Adds one; see [`Counters::add`].
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Takes `n` off a gauge, not below zero; see [`Counters::add`].
    pub fn sub(&self, counter: Counter, n: u64) {
        if let Some(cell) = self.cells.get(counter as usize) {
            cell.store(cell.load(Relaxed).saturating_sub(n), Relaxed);
        }
    }

    /// Sets a gauge; see [`Counters::add`].
    pub fn set(&self, counter: Counter, value: u64) {
        if let Some(cell) = self.cells.get(counter as usize) {
            cell.store(value, Relaxed);
        }
    }

    /// The value now; from another thread it may be a moment old.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.cells.get(counter as usize).map_or(0, |cell| cell.load(Relaxed))
    }

    /// These values.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        self.sum_into(&mut sum);
        sum
    }

    /// Adds these values to `sum`; the cells are read one after the other, not as one picture.
    pub fn sum_into(&self, sum: &mut Snapshot) {
        for (counter, cell) in Counter::ALL.iter().zip(&self.cells) {
            sum.add(*counter, cell.load(Relaxed));
        }
    }
}

/// One number that one thread counts up and others read; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

impl Tally {
    /// Adds `n`; only the owning thread may call this, as with [`Counters::add`].
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Relaxed).wrapping_add(n), Relaxed);
    }

    /// The value now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Something that happens once in the life of the process; clones share it.
#[derive(Clone, Debug, Default)]
pub struct Once(Arc<AtomicBool>);

impl Once {
    /// It happens now; whether it had not before. Of several threads that say so at a time one is the first.
    #[must_use]
    pub fn happens(&self) -> bool {
        !self.0.swap(true, Relaxed)
    }

    /// Whether it has.
    #[must_use]
    pub fn has_happened(&self) -> bool {
        self.0.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::{Counters, Once, Tally};
    use crate::telemetry::metrics::{Counter, Snapshot};

    #[test]
    fn workers_are_summed_and_gauges_go_down() {
        let workers = [Counters::new(), Counters::new()];
        for worker in &workers {
            worker.count(Counter::Accepted);
            worker.add(Counter::BytesFromClients, 10);
            worker.count(Counter::ConnectionsOpen);
        }
        workers[0].sub(Counter::ConnectionsOpen, 1);
        workers[0].sub(Counter::ConnectionsOpen, 1);
        let mut sum = Snapshot::default();
        workers.iter().for_each(|worker| worker.sum_into(&mut sum));
        assert_eq!(sum.get(Counter::Accepted), 2);
        assert_eq!(sum.get(Counter::BytesFromClients), 20);
        assert_eq!(sum.get(Counter::ConnectionsOpen), 1, "a gauge stops at zero");
        assert_eq!(workers[1].get(Counter::Accepted), 1);
        assert_eq!(std::mem::align_of::<Counters>(), 128);
    }

    #[test]
    fn of_many_threads_one_is_the_first() {
        let once = Once::default();
        assert!(!once.has_happened());
        let first = std::thread::scope(|threads| {
            let all: Vec<_> = (0..8).map(|_| threads.spawn(|| once.happens())).collect();
            all.into_iter().map(|thread| thread.join().unwrap()).filter(|first| *first).count()
        });
        assert!(first == 1 && once.clone().has_happened());
    }

    #[test]
    fn a_tally_is_seen_by_its_clones() {
        let tally = Tally::default();
        let other = tally.clone();
        std::thread::scope(|threads| {
            threads.spawn(|| (0..1000).for_each(|_| tally.add(2)));
        });
        assert_eq!(other.get(), 2000);
    }
}
