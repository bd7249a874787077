//! How long a brick that was killed with many locks takes until it has them again.

use std::path::Path;
use std::time::Instant;

use crate::brick::{Caller, locks, runtime};
use crate::in_a_process_of_its_own;

/// Kills bricks that hold 100,000 and 1,000,000 locks and starts them again.
pub fn restarts() {
    println!("{:<34} {:>9} {:>12} {:>12}", "start after a kill", "locks", "ms", "MiB on disk");
    for files in ["one-file", "a-file-each"] {
        for count in [100_000, 1_000_000] {
            let folder = tempfile::tempdir().expect("a folder");
            let place = folder.path().to_str().expect("UTF-8");
            in_a_process_of_its_own(&format!("fill {place} {files} {count}"));
            // From the changes as they were made, then from the snapshot that the first start has left.
            in_a_process_of_its_own(&format!("start {place} {files},changes {count}"));
            in_a_process_of_its_own(&format!("start {place} {files},snapshot {count}"));
        }
    }
}

/// Takes locks and ends as one who is killed: the journal is not closed.
pub fn fill(arguments: &str) {
    let [place, files, count] = words(arguments);
    let runtime = runtime();
    let brick = locks("process", Path::new(place), &runtime);
    let mut caller = Caller::new(&brick, &runtime);
    for number in 0..count.parse().expect("a number") {
        match files {
            "one-file" => caller.take(1, 1, number),
            _ => caller.take(1, number, 0),
        }
    }
    std::process::exit(0);
}

/// Starts as the next process and says how long that takes.
pub fn start(arguments: &str) {
    let [place, what, count] = words(arguments);
    let size = size_of(Path::new(place));
    let runtime = runtime();
    let begun = Instant::now();
    let brick = locks("process", Path::new(place), &runtime);
    let took = begun.elapsed();
    assert_eq!(brick.status()["locks"].as_u64(), count.parse().ok());
    let what = what.replace('-', " ").replace(',', ", ");
    println!("{what:<34} {count:>9} {:>12.0} {:>12.1}", took.as_secs_f64() * 1e3, size as f64 / 1048576.0);
    std::process::exit(0);
}

fn words(arguments: &str) -> [&str; 3] {
    let words: Vec<&str> = arguments.split(' ').collect();
    words.try_into().expect("three words")
}

fn size_of(place: &Path) -> u64 {
    let entries = std::fs::read_dir(place).expect("a folder");
    entries
        .map(|entry| entry.expect("an entry"))
        .map(|entry| match entry.metadata().expect("its kind") {
            kind if kind.is_dir() => size_of(&entry.path()),
            // What is set aside beyond the records is not on the disk.
            file => std::os::unix::fs::MetadataExt::blocks(&file) * 512,
        })
        .sum()
}
