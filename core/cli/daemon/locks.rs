//! What administrators ask of the locks of this process's bricks: handed to `features/locks`, paths filled in.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use brickwork_api::locks::RECLAIM_REFUSED;
use brickwork_api::ranges::ByteRange;
use brickwork_api::{
    Cx, Entry, Errno, FopError, GetxattrReq, Gfid, Host, IpcReq, LkKind, LkOwner, Locate, LookupReq, Name, XattrName,
    Xdata, Xlator,
};
use brickwork_graph::graph::Graph;
use brickwork_graph::host::TokioHost;
use brickwork_locks::admin;
use brickwork_locks::admin::shapes::{
    DropAnswer, DropAsk, GraceAnswer, GraceEndAnswer, GraceEndAsk, Kind, ListAnswer, ListAsk, LockRow, RestoreAnswer,
    RestoreAsk,
};
use brickwork_volume::Lock;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::report::Questions;
use super::{SERVER, Server};
use crate::codes::Code;
use crate::failure::Failure;
use crate::protocol::{BrickLocks, GraceReport, LocksReport, MountLock, MountLockAct, ProblemReport};

/// The type that keeps locks.
pub const LOCKS: &str = "features/locks";
/// Objects of one answer whose path is looked for, in each brick; the others are shown by their gfid.
const PATHS_MAX: usize = 4096;
/// The virtual xattr with a path of an object.
const PATH: &[u8] = b"glusterfs.gfidtopath";

impl Server {
    /// Answers by `work` in a task of its own.
    pub(super) fn try_beside<T, W>(
        &self,
        answer: oneshot::Sender<Result<Value, Failure>>,
        work: impl FnOnce(Questions) -> W + Send + 'static,
    ) where
        T: Serialize,
        W: Future<Output = Result<T, Failure>> + Send + 'static,
    {
        let questions = self.questions();
        tokio::spawn(async move {
            // A client that did not wait for its answer needs none.
            let _ = answer.send(work(questions).await.map(|done| json!(done)));
        });
    }
}

impl Server {
    /// Takes over or releases a lock as the client behind a mount, in a task of its own.
    pub(super) fn mount_lock(&self, lock: MountLock, answer: oneshot::Sender<Result<Value, Failure>>) {
        let front = self.fronts.iter().find(|front| front.point() == lock.mount);
        let mount = front.map(|front| front.mount_of().clone());
        tokio::spawn(async move {
            let done = match mount {
                Some(mount) => act_on(&mount, &lock).await,
                None => Err(Failure::new(Code::NotMounted, format!("`{}` is not mounted here", lock.mount.display()))),
            };
            // A client that did not wait for its answer needs none.
            let _ = answer.send(done.map(|()| Value::Null));
        });
    }
}

async fn act_on(mount: &brickwork_mount::Mount, lock: &MountLock) -> Result<(), Failure> {
    let path = Path::new(OsStr::from_bytes(&lock.path));
    let what = Path::join(&lock.mount, path);
    let invalid = |why: &str| Failure::new(Code::LockSelector, "no such lock can be").because(why);
    let kind = match lock.kind {
        Kind::Posix => LkKind::Posix,
        Kind::Flock => LkKind::Flock,
        Kind::Inode | Kind::Entry => return Err(invalid("only locks of applications are taken over")),
    };
    let owner = LkOwner::new(&lock.owner).map_err(|_| invalid("a lock owner has at most 1024 bytes"))?;
    let range = ByteRange::new(lock.start, lock.end).ok_or_else(|| invalid("the range has no byte in it"))?;
    let control = mount.control();
    let taken = |shared| Lock { kind, range, shared };
    let done = match lock.act {
        MountLockAct::Release => control.release(path, &owner, kind, range).await.map(drop),
        MountLockAct::ReclaimExclusive => control.reclaim(path, &owner, taken(false)).await,
        MountLockAct::ReclaimShared => control.reclaim(path, &owner, taken(true)).await,
    };
    done.map_err(|error| mount_lock_failure(lock.act, &what, &error))
}

fn mount_lock_failure(act: MountLockAct, what: &Path, error: &FopError) -> Failure {
    let what = what.display();
    if error.errno() == Errno::ENOENT {
        return Failure::new(Code::NoSuchObject, format!("there is no `{what}`")).because(error);
    }
    let refused = error.xdata().get(&RECLAIM_REFUSED).ok().flatten();
    match (act, refused) {
        (MountLockAct::Release, _) => {
            Failure::new(Code::NoSuchLock, format!("nothing was released on `{what}`")).because(error)
        }
        (_, Some(why)) => Failure::new(Code::ReclaimRefused, format!("the lock on `{what}` was not taken over"))
            .because(why)
            .next("brickwork locks explain PATH, on the machine of the brick, shows who holds it"),
        (_, None) => {
            Failure::new(Code::ReclaimRefused, format!("the lock on `{what}` was not taken over")).because(error)
        }
    }
}

