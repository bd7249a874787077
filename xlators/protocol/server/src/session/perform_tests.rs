use std::future::pending;
use std::sync::Arc;

use brickwork_testkit::client::{entry, xattr};
use brickwork_testkit::{Faults, block_on, poll_once};

use super::super::world::{CLIENT, FILE, World, attach, gfid, libc_rdwr};
use super::*;

/// Dies before or after the child does fops of one kind.
struct Dies {
    child: Arc<dyn Xlator>,
    kind: FopKind,
    afterwards: bool,
}

impl Xlator for Dies {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    each_fop!();
}

impl Each for Dies {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            if F::KIND != self.kind {
                return F::call(&*self.child, cx, request).await;
            }
            if self.afterwards {
                let _ = F::call(&*self.child, cx, request).await;
            }
            pending().await
        })
    }
}

fn at(name: &str) -> Entry {
    entry(Gfid::ROOT, name)
}

fn append(data: &'static [u8]) -> Fop {
    let data = Bytes::from_static(data);
    Fop::Write(WriteReq { file: FILE, offset: 0, data, append: true, kill_set_id: false, xdata: Xdata::EMPTY })
}

fn rename(to: &str, mode: RenameMode) -> Fop {
    Fop::Rename(RenameReq { from: at("f"), to: at(to), mode, xdata: Xdata::EMPTY })
}

fn shift(mode: FallocateMode) -> Fop {
    Fop::Fallocate(FallocateReq { file: FILE, mode, offset: 0, length: 4096, xdata: Xdata::EMPTY })
}

fn set(name: &str, mode: XattrMode) -> Fop {
    let value = Bytes::from_static(b"new");
    let target = FILE.into();
    Fop::Setxattr(SetxattrReq { target, name: xattr(name), value, mode, kill_set_gid: false, xdata: Xdata::EMPTY })
}

fn xattrop(name: &str, kind: XattropKind) -> Fop {
    let values = vec![(xattr(name), Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 1]))];
    Fop::Xattrop(XattropReq { target: FILE.into(), kind, values, xdata: Xdata::EMPTY })
}

fn create() -> Fop {
    let (entry, flags) = (at("c"), libc_rdwr());
    let (gfid, open) = (gfid(20), OpenId(9));
    Fop::Create(CreateReq { entry, gfid, open, flags, mode: 0o600, umask: 0, xdata: Xdata::EMPTY })
}

/// Every fop that cannot be done twice, each in a form that succeeds once in a fresh [`World`].
fn not_repeatable() -> Vec<Fop> {
    let xdata = Xdata::EMPTY;
    let new = gfid(20);
    let target = Bytes::from_static(b"there");
    vec![
        Fop::Mknod(MknodReq { entry: at("n"), gfid: new, mode: 0o100_644, umask: 0, rdev: 0, xdata: xdata.clone() }),
        Fop::Mkdir(MkdirReq { entry: at("m"), gfid: new, mode: 0o755, umask: 0, xdata: xdata.clone() }),
        Fop::Symlink(SymlinkReq { entry: at("s"), gfid: new, target, xdata: xdata.clone() }),
        create(),
        Fop::Link(LinkReq { gfid: FILE.gfid, entry: at("l"), xdata: xdata.clone() }),
        Fop::Unlink(UnlinkReq { entry: at("g"), xdata: xdata.clone() }),
        Fop::Rmdir(RmdirReq { entry: at("d"), xdata: xdata.clone() }),
        rename("h", RenameMode::Replace),
        rename("h", RenameMode::NoReplace),
        rename("g", RenameMode::Replace),
        rename("g", RenameMode::Exchange),
        append(b"tail"),
        shift(FallocateMode::CollapseRange),
        shift(FallocateMode::InsertRange),
        set("user.b", XattrMode::Create),
        set("user.a", XattrMode::Replace),
        Fop::Removexattr(RemovexattrReq { target: FILE.into(), name: xattr("user.a"), xdata }),
        xattrop("user.count", XattropKind::Add64),
        xattrop("user.a", XattropKind::GetAndSet),
    ]
}

/// The answer, and what is there afterwards, when nothing goes wrong.
fn undisturbed(fop: &Fop) -> (Answer, String) {
    let world = World::new("process");
    let session = attach(&world.start(), CLIENT, 1);
    let answer = block_on(world.ask(&session, &*world.leaf, (0, 1), fop)).unwrap();
    assert!(!answer.failure, "{fop:?}");
    (answer, world.observed())
}

