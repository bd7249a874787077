//! Locks over a lost connection, against a brick whose every word is the test's.

mod peer;

use brickwork_api::locks::{
    CLAIMS_MAX, Claim, ClientNotice, FAILOVER_GROUP, FAILOVER_SECRET, LOCK_LOST, LockNotice, LostBy, Probe, Verdict,
};
use brickwork_api::*;
use brickwork_testkit::cx;
use brickwork_wire::frame::{Kind, Prefix};
use brickwork_wire::message::{GivenUp, Notice};
use bytes::Bytes;

use peer::{Door, Peer, Subject, attached, numbered, soon};

/// A client with one open file, attached to a brick that keeps locks, as session 1.
struct Held {
    door: Door,
    peer: Peer,
    subject: Subject,
    cx: Cx,
    file: OpenFile,
}

impl Held {
    async fn with(options: &[(&str, &str)]) -> Held {
        let door = Door::open().await;
        let subject = Subject::at(&door, options);
        let mut peer = door.admit(5).await;
        let cx = Cx { lk_owner: LkOwner::from_u64(1), ..cx() };
        let file = OpenFile { gfid: Gfid::random(), open: OpenId(11) };
        let opening = subject.begin::<fop::Open>(&numbered(&cx, 0, 1), open(file));
        peer.attach_only(attached(1, false)).await;
        let (to, claims) = peer.claims().await;
        assert!(claims.claims.is_empty() && claims.complete, "a grace need not wait for whoever holds nothing");
        peer.verdicts(to, &[]);
        let (to, ..) = peer.request::<fop::Open>().await;
        peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
        opening.await.unwrap().unwrap();
        let mut held = Held { door, peer, subject, cx, file };
        held.locked(LkType::Write, 0, 10).await;
        held
    }

    fn lock(&self, kind: LkType, start: u64, end: u64) -> LkReq {
        let range = LkRange { kind, start, end, pid: 7 };
        LkReq { file: self.file, command: LkCommand::Set, kind: LkKind::Posix, range, xdata: Xdata::EMPTY }
    }

    /// Takes or releases a range.
    async fn locked(&mut self, kind: LkType, start: u64, end: u64) {
        let request = self.lock(kind, start, end);
        let asked = self.subject.begin::<fop::Lk>(&numbered(&self.cx, 1, 1), request);
        let (to, _, request) = self.peer.request::<fop::Lk>().await;
        self.peer.reply(to, &LkReply { range: request.range, xdata: Xdata::EMPTY });
        asked.await.unwrap().unwrap();
    }

    /// Cuts the connection; the brick that is back has started `boot` times and has taken the client up again.
    async fn cut(&mut self, boot: u64) {
        self.peer.cut();
        self.peer = self.door.admit(boot).await;
        self.peer.attach_only(attached(1, true)).await;
    }

    fn claim(&self, ranges: &[(LkType, u64, u64)]) -> Claim {
        let range = |&(kind, start, end): &_| LkRange { kind, start, end, pid: 7 };
        Claim {
            gfid: self.file.gfid,
            open: self.file.open,
            kind: LkKind::Posix,
            owner: self.cx.lk_owner.clone(),
            ranges: ranges.iter().map(range).collect(),
        }
    }

    /// The brick is asked for exactly this, and answers.
    async fn compared(&mut self, ranges: &[(LkType, u64, u64)], verdict: Verdict) {
        let (to, claims) = self.peer.claims().await;
        assert_eq!((claims.claims, claims.complete), (vec![self.claim(ranges)], true));
        self.peer.verdicts(to, &[verdict]);
    }

    fn read(&self) -> tokio::task::JoinHandle<FopResult<ReadReply>> {
        let request = ReadReq { file: self.file, offset: 0, size: 1, xdata: Xdata::EMPTY };
        self.subject.begin::<fop::Read>(&numbered(&self.cx, 2, 1), request)
    }

    /// The file can be read.
    async fn is_good(&mut self) {
        let asked = self.read();
        let (to, ..) = self.peer.request::<fop::Read>().await;
        self.peer.reply(to, &ReadReply { data: Bytes::new(), xdata: Xdata::EMPTY });
        asked.await.unwrap().unwrap();
    }

    /// The file answers `EIO`, and says `why`.
    async fn is_bad(&self, why: &str) {
        let error = soon("an answer", self.read()).await.unwrap().unwrap_err();
        assert_eq!(error.errno(), Errno::EIO);
        assert_eq!(error.xdata().get(&LOCK_LOST), Ok(Some(why.to_owned())), "{error}");
    }