impl Questions {
    /// The locks that are meant, of `brick` or of all.
    ///
    /// # Errors
    /// `NoLocks`, `LocksFailed`.
    pub async fn locks(self, brick: Option<String>, paths: Vec<String>, ask: ListAsk) -> Result<LocksReport, Failure> {
        let mut report = LocksReport::default();
        let mut unknown = paths.clone();
        for keeper in self.keepers(brick.as_deref())? {
            let mut ask = ask.clone();
            for path in &paths {
                if let Some(gfid) = keeper.find(path).await? {
                    ask.gfids.push(gfid);
                    unknown.retain(|other| other != path);
                }
            }
            // Without an object this brick has nothing that is meant; an empty list would mean everything.
            let list = match ask.gfids.is_empty() && !paths.is_empty() {
                true => ListAnswer::default(),
                false => keeper.list(&ask).await?,
            };
            report.bricks.push(BrickLocks { brick: keeper.brick, list });
        }
        report.unknown = unknown;
        Ok(report)
    }

    /// Takes locks of `brick` from their owners.
    ///
    /// # Errors
    /// `NoLocks`, `LocksFailed`.
    pub async fn drop_locks(self, brick: String, ask: DropAsk) -> Result<DropAnswer, Failure> {
        let keeper = self.keeper(&brick)?;
        let mut answer: DropAnswer = keeper.ask(admin::DROP, &ask).await?;
        if !ask.dry_run && !answer.dropped.is_empty() {
            tracing::info!(
                brick,
                locks = answer.dropped.len(),
                fenced_opens = answer.fenced_opens,
                reason = ask.reason,
                "locks dropped"
            );
        }
        keeper.name_paths(answer.dropped.iter_mut()).await;
        Ok(answer)
    }

    /// Gives dropped locks of `brick` back.
    ///
    /// # Errors
    /// `NoLocks`, `LocksFailed`.
    pub async fn restore_locks(self, brick: String, ask: RestoreAsk) -> Result<RestoreAnswer, Failure> {
        let answer: RestoreAnswer = self.keeper(&brick)?.ask(admin::RESTORE, &ask).await?;
        tracing::info!(brick, asked = ask.locks.len(), restored = answer.restored(), "locks restored");
        Ok(answer)
    }

    /// How the graces are going, of `brick` or of all.
    ///
    /// # Errors
    /// `NoLocks`, `LocksFailed`.
    pub async fn grace(self, brick: Option<String>) -> Result<Vec<GraceReport>, Failure> {
        let mut reports = Vec::new();
        for keeper in self.keepers(brick.as_deref())? {
            let grace: GraceAnswer = keeper.ask(admin::GRACE, &()).await?;
            reports.push(GraceReport { brick: keeper.brick, grace });
        }
        Ok(reports)
    }

    /// Ends the grace of `brick`.
    ///
    /// # Errors
    /// `NoLocks`, `LocksFailed`.
    pub async fn end_grace(self, brick: String, ask: GraceEndAsk) -> Result<GraceEndAnswer, Failure> {
        let answer: GraceEndAnswer = self.keeper(&brick)?.ask(admin::GRACE_END, &ask).await?;
        if answer.ended && answer.grace.active {
            tracing::info!(brick, force = ask.force, "grace ended");
        }
        Ok(answer)
    }

    /// Those of `brick`, or all.
    fn keepers(&self, brick: Option<&str>) -> Result<Vec<Keeper>, Failure> {
        let mut keepers = keepers(self.running().graph(), self.asker());
        if keepers.is_empty() {
            let instance = self.instance();
            return Err(Failure::new(
                Code::NoLocks,
                format!("`{instance}` keeps no locks: its graph has no `{LOCKS}`"),
            )
            .next("ask on the machine of the brick; brickwork graph show shows what runs here"));
        }
        if let Some(brick) = brick {
            let known: Vec<String> = keepers.iter().map(|keeper| keeper.brick.clone()).collect();
            keepers.retain(|keeper| keeper.brick == brick);
            if keepers.is_empty() {
                return Err(Failure::new(Code::NoLocks, format!("`{}` has no brick `{brick}`", self.instance()))
                    .next(format!("its bricks that keep locks: {}", known.join(", "))));
            }
        }
        Ok(keepers)
    }

    fn keeper(&self, brick: &str) -> Result<Keeper, Failure> {
        let mut keepers = self.keepers(Some(brick))?;
        Ok(keepers.remove(0))
    }

    /// What is wrong about the locks, for `status`: what a `features/locks` says of itself, nothing is looked for.
    pub(super) async fn lock_problems(&self) -> Vec<ProblemReport> {
        let mut problems = Vec::new();
        for keeper in keepers(self.running().graph(), self.asker()) {
            match keeper.ask::<_, GraceAnswer>(admin::GRACE, &()).await {
                Ok(grace) if grace.active => problems.push(grace_problem(&keeper.brick, &grace)),
                Ok(_) => {}
                Err(failure) => tracing::warn!(%failure, "a brick does not say whether it is in a grace"),
            }
        }
        problems
    }
}

