//! What a lock costs: time to take, to look for a conflict and to release, with 1,000 and with 1,000,000 on one file, and
//! what each takes of the memory.
//!
//! `cargo bench -p brickwork-locks --bench table` takes a minute or two, with `-- queues` for what waits alone seconds. Times are the median over rounds of what one
//! operation takes; memory is what the allocator gave, counted.

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use brickwork_api::OpenId;
use brickwork_api::ranges::ByteRange;
use brickwork_locks::table::{Ask, Ids, Mode, OwnerKey, Table, Tag, Waited, WaiterId};

const MANY: usize = 1_000_000;

struct Counting;

static TAKEN: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system's allocator as it came; the sums beside it touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        TAKEN.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }
}

/// What glibc gives for so much: a word before it, in units of 16 bytes, at least 32.
fn taken(size: usize) -> usize {
    (size + 8).next_multiple_of(16).max(32)
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Who holds the locks of a file, how, and in which order they come and go.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    mode: Mode,
    one_owner: bool,
    /// Not by position.
    shuffled: bool,
}

fn main() {
    if !std::env::args().any(|arg| arg == "queues") {
        files();
    }
    queues();
}

fn files() {
    let shapes = [
        Shape { name: "exclusive, an owner each", mode: Mode::Exclusive, one_owner: false, shuffled: false },
        Shape { name: "exclusive, an owner each, shuffled", mode: Mode::Exclusive, one_owner: false, shuffled: true },
        Shape { name: "exclusive, one owner", mode: Mode::Exclusive, one_owner: true, shuffled: false },
        Shape { name: "exclusive, one owner, shuffled", mode: Mode::Exclusive, one_owner: true, shuffled: true },
        Shape { name: "shared, an owner each", mode: Mode::Shared, one_owner: false, shuffled: false },
        Shape { name: "shared, an owner each, shuffled", mode: Mode::Shared, one_owner: false, shuffled: true },
        Shape { name: "shared, one owner", mode: Mode::Shared, one_owner: true, shuffled: false },
    ];
    println!("{:<38} {:>10} {:>24} {:>24} {:>24}", "ns per operation", "locks", "take", "probe", "release");
    for shape in shapes {
        let small = one_file(shape, 1_000);
        let large = one_file(shape, MANY);
        show(shape, 1_000, small, None);
        show(shape, MANY, large, Some(small));
    }
    println!();
    for shape in shapes {
        println!("{:<38} {:>7.1} bytes a lock, {MANY} on one file", shape.name, memory_of_one_file(shape));
    }
    println!("{:<38} {:>7.1} bytes a lock, {MANY} files with one", "a table each", memory_of_many_files(1));
    println!("{:<38} {:>7.1} bytes a lock, {MANY} files with two", "a table each", memory_of_many_files(2) / 2.0);
    println!("{:<38} {:>7} bytes", "a table", size_of::<Table>());
    println!();
}

fn queues() {
    for waiters in [1_000, 10_000, 65_536] {
        crowd(waiters, Mode::Exclusive);
    }
    crowd(65_536, Mode::Shared);
    readers_before_writers(10_000);
}

type Times = [f64; 3];

fn show(shape: Shape, locks: usize, times: Times, small: Option<Times>) {
    print!("{:<38} {locks:>10}", shape.name);
    for at in 0..3 {
        let ratio = small.map_or(String::new(), |small| format!("({:.2}x)", times[at] / small[at]));
        print!(" {:>14.0} {ratio:>9}", times[at]);
    }
    println!();
}

/// `n` numbers, in order or not.
fn places(shape: Shape, n: usize) -> Vec<u64> {
    let mut places: Vec<u64> = (0..n as u64).collect();
    let mut seed = 1_u64;
    for at in (1..n).rev().filter(|_| shape.shuffled) {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        places.swap(at, (seed >> 33) as usize % (at + 1));
    }
    places
}

/// Every second kilobyte, so that none joins.
fn ask(shape: Shape, place: u64) -> Ask {
    let range = ByteRange::new(place * 2048, place * 2048 + 1024).expect("not empty");
    let owner = OwnerKey(if shape.one_owner { 0 } else { place as u32 });
    let tag = Tag { open: OpenId(place), process: 1, since_ms: 0, mandatory: false };
    Ask { owner, range, mode: shape.mode, tag }
}

fn fill(shape: Shape, places: &[u64], ids: &Ids) -> Table {
    let mut table = Table::default();
    for &place in places {
        table.set(&ask(shape, place), ids, usize::MAX).expect("nobody is in the way");
    }
    table
}

