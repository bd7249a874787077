//! What one client may have under way, and what becomes of one that does not read its answers.

use std::sync::Arc;

use brickwork_api::*;
use brickwork_testkit::{Answer, Faults, Gate, MemoryLeaf, MockChild, NeverGrants, samples};
use tokio::time::Instant;

use crate::logs::Logs;
use crate::peer::{Peer, lock, write};
use crate::world::World;

fn stat() -> StatReq {
    StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY }
}

fn sample_stat() -> FopResult<Reply> {
    Ok(samples::reply(FopKind::Stat))
}

#[tokio::test]
async fn a_slot_beyond_slots_and_waiters_max_per_client_is_refused_with_einval() {
    let world = World::of_memory(&[("slots", "4"), ("waiters-max-per-client", "2")]);
    let mut peer = Peer::attached(&world).await;
    let attached = peer.attached.clone().unwrap();
    assert_eq!((attached.slots, attached.waiters_max), (4, 2));
    for (slot, expected) in [(3, Ok(())), (5, Ok(())), (6, Err(Errno::EINVAL)), (u32::MAX, Err(Errno::EINVAL))] {
        let id = peer.ask::<fop::Stat>(slot, 1, &stat());
        assert_eq!(peer.answer::<fop::Stat>(id).await.map(drop).map_err(|error| error.errno()), expected, "{slot}");
    }
}

/// A client that did not number its waiting lock calls could have any number of them: they are in no slot, and are not
/// among the requests that keep the connection from being read. Now a connection has at most so many that wait.
#[tokio::test]
async fn waits_beyond_waiters_max_per_client_answer_enolck_also_without_a_number() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[("waiters-max-per-client", "2")]);
    let mut peer = Peer::attached(&world).await;
    for _ in 0..2 {
        peer.ask::<fop::Lk>(0, 0, &lock(true, LkType::Write));
    }
    locks.waits_begun(2).await;
    let third = peer.ask::<fop::Lk>(0, 0, &lock(true, LkType::Write));
    assert_eq!(peer.answer::<fop::Lk>(third).await.unwrap_err().errno(), Errno::ENOLCK);
    peer.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_connection_is_not_read_beyond_outstanding_rpc_limit() {
    let (mock, gate) = (MockChild::new(), Gate::new());
    for _ in 0..3 {
        mock.script(FopKind::Stat, Answer::Behind(gate.clone(), sample_stat()));
    }
    let world = World::over(mock.clone(), &[("outstanding-rpc-limit", "2")]);
    let mut peer = Peer::attached(&world).await;
    let ids: Vec<u64> = (0..3).map(|slot| peer.ask::<fop::Stat>(slot, 1, &stat())).collect();
    gate.arrivals(2).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!((gate.arrived(), world.status("in_flight")), (2, 2.into()));
    gate.open();
    for id in ids {
        peer.answer::<fop::Stat>(id).await.unwrap();
    }
    assert_eq!(gate.arrived(), 3);
}

#[tokio::test]
async fn waiting_locks_do_not_count_among_outstanding_rpc_limit() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[("outstanding-rpc-limit", "1")]);
    let mut peer = Peer::attached(&world).await;
    for slot in 0..4 {
        peer.ask::<fop::Lk>(1024 + slot, 1, &lock(true, LkType::Write));
    }
    locks.waits_begun(4).await;
    // An unlock could be what they wait for.
    peer.fop::<fop::Lk>(&lock(false, LkType::Unlock)).await.unwrap();
    peer.stat(Gfid::ROOT).await.unwrap();
}

/// Two clients that each had as many changes under way as their connections may have, all of them waiting for the other
/// to drop what it kept, stopped being read: what they had dropped was not heard, and both were cut off. Now a change
/// that waits for other clients no longer keeps its connection from being read.
#[tokio::test(start_paused = true)]
async fn a_full_connection_whose_changes_wait_for_others_is_read_on() {
    let world = World::of_memory(&[("outstanding-rpc-limit", "1")]);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let begun = Instant::now();
    let (of_a, of_b) = (a.mkdir("a").await.unwrap().attr.gfid, a.mkdir("b").await.unwrap().attr.gfid);
    b.stat(of_a).await.unwrap();
    let change = |gfid: Gfid| SetattrReq {
        target: gfid.into(),
        change: AttrChange { mode: Some(0o700), ..AttrChange::default() },
        xdata: Xdata::EMPTY,
    };
    let (first, second) = (a.ask::<fop::Setattr>(1, 1, &change(of_a)), b.ask::<fop::Setattr>(1, 1, &change(of_b)));
    for peer in [&mut a, &mut b] {
        let (id, _) = peer.notice().await;
        peer.noticed(id);
    }
    a.answer::<fop::Setattr>(first).await.unwrap();
    b.answer::<fop::Setattr>(second).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0, "somebody was waited for");
}

