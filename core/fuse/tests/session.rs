//! A session against a kernel played by the test: what no real kernel can be made to do at will.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};

use brickwork_fuse::abi::*;
use brickwork_fuse::{
    Errno, Granted, Handled, Handler, InitFlags, Interruptible, Limits, Operation, Reply, Request, Session,
    SessionError, Started, Wanted,
};
use common::{Kernel, SocketLane, fixed, init, plain, socket_lane};
use tokio::sync::Notify;
use zerocopy::{FromBytes, IntoBytes};

/// The lookups of a FORGET that waits until told.
const WAITS: u64 = 77;

type Forgot = (u64, Option<String>);

/// Waits with every SETLKW until interrupted, reads until told, panics on READLINK, and keeps the rest simple.
#[derive(Default)]
struct Player {
    started: Mutex<Option<Started>>,
    go: Arc<Notify>,
    /// The lookups of each FORGET that came to its end, and the thread on which it did.
    forgets: Arc<Mutex<Vec<Forgot>>>,
    hold: Mutex<Option<(mpsc::Sender<()>, mpsc::Receiver<()>)>>,
    ended: AtomicUsize,
    /// Payloads kept for ever, as by a server that never finishes.
    kept: Mutex<Vec<bytes::Bytes>>,
}

struct Cancel(Notify);

impl Interruptible for Cancel {
    fn interrupt(&self) {
        self.0.notify_one();
    }
}

impl Handler for Player {
    fn started(&self, started: &Started) {
        *self.started.lock().unwrap() = Some(started.clone());
    }

    fn handle(&self, request: Request<'_>, reply: Reply) -> Handled {
        match request.operation() {
            Operation::SetLk { wait: true, .. } => {
                let cancel = Arc::new(Cancel(Notify::new()));
                let waiting = cancel.clone();
                let future = async move {
                    waiting.0.notified().await;
                    reply.error(Errno::INTR);
                };
                if let Some((inside, go_on)) = self.hold.lock().unwrap().take() {
                    // The reader stays in the handler, before the first poll, until the test lets it go on.
                    inside.send(()).unwrap();
                    go_on.recv().unwrap();
                }
                return Handled::interruptible(future, cancel);
            }
            Operation::Read(_) => {
                let go = self.go.clone();
                return Handled::later(async move {
                    go.notified().await;
                    reply.data(b"data");
                });
            }
            Operation::Write(write) => {
                self.kept.lock().unwrap().push(write.data.to_bytes());
                reply.written(write.data.len() as u32);
            }
            Operation::ReadLink => panic!("as the test wants it"),
            Operation::Access { .. } => drop(reply),
            Operation::Forget { lookups } => {
                let (go, ends, lookups) = (self.go.clone(), self.forgets.clone(), *lookups);
                return Handled::later(async move {
                    if lookups == WAITS {
                        go.notified().await;
                    }
                    let thread = std::thread::current().name().map(str::to_owned);
                    ends.lock().unwrap().push((lookups, thread));
                });
            }
            _ => {
                reply.ok();
            }
        }
        Handled::Done
    }

