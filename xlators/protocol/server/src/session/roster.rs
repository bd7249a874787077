//! The incarnations of one client: which are live, and how many connections each has.
//!
//! Pure. Always true between calls:
//! - the highest incarnation only grows;
//! - what is not live stays so: a fenced incarnation does not come back under its number;
//! - connections are counted for live incarnations only.

use std::collections::BTreeMap;

/// Why an incarnation was not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outdated {
    /// It is not above this one, the highest that was seen.
    NotAbove(u32),
    /// It wants to join, but this one is current.
    NotCurrent(u32),
}

/// The live incarnations of one client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    highest: u32,
    /// Connections of each.
    live: BTreeMap<u32, u32>,
}

impl Roster {
    /// The roster that a journal tells of: nobody is connected.
    #[must_use]
    pub fn restore(highest: u32, live: &[u32]) -> Roster {
        Roster { highest, live: live.iter().map(|incarnation| (*incarnation, 0)).collect() }
    }

    /// Lets a new incarnation in with one connection and returns those that are fenced by it: all that are not in
    /// `keep`.
    ///
    /// # Errors
    /// [`Outdated`] unless it is above every earlier one; then nothing has changed.
    pub fn attach(&mut self, incarnation: u32, keep: &[u32]) -> Result<Vec<u32>, Outdated> {
        if incarnation <= self.highest {
            return Err(Outdated::NotAbove(self.highest));
        }
        self.highest = incarnation;
        let fenced = self.live.keys().copied().filter(|live| !keep.contains(live)).collect();
        self.live.retain(|live, _| keep.contains(live));
        self.live.insert(incarnation, 1);
        Ok(fenced)
    }

    /// Counts one more connection of the current incarnation.
    ///
    /// # Errors
    /// [`Outdated`] for any other; then nothing has changed.
    pub fn join(&mut self, incarnation: u32) -> Result<(), Outdated> {
        match self.live.get_mut(&incarnation) {
            Some(connections) if incarnation == self.highest => *connections += 1,
            _ => return Err(Outdated::NotCurrent(self.highest)),
        }
        Ok(())
    }

    /// Counts a connection less; one of a fenced incarnation counts no more.
    pub fn detach(&mut self, incarnation: u32) {
        if let Some(connections) = self.live.get_mut(&incarnation) {
            *connections = connections.saturating_sub(1);
        }
    }

    /// Takes an incarnation out of the live ones; whether it was there.
    pub fn goodbye(&mut self, incarnation: u32) -> bool {
        self.live.remove(&incarnation).is_some()
    }

    /// Whether nobody is connected.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        self.live.values().all(|connections| *connections == 0)
    }

    /// Whether every incarnation has ended.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// The highest incarnation that was seen.
    #[must_use]
    pub fn highest(&self) -> u32 {
        self.highest
    }

    /// The live incarnations, lowest first.
    #[must_use]
    pub fn live(&self) -> Vec<u32> {
        self.live.keys().copied().collect()
    }

    /// All connections.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.live.values().sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_neither_new_nor_kept_is_fenced() {
        let mut roster = Roster::default();
        assert_eq!(roster.attach(3, &[]), Ok(vec![]));
        assert_eq!(roster.attach(5, &[3]), Ok(vec![]));
        assert_eq!(roster.attach(6, &[3]), Ok(vec![5]));
        assert_eq!(roster.live(), [3, 6]);
    }

    #[test]
    fn an_incarnation_that_is_not_above_all_others_stays_outside_even_when_it_is_kept() {
        let mut roster = Roster::default();
        roster.attach(3, &[]).unwrap();
        assert_eq!(roster.attach(3, &[3]), Err(Outdated::NotAbove(3)));
        roster.goodbye(3);
        assert_eq!(roster.attach(2, &[]), Err(Outdated::NotAbove(3)));
        assert!(roster.is_empty());
    }

    #[test]
    fn only_the_current_incarnation_is_joined() {
        let mut roster = Roster::default();
        roster.attach(1, &[]).unwrap();
        roster.attach(2, &[1]).unwrap();
        assert_eq!(roster.join(1), Err(Outdated::NotCurrent(2)));
        assert_eq!(roster.join(2), Ok(()));
        assert_eq!(roster.connections(), 3);
    }

    #[test]
    fn keeping_what_was_fenced_does_not_bring_it_back() {
        let mut roster = Roster::default();
        roster.attach(1, &[]).unwrap();
        roster.attach(2, &[]).unwrap();
        roster.attach(3, &[1, 2]).unwrap();
        assert_eq!(roster.live(), [2, 3]);
    }

    proptest! {
        #[test]
        fn the_live_set_is_what_the_rule_says(steps in prop::collection::vec((1u32..12, prop::collection::vec(1u32..12, 0..3), 0u8..4), 1..40)) {
            let (mut roster, mut live, mut highest) = (Roster::default(), Vec::<u32>::new(), 0);
            for (incarnation, keep, action) in steps {
                match action {
                    0 | 1 if incarnation > highest => {
                        let fenced = roster.attach(incarnation, &keep).unwrap();
                        let gone: Vec<u32> = live.iter().copied().filter(|old| !keep.contains(old)).collect();
                        prop_assert_eq!(fenced, gone);
                        live.retain(|old| keep.contains(old));
                        live.push(incarnation);
                        highest = incarnation;
                    }
                    0 | 1 => prop_assert!(roster.attach(incarnation, &keep).is_err()),
                    2 => {
                        prop_assert_eq!(roster.goodbye(incarnation), live.contains(&incarnation));
                        live.retain(|old| *old != incarnation);
                    }
                    _ => prop_assert_eq!(roster.join(incarnation).is_ok(), incarnation == highest && live.contains(&incarnation)),
                }
                prop_assert_eq!(roster.live(), live.clone());
                prop_assert_eq!(roster.highest(), highest);
            }
        }
    }
}
