//! Checks files that many workers appended records to. Pure.

use std::collections::HashMap;

use crate::history::Violation;

/// Bytes of a record.
pub const RECORD: usize = 16;

/// The record of one append: nobody else writes the same.
pub fn record(worker: usize, number: u64) -> [u8; RECORD] {
    let text = format!("{worker:03}:{number:011}\n");
    text.as_bytes().try_into().expect("a worker and a number that fit")
}

/// Whether `content` consists of whole records, and each worker's are those from 0 to below its count in
/// `acknowledged`, each once and in their order.
pub fn check(content: &[u8], acknowledged: &HashMap<usize, u64>) -> Vec<Violation> {
    let mut violations = Vec::new();
    let mut next: HashMap<usize, u64> = HashMap::new();
    if !content.len().is_multiple_of(RECORD) {
        violations.push(Violation(format!("{} bytes are no whole records", content.len())));
    }
    for (place, bytes) in content.chunks_exact(RECORD).enumerate() {
        let Some((worker, number)) = parse(bytes) else {
            violations.push(Violation(format!("record {place} is torn: {:?}", String::from_utf8_lossy(bytes))));
            continue;
        };
        let expected = next.entry(worker).or_default();
        if number != *expected {
            let what = if number < *expected { "again, or late" } else { "too early" };
            violations
                .push(Violation(format!("record {place} is {number} of worker {worker}, {what}: not {expected}")));
        }
        *expected = number + 1;
    }
    for (&worker, &count) in acknowledged {
        let there = next.remove(&worker).unwrap_or(0);
        if there != count {
            violations.push(Violation(format!("worker {worker} appended {count} records, its last there is {there}")));
        }
    }
    violations.extend(next.keys().map(|worker| Violation(format!("worker {worker} never appended"))));
    violations
}

fn parse(bytes: &[u8]) -> Option<(usize, u64)> {
    let (worker, number) = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?.split_once(':')?;
    let (worker, number) = (worker.parse().ok()?, number.parse().ok()?);
    (record(worker, number) == bytes).then_some((worker, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(records: &[(usize, u64)], acknowledged: &[(usize, u64)]) -> usize {
        let content: Vec<u8> = records.iter().flat_map(|&(worker, number)| record(worker, number)).collect();
        check(&content, &acknowledged.iter().copied().collect()).len()
    }

    #[test]
    fn records_of_two_workers_may_mix() {
        assert_eq!(violations(&[(0, 0), (1, 0), (1, 1), (0, 1)], &[(0, 2), (1, 2)]), 0);
    }

    #[test]
    fn a_record_that_is_there_twice_is_found() {
        assert!(violations(&[(0, 0), (0, 1), (0, 1)], &[(0, 2)]) > 0);
    }

    #[test]
    fn a_record_that_is_missing_is_found() {
        assert!(violations(&[(0, 0), (0, 2)], &[(0, 3)]) > 0, "in the middle");
        assert!(violations(&[(0, 0), (0, 1)], &[(0, 3)]) > 0, "at the end");
        assert!(violations(&[], &[(0, 1)]) > 0, "all of them");
    }

    #[test]
    fn a_record_of_nobody_and_a_torn_one_are_found() {
        assert!(violations(&[(3, 0)], &[]) > 0);
        let mut content = record(0, 0).to_vec();
        content[5] = 0;
        assert!(!check(&content, &HashMap::new()).is_empty());
        assert!(!check(&record(0, 0)[..7], &HashMap::new()).is_empty());
    }
}
