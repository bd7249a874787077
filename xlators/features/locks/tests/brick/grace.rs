//! A start without a good journal.

use brickwork_api::locks::Verdict;
use brickwork_api::{Errno, LkType};

use crate::world::{PROTECTED, World, claim};

#[tokio::test(flavor = "multi_thread")]
async fn without_its_journal_a_brick_waits_for_the_claims_of_those_who_held_locks() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.request(&other, 2).take(20, 30).await.unwrap();
    world.lose_the_journal().await;
    let newcomer = world.client();
    let wants = world.request(&newcomer, 9);
    let waiting = tokio::spawn(async move { wants.take(0, 10).await });
    let stranger = world.client();
    let stranger = world.claim(&stranger, &[claim(9, &[(LkType::Write, 100, 110)])]).await;
    assert_eq!(stranger, [Verdict::Lost], "it is not on the record");
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Held]);
    assert!(!waiting.is_finished(), "one is still missing");
    world.attach(&other, 2, None);
    assert_eq!(
        world.claim(&other, &[claim(2, &[(LkType::Write, 5, 30)])]).await,
        [Verdict::Lost],
        "a part is another's"
    );
    assert_eq!(waiting.await.unwrap(), Err(Errno::EAGAIN), "the grace is over, and the lock is its owner's");
    assert_eq!(world.locks.status()["in_grace"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grace_ends_by_time_and_who_comes_later_has_lost() {
    let mut world = World::new(&[("grace-timeout", "1s")]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.lose_the_journal().await;
    let newcomer = world.client();
    assert_eq!(world.request(&newcomer, 9).take(0, 10).await, Ok(()));
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Lost]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_is_no_journal() {
    let mut world = World::new(&[]);
    let one = world.client();
    for number in 0..1_000 {
        world.request(&one, 1).take(number * 10, number * 10 + 5).await.unwrap();
    }
    world.locks.stop().await;
    for entry in std::fs::read_dir(world.journal()).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        if bytes.len() > 50_000 {
            bytes[40_000] ^= 1;
            std::fs::write(&path, bytes).unwrap();
        }
    }
    world.restart().await;
    assert_eq!(world.locks.status()["in_grace"], true);
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 9_990, 9_995)])]).await, [Verdict::Held]);
    assert_eq!(world.locks.status()["in_grace"], false);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_whose_clients_held_nothing_needs_no_grace() {
    let mut world = World::new(&[]);
    let one = world.client();
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.end(&one);
    world.lose_the_journal().await;
    assert_eq!(world.locks.status()["in_grace"], false);
}

/// A client lost its lock by expiry, somebody else took it, and then the journal was lost: whoever claimed first got it, and
/// that could be the one who had lost it. The record of clients, which is on the disk, now says from whom something was taken.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_from_whom_a_lock_was_taken_does_not_get_it_back_in_a_grace() {
    let mut world = World::new(&[]);
    let (one, other) = (world.client(), world.client());
    world.request(&one, 1).take(0, 10).await.unwrap();
    world.detach(&one);
    tokio::time::sleep(PROTECTED).await;
    world.request(&other, 2).take(0, 10).await.unwrap();
    world.lose_the_journal().await;
    world.attach(&one, 2, None);
    assert_eq!(world.claim(&one, &[claim(1, &[(LkType::Write, 0, 10)])]).await, [Verdict::Lost]);
    world.attach(&other, 2, None);
    assert_eq!(world.claim(&other, &[claim(2, &[(LkType::Write, 0, 10)])]).await, [Verdict::Held]);
}
