//! A change is answered when nobody else keeps what it changed.

use std::time::Duration;

use brickwork_api::xdata::UNCACHED;
use brickwork_api::*;
use brickwork_wire::message::Notice;
use tokio::time::Instant;

use crate::logs::Logs;
use crate::peer::{Peer, unlink};
use crate::world::World;

fn chmod(gfid: Gfid) -> SetattrReq {
    SetattrReq {
        target: gfid.into(),
        change: AttrChange { mode: Some(0o700), ..AttrChange::default() },
        xdata: Xdata::EMPTY,
    }
}

/// A server, a client that has made a directory, another that has looked it up, and the directory.
async fn pair(options: &[(&str, &str)]) -> (World, Peer, Peer, Gfid) {
    let world = World::of_memory(options);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let gfid = a.mkdir("shared").await.unwrap().attr.gfid;
    b.lookup("shared").await.unwrap();
    (world, a, b, gfid)
}

#[tokio::test]
async fn a_change_is_told_to_who_keeps_the_object_and_answered_when_it_has_dropped_it() {
    let (_world, mut a, mut b, gfid) = pair(&[]).await;
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    let (id, notice) = b.notice().await;
    assert_eq!(notice, Notice::Invalidate { gfid, names: false });
    assert!(!a.is_answered(change).await);
    b.noticed(id);
    assert_eq!(a.answer::<fop::Setattr>(change).await.unwrap().attr.mode & 0o777, 0o700);
}

#[tokio::test]
async fn a_name_that_was_looked_up_and_not_found_is_told_when_it_appears() {
    let world = World::of_memory(&[]);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    assert_eq!(b.lookup("new").await.unwrap_err().errno(), Errno::ENOENT);
    let made = a.ask::<fop::Mkdir>(1, 1, &crate::peer::mkdir("new"));
    let (id, notice) = b.notice().await;
    assert_eq!(notice, Notice::Invalidate { gfid: Gfid::ROOT, names: true });
    assert!(!a.is_answered(made).await);
    b.noticed(id);
    a.answer::<fop::Mkdir>(made).await.unwrap();
}

#[tokio::test]
async fn who_changes_and_who_keeps_nothing_is_not_told() {
    let (world, mut a, mut b, gfid) = pair(&[]).await;
    let mut stranger = Peer::attached(&world).await;
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    let (id, _) = b.notice().await;
    b.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
    // It has dropped it: nobody is waited for a second time.
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert!(!b.has_notice().await && !stranger.has_notice().await && !a.has_notice().await);
}

#[tokio::test]
async fn what_a_client_forgets_it_is_not_told_of() {
    let (_world, mut a, mut b, gfid) = pair(&[]).await;
    b.fop::<fop::Forget>(&ForgetReq { gfids: vec![gfid], xdata: Xdata::EMPTY }).await.unwrap();
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert!(!b.has_notice().await);
}

#[tokio::test]
async fn an_acknowledgement_by_another_client_counts_for_nothing() {
    let (world, mut a, mut b, gfid) = pair(&[]).await;
    let mut liar = Peer::attached(&world).await;
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    let (id, _) = b.notice().await;
    for wrong in [id, id + 1, 0] {
        liar.noticed(wrong);
    }
    liar.ping().await;
    assert!(!a.is_answered(change).await);
    b.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_drop_it_within_invalidate_timeout_is_cut_off_and_the_change_is_answered() {
    let logs = Logs::begin();
    let (world, mut a, mut b, gfid) = pair(&[("invalidate-timeout", "4s")]).await;
    let begun = Instant::now();
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    a.answer::<fop::Setattr>(change).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 4);
    logs.must_tell(&["a client did not drop what it cached, and is cut off", "timeout_ms=4000"]);
    b.ended().await;
    // It comes back, having dropped everything, and is told again.
    let mut b = Peer::again(&world, &b, 2).await;
    b.lookup("shared").await.unwrap();
    let change = a.ask::<fop::Setattr>(1, 2, &chmod(gfid));
    let (id, _) = b.notice().await;
    b.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_cut_off_is_waited_for_until_its_last_sign_of_life_and_invalidate_timeout() {
    let (_world, mut a, mut b, gfid) = pair(&[("invalidate-timeout", "4s")]).await;
    let begun = Instant::now();
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    tokio::time::sleep(Duration::from_secs(3)).await;
    // It is there, and may hold what it keeps for good until 3 s + 4 s.
    b.ping().await;
    a.answer::<fop::Setattr>(change).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 7);
}

