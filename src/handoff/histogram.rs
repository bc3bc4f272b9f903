//! Durations that one worker measures and control sums.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::telemetry::buckets::{BUCKETS, Sums, index};

/// One worker's durations of one kind.
#[derive(Debug)]
pub struct Histogram {
    counts: [AtomicU64; BUCKETS],
    micros: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: [const { AtomicU64::new(0) }; BUCKETS], micros: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration. Only the owning worker may call this, as with
    /// [`Counters::add`](super::counters::Counters::add).
    pub fn observe(&self, duration: Duration) {
        let micros = duration.as_micros() as u64;
        if let Some(count) = self.counts.get(index(micros)) {
            add(count, 1);
        }
        add(&self.micros, micros);
    }

    /// Adds these durations to `sums`, which may miss one that is counted meanwhile.
    pub fn sum_into(&self, sums: &mut Sums) {
        for (index, count) in self.counts.iter().enumerate() {
            sums.add(index, count.load(Relaxed));
        }
        sums.add_micros(self.micros.load(Relaxed));
    }
}

/// Right with a single writer, and cheaper than an atomic addition.
pub(super) fn add(cell: &AtomicU64, n: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(n), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_summed() {
        let workers = [Histogram::default(), Histogram::default()];
        for worker in &workers {
            worker.observe(Duration::from_micros(70));
            worker.observe(Duration::from_secs(100));
        }
        let mut sums = Sums::default();
        workers.iter().for_each(|worker| worker.sum_into(&mut sums));
        assert_eq!((sums.count(), sums.micros()), (4, 200_000_140));
        assert_eq!(sums.below().last().map(|(_, below)| below), Some(2));
    }
}