/// Whether the answer to `fop` is the same at whatever time it is done.
fn is_timeless(fop: &Fop) -> bool {
    matches!(
        fop.kind(),
        FopKind::Unlink
            | FopKind::Rmdir
            | FopKind::Write
            | FopKind::Fallocate
            | FopKind::Setxattr
            | FopKind::Removexattr
            | FopKind::Xattrop
    )
}

#[test]
fn a_repeat_in_the_same_process_or_the_next_is_answered_alike_and_changes_nothing() {
    for eos in ["process", "disk"] {
        for fop in not_repeatable() {
            let world = World::new(eos);
            let sessions = world.start();
            let session = attach(&sessions, CLIENT, 1);
            let first = block_on(world.ask(&session, &*world.leaf, (5, 3), &fop)).unwrap();
            assert!(!first.failure, "{fop:?}");
            let after = world.observed();
            assert_eq!(block_on(world.ask(&session, &*world.leaf, (5, 3), &fop)).as_ref(), Some(&first), "{fop:?}");
            drop((session, sessions));
            let sessions = world.start();
            let session = attach(&sessions, CLIENT, 2);
            assert_eq!(block_on(world.ask(&session, &*world.leaf, (5, 3), &fop)), Some(first), "{fop:?}");
            assert_eq!(world.observed(), after, "{fop:?}");
        }
    }
}

#[test]
fn a_brick_that_dies_before_or_after_the_effect_does_it_once() {
    for afterwards in [false, true] {
        for fop in not_repeatable() {
            let (expected, after) = undisturbed(&fop);
            let world = World::new("process");
            let sessions = world.start();
            let session = attach(&sessions, CLIENT, 1);
            let dies = Dies { child: world.leaf.clone(), kind: fop.kind(), afterwards };
            assert!(poll_once(Box::pin(world.ask(&session, &dies, (5, 3), &fop)).as_mut()).is_pending());
            drop((session, sessions));
            let sessions = world.start();
            if afterwards {
                assert_eq!(world.observed(), after, "{fop:?}");
            }
            let session = attach(&sessions, CLIENT, 2);
            let again = block_on(world.ask(&session, &*world.leaf, (5, 3), &fop)).unwrap();
            assert!(!again.failure, "{fop:?} {:?}", brickwork_codec::decode::<FopError>(&again.header));
            assert_eq!(world.observed(), after, "{fop:?}");
            if is_timeless(&fop) {
                assert_eq!(again, expected, "{fop:?}");
            }
        }
    }
}

#[test]
fn a_decision_that_is_cut_off_is_taken_again() {
    let world = World::new("process");
    let fop = append(b"tail");
    let (_, after) = undisturbed(&fop);
    let session = attach(&world.start(), CLIENT, 1);
    let dies = Dies { child: world.leaf.clone(), kind: FopKind::Write, afterwards: true };
    assert!(poll_once(Box::pin(world.ask(&session, &dies, (0, 1), &fop)).as_mut()).is_pending());
    drop(session);
    for _ in 0..3 {
        drop(world.start());
    }
    let session = attach(&world.start(), CLIENT, 2);
    assert!(!block_on(world.ask(&session, &*world.leaf, (0, 1), &fop)).unwrap().failure);
    assert_eq!(world.observed(), after);
}

#[test]
fn half_of_an_append_is_cut_back_and_all_of_it_appended_once() {
    let world = World::new("process");
    let fop = append(b"tail");
    let (_, after) = undisturbed(&fop);
    let session = attach(&world.start(), CLIENT, 1);
    let dies = Dies { child: world.leaf.clone(), kind: FopKind::Write, afterwards: false };
    assert!(poll_once(Box::pin(world.ask(&session, &dies, (0, 1), &fop)).as_mut()).is_pending());
    drop(session);
    world.direct(append(b"ta")).unwrap();
    let session = attach(&world.start(), CLIENT, 2);
    assert!(!block_on(world.ask(&session, &*world.leaf, (0, 1), &fop)).unwrap().failure);
    assert_eq!(world.observed(), after);
}

