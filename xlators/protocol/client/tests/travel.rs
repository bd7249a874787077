//! What becomes of requests, against a brick whose every word is the test's.

mod peer;

use std::sync::Arc;

use brickwork_api::xdata::{INVALIDATES, REOPEN};
use brickwork_api::*;
use brickwork_testkit::{cx, samples};
use brickwork_wire::connection::decode;
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::GivenUp;
use bytes::Bytes;

use peer::{Door, Peer, Subject, attached, mkdir, numbered, soon, stat};

/// A client that is attached, as session 1 of a brick in its fifth life.
async fn attached_subject(options: &[(&str, &str)]) -> (Door, Peer, Subject, Cx) {
    let door = Door::open().await;
    let mut subject = Subject::at(&door, options);
    let mut peer = door.admit(5).await;
    assert_eq!(subject.event().await, Event::ChildUp);
    let cx = cx();
    let begun = subject.begin::<fop::Stat>(&numbered(&cx, 0, 1), stat());
    let call = peer.attach(attached(1, false)).await;
    assert_eq!(call.client, cx.client());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    begun.await.unwrap().unwrap();
    (door, peer, subject, cx)
}

fn sample_stat() -> StatReply {
    let Reply::Stat(reply) = samples::reply(FopKind::Stat) else { panic!("no stat") };
    reply
}

fn sample_mkdir() -> MkdirReply {
    let Reply::Mkdir(reply) = samples::reply(FopKind::Mkdir) else { panic!("no mkdir") };
    reply
}

const FILE: OpenFile = OpenFile { gfid: samples::FILE, open: OpenId(11) };

fn open_request() -> OpenReq {
    let flags = (libc_flags::O_RDWR | libc_flags::O_TRUNC | libc_flags::O_APPEND) as u32;
    OpenReq { file: FILE, flags, kill_set_id: true, xdata: Xdata::EMPTY }
}

/// `O_*` of Linux, as they travel.
mod libc_flags {
    pub const O_RDWR: i32 = 2;
    pub const O_TRUNC: i32 = 0o1000;
    pub const O_APPEND: i32 = 0o2000;
}

async fn opened(peer: &mut Peer, subject: &Subject, cx: &Cx) {
    let opening = subject.begin::<fop::Open>(&numbered(cx, 1, 1), open_request());
    let (to, ..) = peer.request::<fop::Open>().await;
    peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
    opening.await.unwrap().unwrap();
}

fn read_request() -> ReadReq {
    ReadReq { file: FILE, offset: 0, size: 10, xdata: Xdata::EMPTY }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fop_arrives_as_it_was_asked_and_its_answer_comes_back_as_it_was_given() {
    let door = Door::open().await;
    let subject = Subject::at(&door, &[]);
    let mut peer = door.admit(5).await;
    let mut caller = samples::caller();
    let mut session = None;
    for kind in FopKind::ALL.iter().copied() {
        caller.request.sequence += 1;
        for result in [Ok(samples::reply(kind)), Err(FopError::new(Errno::EREMOTE).doing("a test"))] {
            let (xlator, cx) = (subject.xlator.clone(), caller.clone());
            let asked = tokio::spawn(async move { samples::request(kind).call(&*xlator, &cx).await });
            if session.is_none() {
                session = Some(peer.attach(attached(9, false)).await);
            }
            let frame = peer.frame().await;
            assert_eq!((frame.prefix.fop, frame.prefix.session), (kind as u8, 9), "{}", kind.name());
            let (to, request) = taken(kind, &frame);
            assert_eq!(request, samples::request(kind));
            assert_eq!((to.uid, to.gid, to.pid), (1001, 1002, 4242));
            assert_eq!((&*to.groups, to.lk_owner.clone()), (&[1003, 1004][..], caller.lk_owner.clone()));
            assert_eq!((to.slot, to.sequence), (3, caller.request.sequence));
            give(&peer, frame.prefix, &result);
            let mut expected = result;
            if let Ok(Reply::Statfs(reply)) = &mut expected {
                reply.xdata.insert(&INVALIDATES, true);
            }
            let answer = asked.await.unwrap();
            assert_eq!(answer.as_ref().map_err(FopError::errno), expected.as_ref().map_err(FopError::errno));
            if let (Kind::Request, FopKind::Open | FopKind::Opendir | FopKind::Create) = (frame.prefix.kind, kind) {
                // The open of the sample is used by others: it is held from here on.
                assert!(subject.xlator.status()["opens"].as_u64() > Some(0) || answer.is_err());
            }
        }
    }
}

/// What a request frame says.
fn taken(kind: FopKind, frame: &brickwork_wire::frame::Frame) -> (brickwork_wire::message::RequestHead, Fop) {
    macro_rules! take {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match kind {
                $(FopKind::$kind => {
                    let (head, mut request): (_, $request) = decode(&frame.header).unwrap();
                    assert!(brickwork_wire::payload::give(&mut request, frame.payload.clone()));
                    (head, Fop::$kind(request))
                })*
            }
        };
    }
    for_each_fop!(take)
}

