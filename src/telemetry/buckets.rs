//! How durations are told apart: log-linear buckets, two to each doubling from 64 µs to 67 s, so that a bucket
//! is at most half as wide as it is far from zero. A histogram of them has 344 bytes.

/// Buckets of a histogram: one below the first bound, two for each doubling, one above the last bound.
pub const BUCKETS: usize = 2 + 2 * DOUBLINGS;
/// Binary logarithm of the first bound in µs.
const FIRST: u32 = 6;
const DOUBLINGS: usize = 20;

/// The bucket of a duration in µs.
#[must_use]
pub fn index(micros: u64) -> usize {
    let Some(doubling) = micros.checked_ilog2().and_then(|log| log.checked_sub(FIRST)) else { return 0 };
    let upper_half = (micros >> (doubling + FIRST - 1)) & 1;
    (1 + 2 * doubling as usize + upper_half as usize).min(BUCKETS - 1)
}

/// The bound in µs that all durations of a bucket lie below; `None` for the last one.
#[must_use]
pub fn bound(index: usize) -> Option<u64> {
    if index + 1 >= BUCKETS {
        return None;
    }
    let doubling = index as u32 / 2 + FIRST;
    Some(if index.is_multiple_of(2) { 1 << doubling } else { (1 << doubling) + (1 << (doubling - 1)) })
}

/// Durations of several workers, summed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sums {
    counts: [u64; BUCKETS],
    micros: u64,
}

impl Default for Sums {
    fn default() -> Self {
        Self { counts: [0; BUCKETS], micros: 0 }
    }
}

impl Sums {
    /// Adds `count` durations of one bucket.
    pub fn add(&mut self, index: usize, count: u64) {
        if let Some(sum) = self.counts.get_mut(index) {
            *sum = sum.wrapping_add(count);
        }
    }

    /// Adds to the sum of all durations.
    pub fn add_micros(&mut self, micros: u64) {
        self.micros = self.micros.wrapping_add(micros);
    }

    /// How many there are in each bucket, without the empty ones at the end.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        let used = self.counts.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1);
        self.counts.get(..used).unwrap_or_default()
    }

    /// Of such counts; their sum is not known then.
    #[must_use]
    pub fn from_counts(counts: &[u64]) -> Self {
        let mut sums = Self::default();
        counts.iter().enumerate().for_each(|(index, count)| sums.add(index, *count));
        sums
    }

    /// How many durations there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Their sum in µs.
    #[must_use]
    pub fn micros(&self) -> u64 {
        self.micros
    }

    /// How many lie below each bound, which only doublings have here: `(bound in µs, count)`.
    pub fn below(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut below = 0;
        let counts = self.counts.iter().enumerate();
        counts.filter_map(move |(index, count)| {
            below += count;
            bound(index).filter(|_| index.is_multiple_of(2)).map(|bound| (bound, below))
        })
    }

    /// What lies in `self` but not in `before`, an earlier state of the same.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut more = *self;
        for (count, before) in more.counts.iter_mut().zip(before.counts) {
            *count = count.saturating_sub(before);
        }
        more.micros = more.micros.saturating_sub(before.micros);
        more
    }

    /// The duration in µs that this share (0 to 1) of all stays below, as if they lay evenly in their bucket;
    /// `None` without any.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let all = self.count();
        if all == 0 {
            return None;
        }
        let wanted = share.clamp(0.0, 1.0) * all as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (index, count) in self.counts.iter().enumerate() {
            let upper = bound(index).map_or(lower, |bound| bound as f64);
            let count = *count as f64;
            if count > 0.0 && below + count >= wanted {
                return Some(lower + (upper - lower) * ((wanted - below) / count).clamp(0.0, 1.0));
            }
            (below, lower) = (below + count, upper);
        }
        Some(lower)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_duration_lies_between_the_bounds_of_its_bucket() {
        let mut values: Vec<u64> = (0..30).flat_map(|log| [(1_u64 << log) - 1, 1 << log, 3 << log]).collect();
        values.extend([0, u64::MAX]);
        for micros in values {
            let place = index(micros);
            assert!(bound(place).is_none_or(|bound| micros < bound), "{micros}");
            assert!(place == 0 || bound(place - 1).is_some_and(|bound| micros >= bound), "{micros}");
        }
        let bounds: Vec<u64> = (0..BUCKETS).map_while(bound).collect();
        assert!(bounds.is_sorted() && bounds.len() == BUCKETS - 1);
        assert_eq!((bounds[0], bounds[1], bounds[2], bounds[BUCKETS - 2]), (64, 96, 128, 64 << 20));
    }

    #[test]
    fn quantiles_are_within_a_bucket_of_the_truth() {
        let mut sums = Sums::default();
        assert_eq!(sums.quantile(0.5), None);
        for micros in 1..=10_000 {
            sums.add(index(micros), 1);
            sums.add_micros(micros);
        }
        for (share, truth) in [(0.1, 1000.0), (0.5, 5000.0), (0.99, 9900.0)] {
            let found = sums.quantile(share).unwrap();
            assert!((found / truth - 1.0).abs() < 0.25, "{share}: {found}");
        }
        assert_eq!((sums.count(), sums.micros()), (10_000, 50_005_000));
        let before = sums;
        sums.add(index(70), 3);
        assert_eq!(sums.since(&before).count(), 3);
        assert!(sums.since(&before).quantile(0.5).unwrap() < 96.0);
    }

    #[test]
    fn counts_below_bounds_grow_to_all_but_the_longest() {
        let mut sums = Sums::default();
        [10, 70, 100, u64::MAX].into_iter().for_each(|micros| sums.add(index(micros), 1));
        let below: Vec<(u64, u64)> = sums.below().collect();
        assert_eq!(below[..3], [(64, 1), (128, 3), (256, 3)]);
        assert_eq!(below.last(), Some(&(64 << 20, 3)));
        assert_eq!(Sums::from_counts(sums.counts()).below().collect::<Vec<_>>(), below);
        assert!(Sums::default().counts().is_empty() && sums.counts().len() == BUCKETS);
    }
}
