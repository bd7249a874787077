//! Squashing, and groups of this machine's users.

use super::*;
use brickwork_api::BoxFuture;
use brickwork_api::host::Job;
use brickwork_testkit::{TestHost, block_on, poll_once};
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

const OFF: Squash = Squash { root: false, all: false, uid: 65_534, gid: 65_533 };

fn said(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
    Credentials { uid, gid, pid: 42, groups: groups.into() }
}

#[test]
fn without_squashing_everyone_acts_as_themselves() {
    let anna = said(1000, 100, &[100, 0, 27]);
    assert_eq!(squash(anna.clone(), &OFF), anna);
    assert_eq!(squash(said(0, 0, &[]), &OFF), said(0, 0, &[]));
}

#[test]
fn root_squash_squashes_the_user_and_the_group_of_root_wherever_they_stand() {
    let rules = Squash { root: true, ..OFF };
    assert_eq!(squash(said(0, 0, &[]), &rules), said(65_534, 65_533, &[]));
    assert_eq!(squash(said(1000, 0, &[5, 0, 6]), &rules), said(1000, 65_533, &[5, 65_533, 6]));
    assert_eq!(squash(said(0, 100, &[5]), &rules), said(65_534, 100, &[5]));
    assert_eq!(squash(said(1000, 100, &[5]), &rules), said(1000, 100, &[5]));
}

#[test]
fn all_squash_leaves_nobody_anything_of_their_own() {
    let rules = Squash { all: true, ..OFF };
    for user in [said(0, 0, &[]), said(1000, 100, &[4, 5])] {
        assert_eq!(squash(user, &rules), said(65_534, 65_533, &[]));
    }
}

#[test]
fn root_has_no_supplementary_groups_also_when_a_client_says_so() {
    assert_eq!(squash(said(0, 0, &[4, 5]), &OFF), said(0, 0, &[]));
    let to_root = Squash { all: false, root: true, uid: 0, gid: 0 };
    assert_eq!(squash(said(0, 0, &[4, 5]), &to_root), said(0, 0, &[]));
}

#[test]
fn a_thousand_groups_come_through_and_so_does_the_most_there_can_be() {
    for count in [94, 1_000, Credentials::GROUPS_MAX as u32] {
        let groups: Vec<u32> = (1..=count).collect();
        let user = said(1000, 100, &groups);
        assert_eq!(squash(user.clone(), &Squash { root: true, ..OFF }), user);
    }
}

#[test]
fn groups_that_need_no_change_are_not_copied() {
    let user = said(1000, 100, &[4, 5]);
    assert!(Arc::ptr_eq(&squash(user.clone(), &Squash { root: true, ..OFF }).groups, &user.groups));
}

fn managed(rules: Squash, database: Database) -> Identities {
    Identities { squash: rules, managed: Some(Managed::new(database, Duration::from_secs(300))) }
}

/// One where user N has the groups N to N + 999, and how often it was asked.
fn thousand() -> (Database, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let database = Database::of(move |uid| {
        count.fetch_add(1, Ordering::Relaxed);
        Ok((uid..uid + 1_000).collect())
    });
    (database, asked)
}

fn act(identities: &Identities, user: Credentials) -> FopResult<Credentials> {
    block_on(identities.of(&*TestHost::new(), user))
}

#[test]
fn managed_groups_are_those_of_this_machine_and_looked_up_once() {
    let (database, asked) = thousand();
    let identities = managed(OFF, database);
    let own: Vec<u32> = (1000..2000).collect();
    for _ in 0..3 {
        assert_eq!(act(&identities, said(1000, 100, &[4])).unwrap(), said(1000, 100, &own));
    }
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    let host = TestHost::new();
    let remembered = identities.of(&*host, said(1000, 7, &[]));
    assert_eq!(poll_once(pin!(remembered)).map(Result::unwrap), Poll::Ready(said(1000, 7, &own)));
}

#[test]
fn the_groups_of_someone_squashed_are_nobodys() {
    let (database, _) = thousand();
    let identities = managed(Squash { root: true, ..OFF }, database);
    let own: Vec<u32> = (65_534..66_534).collect();
    assert_eq!(act(&identities, said(0, 0, &[4])).unwrap(), said(65_534, 65_533, &own));
}

#[test]
fn root_is_not_looked_up() {
    let (database, asked) = thousand();
    let identities = managed(OFF, database);
    assert_eq!(act(&identities, said(0, 0, &[4])).unwrap(), said(0, 0, &[]));
    assert_eq!(asked.load(Ordering::Relaxed), 0);
}

#[test]
fn the_number_that_stands_for_nobody_is_refused_unless_it_is_squashed() {
    let plain = Identities { squash: OFF, managed: None };
    for user in [said(u32::MAX, 100, &[]), said(1000, u32::MAX, &[])] {
        assert_eq!(act(&plain, user).unwrap_err().errno(), Errno::EINVAL);
    }
    let squashing = Identities { squash: Squash { all: true, ..OFF }, managed: None };
    assert_eq!(act(&squashing, said(u32::MAX, u32::MAX, &[])).unwrap(), said(65_534, 65_533, &[]));
}

#[test]
fn a_database_that_does_not_answer_fails_the_request_and_is_asked_again_by_the_next() {
    let asked = AtomicUsize::new(0);
    let identities = managed(
        OFF,
        Database::of(move |_| match asked.fetch_add(1, Ordering::Relaxed) {
            0 => Err(io::Error::from(io::ErrorKind::TimedOut)),
            _ => Ok(vec![7]),
        }),
    );
    assert_eq!(act(&identities, said(1000, 100, &[4])).unwrap_err().errno(), Errno::EIO);
    assert_eq!(act(&identities, said(1000, 100, &[4])).unwrap(), said(1000, 100, &[7]));
}

/// A pool without a limit: what keeps lookups few is not the pool.
#[derive(Debug)]
struct ThreadEach;

impl Host for ThreadEach {
    fn run_blocking(&self, job: Job) {
        std::thread::spawn(job);
    }

    fn spawn(&self, _task: BoxFuture<'static, ()>) {
        unreachable!("a lookup starts no task");
    }
}

#[tokio::test]
async fn a_crowd_of_one_user_asks_a_few_times_and_never_more_than_a_few_at_once() {
    #[derive(Default)]
    struct Counts {
        under_way: AtomicUsize,
        most: AtomicUsize,
        asked: AtomicUsize,
    }
    let counts = Arc::new(Counts::default());
    let counting = counts.clone();
    let identities = Arc::new(managed(
        OFF,
        Database::of(move |uid| {
            let now = counting.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            counting.most.fetch_max(now, Ordering::SeqCst);
            counting.asked.fetch_add(1, Ordering::SeqCst);
            std::thread::yield_now();
            counting.under_way.fetch_sub(1, Ordering::SeqCst);
            Ok(vec![uid])
        }),
    ));
    let crowd: Vec<_> = (0..200)
        .map(|_| {
            let identities = identities.clone();
            tokio::spawn(async move { identities.of(&ThreadEach, said(1000, 100, &[])).await.unwrap() })
        })
        .collect();
    for one in crowd {
        assert_eq!(one.await.unwrap(), said(1000, 100, &[1000]));
    }
    let asked = counts.asked.load(Ordering::SeqCst);
    assert!((1..=LOOKUPS_MAX).contains(&asked), "{asked}");
    assert!(counts.most.load(Ordering::SeqCst) <= LOOKUPS_MAX);
}
