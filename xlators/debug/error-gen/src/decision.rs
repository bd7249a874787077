//! Which call fails. Pure: the same plan and number give the same answer on every machine.

/// How often calls fail, and how they are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Share of calls, as 32 bits after the point: 2^32 is all of them.
    rate: u64,
    /// By chance, from this seed; `None` at even distances.
    seed: Option<u64>,
}

/// All calls, as a rate.
const ALL: u64 = 1 << 32;

impl Plan {
    /// `percent` (0 to 100) of the calls, by chance from `seed`, or at even distances.
    #[must_use]
    pub fn new(percent: f64, seed: Option<u64>) -> Plan {
        Plan { rate: (percent / 100.0 * ALL as f64).round() as u64, seed }
    }

    /// Whether call `number`, counted from 0, fails.
    #[must_use]
    pub fn fails(self, number: u64) -> bool {
        match self.seed {
            Some(seed) => mix(seed ^ mix(number)) >> 32 < self.rate,
            None => self.failed_before(number) != self.failed_before(number.wrapping_add(1)),
        }
    }

    /// How many of the first `calls` fail at even distances.
    fn failed_before(self, calls: u64) -> u64 {
        ((u128::from(calls) * u128::from(self.rate)) >> 32) as u64
    }
}

/// Spreads every bit over all bits.
///
/// # Source
/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(number: u64) -> u64 {
    let a = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let b = (a ^ a >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let c = (b ^ b >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    c ^ c >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn failures(plan: Plan, calls: u64) -> u64 {
        (0..calls).filter(|number| plan.fails(*number)).count() as u64
    }

    proptest! {
        #[test]
        fn even_failures_are_the_share_to_within_one(percent in 0.0..=100.0_f64, calls in 0..5_000_u64) {
            let wanted = calls as f64 * percent / 100.0;
            let failed = failures(Plan::new(percent, None), calls) as f64;
            prop_assert!((failed - wanted).abs() <= 1.0, "{failed} of {calls} at {percent} %");
        }

        #[test]
        fn chance_keeps_to_the_share_for_every_seed(percent in 0.0..=100.0_f64, seed in any::<u64>()) {
            // Six standard deviations of 10,000 draws: one run in 500 million is unlucky.
            let share = percent / 100.0;
            let bound = 6.0 * (10_000.0 * share * (1.0 - share)).sqrt() + 1.0;
            let failed = failures(Plan::new(percent, Some(seed)), 10_000) as f64;
            prop_assert!((failed - 10_000.0 * share).abs() <= bound, "{failed} of 10,000 at {percent} %");
        }
    }

    #[test]
    fn none_and_all_are_exact() {
        for seed in [None, Some(0), Some(u64::MAX)] {
            assert_eq!(failures(Plan::new(0.0, seed), 1000), 0);
            assert_eq!(failures(Plan::new(100.0, seed), 1000), 1000);
        }
    }

    #[test]
    fn one_in_ten_at_even_distances_is_every_tenth() {
        let plan = Plan::new(10.0, None);
        let failed: Vec<u64> = (0..40).filter(|number| plan.fails(*number)).collect();
        assert_eq!(failed, [9, 19, 29, 39]);
    }

    #[test]
    fn another_seed_fails_other_calls() {
        let chosen = |seed| (0..200).map(|number| Plan::new(50.0, Some(seed)).fails(number)).collect::<Vec<_>>();
        assert_eq!(chosen(1), chosen(1));
        assert_ne!(chosen(1), chosen(2));
    }
}
