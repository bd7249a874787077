//! The registry, the table and the waits, alone and together.

mod model;
mod table;

use std::sync::Arc;
use std::time::Duration;

use brickwork_api::xdata::UNCACHED;
use brickwork_api::*;
use brickwork_testkit::samples::{self, DIRECTORY, FILE, OTHER};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::*;

const A: SessionKey = SessionKey(1);
const B: SessionKey = SessionKey(2);
const C: SessionKey = SessionKey(3);
const TIMEOUT: Duration = Duration::from_secs(20);

fn caches(clients_max: usize, inodes_max: usize) -> Caches {
    Caches::new(Limits { clients_max, inodes_max })
}

fn plenty() -> Caches {
    caches(64, 1_000_000)
}

/// What was sent, and how far each session can be reached.
#[derive(Default)]
struct Post {
    sent: Mutex<Vec<Notice>>,
    reach: Mutex<Vec<(SessionKey, Reach)>>,
}

impl Tell for Post {
    fn tell(&self, notice: &Notice) -> Reach {
        self.sent.lock().push(*notice);
        let reach = self.reach.lock();
        reach.iter().find(|(session, _)| *session == notice.session).map_or(Reach::Sent, |(_, reach)| *reach)
    }
}

impl Post {
    fn take(&self) -> Vec<Notice> {
        std::mem::take(&mut self.sent.lock())
    }

    /// The one notice that was sent.
    fn one(&self) -> Notice {
        let sent = self.take();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent[0]
    }
}

fn stat(gfid: Gfid) -> (StatReq, FopResult<StatReply>) {
    let request = StatReq { target: gfid.into(), xdata: Xdata::EMPTY };
    (request, Ok(StatReply { attr: samples::attr(gfid), xdata: Xdata::EMPTY }))
}

/// `session` is told of `gfid`; whether it may keep it.
fn tell(caches: &Caches, post: &Post, session: SessionKey, gfid: Gfid) -> bool {
    tell_since(caches, post, session, gfid, caches.now())
}

fn tell_since(caches: &Caches, post: &Post, session: SessionKey, gfid: Gfid, since: Moment) -> bool {
    let (request, mut outcome) = stat(gfid);
    let after = caches.after::<fop::Stat>(session, since, &request, &mut outcome, post);
    assert!(after.change.is_none());
    outcome.unwrap().xdata.get(&UNCACHED) != Ok(Some(true))
}

fn tell_names(caches: &Caches, post: &Post, session: SessionKey, directory: Gfid) {
    let name = Name::new(b"x").unwrap();
    let target = Locate::Entry(Entry { parent: directory, name });
    let mut outcome = Err(Errno::ENOENT.into());
    let request = LookupReq { target, xdata: Xdata::EMPTY };
    let after = caches.after::<fop::Lookup>(session, caches.now(), &request, &mut outcome, post);
    assert!(after.change.is_none() && after.aside.is_none());
}

/// `session` changes the attributes of `gfid`.
fn change(caches: &Caches, post: &Post, session: SessionKey, gfid: Gfid) -> Option<Waiting> {
    let request = SetattrReq { target: gfid.into(), change: AttrChange::default(), xdata: Xdata::EMPTY };
    let mut outcome = Ok(SetattrReply { attr: samples::attr(gfid), xdata: Xdata::EMPTY });
    caches.after::<fop::Setattr>(session, caches.now(), &request, &mut outcome, post).change
}