/// Answers that a disk was still reading did not count, only the few bytes of the requests: 1,024 reads of 1 MiB under
/// way were 1 GiB. Now a read counts with what it may answer from its beginning.
#[tokio::test]
async fn reads_under_way_count_with_their_answers_against_bytes_in_flight_max() {
    let (mock, gate) = (MockChild::new(), Gate::new());
    for _ in 0..20 {
        mock.script(FopKind::Read, Answer::Behind(gate.clone(), Ok(samples::reply(FopKind::Read))));
    }
    let world = World::over(mock.clone(), &[("bytes-in-flight-max", "16MB")]);
    let mut peer = Peer::attached(&world).await;
    let file = OpenFile { gfid: Gfid::ROOT, open: OpenId(1) };
    let read = ReadReq { file, offset: 0, size: 1 << 20, xdata: Xdata::EMPTY };
    let ids: Vec<u64> = (0..20).map(|slot| peer.ask::<fop::Read>(slot, 1, &read)).collect();
    gate.arrivals(16).await;
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    assert_eq!(gate.arrived(), 16);
    gate.open();
    for id in ids {
        peer.answer::<fop::Read>(id).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_asks_for_much_and_reads_nothing_is_closed_after_slow_reader_timeout() {
    let logs = Logs::begin();
    let world = World::of_memory(&[("bytes-in-flight-max", "16MB"), ("slow-reader-timeout", "5s")]);
    let (mut slow, mut other) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let file = slow.create("big", 1).await.unwrap();
    slow.write(file, 0, &vec![7; 1 << 20]).await.unwrap();
    let read = ReadReq { file, offset: 0, size: 1 << 20, xdata: Xdata::EMPTY };
    let begun = Instant::now();
    for slot in 0..200 {
        slow.ask::<fop::Read>(slot + 1, 1, &read);
    }
    world.until("the brick stops reading it", |world| world.status("connections") == 2).await;
    other.stat(Gfid::ROOT).await.unwrap();
    tokio::time::sleep(std::time::Duration::from_secs(10)).await;
    world.until("it is closed", |world| world.status("connections") == 1).await;
    logs.must_tell(&["a connection was ended", "left unread for 5s"]);
    assert!(begun.elapsed().as_secs() <= 10);
    // What it was sent before is bounded by the limit and what sockets hold.
    let mut heard = 0;
    while let Some(frame) = slow.next().await {
        heard += frame.payload.len();
    }
    assert!(heard <= 32 << 20, "{heard} bytes were on their way");
    other.stat(Gfid::ROOT).await.unwrap();
}

#[tokio::test]
async fn a_payload_of_a_whole_frame_fits_into_the_smallest_bytes_in_flight_max() {
    let world = World::of_memory(&[("bytes-in-flight-max", "16MB")]);
    let mut peer = Peer::attached(&world).await;
    let file = peer.create("big", 1).await.unwrap();
    let data = vec![1; 16 << 20];
    assert_eq!(peer.write(file, 0, &data).await.unwrap().written, 16 << 20);
    let read = ReadReq { file, offset: 0, size: 16 << 20, xdata: Xdata::EMPTY };
    assert_eq!(peer.fop::<fop::Read>(&read).await.unwrap().data.len(), 16 << 20);
    peer.write(file, 0, &data).await.unwrap();
}

#[tokio::test]
async fn cancel_ends_a_wait_with_eintr_and_leaves_other_requests_alone() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let (first, second) = (
        peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write)),
        peer.ask::<fop::Lk>(1025, 7, &lock(true, LkType::Write)),
    );
    locks.waits_begun(2).await;
    // Another request in the slot, a slot that is none.
    peer.cancel(1025, 6);
    peer.cancel(u32::MAX, 1);
    peer.cancel(1024, 1);
    assert_eq!(peer.answer::<fop::Lk>(first).await.unwrap_err().errno(), Errno::EINTR);
    assert!(!peer.is_answered(second).await);
}

#[tokio::test]
async fn a_higher_sequence_on_a_slot_ends_the_wait_before_it_and_only_the_later_one_is_answered() {
    let locks = Arc::new(NeverGrants::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(locks.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let first = peer.ask::<fop::Lk>(1024, 1, &lock(true, LkType::Write));
    locks.waits_begun(1).await;
    let second = peer.ask::<fop::Stat>(1024, 2, &stat());
    peer.answer::<fop::Stat>(second).await.unwrap();
    world.until("the wait is over", |world| world.status("in_flight") == 0).await;
    assert!(!peer.is_answered(first).await);
}

#[tokio::test]
async fn a_lower_sequence_on_a_slot_is_not_done() {
    let faults = Arc::new(Faults::over(Arc::new(MemoryLeaf::new())));
    let world = World::over(faults.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let second = peer.ask::<fop::Stat>(3, 2, &stat());
    peer.answer::<fop::Stat>(second).await.unwrap();
    let first = peer.ask::<fop::Mkdir>(3, 1, &crate::peer::mkdir("late"));
    assert!(!peer.is_answered(first).await);
    assert_eq!(faults.seen(FopKind::Mkdir), 0);
}

#[tokio::test]
async fn a_write_takes_its_payload_from_the_frame() {
    let mock = MockChild::new();
    let world = World::over(mock.clone(), &[]);
    let mut peer = Peer::attached(&world).await;
    let request = write(OpenFile { gfid: Gfid::ROOT, open: OpenId(1) }, 3, b"abc");
    peer.fop::<fop::Write>(&request).await.unwrap();
    assert!(mock.fops().contains(&Fop::Write(request)));
}
