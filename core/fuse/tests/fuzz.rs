//! Messages that no kernel sends: no panic, and not one allocation.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use brickwork_fuse::fuzz_request;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is left to the system's allocator; counting touches a plain thread-local number alone.
unsafe impl GlobalAlloc for Counting {
    // SAFETY: as the trait asks of its caller.
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise about `layout` is handed on.
        unsafe { System.alloc(layout) }
    }

    // SAFETY: as the trait asks of its caller.
    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: `pointer` came from `System.alloc` with this `layout`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Numbers at which lengths and counts go wrong.
const EDGES: [u32; 10] = [0, 1, 7, 8, 39, 0x7fff_ffff, 0x8000_0000, u32::MAX - 7, u32::MAX - 1, u32::MAX];

fn mutate(message: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..=random.below(3) {
        match random.below(5) {
            0 if !message.is_empty() => {
                let at = random.below(message.len());
                message[at] ^= 1 << random.below(8);
            }
            1 if message.len() >= 4 => {
                let at = random.below(message.len() - 3);
                message[at..at + 4].copy_from_slice(&EDGES[random.below(EDGES.len())].to_ne_bytes());
            }
            2 => message.truncate(random.below(message.len() + 1)),
            3 => {
                let byte = random.next() as u8;
                message.resize(message.len() + random.below(64), byte);
            }
            _ if message.len() >= 8 => {
                // Another operation's number over the same bytes.
                let opcode = random.below(56) as u32;
                message[4..8].copy_from_slice(&opcode.to_ne_bytes());
            }
            _ => {}
        }
    }
    // Most mutants get a header that states their length, or nothing behind the header would ever be looked at.
    if random.below(8) != 0 && message.len() >= 4 {
        let length = message.len() as u32;
        message[..4].copy_from_slice(&length.to_ne_bytes());
    }
}

#[test]
fn mutated_messages_neither_panic_nor_allocate() {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_f05e_u64);
    let rounds =
        if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { 5_000_000 } else { 200_000 };
    println!("BRICKWORK_SEED={seed}");
    let mut random = Random(seed.max(1));
    let corpus = common::corpus();
    let mut message = Vec::with_capacity(4096);
    let mut whole = 0_u64;
    for _ in 0..rounds {
        message.clear();
        message.extend_from_slice(&corpus[random.below(corpus.len())]);
        mutate(&mut message, &mut random);
        let before = ALLOCATIONS.with(Cell::get);
        whole += u64::from(fuzz_request(&message));
        assert_eq!(ALLOCATIONS.with(Cell::get), before, "allocated for {}", message.escape_ascii());
    }
    println!("{whole} of {rounds} were well formed");
    assert!(whole > rounds / 20 && whole < rounds * 19 / 20, "the mutants are neither all good nor all bad: {whole}");
}

#[test]
fn every_message_of_the_corpus_is_well_formed() {
    assert!(common::corpus().iter().all(|message| fuzz_request(message)));
}