/// `session` makes a name in `directory`.
fn change_names(caches: &Caches, post: &Post, session: SessionKey, directory: Gfid) -> Option<Waiting> {
    let Fop::Mkdir(mut request) = samples::request(FopKind::Mkdir) else { unreachable!() };
    request.entry.parent = directory;
    let Reply::Mkdir(reply) = samples::reply(FopKind::Mkdir) else { unreachable!() };
    caches.after::<fop::Mkdir>(session, caches.now(), &request, &mut Ok(reply), post).change
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Waits as a reply does; which sessions were silent, and how long it took.
fn wait(waiting: Option<Waiting>, until: Option<Duration>) -> (Vec<SessionKey>, Duration) {
    runtime().block_on(async {
        let (begun, mut silent) = (Instant::now(), Vec::new());
        let detach = |session| {
            silent.push(session);
            until.map(|until| begun + until)
        };
        waiting.expect("somebody has to be told").all(TIMEOUT, detach).await;
        (silent, begun.elapsed())
    })
}

#[test]
fn a_change_tells_those_who_were_told_and_nobody_else() {
    let (caches, post) = (plenty(), Post::default());
    for session in [A, B] {
        assert!(tell(&caches, &post, session, FILE));
    }
    assert!(tell(&caches, &post, C, OTHER));
    let waiting = change(&caches, &post, A, FILE);
    let notice = post.one();
    assert_eq!((notice.session, notice.gfid, notice.names), (B, FILE, false));
    caches.acknowledged(B, notice.id);
    assert_eq!(wait(waiting, None), (vec![], Duration::ZERO));
    assert!(change(&caches, &post, A, FILE).is_none(), "B keeps nothing any more");
    assert!(change(&caches, &post, B, FILE).is_some(), "A still keeps it");
}

#[test]
fn a_change_waits_also_for_what_an_earlier_change_demanded() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    let first = change(&caches, &post, B, FILE);
    let notice = post.one();
    let second = change(&caches, &post, C, FILE);
    assert!(first.is_some() && second.is_some());
    // B changed it too, and keeps it.
    assert!(post.take().iter().all(|notice| notice.session == B), "A was told already");
    caches.drop_session(B);
    caches.acknowledged(A, notice.id);
    assert_eq!(wait(second, None), (vec![], Duration::ZERO));
    assert_eq!(caches.counts(), (1, 0));
}

#[test]
fn one_that_keeps_it_again_before_it_acknowledged_is_told_again() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    let first = change(&caches, &post, B, FILE);
    let earlier = post.one();
    assert!(tell(&caches, &post, A, FILE));
    caches.forgotten(B, &[FILE]);
    let second = change(&caches, &post, C, FILE);
    let later = post.one();
    assert_ne!(earlier.id, later.id);
    caches.acknowledged(A, earlier.id);
    wait(first, None);
    assert_eq!(wait(second, None).0, [A], "the later notice is open");
}

#[test]
fn names_are_told_to_those_who_know_names() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, DIRECTORY);
    tell_names(&caches, &post, B, DIRECTORY);
    assert!(change_names(&caches, &post, C, DIRECTORY).is_some());
    let mut told: Vec<_> = post.take().iter().map(|notice| (notice.session, notice.names)).collect();
    told.sort_unstable();
    assert_eq!(told, [(A, false), (B, true)], "A knows the directory, not what is in it");
    tell_names(&caches, &post, A, DIRECTORY);
    assert!(change(&caches, &post, B, DIRECTORY).is_some(), "C still keeps the directory it changed");
}

#[test]
fn attributes_that_change_leave_names_known() {
    let (caches, post) = (plenty(), Post::default());
    tell_names(&caches, &post, A, DIRECTORY);
    assert!(change(&caches, &post, B, DIRECTORY).is_none());
    assert!(change_names(&caches, &post, B, DIRECTORY).is_some());
    assert!(post.one().names);
}

#[test]
fn an_answer_from_before_a_change_may_not_be_kept() {
    let (caches, post) = (plenty(), Post::default());
    let before = caches.now();
    assert!(change(&caches, &post, B, FILE).is_none());
    assert!(!tell_since(&caches, &post, A, FILE, before));
    assert!(tell_since(&caches, &post, B, FILE, before), "its own change it knows of");
    assert!(tell(&caches, &post, A, FILE), "an answer from after the change may");
}

