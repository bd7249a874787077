//! Some clients ask at once, the brick dies at any step, they ask again: is there an order of their requests, each done
//! once, that gives what they were answered and what is there?

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use brickwork_api::*;
use brickwork_testkit::block_on;
use brickwork_testkit::client::entry;
use proptest::prelude::*;

use super::world::{World, attach, gfid};
use super::{Answer, Session};

const NAMES: [&str; 3] = ["g", "d", "h"];

/// Gives way before and after each fop, so that others come in between and death too.
struct GivesWay(Arc<dyn Xlator>);

impl Xlator for GivesWay {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.0)
    }

    each_fop!();
}

impl Each for GivesWay {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            give_way().await;
            let reply = F::call(&*self.0, cx, request).await;
            give_way().await;
            reply
        })
    }
}

/// Pending once.
fn give_way() -> impl Future<Output = ()> {
    let mut gave = false;
    std::future::poll_fn(move |_: &mut Context<'_>| match std::mem::replace(&mut gave, true) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
}

/// A request on names that point to files and one directory.
#[derive(Clone, Copy, Debug)]
enum Op {
    Mkdir(usize, u8),
    Link(usize),
    Unlink(usize),
    Rmdir(usize),
    Rename(usize, usize, RenameMode),
    Append(u8),
}

/// What there is: the gfid of each name, and what was appended in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Plain {
    names: BTreeMap<usize, (Gfid, bool)>,
    appended: Vec<u8>,
}

impl Op {
    fn fop(self) -> Fop {
        let at = |name: usize| entry(Gfid::ROOT, NAMES[name]);
        let xdata = Xdata::EMPTY;
        match self {
            Op::Mkdir(name, new) => {
                Fop::Mkdir(MkdirReq { entry: at(name), gfid: gfid(new), mode: 0o755, umask: 0, xdata })
            }
            Op::Link(name) => Fop::Link(LinkReq { gfid: gfid(1), entry: at(name), xdata }),
            Op::Unlink(name) => Fop::Unlink(UnlinkReq { entry: at(name), xdata }),
            Op::Rmdir(name) => Fop::Rmdir(RmdirReq { entry: at(name), xdata }),
            Op::Rename(from, to, mode) => Fop::Rename(RenameReq { from: at(from), to: at(to), mode, xdata }),
            Op::Append(byte) => {
                let data = vec![byte; 4].into();
                let file = super::world::FILE;
                Fop::Write(WriteReq { file, offset: 0, data, append: true, kill_set_id: false, xdata })
            }
        }
    }

    /// Does it in the plainest way; whether it succeeded, or which error it is.
    fn apply(self, plain: &mut Plain) -> Result<(), Errno> {
        match self {
            Op::Mkdir(name, new) => plain.add(name, (gfid(new), true)),
            Op::Link(name) => plain.add(name, (gfid(1), false)),
            Op::Unlink(name) => match plain.names.get(&name) {
                None => Err(Errno::ENOENT),
                Some((_, true)) => Err(Errno::EISDIR),
                Some(_) => plain.names.remove(&name).map(drop).ok_or(Errno::ENOENT),
            },
            Op::Rmdir(name) => match plain.names.get(&name) {
                None => Err(Errno::ENOENT),
                Some((_, false)) => Err(Errno::ENOTDIR),
                Some(_) => plain.names.remove(&name).map(drop).ok_or(Errno::ENOENT),
            },
            Op::Rename(from, to, mode) => plain.rename(from, to, mode),
            Op::Append(byte) => {
                plain.appended.push(byte);
                Ok(())
            }
        }
    }
}

impl Plain {
    fn add(&mut self, name: usize, object: (Gfid, bool)) -> Result<(), Errno> {
        if self.names.contains_key(&name) {
            return Err(Errno::EEXIST);
        }
        self.names.insert(name, object);
        Ok(())
    }

    fn rename(&mut self, from: usize, to: usize, mode: RenameMode) -> Result<(), Errno> {
        let moved = *self.names.get(&from).ok_or(Errno::ENOENT)?;
        match (self.names.get(&to).copied(), mode) {
            (None, RenameMode::Exchange) => return Err(Errno::ENOENT),
            (Some(_), RenameMode::NoReplace) => return Err(Errno::EEXIST),
            (Some(other), _) if other.0 == moved.0 => return Ok(()),
            (Some(other), RenameMode::Exchange) => {
                self.names.insert(from, other);
                self.names.insert(to, moved);
                return Ok(());
            }
            (Some((_, other)), RenameMode::Replace) if other != moved.1 => {
                return Err(if moved.1 { Errno::ENOTDIR } else { Errno::EISDIR });
            }
            _ => {}
        }
        self.names.remove(&from);
        self.names.insert(to, moved);
        Ok(())
    }

