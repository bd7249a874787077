//! Clients that are away, come back, or never do.

use brickwork_api::locks::{LOCK_LOST, LockNotice, LostBy, RECLAIM_LOCK, Verdict};
use brickwork_api::{Errno, Event, FlushReq, LkCommand, LkType, ReadReq, ReleaseReq, Xdata};

use crate::world::{Call, Client, FILE, PROTECTED, World, claim};

/// Why the open of these tests refuses a read of `client`, if it does.
async fn fenced(world: &World, client: &Client) -> Option<String> {
    let read = ReadReq { file: FILE, offset: 0, size: 1, xdata: Xdata::EMPTY };
    let cx = &world.request(client, 1).cx;
    world.locks.read(cx, &read).await.err()?.xdata().get(&LOCK_LOST).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_locks_of_a_client_that_is_away_are_protected_and_then_kept_until_somebody_wants_them() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&one, 1).take(20, 30).await.unwrap();
    world.detach(&one);
    assert_eq!(world.request(&other, 2).take(0, 5).await, Err(Errno::EAGAIN));
    tokio::time::sleep(PROTECTED).await;
    assert_eq!(world.request(&other, 2).holder(0, 5).await.kind, LkType::Write, "nobody has wanted it yet");
    assert_eq!(world.request(&other, 2).take(0, 5).await, Ok(()));
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Lost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_is_granted_at_the_deadline_of_a_holder_that_is_away() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waiter = world.request(&other, 2).wait(0, 10).await;
    world.detach(&one);
    let since = std::time::Instant::now();
    assert_eq!(waiter.await.unwrap(), Ok(()));
    assert!(since.elapsed() >= PROTECTED.mul_f32(0.9), "{:?}", since.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_whose_lock_expired_answers_eio_until_it_is_released_and_its_client_is_told() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    let held = world.request(&one, 1);
    held.take(0, 10).await.unwrap();
    world.detach(&one);
    tokio::time::sleep(PROTECTED).await;
    world.request(&other, 2).take(0, 5).await.unwrap();
    world.attach(&one, 2, None);
    let read = ReadReq { file: FILE, offset: 0, size: 1, xdata: Xdata::EMPTY };
    let refused = world.locks.read(&held.cx, &read).await.unwrap_err();
    assert_eq!(refused.errno(), Errno::EIO);
    assert_eq!(refused.xdata().get(&LOCK_LOST), Ok(Some("expired".to_owned())));
    assert_eq!(world.request(&one, 1).take(50, 60).await, Err(Errno::EIO));
    let told = world.events.lock().iter().any(|event| {
        matches!(event, Event::Lock(notice) if notice.client == one.id
            && matches!(&notice.notice, LockNotice::Lost { opens, why: LostBy::Expiry, .. } if opens == &[FILE.open]))
    });
    assert!(told, "{:?}", world.events.lock());
    let release = ReleaseReq { file: FILE, xdata: Xdata::EMPTY };
    // The leaf knows no such open; the fence goes all the same.
    let _ = world.locks.release(&held.cx, &release).await;
    assert_ne!(world.locks.read(&held.cx, &read).await.unwrap_err().errno(), Errno::EIO);
}