#[test]
fn an_own_change_does_not_hide_the_change_of_another_before_it() {
    let (caches, post) = (plenty(), Post::default());
    let before = caches.now();
    change(&caches, &post, B, FILE);
    change(&caches, &post, A, FILE);
    change(&caches, &post, A, FILE);
    assert!(!tell_since(&caches, &post, A, FILE, before));
}

#[test]
fn one_client_more_than_the_limit_may_keep_nothing_until_another_goes() {
    let (caches, post) = (caches(2, 1000), Post::default());
    assert!(tell(&caches, &post, A, FILE) && tell(&caches, &post, B, FILE));
    assert!(!tell(&caches, &post, C, FILE));
    assert!(tell(&caches, &post, A, FILE), "those who are in stay in");
    caches.forgotten(B, &[FILE]);
    assert!(tell(&caches, &post, C, FILE));
    change(&caches, &post, A, FILE);
    assert_eq!(post.one().session, C);
}

#[test]
fn objects_beyond_the_limit_push_old_ones_out_which_are_told() {
    let (caches, post) = (caches(4, 6400), Post::default());
    let mut kept = std::collections::HashSet::new();
    for number in 0..50_000_u64 {
        let gfid = Gfid::from_bytes((u128::from(number) << 64 | 7).to_be_bytes());
        if tell(&caches, &post, A, gfid) {
            kept.insert(gfid);
        }
        for notice in post.take() {
            assert!(kept.remove(&notice.gfid), "told of what it does not keep");
            assert!(!notice.names && notice.session == A);
            caches.acknowledged(A, notice.id);
        }
        assert!(caches.counts().0 <= 6400);
    }
    assert_eq!(caches.counts(), (kept.len(), 0));
    assert!(kept.len() > 5000, "{} of 6,400 places are used", kept.len());
    for gfid in kept {
        assert!(change(&caches, &post, B, gfid).is_some());
    }
}

#[test]
fn while_nobody_gives_anything_back_newcomers_are_refused_and_the_bound_holds() {
    let (caches, post) = (caches(4, 640), Post::default());
    let told = (0..10_000_u64)
        .filter(|number| tell(&caches, &post, A, Gfid::from_bytes((u128::from(*number) << 64 | 7).to_be_bytes())))
        .count();
    assert_eq!(caches.counts().0, told);
    assert!(told <= 640);
    caches.drop_session(A);
    assert_eq!(caches.counts(), (0, 0));
}

#[test]
fn a_silent_session_is_named_once_it_is_late_and_waited_for_until_its_caches_count_no_more() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    let waiting = change(&caches, &post, B, FILE);
    assert_eq!(wait(waiting, None), (vec![A], TIMEOUT));
    tell(&caches, &post, A, FILE);
    let waiting = change(&caches, &post, B, FILE);
    // Asked again at its end: it could be back.
    assert_eq!(wait(waiting, Some(TIMEOUT * 3 / 2)), (vec![A, A], TIMEOUT * 3 / 2));
    assert_eq!(caches.counts(), (1, 0));
}

#[test]
fn a_detached_session_is_waited_for_until_its_caches_count_no_more() {
    let (caches, post) = (Arc::new(plenty()), Post::default());
    tell(&caches, &post, A, FILE);
    runtime().block_on(async {
        let until = Instant::now() + Duration::from_secs(7);
        post.reach.lock().push((A, Reach::Detached(until)));
        let waits = [change(&caches, &post, B, FILE), change(&caches, &post, C, FILE)];
        for waiting in waits.into_iter().flatten() {
            // C's change finds B too, which answers.
            for notice in post.take().iter().filter(|notice| notice.session == B) {
                caches.acknowledged(B, notice.id);
            }
            let still_away = |session| {
                assert_eq!((session, Instant::now()), (A, until));
                Some(until)
            };
            waiting.all(TIMEOUT, still_away).await;
            assert_eq!(Instant::now(), until);
        }
    });
    post.reach.lock().clear();
    post.reach.lock().push((A, Reach::Gone));
    tell(&caches, &post, A, FILE);
    caches.drop_session(C);
    assert!(change(&caches, &post, B, FILE).is_none());
}

