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
