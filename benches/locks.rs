//! What locks cost: a lock and its release over the wire, the modes of the journal, a million on one file, memory, restarts.
//!
//! `cargo bench --bench locks` takes some minutes; `cargo bench --bench locks -- wire memory` takes those parts only. Each
//! part runs in a process of its own, so that none finds what another left in memory. README.md has the figures and what
//! they mean.

#[path = "locks/brick.rs"]
mod brick;
#[path = "locks/many.rs"]
mod many;
#[path = "locks/restart.rs"]
mod restart;
#[path = "locks/wire.rs"]
mod wire;

use std::process::Command;

/// The parts, in their order.
const PARTS: [(&str, fn()); 5] = [
    ("wire", wire::ways),
    ("journal", wire::journals),
    ("one-file", many::one_file),
    ("memory", many::memory),
    ("restart", restart::restarts),
];

/// What this process is to do when another of this bench has started it.
const ROLE: &str = "BRICKWORK_BENCH_ROLE";

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        return play(&role);
    }
    // cargo adds options of its own.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for (name, _) in PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|part| part == name)) {
        in_a_process_of_its_own(name);
        println!();
    }
}

/// Does what `role` says and returns when that process has ended.
fn in_a_process_of_its_own(role: &str) {
    let this = std::env::current_exe().expect("this program");
    let status = Command::new(this).env(ROLE, role).status().expect("this program once more");
    assert!(status.success(), "{role}: {status}");
}

fn play(role: &str) {
    let (name, arguments) = role.split_once(' ').unwrap_or((role, ""));
    match (name, PARTS.iter().find(|(part, _)| *part == name)) {
        (_, Some((_, part))) => part(),
        ("resident", _) => many::resident(arguments),
        ("fill", _) => restart::fill(arguments),
        ("start", _) => restart::start(arguments),
        _ => panic!("nothing here is called {name}"),
    }
}

/// The one in the middle.
fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}
