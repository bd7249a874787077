//! What a restart leaves as it was.

use brickwork_api::locks::Verdict;
use brickwork_api::{Errno, LkType};

use crate::world::{World, claim};

#[tokio::test(flavor = "multi_thread")]
async fn locks_are_as_before_after_the_process_was_killed_and_nobody_takes_one_in_between() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 100).await.unwrap();
    world.request(&one, 1).unlock(40, 60).await.unwrap();
    world.kill().await;
    let late = world.client();
    assert_eq!(world.request(&late, 9).take(10, 20).await, Err(Errno::EAGAIN));
    assert_eq!(world.request(&late, 9).take(45, 55).await, Ok(()));
    world.attach(&one, 2, None);
    let verdicts = world.claim(&one, &[claim(1, &[(LkType::Write, 0, 40), (LkType::Write, 60, 100)])]).await;
    assert_eq!(verdicts, [Verdict::Held]);
    world.attach(&other, 2, None);
    assert_eq!(world.request(&other, 1).take(0, 1).await, Err(Errno::EAGAIN), "the same owner in another client");
}

#[tokio::test(flavor = "multi_thread")]
async fn waiters_that_ask_again_after_a_kill_are_granted_in_the_order_in_which_they_came() {
    let mut world = World::new(&[]);
    let (holder, one, other) = (world.client(), world.client(), world.client());
    world.request(&holder, 1).take(0, 10).await.unwrap();
    let (mut first, mut second) = (world.request(&one, 2), world.request(&other, 3));
    let before = [first.wait(0, 10).await, second.wait(0, 10).await];
    world.kill().await;
    before.into_iter().for_each(|wait| wait.abort());
    [&holder, &one, &other].into_iter().for_each(|client| world.attach(client, 2, None));
    // The later one is back sooner.
    (first.locks, second.locks) = (world.locks.clone(), world.locks.clone());
    let second = second.wait_again(0, 10).await;
    let first = first.wait_again(0, 10).await;
    world.request(&holder, 1).unlock(0, 10).await.unwrap();
    assert_eq!(first.await.unwrap(), Ok(()));
    assert!(!second.is_finished());
    world.request(&one, 2).unlock(0, 10).await.unwrap();
    assert_eq!(second.await.unwrap(), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_process_kept_in_memory_only_does_not_come_back() {
    let mut world = World::new(&[("lock-journal", "memory")]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.end(&one);
    world.restart().await;
    let other = world.client();
    assert_eq!(world.request(&other, 2).take(0, 10).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_journal_on_the_disk_it_is_the_same() {
    let mut world = World::new(&[("lock-journal", "disk")]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    let waiter = world.request(&one, 2).wait(0, 10).await;
    world.request(&one, 1).unlock(0, 10).await.unwrap();
    assert_eq!(waiter.await.unwrap(), Ok(()));
    world.kill().await;
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(2, &[(LkType::Write, 0, 10)])]).await, [Verdict::Held]);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Lost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_in_good_order_keeps_what_a_snapshot_has() {
    let mut world = World::new(&[]);
    let one = world.client();
    for number in 0..100 {
        world.request(&one, 1).take(number * 10, number * 10 + 5).await.unwrap();
    }
    for _ in 0..3 {
        world.restart().await;
    }
    world.attach(&one, 2, None);
    let ranges: Vec<_> = (0..100).map(|number| (LkType::Write, number * 10, number * 10 + 5)).collect();
    assert_eq!(world.claim(&one, &[claim(1, &ranges)]).await, [Verdict::Held]);
}

/// Locks of a client of the brick's own process end with it, and its id was noted as one that is gone: a client with that id
/// in the next process, an xlator's own `ClientId(0)` for one, was refused every lock.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_process_itself_ends_with_it_and_may_come_again_in_the_next() {
    let mut world = World::new(&[]);
    let own = world.local_client();
    world.request(&own, 1).take(0, 10).await.unwrap();
    world.kill().await;
    assert_eq!(world.locks.status()["locks"], 0);
    assert_eq!(world.request(&own, 1).take(0, 10).await, Ok(()));
}
