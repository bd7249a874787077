//! Calls whose answers were lost on the way.

use brickwork_api::locks::{GIVEN_UP, GivenUp};
use brickwork_api::{Errno, LkCommand, LkType};
use brickwork_codec::encode;

use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_is_asked_again_does_not_release_what_was_taken_since() {
    let mut world = World::new(&[]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    let mut release = world.request(&one, 1);
    release.unlock(0, 10).await.unwrap();
    world.request(&one, 1).take(0, 10).await.unwrap();
    release.unlock(0, 10).await.unwrap();
    assert_eq!(world.request(&one, 2).take(0, 10).await, Err(Errno::EAGAIN));
    world.kill().await;
    world.attach(&one, 2, None);
    release.locks = world.locks.clone();
    release.unlock(0, 10).await.unwrap();
    assert_eq!(world.request(&one, 2).take(0, 10).await, Err(Errno::EAGAIN), "after a restart too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_that_was_never_answered_is_taken_back_when_its_call_is_given_up() {
    let world = World::new(&[]);
    let one = world.client();
    world.request(&one, 1).lk(LkCommand::Set, LkType::Read, 0, 10).await.unwrap();
    let upgrade = world.request(&one, 1);
    upgrade.wait(0, 10).await.await.unwrap().unwrap();
    let given_up = GivenUp { slot: upgrade.cx.request.slot, sequence: upgrade.cx.request.sequence };
    world.ask_now(&one, GIVEN_UP, encode(&given_up));
    assert_eq!(world.request(&one, 2).holder(0, 10).await.kind, LkType::Read, "as it was before the call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_waiter_of_before_a_restart_whose_call_is_given_up_leaves_no_trace() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waits = world.request(&other, 2);
    waits.wait(0, 10).await.abort();
    world.kill().await;
    [&one, &other].into_iter().for_each(|client| world.attach(client, 2, None));
    let given_up = GivenUp { slot: waits.cx.request.slot, sequence: waits.cx.request.sequence };
    world.ask_now(&other, GIVEN_UP, encode(&given_up));
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(world.locks.status()["locks"], 0);
    assert_eq!(world.locks.status()["waiting"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_wait_answers_eintr_and_leaves_nothing_behind() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waits = world.request(&other, 2);
    let waiting = waits.wait(0, 10).await;
    let behind = world.request(&one, 3).wait(5, 6).await;
    waits.cx.cancel.cancel();
    assert_eq!(waiting.await.unwrap(), Err(Errno::EINTR));
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(behind.await.unwrap(), Ok(()));
    assert_eq!(world.locks.status()["locks"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_would_never_end_is_refused() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&other, 2).take(20, 30).await.unwrap();
    let waiting = world.request(&one, 1).wait(20, 30).await;
    assert_eq!(world.request(&other, 2).wait(0, 10).await.await.unwrap(), Err(Errno::EDEADLK));
    world.request(&other, 2).unlock(20, 30).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

/// A lock of an owner was cut in two by what its own waiter was granted; both were counted as one, and after their release the
/// owner counted for less than it held. It then was taken for somebody whom nobody can wait for, and a deadlock stood for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_deadlock_of_an_owner_whose_wait_split_its_own_lock_before_is_found() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).lk(LkCommand::Set, LkType::Read, 0, 100).await.unwrap();
    world.request(&other, 2).lk(LkCommand::Set, LkType::Read, 40, 60).await.unwrap();
    let upgrade = world.request(&one, 1).wait(40, 60).await;
    world.request(&other, 2).unlock(40, 60).await.unwrap();
    upgrade.await.unwrap().unwrap();
    world.request(&one, 1).unlock(0, 100).await.unwrap();
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&other, 2).take(20, 30).await.unwrap();
    let waiting = world.request(&other, 2).wait(0, 10).await;
    assert_eq!(world.request(&one, 1).wait(20, 30).await.await.unwrap(), Err(Errno::EDEADLK));
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

/// A call that waited was asked again when `waiters-max` was reached, by itself. It was refused, and its waiter was granted a
/// lock later of which nobody knew.
#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_asked_again_at_the_limit_keeps_its_place() {
    let mut world = World::new(&[("waiters-max", "1")]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    let mut waits = world.request(&other, 2);
    waits.wait(0, 10).await.abort();
    world.kill().await;
    [&one, &other].into_iter().for_each(|client| world.attach(client, 2, None));
    waits.locks = world.locks.clone();
    let again = waits.wait_again(0, 10).await;
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(again.await.unwrap(), Ok(()));
    assert_eq!(world.locks.status()["waiting"], 0);
}

/// An upgrade was granted, its answer lost, and its call given up. Its range was released before what its owner had held was
/// taken again: whoever waited got it, and the owner had lost a lock that nobody may take from it.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_owner_held_before_a_call_that_is_given_up_is_free_for_nobody_in_between() {
    let world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).lk(LkCommand::Set, LkType::Read, 0, 10).await.unwrap();
    let upgrade = world.request(&one, 1);
    upgrade.wait(0, 20).await.await.unwrap().unwrap();
    let behind = world.request(&other, 2).wait(0, 5).await;
    let beside = world.request(&other, 3).wait(10, 20).await;
    let given_up = GivenUp { slot: upgrade.cx.request.slot, sequence: upgrade.cx.request.sequence };
    world.ask_now(&one, GIVEN_UP, encode(&given_up));
    assert_eq!(beside.await.unwrap(), Ok(()), "what it had not held is free");
    assert!(!behind.is_finished());
    assert_eq!(world.request(&other, 2).holder(0, 10).await.kind, LkType::Read);
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(behind.await.unwrap(), Ok(()));
}

/// What another thread of the owner had released came back with an older call that was given up afterwards, and nobody knew
/// that it had to be released again.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_released_since_does_not_come_back_with_a_call_that_is_given_up() {
    let world = World::new(&[]);
    let one = world.client();
    world.request(&one, 1).lk(LkCommand::Set, LkType::Read, 0, 10).await.unwrap();
    let upgrade = world.request(&one, 1);
    upgrade.wait(0, 10).await.await.unwrap().unwrap();
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    let given_up = GivenUp { slot: upgrade.cx.request.slot, sequence: upgrade.cx.request.sequence };
    world.ask_now(&one, GIVEN_UP, encode(&given_up));
    assert_eq!(world.locks.status()["locks"], 0);
}