/// A client with `on-lost-lock ignore` was told of its loss, used its file on, and was refused by the brick until it closed
/// it: the option had no effect.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_was_answered_lost_decides_itself_whether_it_uses_the_open_on() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.detach(&one);
    tokio::time::sleep(PROTECTED).await;
    world.request(&other, 2).take(0, 10).await.unwrap();
    world.kill().await;
    world.attach(&one, 2, None);
    assert_eq!(fenced(&world, &one).await.as_deref(), Some("expired"), "until it is told, over a restart too");
    let claims = [claim(1, &[(LkType::Write, 0, 10)])];
    assert_eq!(world.claim(&one, &claims).await, [Verdict::Lost]);
    assert_eq!(fenced(&world, &one).await, None);
    world.kill().await;
    assert_eq!(fenced(&world, &one).await, None);
    world.attach(&one, 3, None);
    assert_eq!(world.claim(&one, &claims).await, [Verdict::Lost], "when the answer was lost with its connection");
    assert_eq!(world.request(&one, 1).take(0, 10).await, Err(Errno::EAGAIN), "the open is good, the lock is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_whose_lock_was_taken_over_stays_fenced_also_when_its_client_is_back_and_told() {
    let mut world = World::new(&[("reclaim-lock", "on"), ("reclaim-from", "any")]);
    let (one, gateway, other) = (world.client(), world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&one, 1).take(20, 30).await.unwrap();
    world.detach(&one);
    let over = Call { xdata: Xdata::EMPTY.with(&RECLAIM_LOCK, true), ..world.request(&gateway, 1) };
    over.lk(LkCommand::Set, LkType::Write, 0, 10).await.unwrap();
    tokio::time::sleep(PROTECTED).await;
    // What time took from the same open does not make it less fenced.
    world.request(&other, 2).take(20, 30).await.unwrap();
    for _ in 0..2 {
        world.attach(&one, 2, None);
        assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Lost]);
        assert_eq!(fenced(&world, &one).await.as_deref(), Some(LostBy::Reclaim.word()));
        world.kill().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_holds_and_waits_for_goes_with_it() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let behind = world.request(&other, 2).wait(0, 10).await;
    let own = world.request(&one, 3).wait(0, 10).await;
    world.end(&one);
    assert_eq!(own.await.unwrap(), Err(Errno::EBADF));
    assert_eq!(behind.await.unwrap(), Ok(()));
    assert_eq!(world.locks.status()["locks"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_releases_the_locks_and_the_waiters_of_its_owner_alone() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    let held = world.request(&one, 1);
    held.take(0, 10).await.unwrap();
    world.request(&one, 2).take(20, 30).await.unwrap();
    let behind = world.request(&other, 3).wait(0, 30).await;
    let _ = world.locks.flush(&held.cx, &FlushReq { file: FILE, xdata: Xdata::EMPTY }).await;
    assert!(!behind.is_finished());
    assert_eq!(world.request(&other, 4).holder(0, 30).await.start, 20);
    world.request(&one, 2).unlock(20, 30).await.unwrap();
    assert_eq!(behind.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_away_hold_no_more_than_the_limit_together() {
    let world = World::new(&[("detached-locks-max", "1")]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&other, 2).take(20, 30).await.unwrap();
    world.detach(&one);
    tokio::time::sleep(PROTECTED).await;
    world.detach(&other);
    let watcher = world.client();
    assert_eq!(world.request(&watcher, 3).holder(0, 10).await.kind, LkType::Unlock, "the longest away has lost it");
    assert_eq!(world.request(&watcher, 3).holder(20, 30).await.kind, LkType::Write);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_for_a_client_that_has_ended_until_it_attaches_again() {
    let world = World::new(&[]);
    let one = world.client();
    world.end(&one);
    assert_eq!(world.request(&one, 1).take(0, 10).await, Err(Errno::ENOTCONN));
    assert_eq!(world.locks.status()["locks"], 0);
    world.attach(&one, 2, None);
    assert_eq!(world.request(&one, 1).take(0, 10).await, Ok(()));
}

/// A wait whose client had been away for too long was answered `EBADF`. When the client came back just then and asked again,
/// its call was that very one, and the application got an error for a file that was open.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_lost_its_place_while_its_client_was_away_begins_again_when_it_is_back() {
    let world = World::new(&[]);
    let (one, other, third) = (world.client(), world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waiting = world.request(&other, 2).wait(0, 10).await;
    world.detach(&other);
    while world.locks.status()["waiting"] != 0 {
        tokio::time::sleep(PROTECTED / 10).await;
    }
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(world.request(&third, 3).take(0, 10).await, Ok(()), "nothing waits for who is away");
    assert!(!waiting.is_finished());
    world.attach(&other, 2, None);
    while world.locks.status()["waiting"] != 1 {
        tokio::task::yield_now().await;
    }
    world.request(&third, 3).unlock(0, 10).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
    let ends = world.request(&one, 1).wait(0, 10).await;
    world.detach(&one);
    while world.locks.status()["waiting"] != 0 {
        tokio::time::sleep(PROTECTED / 10).await;
    }
    world.end(&one);
    assert_eq!(ends.await.unwrap(), Err(Errno::ENOTCONN));
}