fn grace_problem(brick: &str, grace: &GraceAnswer) -> ProblemReport {
    ProblemReport {
        what: format!(
            "brick `{brick}` is in grace for {} at most: {}",
            crate::output::span(grace.ends_in_ms.div_ceil(1000)),
            grace.reason
        ),
        effect: format!("new locks wait for those who held some before; {} requests do now", grace.waiting_requests),
        next: "brickwork grace status".to_owned(),
    }
}

/// A `features/locks` of the graph.
struct Keeper {
    /// The name that clients ask for what is above it.
    brick: String,
    xlator: Arc<dyn Xlator>,
    cx: Cx,
}

fn keepers(graph: &Graph, asker: brickwork_api::ClientId) -> Vec<Keeper> {
    let host: Arc<dyn Host> = Arc::new(TokioHost::new(tokio::runtime::Handle::current()));
    let locks = graph.nodes().iter().enumerate().filter(|(_, node)| node.kind.name == LOCKS);
    locks
        .map(|(index, node)| Keeper {
            brick: export_above(graph, index),
            xlator: node.xlator.clone(),
            cx: Cx::internal(asker, host.clone()),
        })
        .collect()
}

/// The name of what a `protocol/server` serves and `index` is part of; its own where nothing is served.
fn export_above(graph: &Graph, index: usize) -> String {
    let nodes = graph.nodes();
    let exports = nodes.iter().filter(|node| node.kind.name == SERVER).flat_map(|server| server.children.iter());
    let above = exports.copied().find(|&export| reaches(graph, export, index));
    nodes[above.unwrap_or(index)].name.to_string()
}

fn reaches(graph: &Graph, from: usize, to: usize) -> bool {
    from == to || graph.nodes()[from].children.iter().any(|&child| reaches(graph, child, to))
}

impl Keeper {
    async fn ask<A: Serialize, T: DeserializeOwned>(&self, operation: &str, argument: &A) -> Result<T, Failure> {
        let request = IpcReq {
            operation: operation.to_owned(),
            payload: serde_json::to_vec(argument).expect("plain data").into(),
            xdata: Xdata::EMPTY,
        };
        let answer = self.xlator.ipc(&self.cx, &request).await.map_err(|error| self.failed(&error))?;
        serde_json::from_slice(&answer.payload).map_err(|error| {
            Failure::new(Code::LocksFailed, format!("brick `{}` gave a strange answer", self.brick)).because(error)
        })
    }

    async fn list(&self, ask: &ListAsk) -> Result<ListAnswer, Failure> {
        let mut answer: ListAnswer = self.ask(admin::LIST, ask).await?;
        self.name_paths(answer.locks.iter_mut()).await;
        Ok(answer)
    }

    /// Fills in the paths of `rows`.
    async fn name_paths<'a>(&self, rows: impl Iterator<Item = &'a mut LockRow>) {
        let mut known: HashMap<Gfid, Option<String>> = HashMap::new();
        for row in rows {
            let path = match known.get(&row.gfid) {
                Some(path) => path.clone(),
                None if known.len() >= PATHS_MAX => continue,
                None => {
                    let path = self.path(row.gfid).await;
                    known.insert(row.gfid, path.clone());
                    path
                }
            };
            row.path = path;
        }
    }

    /// A path in the volume of `gfid`; `None` when it has no name that is known.
    async fn path(&self, gfid: Gfid) -> Option<String> {
        let name = XattrName::new(PATH).expect("a name");
        let request = GetxattrReq { target: gfid.into(), name, xdata: Xdata::EMPTY };
        match self.xlator.getxattr(&self.cx, &request).await {
            Ok(reply) => Some(String::from_utf8_lossy(&reply.value).into_owned()),
            Err(error) => {
                tracing::debug!(%gfid, %error, "a locked file has no path");
                None
            }
        }
    }

    /// The object with the path `path` in the volume, or of `gfid:UUID`; `None` when there is none.
    async fn find(&self, path: &str) -> Result<Option<Gfid>, Failure> {
        if let Some(gfid) = path.strip_prefix("gfid:") {
            let wrong = |why: String| Failure::new(Code::LockSelector, why);
            return gfid.parse().map(Some).map_err(wrong);
        }
        let mut at = Gfid::ROOT;
        for part in path.split('/').filter(|part| !part.is_empty()) {
            let Ok(name) = Name::new(part.as_bytes()) else { return Ok(None) };
            let target = Locate::Entry(Entry { parent: at, name });
            match self.xlator.lookup(&self.cx, &LookupReq { target, xdata: Xdata::EMPTY }).await {
                Ok(reply) => at = reply.attr.gfid,
                Err(error) if [Errno::ENOENT, Errno::ENOTDIR].contains(&error.errno()) => return Ok(None),
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(Some(at))
    }

    fn failed(&self, error: &FopError) -> Failure {
        Failure::new(Code::LocksFailed, format!("brick `{}` refused", self.brick))
            .because(error)
            .next("its log says more")
    }
}
