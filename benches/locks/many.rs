//! A million locks, through features/locks alone: time of each, and the memory that they take.

use std::hint::black_box;
use std::time::Instant;

use brickwork_api::LkType;

use crate::brick::{Caller, locks, runtime};
use crate::{in_a_process_of_its_own, median};

const MANY: u64 = 1_000_000;
const FEW: u64 = 1_000;
/// Rounds of the small size for each of the large one.
const ROUNDS: usize = 200;
/// Who asks whether somebody is in the way.
const NOBODY: u64 = u64::MAX;

/// Takes locks of one file in order, looks at each, releases them: with 1,000 and with 1,000,000.
pub fn one_file() {
    println!("{:<34} {:>9} {:>12} {:>12} {:>12}", "ns per lock on one file", "locks", "take", "GETLK", "release");
    for (journal, owners) in [("process", "one owner"), ("process", "an owner each"), ("memory", "one owner")] {
        let few = times(journal, owners, FEW, ROUNDS);
        let many = times(journal, owners, MANY, 3);
        let name = format!("{owners}, lock-journal {journal}");
        println!("{name:<34} {FEW:>9} {:>12.0} {:>12.0} {:>12.0}", few[0], few[1], few[2]);
        println!("{:<34} {MANY:>9} {:>12.0} {:>12.0} {:>12.0}", "", many[0], many[1], many[2]);
        let ratio = |at: usize| format!("{:.2}x", many[at] / few[at]);
        println!("{:<34} {:>9} {:>12} {:>12} {:>12}", "", "", ratio(0), ratio(1), ratio(2));
    }
}

fn times(journal: &str, owners: &str, count: u64, rounds: usize) -> [f64; 3] {
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let brick = locks(journal, folder.path(), &runtime);
    let mut caller = Caller::new(&brick, &runtime);
    let owner = |place: u64| if owners == "one owner" { 1 } else { place };
    let mut all = [const { Vec::new() }; 3];
    // The first round is for what is made once.
    for _ in 0..=rounds {
        let begun = Instant::now();
        (0..count).for_each(|place| caller.take(owner(place), 1, place));
        all[0].push(begun.elapsed().as_nanos() as f64 / count as f64);
        let begun = Instant::now();
        for place in 0..count {
            assert_eq!(black_box(caller.probe(NOBODY, 1, place)), LkType::Write);
        }
        all[1].push(begun.elapsed().as_nanos() as f64 / count as f64);
        let begun = Instant::now();
        (0..count).for_each(|place| caller.release(owner(place), 1, place));
        all[2].push(begun.elapsed().as_nanos() as f64 / count as f64);
    }
    runtime.block_on(brick.stop());
    all.map(|rounds| median(rounds[1..].to_vec()))
}

/// What a million locks take of the memory of the process.
pub fn memory() {
    println!("{:<34} {:>12} {:>14}", "1,000,000 locks", "MiB", "bytes per lock");
    for shape in ["one-file one-owner", "one-file an-owner-each", "a-file-each one-owner", "a-file-each an-owner-each"]
    {
        in_a_process_of_its_own(&format!("resident {shape}"));
    }
}

/// The part of a process of its own in it: resident size after minus before. Nothing is journaled, whose pages would count.
pub fn resident(shape: &str) {
    let (runtime, folder) = (runtime(), tempfile::tempdir().expect("a folder"));
    let brick = locks("memory", folder.path(), &runtime);
    let mut caller = Caller::new(&brick, &runtime);
    let before = resident_bytes();
    for number in 0..MANY {
        let owner = if shape.ends_with("one-owner") { 1 } else { number };
        match shape.starts_with("one-file") {
            true => caller.take(owner, 1, number),
            false => caller.take(owner, number, 0),
        }
    }
    let taken = resident_bytes() - before;
    assert_eq!(brick.status()["locks"], MANY);
    let shape = shape.replace('-', " ").replace("file one", "file, one").replace("file an", "file, an");
    println!("{shape:<34} {:>12.1} {:>14.1}", taken as f64 / 1048576.0, taken as f64 / MANY as f64);
}

/// Resident memory of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("procfs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}