    /// What the brick has.
    fn of(world: &World) -> Plain {
        let mut plain = Plain::default();
        for (number, name) in NAMES.iter().enumerate() {
            let target = Locate::Entry(entry(Gfid::ROOT, name));
            if let Ok(Reply::Lookup(found)) = world.direct(Fop::Lookup(LookupReq { target, xdata: Xdata::EMPTY })) {
                plain.names.insert(number, (found.attr.gfid, found.attr.kind == FileKind::Directory));
            }
        }
        let read = ReadReq { file: super::world::FILE, offset: 8202, size: 4096, xdata: Xdata::EMPTY };
        let Ok(Reply::Read(read)) = world.direct(Fop::Read(read)) else { panic!("`f` is open") };
        assert!(read.data.len().is_multiple_of(4), "half an append: {:?}", read.data);
        plain.appended = read.data.chunks(4).map(|part| part[0]).collect();
        plain
    }
}

fn outcome(answer: &Answer) -> Result<(), Errno> {
    match answer.failure {
        false => Ok(()),
        true => Err(brickwork_codec::decode::<FopError>(&answer.header).unwrap().errno()),
    }
}

/// Whether some order of `ops` from `before` gives their outcomes and `after`.
fn explained(ops: &[(Op, Result<(), Errno>)], before: &Plain, after: &Plain) -> bool {
    if ops.is_empty() {
        return before == after;
    }
    (0..ops.len()).any(|first| {
        let (mut rest, mut plain) = (ops.to_vec(), before.clone());
        let (op, outcome) = rest.remove(first);
        op.apply(&mut plain) == outcome && explained(&rest, &plain, after)
    })
}

type Asked<'w> = Pin<Box<dyn Future<Output = Option<Answer>> + 'w>>;

/// Polls those requests that are not answered in the order of `schedule`, until it ends. What was answered is then asked
/// once more, as a duplicate on another connection would.
fn run(
    world: &World,
    sessions: &[Arc<Session<u32>>],
    fops: &[Fop],
    schedule: &[usize],
    answers: &mut [Option<Answer>],
) -> Result<(), TestCaseError> {
    let child = GivesWay(world.leaf.clone());
    let asked = fops.iter().zip(sessions).zip(&*answers).map(|((fop, session), answer)| {
        let asked: Asked<'_> = Box::pin(world.ask(session, &child, (0, 1), fop));
        answer.is_none().then_some(asked)
    });
    let mut asked: Vec<Option<Asked<'_>>> = asked.collect();
    for next in schedule.iter().map(|next| next % fops.len()) {
        if let Some(request) = &mut asked[next]
            && let Poll::Ready(answer) = request.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        {
            asked[next] = None;
            let again = block_on(world.ask(&sessions[next], &*world.leaf, (0, 1), &fops[next]));
            prop_assert_eq!(&again, &answer, "two answers to one request");
            answers[next] = answer;
        }
    }
    Ok(())
}

fn any_op(new: u8) -> impl Strategy<Value = Op> {
    let name = 0..NAMES.len();
    let mode = prop_oneof![Just(RenameMode::Replace), Just(RenameMode::NoReplace), Just(RenameMode::Exchange)];
    prop_oneof![
        name.clone().prop_map(move |name| Op::Mkdir(name, new)),
        name.clone().prop_map(Op::Link),
        name.clone().prop_map(Op::Unlink),
        name.clone().prop_map(Op::Rmdir),
        (name.clone(), name, mode).prop_map(|(from, to, mode)| Op::Rename(from, to, mode)),
        Just(Op::Append(new)),
    ]
}

fn cases() -> u32 {
    if std::env::var("BRICKWORK_ROUNDS").is_ok_and(|rounds| rounds == "full") { 20_000 } else { 400 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn whatever_the_moment_of_death_every_request_happens_once(
        ops in (any_op(30), any_op(31), any_op(32)),
        schedule in prop::collection::vec(0usize..3, 0..40),
        again in prop::collection::vec(0usize..3, 0..40),
    ) {
        let ops = [ops.0, ops.1, ops.2];
        let fops = ops.map(Op::fop);
        let world = World::new("process");
        let before = Plain::of(&world);
        let clients = [super::world::CLIENT, ClientId(8), ClientId(9)];
        for client in &clients[1..] {
            world.open_for(*client);
        }
        let mut answers: Vec<Option<Answer>> = vec![None; ops.len()];
        // It dies twice, and the third process answers all.
        for (incarnation, schedule) in [(1, &schedule), (2, &again)] {
            let sessions = world.start();
            let attached: Vec<_> = clients.iter().map(|client| attach(&sessions, *client, incarnation)).collect();
            run(&world, &attached, &fops, schedule, &mut answers)?;
        }
        let sessions = world.start();
        for ((client, fop), answer) in clients.iter().zip(&fops).zip(&mut answers) {
            let session = attach(&sessions, *client, 3);
            if answer.is_none() {
                *answer = block_on(world.ask(&session, &*world.leaf, (0, 1), fop));
            }
        }
        let history: Vec<_> = ops.iter().copied().zip(answers.iter().flatten().map(outcome)).collect();
        let after = Plain::of(&world);
        prop_assert!(explained(&history, &before, &after), "{history:?}\nfrom {before:?}\nto {after:?}");
    }
}