#[tokio::test(start_paused = true)]
async fn a_detached_client_is_waited_for_until_its_last_sign_of_life_and_invalidate_timeout() {
    let (world, mut a, mut b, gfid) = pair(&[("invalidate-timeout", "6s")]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    b.ping().await;
    b.outbox.close();
    world.until("it is detached", |world| world.status("connections") == 1).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let begun = Instant::now();
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 4);
    // Nobody is waited for after that.
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_detached_client_that_comes_back_is_told_what_it_missed_and_then_not_waited_for_any_longer() {
    let (world, mut a, b, gfid) = pair(&[("invalidate-timeout", "6s")]).await;
    b.outbox.close();
    world.until("it is detached", |world| world.status("connections") == 1).await;
    let begun = Instant::now();
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    a.ping().await;
    let mut b = Peer::again(&world, &b, 2).await;
    let (id, notice) = b.notice().await;
    assert_eq!(notice, Notice::Invalidate { gfid, names: false });
    assert!(!a.is_answered(change).await);
    b.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_said_goodbye_is_not_waited_for() {
    let (_world, mut a, mut b, gfid) = pair(&[]).await;
    b.goodbye(b.session()).await.unwrap();
    let begun = Instant::now();
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}

/// Two sessions of one client on one connection: when the older one said goodbye, the brick forgot the way to both. The
/// younger one was held for detached and was no longer told of changes, while it went on caching.
#[tokio::test(start_paused = true)]
async fn a_client_is_still_told_when_its_older_incarnation_on_the_same_connection_has_left() {
    let (_world, mut a, mut b, gfid) = pair(&[]).await;
    let older = b.session();
    let call =
        brickwork_wire::message::AttachCall { incarnation: 2, keep: vec![1], ..crate::peer::attach_call(b.client) };
    b.attach(call).await.unwrap();
    b.goodbye(older).await.unwrap();
    b.lookup("shared").await.unwrap();
    let begun = Instant::now();
    let change = a.ask::<fop::Setattr>(1, 1, &chmod(gfid));
    let (id, _) = b.notice().await;
    b.noticed(id);
    a.answer::<fop::Setattr>(change).await.unwrap();
    assert_eq!(begun.elapsed().as_secs(), 0);
}

/// A client that left by one connection while another of it was still there went on as nobody: it was told of nothing
/// any more, and kept what it had. Now the end of a session ends every connection that it is on.
#[tokio::test]
async fn the_end_of_a_session_ends_the_connections_that_are_still_in_it() {
    let world = World::of_memory(&[]);
    let mut first = Peer::attached(&world).await;
    let mut second = Peer::greeted(&world).await;
    second.client = first.client;
    let call = brickwork_wire::message::AttachCall { join: true, ..crate::peer::attach_call(first.client) };
    second.attach(call).await.unwrap();
    first.goodbye(first.session()).await.unwrap();
    second.ended().await;
    first.ping().await;
}

#[tokio::test]
async fn a_newcomer_beyond_caching_clients_max_is_told_that_it_may_keep_nothing() {
    let world = World::of_memory(&[("caching-clients-max", "1")]);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let gfid = a.mkdir("shared").await.unwrap().attr.gfid;
    let of_b = b.stat(gfid).await.unwrap();
    assert_eq!(of_b.xdata.get(&UNCACHED), Ok(Some(true)));
    let of_a = a.stat(gfid).await.unwrap();
    assert_eq!(of_a.xdata.get(&UNCACHED), Ok(None));
    // It keeps nothing, so nobody waits for it.
    a.fop::<fop::Setattr>(&chmod(gfid)).await.unwrap();
    assert!(!b.has_notice().await);
}

#[tokio::test]
async fn objects_beyond_caching_inodes_max_are_asked_back_or_may_not_be_kept() {
    let world = World::of_memory(&[("caching-inodes-max", "1000")]);
    let mut peer = Peer::attached(&world).await;
    for number in 0..2000 {
        peer.mkdir(&format!("d{number}")).await.unwrap();
    }
    // 64 parts of 16 objects each.
    let cached = world.export("cached_objects").as_u64().unwrap();
    assert!((900..=1024).contains(&cached), "{cached} objects");
    assert!(peer.has_notice().await);
}

#[tokio::test]
async fn the_last_name_of_a_file_that_another_client_keeps_is_told() {
    let world = World::of_memory(&[]);
    let (mut a, mut b) = (Peer::attached(&world).await, Peer::attached(&world).await);
    let file = a.create("file", 1).await.unwrap();
    b.lookup("file").await.unwrap();
    let gone = a.ask::<fop::Unlink>(1, 1, &unlink("file"));
    let mut told = Vec::new();
    for _ in 0..2 {
        let (id, notice) = b.notice().await;
        told.push(notice);
        b.noticed(id);
    }
    a.answer::<fop::Unlink>(gone).await.unwrap();
    assert!(told.contains(&Notice::Invalidate { gfid: Gfid::ROOT, names: true }), "{told:?}");
    assert!(told.contains(&Notice::Invalidate { gfid: file.gfid, names: false }), "{told:?}");
}
