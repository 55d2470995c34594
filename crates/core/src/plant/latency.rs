//! A histogram of durations with bounded memory and a relative error of at most 1/16.

use crate::clock::Nanos;

const SUB_BITS: u32 = 4;
const BUCKETS: usize = (64 - SUB_BITS as usize + 1) << SUB_BITS;

/// Counts durations in log-linear buckets; adding costs a few instructions and never allocates.
#[derive(Clone)]
pub struct Histogram {
    counts: Box<[u64; BUCKETS]>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: Box::new([0; BUCKETS]), total: 0 }
    }
}

impl Histogram {
    pub fn add(&mut self, duration: Nanos) {
        self.counts[bucket(duration)] += 1;
        self.total += 1;
    }

    pub fn total(&self) -> u64 {
        self.total
    }

    /// The upper edge of the bucket that holds this share (per million) of all durations; None where nothing was added.
    pub fn quantile(&self, per_million: u64) -> Option<Nanos> {
        let rank = (u128::from(self.total) * u128::from(per_million)).div_ceil(1_000_000).max(1) as u64;
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(upper_edge(index));
            }
        }
        None
    }
}

fn bucket(duration: Nanos) -> usize {
    let exponent = (64 - duration.leading_zeros()).saturating_sub(SUB_BITS + 1);
    let mantissa = (duration >> exponent) as usize;
    ((exponent as usize) << SUB_BITS) + mantissa
}

fn upper_edge(index: usize) -> Nanos {
    if index < 2 << SUB_BITS {
        return index as Nanos;
    }
    let exponent = (index >> SUB_BITS) - 1;
    let mantissa = (index & ((1 << SUB_BITS) - 1)) + (1 << SUB_BITS);
    (((mantissa as u128 + 1) << exponent) - 1).min(u128::from(u64::MAX)) as Nanos
}

/// Upper edges of the buckets that dashboards know, and finer ones, in ns.
pub const EDGES: [Nanos; 10] =
    [10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 5_000_000, 10_000_000, 50_000_000];

/// Counts durations in few buckets with exact edges, for an exporter.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    counts: [u64; EDGES.len() + 1],
    sum: u64,
}

impl Buckets {
    /// Adds a duration `times` times.
    pub fn add(&mut self, duration: Nanos, times: u64) {
        self.counts[EDGES.partition_point(|&edge| edge < duration)] += times;
        self.sum = self.sum.saturating_add(duration.saturating_mul(times));
    }

    /// How many durations were at most each edge; the last edge is the end of time.
    pub fn cumulative(&self) -> impl Iterator<Item = (Nanos, u64)> + '_ {
        let edges = EDGES.into_iter().chain([Nanos::MAX]);
        edges.zip(self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }))
    }

    pub fn sum(&self) -> u64 {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn an_edge_is_at_most_a_sixteenth_above(duration in any::<u64>()) {
            let edge = upper_edge(bucket(duration));
            prop_assert!(edge >= duration);
            prop_assert!(edge - duration <= duration / 16);
        }

        #[test]
        fn quantiles_bracket_the_sorted_list(mut durations in prop::collection::vec(0u64..10_000_000, 1..200), share in 1u64..=1_000_000) {
            let mut histogram = Histogram::default();
            durations.iter().for_each(|&duration| histogram.add(duration));
            durations.sort_unstable();
            let rank = (durations.len() as u64 * share).div_ceil(1_000_000).max(1) as usize;
            let exact = durations[rank - 1];
            let told = histogram.quantile(share).unwrap();
            prop_assert!(told >= exact && told - exact <= exact / 16);
        }
    }

    proptest! {
        #[test]
        fn buckets_count_what_is_at_most_their_edge(durations in prop::collection::vec((0u64..60_000_000, 0u64..5), 0..50)) {
            let mut buckets = Buckets::default();
            durations.iter().for_each(|&(duration, times)| buckets.add(duration, times));
            for (edge, count) in buckets.cumulative() {
                let exact: u64 = durations.iter().filter(|(duration, _)| *duration <= edge).map(|(_, times)| times).sum();
                prop_assert_eq!(count, exact);
            }
            prop_assert_eq!(buckets.sum(), durations.iter().map(|(duration, times)| duration * times).sum::<u64>());
        }
    }

    #[test]
    fn nothing_added_has_no_quantile() {
        assert_eq!(Histogram::default().quantile(500_000), None);
    }
}