#[test]
fn a_session_that_comes_back_is_told_again_and_waited_for_as_one_that_was_never_away() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    tell(&caches, &post, A, OTHER);
    runtime().block_on(async {
        let second = Duration::from_secs(1);
        let begun = Instant::now();
        post.reach.lock().push((A, Reach::Detached(begun + 2 * second)));
        let (file, other) = (change(&caches, &post, B, FILE), change(&caches, &post, B, OTHER));
        let lost = post.take();
        tokio::time::sleep(second).await;
        post.reach.lock().clear();
        caches.tell_again(A, TIMEOUT, &post);
        let mut again = post.take();
        again.sort_by_key(|notice| notice.id);
        assert_eq!(again, lost, "the same notices, under the same ids");
        let acknowledges = async {
            tokio::time::sleep(5 * second).await;
            caches.acknowledged(A, again[0].id);
        };
        let silent = |session| panic!("{session:?} is silent");
        tokio::join!(file.unwrap().all(TIMEOUT, silent), acknowledges);
        assert_eq!(begun.elapsed(), 6 * second, "not ended when it would have been, had it stayed away");
        // It does not acknowledge the other: cut off when it has had its time since it came back.
        let cut_off = |session| {
            assert_eq!(session, A);
            None
        };
        other.unwrap().all(TIMEOUT, cut_off).await;
        assert_eq!(begun.elapsed(), second + TIMEOUT);
    });
}

#[test]
fn an_acknowledgement_of_another_session_or_of_nothing_is_ignored() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    let waiting = change(&caches, &post, B, FILE);
    let notice = post.one();
    caches.acknowledged(C, notice.id);
    caches.acknowledged(A, NoticeId::MAX);
    assert_eq!(wait(waiting, None).0, [A]);
    caches.acknowledged(A, notice.id);
    assert_eq!(caches.counts(), (1, 0));
}

#[test]
fn a_session_that_ends_is_waited_for_no_longer() {
    let (caches, post) = (plenty(), Post::default());
    tell(&caches, &post, A, FILE);
    tell(&caches, &post, A, OTHER);
    let waiting = change(&caches, &post, B, FILE);
    caches.drop_session(A);
    assert_eq!(wait(waiting, None), (vec![], Duration::ZERO));
    assert!(change(&caches, &post, B, OTHER).is_none());
}

#[test]
fn a_negative_answer_that_may_not_be_kept_says_so() {
    let (caches, post) = (caches(1, 1000), Post::default());
    tell_names(&caches, &post, A, DIRECTORY);
    let target = Locate::Entry(Entry { parent: DIRECTORY, name: Name::new(b"x").unwrap() });
    let mut outcome = Err(FopError::new(Errno::ENOENT).doing("looking"));
    let request = LookupReq { target, xdata: Xdata::EMPTY };
    let _ = caches.after::<fop::Lookup>(B, caches.now(), &request, &mut outcome, &post);
    let error = outcome.unwrap_err();
    assert_eq!(error.xdata().get(&UNCACHED), Ok(Some(true)));
    assert_eq!(error.to_string(), "looking: ENOENT");
}

#[test]
fn a_known_session_is_noted_in_well_under_a_microsecond() {
    let (caches, post) = (plenty(), Post::default());
    let rounds = 100_000_u32;
    let gfids: Vec<Gfid> = (0..1000).map(|_| Gfid::random()).collect();
    gfids.iter().for_each(|gfid| assert!(tell(&caches, &post, A, *gfid)));
    let begun = std::time::Instant::now();
    for round in 0..rounds as usize {
        let since = caches.now();
        let (request, mut outcome) = stat(gfids[round % gfids.len()]);
        let _ = caches.after::<fop::Stat>(A, since, &request, &mut outcome, &post);
    }
    // Printed, not judged: the machine may be busy.
    println!("{} ns for each fop, its making included", begun.elapsed().as_nanos() / u128::from(rounds));
    assert_eq!(caches.counts(), (1000, 0));
}