/// Fills a file, looks for conflicts everywhere and empties it; small ones as often as makes as many operations.
fn one_file(shape: Shape, n: usize) -> Times {
    let (places, ids) = (places(shape, n), Ids::default());
    let mut rounds = [const { Vec::new() }; 3];
    for _ in 0..(MANY / n).max(3) {
        let begin = Instant::now();
        let mut table = fill(shape, &places, &ids);
        rounds[0].push(begin.elapsed());
        let begin = Instant::now();
        for &place in &places {
            let wanted = ask(shape, place);
            let found = table.conflict(OwnerKey(u32::MAX), wanted.range, Mode::Exclusive);
            assert!(black_box(found).is_some());
        }
        rounds[1].push(begin.elapsed());
        let begin = Instant::now();
        for &place in &places {
            let wanted = ask(shape, place);
            table.unlock(wanted.owner, wanted.range, &ids, usize::MAX).expect("nothing is cut");
        }
        rounds[2].push(begin.elapsed());
        assert!(table.is_empty());
    }
    rounds.map(|mut round| {
        round.sort();
        round[round.len() / 2].as_nanos() as f64 / n as f64
    })
}

fn memory_of_one_file(shape: Shape) -> f64 {
    let (places, ids) = (places(shape, MANY), Ids::default());
    let before = TAKEN.load(Ordering::Relaxed);
    let table = fill(shape, &places, &ids);
    let bytes = TAKEN.load(Ordering::Relaxed) - before;
    drop(table);
    bytes as f64 / MANY as f64
}

/// The tables lie side by side, as they would in what belongs to an object.
fn memory_of_many_files(locks: u64) -> f64 {
    let ids = Ids::default();
    let shape = Shape { name: "", mode: Mode::Exclusive, one_owner: false, shuffled: false };
    let before = TAKEN.load(Ordering::Relaxed);
    let mut tables = Vec::with_capacity(MANY);
    tables.extend((0..MANY).map(|_| fill(shape, &places(shape, locks as usize), &ids)));
    let bytes = TAKEN.load(Ordering::Relaxed) - before;
    drop(tables);
    bytes as f64 / MANY as f64
}

fn per(elapsed: Duration, count: usize) -> f64 {
    elapsed.as_nanos() as f64 / count as f64
}

fn whole(owner: u32, mode: Mode) -> Ask {
    let shape = Shape { name: "", mode, one_owner: false, shuffled: false };
    Ask { range: ByteRange::ALL, ..ask(shape, u64::from(owner)) }
}

/// All wait for the whole file, and each is granted when the one before it is done.
fn crowd(waiters: usize, mode: Mode) {
    let (mut table, ids) = (Table::default(), Ids::default());
    table.set(&whole(0, Mode::Exclusive), &ids, usize::MAX).expect("an empty table");
    let begin = Instant::now();
    for owner in 1..=waiters as u32 {
        let waited = table.wait(WaiterId(u64::from(owner)), &whole(owner, mode), &ids, usize::MAX);
        assert!(matches!(waited, Ok(Waited::Queued(_))));
    }
    let queued = per(begin.elapsed(), waiters);
    let begin = Instant::now();
    let mut granted = 0;
    for owner in 0..=waiters as u32 {
        granted += table.unlock(OwnerKey(owner), ByteRange::ALL, &ids, usize::MAX).expect("a whole lock").granted.len();
    }
    assert!(granted == waiters && table.is_empty());
    println!(
        "{waiters} wait for all of a file ({mode:?}): {queued:.0} ns to queue, {:.0} to be granted and release",
        per(begin.elapsed(), waiters)
    );
}

/// Readers of all hold up writers of a byte each; the readers leave in an order of their own.
fn readers_before_writers(many: usize) {
    let shape = Shape { name: "", mode: Mode::Exclusive, one_owner: false, shuffled: true };
    for (name, order) in [("first come", 0), ("last come", 1), ("shuffled", 2)] {
        let (mut table, ids) = (Table::default(), Ids::default());
        for owner in 0..many as u32 {
            table.set(&whole(owner, Mode::Shared), &ids, usize::MAX).expect("readers only");
        }
        for at in 0..many as u64 {
            let writer = Ask { owner: OwnerKey(many as u32 + at as u32), ..ask(shape, at) };
            let waited = table.wait(WaiterId(at), &writer, &ids, usize::MAX);
            assert!(matches!(waited, Ok(Waited::Queued(_))));
        }
        let mut leaving = places(Shape { shuffled: order == 2, ..shape }, many);
        if order == 1 {
            leaving.reverse();
        }
        let begin = Instant::now();
        let release = |owner: u64| table.unlock(OwnerKey(owner as u32), ByteRange::ALL, &ids, usize::MAX);
        let granted: usize =
            leaving.into_iter().map(release).map(|effects| effects.expect("whole").granted.len()).sum();
        assert_eq!(granted, many);
        println!("{many} readers leave ({name}) before {many} writers: {:.0} ns each", per(begin.elapsed(), many));
    }
}
