//! Durations by size: buckets that widen with what they hold.
//!
//! Eight buckets to each power of two, so a bucket's bounds are at most 12.5 % apart: a percentile told from its
//! middle is off by at most 6.25 %. From 8 ns on; all above 68 s is one bucket. Pure, but for the atomics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets to a power of two, as a power of two.
const SPLIT: u32 = 3;

/// Durations of 2^36 ns (68.7 s) and above share the last bucket.
const LARGEST: u32 = 36;

/// How many buckets there are.
pub const BUCKETS: usize = ((LARGEST - SPLIT + 1) << SPLIT) as usize + 1;

/// The bucket that `nanoseconds` falls in.
#[must_use]
pub fn bucket(nanoseconds: u64) -> usize {
    if nanoseconds < 1 << SPLIT {
        return nanoseconds as usize;
    }
    let power = nanoseconds.ilog2();
    if power >= LARGEST {
        return BUCKETS - 1;
    }
    let within = (nanoseconds >> (power - SPLIT)) & ((1 << SPLIT) - 1);
    (((power - SPLIT + 1) << SPLIT) as u64 + within) as usize
}

/// The smallest duration in bucket `index`, in nanoseconds.
#[must_use]
pub fn lower_bound(index: usize) -> u64 {
    let (row, within) = (index >> SPLIT, (index & ((1 << SPLIT) - 1)) as u64);
    if row == 0 {
        return within;
    }
    ((1 << SPLIT) + within) << (row - 1)
}

/// Counts of durations; many threads may add at once.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_ns: AtomicU64,
    max_ns: AtomicU64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        let buckets = std::array::from_fn(|_| AtomicU64::new(0));
        Histogram { buckets, sum_ns: AtomicU64::new(0), max_ns: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn add(&self, nanoseconds: u64) {
        self.buckets[bucket(nanoseconds)].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(nanoseconds, Ordering::Relaxed);
        // Almost never true: the read alone keeps the line shared.
        if nanoseconds > self.max_ns.load(Ordering::Relaxed) {
            self.max_ns.fetch_max(nanoseconds, Ordering::Relaxed);
        }
    }

    /// Adds what is counted here to `sum`.
    pub fn add_to(&self, sum: &mut Durations) {
        for (total, bucket) in sum.buckets.iter_mut().zip(&self.buckets) {
            *total += bucket.load(Ordering::Relaxed);
        }
        sum.sum_ns += self.sum_ns.load(Ordering::Relaxed);
        sum.max_ns = sum.max_ns.max(self.max_ns.load(Ordering::Relaxed));
    }
}

/// What histograms held at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durations {
    /// How many durations fell in each bucket.
    pub buckets: [u64; BUCKETS],
    /// Their sum.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
}

impl Default for Durations {
    fn default() -> Durations {
        Durations { buckets: [0; BUCKETS], sum_ns: 0, max_ns: 0 }
    }
}

impl Durations {
    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration that `share` (0 to 1) of all do not exceed, in nanoseconds; `None` without any.
    #[must_use]
    pub fn percentile(&self, share: f64) -> Option<u64> {
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let reaches = |count: &u64| {
            seen += count;
            seen >= rank
        };
        let index = self.buckets.iter().position(reaches)?;
        let middle = if index + 1 == BUCKETS {
            self.max_ns
        } else {
            // The last duration of the bucket is one below the next bucket.
            (lower_bound(index) + lower_bound(index + 1) - 1) / 2
        };
        Some(middle.min(self.max_ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn buckets_follow_each_other_without_gap() {
        for index in 1..BUCKETS {
            let bound = lower_bound(index);
            assert_eq!((bucket(bound), bucket(bound - 1)), (index, index - 1), "bucket {index} from {bound} ns");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn nothing_has_no_percentile() {
        assert_eq!(Durations::default().percentile(0.5), None);
    }

    #[test]
    fn the_longest_is_exact_even_above_the_largest_bucket() {
        let histogram = Histogram::default();
        histogram.add(1 << 40);
        let mut durations = Durations::default();
        histogram.add_to(&mut durations);
        assert_eq!((durations.max_ns, durations.percentile(0.99)), (1 << 40, Some(1 << 40)));
    }

    proptest! {
        #[test]
        fn percentiles_are_off_by_at_most_a_sixteenth(
            mut all in prop::collection::vec(0..1_u64 << LARGEST, 1..300),
            share in 0.0..=1.0_f64,
        ) {
            let histogram = Histogram::default();
            all.iter().for_each(|duration| histogram.add(*duration));
            let mut durations = Durations::default();
            histogram.add_to(&mut durations);
            all.sort_unstable();
            let rank = ((all.len() as f64 * share).ceil() as usize).max(1);
            let (exact, told) = (all[rank - 1], durations.percentile(share).unwrap());
            prop_assert!(told.abs_diff(exact) as f64 <= exact as f64 / 16.0 + 1.0, "{told} instead of {exact}");
            prop_assert_eq!(durations.count(), all.len() as u64);
            prop_assert_eq!(durations.sum_ns, all.iter().sum::<u64>());
        }
    }
}
