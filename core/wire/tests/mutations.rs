//! Golden messages with bytes changed: read or refused, never a panic, and what is read is written as it was.

use brickwork_wire::fuzz::fuzz_frames;

fn golden() -> Vec<Vec<u8>> {
    let lines = include_str!("golden/1.0.txt").lines();
    let hex = lines.map(|line| line.rsplit_once(": ").unwrap().1);
    hex.map(|hex| (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect())
        .collect()
}

fn draw(state: &mut u64) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state as usize
}

#[test]
fn every_golden_message_is_whole() {
    assert!(golden().iter().all(|frame| fuzz_frames(frame) == 1));
}

#[test]
fn mutated_messages_are_read_or_refused() {
    let seed = std::env::var("BRICKWORK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_u64);
    let full = std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full");
    let rounds = if full { 5_000_000 } else { 200_000 };
    println!("BRICKWORK_SEED={seed}");
    let (mut state, corpus, mut whole) = (seed.max(1), golden(), 0);
    for _ in 0..rounds {
        let mut frame = corpus[draw(&mut state) % corpus.len()].clone();
        for _ in 0..1 + draw(&mut state) % 3 {
            let at = draw(&mut state) % frame.len();
            match draw(&mut state) % 4 {
                0 => frame[at] ^= 1 << (draw(&mut state) % 8),
                1 => frame[at] = [0, 1, 0x7f, 0xff][draw(&mut state) % 4],
                2 => frame.truncate(at.max(1)),
                _ => frame.insert(at, draw(&mut state) as u8),
            }
        }
        whole += fuzz_frames(&frame);
    }
    println!("{whole} of {rounds} were whole messages");
    assert!(whole > rounds / 20 && whole < rounds * 19 / 20, "the mutants are neither all good nor all bad: {whole}");
}