    fn ended(&self) {
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

struct Game {
    kernel: Kernel,
    player: Arc<Player>,
    session: Session,
    _runtime: tokio::runtime::Runtime,
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
}

fn start(
    lane: Arc<SocketLane>,
    wanted: &Wanted,
    limits: Limits,
    player: &Arc<Player>,
    runtime: &tokio::runtime::Runtime,
) -> Result<Session, SessionError> {
    Session::start(lane, None, wanted, limits, player.clone(), runtime.handle())
}

fn game(limits: Limits) -> Game {
    let (lane, kernel) = socket_lane();
    let (player, runtime) = (Arc::new(Player::default()), runtime());
    kernel.ask(&init(45, InitFlags(u64::MAX)));
    let session = start(lane, &Wanted::default(), limits, &player, &runtime).unwrap();
    kernel.answer();
    Game { kernel, player, session, _runtime: runtime }
}

fn one_reader() -> Limits {
    Limits { readers: 1, ..Limits::default() }
}

fn setlkw(unique: u64) -> Vec<u8> {
    lock(Opcode::SetLkW, unique, 1)
}

fn lock(opcode: Opcode, unique: u64, kind: u32) -> Vec<u8> {
    let lk = FileLock { kind, ..FileLock::default() };
    fixed(opcode, unique, &LkIn { lk, ..LkIn::default() }, &[])
}

fn interrupt(unique: u64) -> Vec<u8> {
    fixed(Opcode::Interrupt, unique | INT_REQ_BIT, &InterruptIn { unique }, &[])
}

fn statfs(unique: u64) -> Vec<u8> {
    plain(Opcode::StatFs, unique, &[])
}

fn read(unique: u64) -> Vec<u8> {
    fixed(Opcode::Read, unique, &ReadIn { size: 4096, ..ReadIn::default() }, &[])
}

fn errno(errno: Errno) -> i32 {
    -errno.raw_os_error()
}

impl Game {
    /// The next reply, without its body.
    fn answered(&self) -> (u64, i32) {
        let (header, _) = self.kernel.answer();
        (header.unique, header.error)
    }
}

#[test]
fn init_is_answered_with_what_both_can() {
    let (lane, kernel) = socket_lane();
    let (player, runtime) = (Arc::new(Player::default()), runtime());
    kernel.ask(&init(
        45,
        InitFlags::BIG_WRITES | InitFlags::MAX_PAGES | InitFlags::INIT_EXT | InitFlags::HAS_EXPIRE_ONLY,
    ));
    let session = start(lane, &Wanted::default(), one_reader(), &player, &runtime).unwrap();
    let (header, body) = kernel.answer();
    let answer = InitOut::read_from_bytes(&body).unwrap();
    assert_eq!((header.unique, header.error, answer.major, answer.minor), (2, 0, 7, 45));
    assert_eq!((answer.max_write, answer.max_pages, answer.max_readahead), (1 << 20, 256, 131_072));
    assert_eq!((answer.max_background, answer.congestion_threshold), (64, 48));
    assert_eq!(u64::from(answer.flags), (InitFlags::BIG_WRITES | InitFlags::MAX_PAGES | InitFlags::INIT_EXT).0);
    assert_eq!(answer.flags2, 8);
    assert_eq!(player.started.lock().unwrap().as_ref().unwrap().granted, *session.granted());
}

#[test]
fn a_kernel_of_a_later_major_version_is_asked_to_come_down() {
    let (lane, kernel) = socket_lane();
    let (player, runtime) = (Arc::new(Player::default()), runtime());
    kernel.ask(&fixed(Opcode::Init, 2, &InitIn { major: 8, ..InitIn::default() }, &[]));
    kernel.ask(&init(45, InitFlags(u64::MAX)));
    let session = start(lane, &Wanted::default(), one_reader(), &player, &runtime).unwrap();
    let (_, body) = kernel.answer();
    assert_eq!(InitOut::read_from_bytes(&body).unwrap().major, 7);
    kernel.answer();
    assert_eq!(session.granted().minor, 45);
}

#[test]
fn what_cannot_start_says_so_to_the_kernel_and_to_the_caller() {
    for (minor, offered) in [(30, InitFlags(u64::MAX)), (45, InitFlags::empty())] {
        let (lane, kernel) = socket_lane();
        let (player, runtime) = (Arc::new(Player::default()), runtime());
        kernel.ask(&init(minor, offered));
        let refused = start(lane, &Wanted::default(), one_reader(), &player, &runtime).map(drop).unwrap_err();
        assert!(matches!(refused, SessionError::KernelTooOld { .. } | SessionError::Missing { .. }));
        assert_eq!(kernel.answer().0.error, errno(Errno::PROTO));
    }
    let (lane, kernel) = socket_lane();
    kernel.ask(&statfs(2));
    let (player, runtime) = (Arc::new(Player::default()), runtime());
    let refused = start(lane, &Wanted::default(), one_reader(), &player, &runtime).map(drop).unwrap_err();
    assert_eq!(refused, SessionError::NoInit { opcode: Opcode::StatFs as u32 });
}

#[test]
fn a_waiting_request_ends_with_eintr_when_interrupted() {
    let game = game(one_reader());
    game.kernel.ask(&setlkw(4));
    game.kernel.ask(&interrupt(4));
    assert_eq!(game.answered(), (4, errno(Errno::INTR)));
}

#[test]
fn an_interrupt_that_comes_before_the_first_poll_is_not_lost() {
    let game = game(Limits { readers: 2, ..Limits::default() });
    let (inside, is_inside) = mpsc::channel();
    let (go_on, may_go_on) = mpsc::channel();
    *game.player.hold.lock().unwrap() = Some((inside, may_go_on));
    game.kernel.ask(&setlkw(4));
    is_inside.recv().unwrap();
    game.kernel.ask(&interrupt(4));
    // The second reader reads in order: once this is answered, it has dealt with the INTERRUPT.
    game.kernel.ask(&statfs(6));
    assert_eq!(game.answered(), (6, 0), "no EAGAIN: the kernel need not send it again");
    go_on.send(()).unwrap();
    assert_eq!(game.answered(), (4, errno(Errno::INTR)));
}

#[test]
fn an_interrupt_of_an_unknown_request_is_sent_back_and_never_enosys() {
    let game = game(one_reader());
    game.kernel.ask(&interrupt(400));
    assert_eq!(game.answered(), (400 | INT_REQ_BIT, errno(Errno::AGAIN)));
    game.kernel.ask(&setlkw(400));
    game.kernel.ask(&interrupt(400));
    assert_eq!(game.answered(), (400, errno(Errno::INTR)));
}

#[test]
fn a_request_that_nothing_can_interrupt_is_finished_in_its_own_time() {
    let game = game(one_reader());
    game.kernel.ask(&read(4));
    game.kernel.ask(&interrupt(4));
    game.kernel.ask(&statfs(6));
    assert_eq!(game.answered(), (6, 0), "known, so the INTERRUPT is not sent back");
    game.player.go.notify_one();
    assert_eq!(game.answered(), (4, 0));
}

#[test]
fn at_the_limit_of_waiting_requests_only_what_ends_waiting_passes() {
    let game = game(Limits { pending_max: 2, ..one_reader() });
    game.kernel.ask(&setlkw(4));
    game.kernel.ask(&setlkw(6));
    game.kernel.ask(&setlkw(8));
    assert_eq!(game.answered(), (8, errno(Errno::NOLCK)));
    game.kernel.ask(&statfs(10));
    assert_eq!(game.answered(), (10, errno(Errno::NOMEM)));
    for passes in [
        lock(Opcode::SetLk, 12, 2),
        plain(Opcode::Flush, 12, &[&[0; 24]]),
        plain(Opcode::Release, 12, &[&[0; 24]]),
        plain(Opcode::ReleaseDir, 12, &[&[0; 24]]),
    ] {
        game.kernel.ask(&passes);
        assert_eq!(game.answered(), (12, 0));
    }
    assert_eq!(game.session.pending(), 2);
    game.kernel.ask(&interrupt(4));
    assert_eq!(game.answered(), (4, errno(Errno::INTR)));
    while game.session.pending() == 2 {
        std::thread::yield_now();
    }
    game.kernel.ask(&setlkw(14));
    game.kernel.ask(&statfs(16));
    assert_eq!(game.answered(), (16, errno(Errno::NOMEM)), "14 waits, so the limit is reached again");
}

#[test]
fn a_panicking_or_forgetful_handler_costs_its_own_request_alone() {
    let game = game(one_reader());
    game.kernel.ask(&plain(Opcode::ReadLink, 4, &[]));
    assert_eq!(game.answered(), (4, errno(Errno::IO)));
    game.kernel.ask(&plain(Opcode::Access, 6, &[&[0; 8]]));
    assert_eq!(game.answered(), (6, errno(Errno::IO)));
    game.kernel.ask(&statfs(8));
    assert_eq!(game.answered(), (8, 0));
}

#[test]
fn what_is_malformed_or_newer_than_we_are_is_answered_by_the_session() {
    let game = game(one_reader());
    game.kernel.ask(&plain(Opcode::Lookup, 4, &[b"no end"]));
    assert_eq!(game.answered(), (4, errno(Errno::IO)));
    game.kernel.ask(&common::message(99, 6, &[], &[]));
    assert_eq!(game.answered(), (6, errno(Errno::NOSYS)));
    game.kernel.ask(&init(45, InitFlags(u64::MAX)));
    assert_eq!(game.answered(), (2, errno(Errno::PROTO)));
    game.kernel.ask(b"not even a header");
    game.kernel.ask(&plain(Opcode::Forget, 8, &[&[0; 3]]));
    game.kernel.ask(&plain(Opcode::Destroy, 10, &[]));
    assert_eq!(game.answered(), (10, 0), "the two before want no answer");
}

#[test]
fn forget_is_done_on_the_reader_and_has_no_reply() {
    let game = game(one_reader());
    game.kernel.ask(&forget(4, 3));
    game.kernel.ask(&statfs(6));
    assert_eq!(game.answered(), (6, 0));
    assert_eq!(game.player.forgets.lock().unwrap()[..], [(3, Some("fuse-0".to_owned()))]);
}

#[test]
fn forget_that_waits_leaves_the_reader_and_is_finished_by_the_runtime() {
    let game = game(one_reader());
    game.kernel.ask(&forget(4, WAITS));
    game.kernel.ask(&statfs(6));
    assert_eq!(game.answered(), (6, 0));
    assert!(game.player.forgets.lock().unwrap().is_empty());
    game.player.go.notify_one();
    while game.player.forgets.lock().unwrap().is_empty() {
        std::thread::yield_now();
    }
    let (lookups, thread) = game.player.forgets.lock().unwrap().remove(0);
    assert_eq!(lookups, WAITS);
    assert_ne!(thread.as_deref(), Some("fuse-0"));
}

fn forget(unique: u64, nlookup: u64) -> Vec<u8> {
    fixed(Opcode::Forget, unique, &ForgetIn { nlookup }, &[])
}

#[test]
fn payloads_that_are_kept_stay_as_they_were_whatever_is_read_after_them() {
    let limits = Limits { buffers_max: 3, payload_copy_below: 0, ..one_reader() };
    let game = game(limits);
    for byte in 0..10_u8 {
        let write = WriteIn { size: 5000, ..WriteIn::default() };
        game.kernel.ask(&fixed(Opcode::Write, 4, &write, &[byte; 5000]));
        assert_eq!(game.answered(), (4, 0));
    }
    let kept = game.player.kept.lock().unwrap();
    for (byte, payload) in (0..10_u8).zip(kept.iter()) {
        assert!(payload.len() == 5000 && payload.iter().all(|&b| b == byte));
    }
    let on_pages = kept.iter().filter(|payload| payload.as_ptr().addr().is_multiple_of(4096)).count();
    assert!(on_pages >= 2, "two of three buffers are kept, the third reads on; {on_pages} were");
}

#[test]
fn closing_the_other_side_interrupts_the_waiters_and_ends_the_session_once() {
    let Game { kernel, player, session, _runtime } = game(Limits { readers: 3, ..Limits::default() });
    kernel.ask(&setlkw(4));
    while session.pending() == 0 {
        std::thread::yield_now();
    }
    drop(kernel);
    session.wait();
    assert_eq!(player.ended.load(Ordering::SeqCst), 1);
    while session.pending() > 0 {
        std::thread::yield_now();
    }
}

#[test]
fn a_connection_goes_on_in_another_session_without_init() {
    let (lane, kernel) = socket_lane();
    let (player, runtime) = (Arc::new(Player::default()), runtime());
    let flags = InitFlags::BIG_WRITES;
    let granted = Granted { minor: 45, kernel_minor: 45, flags, offered: flags, max_write: 4096, max_readahead: 0 };
    let session = Session::resume(lane, None, granted, one_reader(), player, runtime.handle()).unwrap();
    kernel.ask(&statfs(4));
    assert_eq!(kernel.answer().0.unique, 4);
    assert!(session.lane().descriptor().is_some());
}

#[test]
fn notifications_are_laid_out_as_the_kernel_reads_them() {
    let game = game(one_reader());
    let notifier = game.session.notifier();
    let node = brickwork_fuse::NodeId(5);
    notifier.inval_inode(node, 4096, u64::MAX).unwrap();
    let (header, body) = game.kernel.answer();
    assert_eq!((header.unique, header.error), (0, NotifyCode::InvalInode as i32));
    assert_eq!(body, NotifyInvalInodeOut { ino: 5, off: 4096, len: 0 }.as_bytes());
    notifier.inval_attributes(node).unwrap();
    assert_eq!(game.kernel.answer().1, NotifyInvalInodeOut { ino: 5, off: -1, len: 0 }.as_bytes());
    notifier.expire_entry(node, b"name").unwrap();
    let fixed = NotifyInvalEntryOut { parent: 5, namelen: 4, flags: EXPIRE_ONLY };
    assert_eq!(game.kernel.answer().1, [fixed.as_bytes(), b"name\0"].concat());
    notifier.delete(node, brickwork_fuse::NodeId(6), b"name").unwrap();
    let fixed = NotifyDeleteOut { parent: 5, child: 6, namelen: 4, padding: 0 };
    assert_eq!(game.kernel.answer().1, [fixed.as_bytes(), b"name\0"].concat());
    notifier.store(node, 8, b"data").unwrap();
    let fixed = NotifyStoreOut { nodeid: 5, offset: 8, size: 4, padding: 0 };
    assert_eq!(game.kernel.answer().1, [fixed.as_bytes(), b"data"].concat());
    for name in [&b""[..], b"a/b", b"a\0", &[b'x'; 1025]] {
        assert_eq!(notifier.inval_entry(node, name), Err(brickwork_fuse::NotifyError::Name));
    }
    assert!(game.kernel.answer_now().is_none());
}
