//! Whether a wait would never end: the search for a cycle among owners that wait for each other.
//!
//! Pure: who waits for whom is asked of the caller, one owner at a time. The search holds no lock; a cycle that it reports
//! is one of the answers it was given, so whoever acts on it verifies it where those answers cannot change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::table::OwnerKey;

/// Owners that one search visits. A cycle that lies behind more is not found: nobody is answered `EDEADLK`, and its waits
/// end by a signal, by their clients' end, or by an administrator (`locks blockers` shows it).
pub const OWNERS_VISITED_MAX: usize = 4_096;
/// Edges that one search follows, with the same consequence: a queue of n owners has n² / 2 of them.
pub const EDGES_FOLLOWED_MAX: usize = 65_536;

/// Looks for a shortest cycle through `start` and returns it: `start`, whom it waits for, and so on to the one that waits
/// for `start`.
///
/// `waits_for` answers which owners an owner waits for, none when it does not wait; it is asked at most once for each.
/// Cycles that `start` is not part of are none of its business: they were there before it waited.
#[must_use]
pub fn find_cycle(start: OwnerKey, waits_for: &mut impl FnMut(OwnerKey) -> Vec<OwnerKey>) -> Option<Vec<OwnerKey>> {
    // Who is visited, in order of distance, and through whom each was reached.
    let mut visited = vec![start];
    let mut through: HashMap<OwnerKey, OwnerKey> = HashMap::new();
    let (mut next, mut followed) = (0, 0);
    while let Some(owner) = visited.get(next).copied() {
        next += 1;
        for blocker in waits_for(owner) {
            if blocker == start {
                return Some(path(owner, start, &through));
            }
            followed += 1;
            if followed > EDGES_FOLLOWED_MAX {
                return None;
            }
            if let Entry::Vacant(unknown) = through.entry(blocker)
                && visited.len() < OWNERS_VISITED_MAX
            {
                unknown.insert(owner);
                visited.push(blocker);
            }
        }
    }
    None
}

/// From `start` to `last`, as they were reached.
fn path(last: OwnerKey, start: OwnerKey, through: &HashMap<OwnerKey, OwnerKey>) -> Vec<OwnerKey> {
    let back = std::iter::successors(Some(last), |owner| through.get(owner).filter(|_| *owner != start).copied());
    let mut path: Vec<OwnerKey> = back.collect();
    path.reverse();
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The search from `start`, where each edge is (who waits, for whom).
    fn search(start: u32, edges: &[(u32, u32)]) -> Option<Vec<u32>> {
        let blockers =
            |owner: OwnerKey| edges.iter().filter(move |(from, _)| *from == owner.0).map(|(_, to)| OwnerKey(*to));
        let found = find_cycle(OwnerKey(start), &mut |owner| blockers(owner).collect());
        found.map(|cycle| cycle.into_iter().map(|owner| owner.0).collect())
    }

    #[test]
    fn two_that_wait_for_each_other_are_a_cycle() {
        assert_eq!(search(1, &[(1, 2), (2, 1)]), Some(vec![1, 2]));
    }

    #[test]
    fn a_chain_that_ends_is_none() {
        assert_eq!(search(1, &[(1, 2), (2, 3)]), None);
        assert_eq!(search(1, &[]), None);
    }

    #[test]
    fn one_that_waits_for_itself_is_a_cycle_of_one() {
        assert_eq!(search(1, &[(1, 2), (1, 1)]), Some(vec![1]));
    }

    #[test]
    fn a_diamond_is_none_until_it_leads_back() {
        let diamond = [(1, 2), (1, 3), (2, 4), (3, 4)];
        assert_eq!(search(1, &diamond), None);
        assert_eq!(search(1, &[&diamond[..], &[(4, 1)]].concat()), Some(vec![1, 2, 4]));
    }

    #[test]
    fn a_cycle_of_others_is_not_ones_own() {
        assert_eq!(search(1, &[(1, 2), (2, 3), (3, 2)]), None);
    }

    #[test]
    fn the_shortest_of_several_cycles_is_reported() {
        assert_eq!(search(1, &[(1, 2), (2, 3), (3, 1), (1, 4), (4, 1)]), Some(vec![1, 4]));
    }

    /// Whether the cycle 0, 1, ... `owners` - 1 is found.
    fn ring_is_found(owners: usize) -> bool {
        let after = |owner: OwnerKey| vec![OwnerKey((owner.0 + 1) % owners as u32)];
        find_cycle(OwnerKey(0), &mut |owner| after(owner)).is_some_and(|cycle| cycle.len() == owners)
    }

    #[test]
    fn a_cycle_as_long_as_the_limit_is_found_and_a_longer_one_is_not() {
        assert!(ring_is_found(OWNERS_VISITED_MAX));
        assert!(!ring_is_found(OWNERS_VISITED_MAX + 1));
    }

    #[test]
    fn a_search_among_very_many_edges_ends() {
        let (mut asked, everybody) = (0, (1..2_000).map(OwnerKey).collect::<Vec<_>>());
        let found = find_cycle(OwnerKey(0), &mut |_| {
            asked += 1;
            everybody.clone()
        });
        assert_eq!(found, None);
        assert_eq!(asked, EDGES_FOLLOWED_MAX / everybody.len() + 1);
    }

    proptest! {
        #[test]
        fn a_cycle_is_found_exactly_when_the_start_is_reached_from_itself(edges in prop::collection::vec((0u32..8, 0u32..8), 0..24)) {
            // reach[a][b]: by one edge or more.
            let mut reach = [[false; 8]; 8];
            for (from, to) in &edges {
                reach[*from as usize][*to as usize] = true;
            }
            for (by, from, to) in (0..512).map(|n| (n / 64, n / 8 % 8, n % 8)) {
                reach[from][to] |= reach[from][by] && reach[by][to];
            }
            for start in 0..8u32 {
                let found = search(start, &edges);
                prop_assert_eq!(found.is_some(), reach[start as usize][start as usize]);
                if let Some(cycle) = found {
                    prop_assert_eq!(cycle[0], start);
                    for (at, from) in cycle.iter().enumerate() {
                        let to = cycle[(at + 1) % cycle.len()];
                        prop_assert!(edges.contains(&(*from, to)), "{from} does not wait for {to}");
                    }
                }
            }
        }
    }
}