    /// The parents are told that the lock is gone, and that what was kept of the file is old.
    async fn told_lost(&mut self, opens: Vec<OpenId>, why: LostBy) {
        let heard = loop {
            match self.subject.event().await {
                Event::Lock(heard) => break heard,
                Event::InvalidateAll { .. } | Event::ChildUp | Event::ChildDown { .. } => {}
                event => panic!("{event:?}"),
            }
        };
        let notice = LockNotice::Lost { gfid: self.file.gfid, opens, why };
        assert_eq!(heard, ClientNotice { client: self.cx.client(), notice });
        self.invalidated().await;
    }

    async fn invalidated(&mut self) {
        loop {
            match self.subject.event().await {
                Event::Invalidate { gfid, names, .. } => return assert_eq!((gfid, names), (self.file.gfid, false)),
                Event::InvalidateAll { .. } | Event::ChildUp | Event::ChildDown { .. } => {}
                event => panic!("{event:?}"),
            }
        }
    }

    async fn until(&self, what: &str, is_so: impl Fn(serde_json::Value) -> bool) {
        soon(what, async {
            while !is_so(self.subject.xlator.status()) {
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    fn counts(&self) -> (u64, u64, u64) {
        let status = self.subject.xlator.status();
        let count = |key: &str| status[key].as_u64().unwrap();
        (count("locks"), count("locks_lost"), count("lost_opens"))
    }
}

fn open(file: OpenFile) -> OpenReq {
    OpenReq { file, flags: 2, kill_set_id: false, xdata: Xdata::EMPTY }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_held_is_compared_before_anything_is_opened_again_and_before_any_request() {
    let mut held = Held::with(&[]).await;
    held.locked(LkType::Read, 20, 30).await;
    held.locked(LkType::Unlock, 4, 6).await;
    assert_eq!(held.counts(), (3, 0, 0));
    held.cut(6).await;
    let asked = held.read();
    held.compared(&[(LkType::Write, 0, 4), (LkType::Write, 6, 10), (LkType::Read, 20, 30)], Verdict::Held).await;
    let (to, ..) = held.peer.request::<fop::Open>().await;
    assert!(!asked.is_finished());
    held.peer.reply(to, &OpenReply { xdata: Xdata::EMPTY });
    let (to, ..) = held.peer.request::<fop::Read>().await;
    held.peer.reply(to, &ReadReply { data: Bytes::new(), xdata: Xdata::EMPTY });
    asked.await.unwrap().unwrap();
    assert_eq!(held.counts(), (3, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_open_whose_lock_is_lost_answers_eio_until_it_is_closed_and_is_not_opened_again() {
    let mut held = Held::with(&[]).await;
    held.cut(6).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Lost).await;
    held.told_lost(vec![held.file.open], LostBy::Unknown).await;
    held.is_bad("not held any more").await;
    assert_eq!(held.counts(), (0, 1, 1));
    let lock = held.subject.begin::<fop::Lk>(&numbered(&held.cx, 1, 9), held.lock(LkType::Read, 0, 1));
    assert_eq!(lock.await.unwrap().unwrap_err().errno(), Errno::EIO);
    // Its owner gives up what it holds through others too, so the brick hears of the flush.
    let flushed = held.subject.begin::<fop::Flush>(&held.cx, FlushReq { file: held.file, xdata: Xdata::EMPTY });
    let (to, ..) = held.peer.request::<fop::Flush>().await;
    held.peer.reply(to, &FlushReply { xdata: Xdata::EMPTY });
    assert_eq!(flushed.await.unwrap().unwrap_err().errno(), Errno::EIO);
    let ended = held.subject.begin::<fop::Release>(&held.cx, ReleaseReq { file: held.file, xdata: Xdata::EMPTY });
    let (to, ..) = held.peer.request::<fop::Release>().await;
    held.peer.reply(to, &ReleaseReply { xdata: Xdata::EMPTY });
    ended.await.unwrap().unwrap();
    held.is_good().await;
    assert_eq!(held.counts(), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_that_has_forgotten_the_client_is_asked_all_the_same() {
    let mut held = Held::with(&[]).await;
    held.peer.cut();
    held.peer = held.door.admit(6).await;
    held.peer.attach_only(attached(1, false)).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Lost).await;
    held.is_bad("not held any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_that_keeps_no_locks_any_more_has_lost_them() {
    let mut held = Held::with(&[]).await;
    held.cut(5).await;
    let (to, _) = held.peer.claims().await;
    held.peer.fail(to, &Errno::EOPNOTSUPP.into());
    held.is_bad("not held any more").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_brick_that_does_not_say_what_it_holds_serves_nothing() {
    let mut held = Held::with(&[]).await;
    held.cut(5).await;
    let asked = held.read();
    let (to, _) = held.peer.claims().await;
    held.peer.fail(to, &Errno::EIO.into());
    held.peer.ended().await;
    held.until("the reason", |status| {
        status["reason"].as_str().is_some_and(|why| why.contains("does not say which locks it holds"))
    })
    .await;
    held.peer = held.door.admit(5).await;
    held.peer.attach_only(attached(1, true)).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Held).await;
    let (to, ..) = held.peer.request::<fop::Read>().await;
    held.peer.reply(to, &ReadReply { data: Bytes::new(), xdata: Xdata::EMPTY });
    asked.await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unlock_under_way_is_not_claimed_and_goes_again_after_the_claims() {
    let mut held = Held::with(&[]).await;
    let unlock = held.subject.begin::<fop::Lk>(&numbered(&held.cx, 3, 4), held.lock(LkType::Unlock, 2, 4));
    held.peer.request::<fop::Lk>().await;
    held.cut(5).await;
    held.compared(&[(LkType::Write, 0, 2), (LkType::Write, 4, 10)], Verdict::Held).await;
    let (to, head, request) = held.peer.request::<fop::Lk>().await;
    assert_eq!((head.slot, head.sequence), (3, 4));
    held.peer.reply(to, &LkReply { range: request.range, xdata: Xdata::EMPTY });
    unlock.await.unwrap().unwrap();
    assert_eq!(held.counts(), (2, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_goes_again_under_its_name_after_the_claims_and_keeps_the_old_lock_meanwhile() {
    let mut held = Held::with(&[]).await;
    held.locked(LkType::Read, 0, 10).await;
    let request = LkReq { command: LkCommand::SetWait, ..held.lock(LkType::Write, 0, 10) };
    let wait = held.subject.begin::<fop::Lk>(&numbered(&held.cx, 3, 4), request.clone());
    held.peer.request::<fop::Lk>().await;
    held.cut(5).await;
    held.compared(&[(LkType::Read, 0, 10)], Verdict::Held).await;
    let (to, head, again) = held.peer.request::<fop::Lk>().await;
    assert_eq!((head.slot, head.sequence, &again), (3, 4, &request));
    held.peer.reply(to, &LkReply { range: request.range, xdata: Xdata::EMPTY });
    wait.await.unwrap().unwrap();
    held.cut(5).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Held).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_given_up_while_the_brick_is_away_is_told_before_the_claims_and_was_never_held() {
    let mut held = Held::with(&[]).await;
    let waiting = Cx { cancel: Cancel::new(), ..numbered(&held.cx, 3, 4) };
    let request = LkReq { command: LkCommand::SetWait, ..held.lock(LkType::Write, 20, 30) };
    let wait = held.subject.begin::<fop::Lk>(&waiting, request);
    // Sent on one connection, sent again on the next, given up after that.
    held.peer.request::<fop::Lk>().await;
    held.cut(5).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Held).await;
    held.peer.request::<fop::Lk>().await;
    held.peer.cut();
    held.until("the end of the connection", |status| status["state"] != "up").await;
    waiting.cancel.cancel();
    assert_eq!(soon("the end of the wait", wait).await.unwrap().unwrap_err().errno(), Errno::EINTR);
    held.peer = held.door.admit(5).await;
    held.peer.attach_only(attached(1, true)).await;
    let cancel = held.peer.frame().await;
    assert_eq!(cancel.prefix.kind, Kind::Cancel);
    let given_up: GivenUp = brickwork_wire::connection::decode(&cancel.header).unwrap();
    assert_eq!(given_up, GivenUp { slot: 3, sequence: 4 });
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Held).await;
    held.is_good().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_that_ends_as_its_file_has_lost_a_lock_is_taken_back_at_the_brick() {
    // It answered EIO and told the brick nothing. The brick kept its place, with others behind it, and at last granted a
    // lock of which nobody knew, until the file was closed.
    let mut held = Held::with(&[]).await;
    let cx = numbered(&held.cx, 1024, 1);
    let request = LkReq { command: LkCommand::SetWait, ..held.lock(LkType::Write, 20, 30) };
    let waiting = held.subject.begin::<fop::Lk>(&cx, request);
    held.peer.request::<fop::Lk>().await;
    held.cut(5).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Lost).await;
    assert_eq!(soon("an answer", waiting).await.unwrap().unwrap_err().errno(), Errno::EIO);
    let frame = held.peer.frame().await;
    assert_eq!(frame.prefix.kind, Kind::Cancel);
    let given_up: GivenUp = brickwork_wire::connection::decode(&frame.header).unwrap();
    assert_eq!(given_up, GivenUp { slot: 1024, sequence: 1 });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flush_or_a_release_ends_what_was_believed() {
    let mut held = Held::with(&[]).await;
    let flushed = held.subject.begin::<fop::Flush>(&held.cx, FlushReq { file: held.file, xdata: Xdata::EMPTY });
    let (to, ..) = held.peer.request::<fop::Flush>().await;
    held.peer.reply(to, &FlushReply { xdata: Xdata::EMPTY });
    flushed.await.unwrap().unwrap();
    assert_eq!(held.counts(), (0, 0, 0));
    held.locked(LkType::Write, 0, 10).await;
    held.peer.cut();
    let ended = held.subject.begin::<fop::Release>(&held.cx, ReleaseReq { file: held.file, xdata: Xdata::EMPTY });
    soon("the end of the open", ended).await.unwrap().unwrap();
    assert_eq!(held.counts(), (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_or_a_notice_that_a_lock_is_lost_ends_the_open_at_once() {
    let mut held = Held::with(&[]).await;
    let asked = held.read();
    let (to, ..) = held.peer.request::<fop::Read>().await;
    let lost = Xdata::EMPTY.with(&LOCK_LOST, LostBy::Expiry.word().to_owned());
    held.peer.fail(to, &FopError::new(Errno::EIO).with_xdata(lost));
    assert_eq!(asked.await.unwrap().unwrap_err().errno(), Errno::EIO);
    held.is_bad("expired").await;
    assert_eq!(held.counts(), (0, 1, 1));

    let mut held = Held::with(&[]).await;
    let opens = vec![held.file.open, OpenId(99)];
    let notice = LockNotice::Lost { gfid: held.file.gfid, opens: opens.clone(), why: LostBy::Drop };
    held.peer.send(Prefix::new(Kind::Notice, 0).of(0, 1), &Notice::Lock(notice));
    held.told_lost(opens, LostBy::Drop).await;
    held.is_bad("dropped").await;
    assert_eq!(held.counts(), (0, 1, 1));
    // Nothing is claimed of it.
    held.cut(5).await;
    let (to, claims) = held.peer.claims().await;
    assert!(claims.claims.is_empty() && claims.complete);
    held.peer.verdicts(to, &[]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_lock_that_is_ignored_leaves_the_file_as_it_was() {
    let mut held = Held::with(&[("on-lost-lock", "ignore")]).await;
    held.cut(5).await;
    held.compared(&[(LkType::Write, 0, 10)], Verdict::Lost).await;
    // Nobody is told that the open is lost.
    held.invalidated().await;
    held.is_good().await;
    assert_eq!(held.counts(), (0, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_probe_goes_up_with_its_client() {
    let mut held = Held::with(&[]).await;
    let initiator = RequestId { client: ClientId::random(), slot: 3, sequence: 8 };
    let probe = Probe { initiator, owner: LkOwner::from_u64(1), gfid: Gfid::ROOT, path: Vec::new() };
    held.peer.send(Prefix::new(Kind::Notice, 0).of(0, 1), &Notice::Lock(LockNotice::Probe(probe.clone())));
    let heard = loop {
        if let Event::Lock(heard) = held.subject.event().await {
            break heard;
        }
    };
    assert_eq!(heard, ClientNotice { client: held.cx.client(), notice: LockNotice::Probe(probe) });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_failover_group_travels_with_each_attach() {
    let door = Door::open().await;
    let subject = Subject::at(&door, &[("failover-group", "nfs"), ("failover-secret", "s3cret")]);
    let mut peer = door.admit(5).await;
    for client in [cx(), cx()] {
        subject.begin::<fop::Stat>(&numbered(&client, 0, 1), peer::stat());
        let call = peer.attach(attached(1, false)).await;
        assert_eq!(call.xdata.get(&FAILOVER_GROUP), Ok(Some("nfs".to_owned())));
        assert_eq!(call.xdata.get(&FAILOVER_SECRET), Ok(Some("s3cret".to_owned())));
        peer.request::<fop::Stat>().await;
    }
    assert!(!subject.xlator.status().to_string().contains("s3cret"));
}

/// Many owners claim in pieces, which all but the last say that more come.
#[tokio::test(flavor = "multi_thread")]
async fn many_owners_are_claimed_in_pieces_of_which_only_the_last_is_complete() {
    let mut held = Held::with(&[]).await;
    let owners = CLAIMS_MAX * 2 + 5;
    for owner in 2..=owners as u64 {
        held.cx.lk_owner = LkOwner::from_u64(owner);
        held.locked(LkType::Read, owner * 16, owner * 16 + 1).await;
    }
    held.cut(5).await;
    let mut counts = Vec::new();
    let mut lost = None;
    loop {
        let (to, claims) = held.peer.claims().await;
        let mut verdicts = vec![Verdict::Held; claims.claims.len()];
        if claims.complete {
            verdicts[0] = Verdict::Lost;
            lost = Some(claims.claims[0].owner.clone());
        }
        held.peer.verdicts(to, &verdicts);
        counts.push((claims.claims.len(), claims.complete));
        if claims.complete {
            break;
        }
    }
    assert_eq!(counts, [(CLAIMS_MAX, false), (CLAIMS_MAX, false), (5, true)]);
    assert!(lost.is_some());
    held.is_bad("not held any more").await;
}
