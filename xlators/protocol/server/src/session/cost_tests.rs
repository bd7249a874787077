//! What a session adds to a fop: `cargo test --release -p brickwork-server --lib session::cost -- --ignored --nocapture`.

use std::sync::Arc;
use std::time::Instant;

use brickwork_api::*;
use brickwork_testkit::block_on;
use brickwork_testkit::client::entry;

use super::world::{CLIENT, FILE, World, attach, gfid};
use super::{Begun, Session};

/// Nanoseconds of one call, the best of five rounds.
fn best(count: u32, mut call: impl FnMut(u64)) -> u128 {
    let mut sequence = 0;
    let round = |_| {
        let start = Instant::now();
        for _ in 0..count {
            sequence += 1;
            call(sequence);
        }
        start.elapsed().as_nanos() / u128::from(count)
    };
    (0..5).map(round).min().unwrap_or_default()
}

async fn through<F: FopType>(world: &World, session: &Session<u32>, sequence: u64, cx: &Cx, request: &F::Request) {
    let begun = session.slots().begin(0, sequence, F::KIND, &cx.cancel, 0).unwrap();
    let Begun::New { remembered, .. } = begun else { panic!("a new one") };
    let performed = session.perform::<F>(&*world.leaf, cx, request, remembered).await;
    performed.result.as_ref().unwrap();
    session.slots().finish(0, sequence, performed.kept);
}

fn fops<'a>(world: &'a World, session: &'a Arc<Session<u32>>, count: u32) -> [u128; 4] {
    let xdata = Xdata::EMPTY;
    let run = |sequence: u64| Cx { request: RequestId { client: CLIENT, slot: 0, sequence }, ..world.cx(0, 1) };
    let mut cx = run(1);
    let mut last = 0;
    let mut next = |_| {
        last += 1;
        last
    };
    let stat = StatReq { target: FILE.gfid.into(), xdata: xdata.clone() };
    let stat = best(count, |sequence| {
        cx.request.sequence = next(sequence);
        block_on(through::<fop::Stat>(world, session, cx.request.sequence, &cx, &stat));
    });
    let data = Bytes::from_static(&[7; 4096]);
    let write = |append| WriteReq {
        file: FILE,
        offset: 0,
        data: data.clone(),
        append,
        kill_set_id: false,
        xdata: Xdata::EMPTY,
    };
    let mut written = |append| {
        let write = write(append);
        best(count, |sequence| {
            cx.request.sequence = next(sequence);
            block_on(through::<fop::Write>(world, session, cx.request.sequence, &cx, &write));
        })
    };
    let (plain, append) = (written(false), written(true));
    let at = entry(Gfid::ROOT, "m");
    let mkdir = MkdirReq { entry: at.clone(), gfid: gfid(50), mode: 0o755, umask: 0, xdata: xdata.clone() };
    let rmdir = RmdirReq { entry: at, xdata };
    let pair = best(count, |sequence| {
        cx.request.sequence = next(sequence);
        block_on(through::<fop::Mkdir>(world, session, cx.request.sequence, &cx, &mkdir));
        cx.request.sequence = next(sequence);
        block_on(through::<fop::Rmdir>(world, session, cx.request.sequence, &cx, &rmdir));
    });
    [stat, plain, append, pair]
}

#[test]
#[ignore = "measures; wants a release build and a quiet machine"]
fn a_session_costs() {
    println!("ns per fop: stat, write 4 KiB, append 4 KiB, mkdir + rmdir");
    for (eos, count) in [("memory", 5_000), ("process", 5_000), ("disk", 300)] {
        let world = World::new(eos);
        let sessions = world.start_within(Default::default());
        let session = attach(&sessions, CLIENT, 1);
        println!("{eos:8} {:?}", fops(&world, &session, count));
    }
    let world = World::new("memory");
    let cx = world.cx(0, 1);
    let stat = StatReq { target: FILE.gfid.into(), xdata: Xdata::EMPTY };
    let bare = best(50_000, |_| drop(block_on(world.leaf.stat(&cx, &stat))));
    let sessions = world.start();
    let session = attach(&sessions, CLIENT, 1);
    let slot = best(50_000, |sequence| {
        let begun = session.slots().begin(1, sequence, FopKind::Stat, &cx.cancel, 0);
        assert!(matches!(begun, Ok(Begun::New { .. })));
        session.slots().finish(1, sequence, None);
    });
    println!("a bare stat {bare}, a slot {slot}");
}