fn give(peer: &Peer, to: Prefix, result: &FopResult<Reply>) {
    macro_rules! give_each {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match result {
                $(Ok(Reply::$kind(reply)) => peer.reply(to, reply),)*
                Err(error) => peer.fail(to, error),
            }
        };
    }
    for_each_fop!(give_each)
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_may_come_in_any_order() {
    let (_door, mut peer, subject, cx) = attached_subject(&[]).await;
    let asked: Vec<_> =
        (0..8).map(|slot| subject.begin::<fop::Read>(&numbered(&cx, slot, 9), read_request())).collect();
    let mut frames = Vec::new();
    for _ in 0..8 {
        let (to, head, _) = peer.request::<fop::Read>().await;
        frames.push((to, head.slot));
    }
    for (to, slot) in frames.into_iter().rev() {
        peer.reply(to, &ReadReply { data: Bytes::from(vec![slot as u8; 5000]), xdata: Xdata::EMPTY });
    }
    for (slot, asked) in asked.into_iter().enumerate() {
        assert_eq!(asked.await.unwrap().unwrap().data, vec![slot as u8; 5000]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_connection_is_lost_goes_again_under_the_same_name() {
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    let gfid = Gfid::random();
    let asked = subject.begin::<fop::Mkdir>(&numbered(&cx, 3, 8), mkdir(gfid));
    let (_, first, _) = peer.request::<fop::Mkdir>().await;
    peer.cut();
    let mut peer = door.admit(5).await;
    assert_eq!(peer.attach(attached(4, true)).await.incarnation, 2);
    let (to, again, request) = peer.request::<fop::Mkdir>().await;
    assert_eq!(again, first);
    assert_eq!((again.slot, again.sequence, request.gfid, to.session), (3, 8, gfid, 4));
    peer.reply(to, &sample_mkdir());
    asked.await.unwrap().unwrap();
    assert_eq!(subject.xlator.status()["reconnects"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_brick_forgot_is_not_done_twice() {
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    let made = subject.begin::<fop::Mkdir>(&numbered(&cx, 3, 8), mkdir(Gfid::random()));
    peer.request::<fop::Mkdir>().await;
    let looked = subject.begin::<fop::Stat>(&numbered(&cx, 4, 8), stat());
    peer.request::<fop::Stat>().await;
    peer.cut();
    let mut peer = door.admit(6).await;
    peer.attach(attached(1, false)).await;
    let error = made.await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    assert!(error.to_string().contains("the brick forgot whether it did it"), "{error}");
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    looked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_without_a_number_is_not_done_twice_either() {
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    let made = subject.begin::<fop::Mkdir>(&numbered(&cx, 3, 0), mkdir(Gfid::random()));
    peer.request::<fop::Mkdir>().await;
    peer.cut();
    let mut peer = door.admit(5).await;
    peer.attach(attached(1, true)).await;
    assert_eq!(made.await.unwrap().unwrap_err().errno(), Errno::EIO);
    // One that was never sent goes.
    let made = subject.begin::<fop::Mkdir>(&numbered(&cx, 3, 0), mkdir(Gfid::random()));
    let (to, ..) = peer.request::<fop::Mkdir>().await;
    peer.reply(to, &sample_mkdir());
    made.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_open_is_opened_again_before_anything_else_when_the_brick_has_restarted() {
    let (door, mut peer, mut subject, cx) = attached_subject(&[]).await;
    opened(&mut peer, &subject, &cx).await;
    let read = subject.begin::<fop::Read>(&numbered(&cx, 2, 1), read_request());
    peer.request::<fop::Read>().await;
    peer.cut();
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    assert!(matches!(subject.event().await, Event::ChildDown { .. }));
    let mut peer = door.admit(6).await;
    peer.attach(attached(1, true)).await;
    let (to, head, request) = peer.request::<fop::Open>().await;
    assert_eq!((request.file, head.sequence), (FILE, 0));
    assert_eq!(request.flags, (libc_flags::O_RDWR | libc_flags::O_APPEND) as u32, "nothing is emptied again");
    assert_eq!(request.xdata.get(&REOPEN), Ok(Some(true)));
    assert_eq!(subject.xlator.status()["state"], "connecting");
    assert!(subject.events.try_recv().is_err(), "nobody hears of the brick before");
    peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    assert_eq!(subject.event().await, Event::ChildUp);
    let (to, ..) = peer.request::<fop::Read>().await;
    peer.reply(to, &ReadReply { data: Bytes::from_static(b"again"), xdata: Xdata::EMPTY });
    assert_eq!(read.await.unwrap().unwrap().data, "again");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_opened_again_when_only_the_connection_was_lost() {
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    opened(&mut peer, &subject, &cx).await;
    peer.cut();
    let mut peer = door.admit(5).await;
    peer.attach(attached(1, true)).await;
    let read = subject.begin::<fop::Read>(&numbered(&cx, 2, 1), read_request());
    let (to, ..) = peer.request::<fop::Read>().await;
    peer.reply(to, &ReadReply { data: Bytes::new(), xdata: Xdata::EMPTY });
    read.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_cannot_be_had_again_answers_eio_until_it_is_released() {
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    opened(&mut peer, &subject, &cx).await;
    peer.cut();
    let mut peer = door.admit(6).await;
    peer.attach(attached(1, false)).await;
    let (to, ..) = peer.request::<fop::Open>().await;
    peer.fail(to, &Errno::ESTALE.into());
    let read = subject.begin::<fop::Read>(&numbered(&cx, 2, 1), read_request());
    let error = soon("an answer", read).await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::EIO);
    assert!(error.to_string().contains("why ESTALE"), "{error}");
    assert_eq!(subject.xlator.status()["lost_opens"], 1);
    let ended = subject.begin::<fop::Release>(&numbered(&cx, 2, 2), ReleaseReq { file: FILE, xdata: Xdata::EMPTY });
    let (to, ..) = peer.request::<fop::Release>().await;
    peer.reply(to, &ReleaseReply { xdata: Xdata::EMPTY });
    ended.await.unwrap().unwrap();
    assert_eq!(subject.xlator.status()["lost_opens"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_a_restarted_brick_only_remembers_is_opened_again() {
    // An open was answered from the brick's memory after its restart; the brick itself had it no longer open, and the
    // first read failed. So an answer that may be a remembered one is followed by a reopen.
    let (door, mut peer, subject, cx) = attached_subject(&[]).await;
    let opening = subject.begin::<fop::Open>(&numbered(&cx, 1, 1), open_request());
    peer.request::<fop::Open>().await;
    peer.cut();
    let mut peer = door.admit(6).await;
    peer.attach(attached(1, true)).await;
    let (to, head, _) = peer.request::<fop::Open>().await;
    assert_eq!(head.sequence, 1);
    peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
    let (to, head, request) = peer.request::<fop::Open>().await;
    assert_eq!((head.sequence, request.xdata.get(&REOPEN)), (0, Ok(Some(true))));
    assert!(!opening.is_finished());
    peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
    opening.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_does_not_wait_for_the_brick_which_hears_of_it_when_it_is_back() {
    let (door, mut peer, mut subject, cx) = attached_subject(&[]).await;
    opened(&mut peer, &subject, &cx).await;
    peer.cut();
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    let ended = subject.begin::<fop::Release>(&numbered(&cx, 2, 2), ReleaseReq { file: FILE, xdata: Xdata::EMPTY });
    soon("the answer of a release", ended).await.unwrap().unwrap();
    let mut peer = door.admit(6).await;
    peer.attach(attached(1, true)).await;
    let (to, head, request) = peer.request::<fop::Release>().await;
    assert_eq!((request.file, head.sequence), (FILE, 0), "and it is not opened again");
    peer.reply(to, &ReleaseReply { xdata: Xdata::EMPTY });
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 2, 3), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_not_answered_in_time_ends_and_its_late_answer_reaches_nobody() {
    let (_door, mut peer, subject, cx) = attached_subject(&[("frame-timeout", "1")]).await;
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 2, 1), stat());
    let (late, ..) = peer.request::<fop::Stat>().await;
    let error = soon("the end of the time", asked).await.unwrap().unwrap_err();
    assert_eq!(error.errno(), Errno::ETIMEDOUT);
    peer.fail(late, &Errno::EPERM.into());
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 2, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    assert_eq!(asked.await.unwrap(), Ok(sample_stat()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_that_was_not_answered_in_time_is_released() {
    let (_door, mut peer, subject, cx) = attached_subject(&[("frame-timeout", "1")]).await;
    let asked = subject.begin::<fop::Open>(&numbered(&cx, 2, 1), open_request());
    peer.request::<fop::Open>().await;
    assert_eq!(soon("the end of the time", asked).await.unwrap().unwrap_err().errno(), Errno::ETIMEDOUT);
    let (_, _, request) = peer.request::<fop::Release>().await;
    assert_eq!(request.file, FILE);
}

fn wait_for_lock() -> LkReq {
    let range = LkRange { kind: LkType::Write, start: 0, end: 1, pid: 1 };
    LkReq { file: FILE, command: LkCommand::SetWait, kind: LkKind::Posix, range, xdata: Xdata::EMPTY }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_has_no_limit_and_is_given_up_at_the_brick() {
    let (_door, mut peer, subject, cx) = attached_subject(&[("frame-timeout", "1")]).await;
    let cx = Cx { cancel: Cancel::new(), ..numbered(&cx, 7, 3) };
    let wait = subject.begin::<fop::Lk>(&cx, wait_for_lock());
    let (to, ..) = peer.request::<fop::Lk>().await;
    // Longer than a request that is no wait may take.
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 2, 1), stat());
    peer.request::<fop::Stat>().await;
    assert_eq!(soon("the end of the time", asked).await.unwrap().unwrap_err().errno(), Errno::ETIMEDOUT);
    assert!(!wait.is_finished());
    cx.cancel.cancel();
    let cancel = peer.frame().await;
    assert_eq!((cancel.prefix.kind, cancel.prefix.id), (Kind::Cancel, to.id));
    assert_eq!(decode::<GivenUp>(&cancel.header).unwrap(), GivenUp { slot: 7, sequence: 3 });
    assert!(!wait.is_finished(), "the brick says what comes of it");
    peer.fail(to, &Errno::EINTR.into());
    assert_eq!(wait.await.unwrap().unwrap_err().errno(), Errno::EINTR);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lock_that_is_granted_while_it_is_given_up_is_granted() {
    let (_door, mut peer, subject, cx) = attached_subject(&[]).await;
    let cx = Cx { cancel: Cancel::new(), ..numbered(&cx, 7, 3) };
    let wait = subject.begin::<fop::Lk>(&cx, wait_for_lock());
    let (to, ..) = peer.request::<fop::Lk>().await;
    cx.cancel.cancel();
    assert_eq!(peer.frame().await.prefix.kind, Kind::Cancel);
    peer.reply(to, &LkReply { range: wait_for_lock().range, xdata: Xdata::EMPTY });
    wait.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_is_given_up_while_the_brick_is_away_ends_at_once_and_the_brick_hears_of_it() {
    let (door, mut peer, mut subject, cx) = attached_subject(&[]).await;
    let waiting = Cx { cancel: Cancel::new(), ..numbered(&cx, 7, 3) };
    let wait = subject.begin::<fop::Lk>(&waiting, wait_for_lock());
    peer.request::<fop::Lk>().await;
    peer.cut();
    assert!(matches!(subject.event().await, Event::InvalidateAll { .. }));
    waiting.cancel.cancel();
    assert_eq!(soon("the end of the wait", wait).await.unwrap().unwrap_err().errno(), Errno::EINTR);
    let mut peer = door.admit(5).await;
    peer.attach_only(attached(1, true)).await;
    let cancel = peer.frame().await;
    assert_eq!(cancel.prefix.kind, Kind::Cancel, "before it is compared what is held");
    assert_eq!(decode::<GivenUp>(&cancel.header).unwrap(), GivenUp { slot: 7, sequence: 3 });
    peer.claims().await;
    // Cut before it is certain that the brick has heard it.
    peer.cut();
    let mut peer = door.admit(5).await;
    peer.attach_only(attached(1, true)).await;
    assert_eq!(peer.frame().await.prefix.kind, Kind::Cancel, "told again");
    let (to, claims) = peer.claims().await;
    assert!(claims.claims.is_empty() && claims.complete, "what was given up is not claimed");
    peer.verdicts(to, &[]);
    soon("a brick that is up", async {
        while subject.xlator.status()["state"] != "up" {
            tokio::task::yield_now().await;
        }
    })
    .await;
    peer.cut();
    let mut peer = door.admit(5).await;
    peer.attach_only(attached(1, true)).await;
    peer.claims().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn further_groups_are_told_unless_send_gids_is_off() {
    for (value, groups) in [("on", &[7u32, 8][..]), ("off", &[])] {
        let (_door, mut peer, subject, cx) = attached_subject(&[("send-gids", value)]).await;
        let credentials = Credentials { uid: 1, gid: 2, pid: 3, groups: Arc::new([7, 8]) };
        let asked = subject.begin::<fop::Stat>(&Cx { credentials, ..numbered(&cx, 0, 2) }, stat());
        let (to, head, _) = peer.request::<fop::Stat>().await;
        assert_eq!((head.uid, head.gid, &*head.groups), (1, 2, groups));
        peer.reply(to, &sample_stat());
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_have_sessions_of_their_own() {
    let (_door, mut peer, subject, one) = attached_subject(&[]).await;
    let other = cx();
    let asked = subject.begin::<fop::Stat>(&numbered(&other, 0, 1), stat());
    let call = peer.attach(attached(2, false)).await;
    assert_eq!((call.client, call.incarnation), (other.client(), 1));
    let (to, ..) = peer.request::<fop::Stat>().await;
    assert_eq!(to.session, 2);
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
    let asked = subject.begin::<fop::Stat>(&numbered(&one, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    assert_eq!(to.session, 1);
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
    assert_eq!(subject.xlator.status()["clients"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_makes_no_sense_is_an_error_and_harms_nobody_else() {
    let (_door, mut peer, subject, cx) = attached_subject(&[]).await;
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 2), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.send(Prefix::new(Kind::Reply, to.id).of(to.fop, to.session), &1u8);
    assert_eq!(asked.await.unwrap().unwrap_err().errno(), Errno::EIO);
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 3), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.send(Prefix::new(Kind::Reply, to.id).of(FopKind::Mkdir as u8, to.session), &sample_stat());
    let error = asked.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("it answers another fop"), "{error}");
    peer.send(Prefix::new(Kind::Reply, u64::MAX).of(to.fop, to.session), &sample_stat());
    let asked = subject.begin::<fop::Stat>(&numbered(&cx, 0, 4), stat());
    let (to, ..) = peer.request::<fop::Stat>().await;
    peer.reply(to, &sample_stat());
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_wait_while_much_waits_to_leave() {
    let (_door, mut peer, subject, cx) = attached_subject(&[]).await;
    // One after the other, so that each sees what the others have put in.
    let data = Bytes::from(vec![1; 1 << 20]);
    let request =
        |data| WriteReq { file: FILE, offset: 0, data, append: false, kill_set_id: false, xdata: Xdata::EMPTY };
    let mut begun = Vec::new();
    for slot in 0..64 {
        let before = subject.xlator.status()["in_flight"].as_u64().unwrap();
        begun.push(subject.begin::<fop::Write>(&numbered(&cx, slot, 9), request(data.clone())));
        let sent = || subject.xlator.status()["in_flight"].as_u64().unwrap() > before;
        let queued = || subject.xlator.status()["queued_bytes"].as_u64().unwrap() > 8 << 20;
        soon("a write that is sent or waits", async {
            while !sent() && !queued() {
                tokio::task::yield_now().await;
            }
        })
        .await;
        if !sent() {
            break;
        }
    }
    assert!(begun.len() < 64, "nobody reads, and everything was sent");
    let queued = subject.xlator.status()["queued_bytes"].as_u64().unwrap();
    assert!(queued <= (8 << 20) + 2 * (1 << 20), "{queued}");
    for _ in 0..begun.len() {
        let (to, ..) = peer.request::<fop::Write>().await;
        peer.reply(to, &WriteReply { written: 1 << 20, xdata: Xdata::EMPTY });
    }
    for write in begun {
        assert_eq!(soon("a write", write).await.unwrap().unwrap().written, 1 << 20);
    }
}