#[test]
fn a_length_changes_only_when_no_append_is_under_way() {
    let world = World::new("process");
    let session = attach(&world.start(), CLIENT, 1);
    let faults = Faults::over(world.leaf.clone());
    let gate = faults.hold(FopKind::Write, 1);
    let (appends, truncates) = (
        append(b"tail"),
        Fop::Truncate(TruncateReq { target: FILE.into(), size: 3, kill_set_id: false, xdata: Xdata::EMPTY }),
    );
    let mut first = Box::pin(world.ask(&session, &faults, (0, 1), &appends));
    let mut second = Box::pin(world.ask(&session, &faults, (1, 1), &truncates));
    assert!(poll_once(first.as_mut()).is_pending());
    assert!(poll_once(second.as_mut()).is_pending());
    assert_eq!(faults.seen(FopKind::Truncate), 0);
    gate.open();
    assert!(poll_once(first.as_mut()).is_ready());
    assert!(poll_once(second.as_mut()).is_ready());
}

#[test]
fn an_open_whose_answer_was_lost_with_the_brick_is_open_again_when_it_is_repeated() {
    let world = World::new("process");
    let session = attach(&world.start(), CLIENT, 1);
    let first = block_on(world.ask(&session, &*world.leaf, (0, 1), &create())).unwrap();
    drop(session);
    let file = OpenFile { gfid: gfid(20), open: OpenId(9) };
    world.direct(Fop::Release(ReleaseReq { file, xdata: Xdata::EMPTY })).unwrap();
    let sessions = world.start();
    assert!(!sessions.all_are_back());
    let session = attach(&sessions, CLIENT, 2);
    assert_eq!(block_on(world.ask(&session, &*world.leaf, (0, 1), &create())), Some(first));
    assert!(sessions.all_are_back());
    world.direct(Fop::Flush(FlushReq { file, xdata: Xdata::EMPTY })).unwrap();
}

#[test]
fn a_reopen_on_record_is_done_as_root_and_any_other_as_the_caller() {
    let world = World::new("process");
    let session = attach(&world.start(), CLIENT, 1);
    block_on(world.ask(&session, &*world.leaf, (0, 1), &create())).unwrap();
    drop(session);
    let file = OpenFile { gfid: gfid(20), open: OpenId(9) };
    world.direct(Fop::Release(ReleaseReq { file, xdata: Xdata::EMPTY })).unwrap();
    let session = attach(&world.start(), CLIENT, 2);
    let mock = brickwork_testkit::MockChild::new();
    let caller = Credentials { uid: 1000, ..Credentials::root() };
    let ask = |open: OpenId| {
        let cx = Cx { credentials: caller.clone(), ..world.cx(0, 0) };
        let file = OpenFile { open, ..file };
        let xdata = Xdata::EMPTY.with(&REOPEN, true);
        let request = OpenReq { file, flags: 0, kill_set_id: false, xdata };
        block_on(session.perform::<fop::Open>(&*mock, &cx, &request, None)).result.unwrap();
        let Some(Fop::Open(sent)) = mock.calls().last().map(|call| call.fop.clone()) else { panic!("an open") };
        (mock.calls().last().map(|call| call.cx.credentials.uid).unwrap(), sent.flags)
    };
    assert_eq!(ask(file.open), (0, libc_rdwr()));
    assert_eq!(ask(OpenId(77)), (1000, 0));
}

#[test]
fn eos_memory_remembers_within_the_process_and_nothing_beyond() {
    let world = World::new("memory");
    let sessions = world.start();
    let session = attach(&sessions, CLIENT, 1);
    let fop = append(b"tail");
    let first = block_on(world.ask(&session, &*world.leaf, (0, 1), &fop));
    let after = world.observed();
    assert_eq!(block_on(world.ask(&session, &*world.leaf, (0, 1), &fop)), first);
    assert_eq!(world.observed(), after);
    assert_eq!(std::fs::read_dir(world.folder.path()).unwrap().count(), 0);
    assert_ne!(world.start().boot(), sessions.boot());
}

#[test]
fn a_stat_goes_straight_to_the_child() {
    let world = World::new("process");
    let session = attach(&world.start(), CLIENT, 1);
    let stat = StatReq { target: FILE.into(), xdata: Xdata::EMPTY };
    let cx = world.cx(0, 1);
    let performed = block_on(session.perform::<fop::Stat>(&*world.leaf, &cx, &stat, None));
    assert!(performed.kept.is_none() && performed.result.is_ok());
}
