//! A process that serves: one graph, mounted at one or more places or served to other machines, with an admin socket
//! beside it.
//!
//! [`Server`] owns all of it. Everything that changes it happens in [`Server::drive`], one thing after the other: a
//! request of a command, a signal, the end of a mount. So no two changes ever meet.

pub mod admin;
mod front;
mod life;
pub mod locks;
pub mod log;
pub mod notify;
pub mod process;
mod reload;
mod report;
pub mod signals;
mod up;

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::{ClientId, Host};
use brickwork_graph::host::TokioHost;
use brickwork_graph::plan::Plan;
use brickwork_graph::swap::Slot;
use brickwork_mount::FuseOptions;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};

use crate::codes::Code;
use crate::failure::Failure;
use crate::instance::{Claim, Runtime};
use crate::protocol::{ReloadReport, Request};
use crate::stack::Stack;
use admin::{Admin, Command, QUEUE_MAX};
pub use front::mount_failure;
use front::{Front, Root};
use life::{Heard, start_graph, stop_graph};
use notify::Notify;
use signals::{Signal, Signals};

/// How long a mount may take to answer before it counts as failed.
pub const ANSWER_MAX: Duration = Duration::from_secs(20);
/// How long open files may keep a process that was told to stop; then their connection is cut.
pub const STOP_MAX: Duration = Duration::from_secs(10);
/// How long fops that are under way may keep the graph after its last mount has gone.
pub const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Mounts of one process.
pub const MOUNTS_MAX: usize = 64;

/// The type that serves bricks to other machines.
pub const SERVER: &str = "protocol/server";
/// The type that stands for a brick on another machine.
pub const CLIENT: &str = "protocol/client";

/// What to serve, and where.
#[derive(Debug)]
pub struct Order {
    /// The name that this instance would like.
    pub instance: String,
    /// The volfile.
    pub stack: Stack,
    /// What the volfile asks for.
    pub plan: Plan,
    /// Where to mount it; nowhere when the graph serves other machines.
    pub points: Vec<PathBuf>,
    /// What `-o` said.
    pub options: FuseOptions,
    /// How long to wait for the first brick on another machine; without it, the first reason why not is the last.
    pub wait: Option<Duration>,
    /// Who hears how far the process is.
    pub notify: Notify,
    /// Threads of the pool, for reports.
    pub pool_threads: usize,
}

/// Everything that runs in a serving process.
#[derive(Debug)]
pub struct Server {
    stack: Stack,
    plan: Plan,
    root: Arc<Root>,
    // Gets the slot when the last mount has let go of the root.
    slot: oneshot::Receiver<Slot>,
    fronts: Vec<Front>,
    commands: mpsc::Receiver<Command>,
    ended: mpsc::Receiver<PathBuf>,
    heard: Arc<Heard>,
    reloads: ReloadReport,
    started: Instant,
    // Who asks the graph where no mount does.
    asker: ClientId,
    pool_threads: usize,
    notify: Notify,
    admin: Admin,
    // Dropped last: the name is free when nothing of this instance is left.
    claim: Claim,
}

/// Why the driver came back.
#[derive(Debug)]
pub enum Ended<T> {
    /// What it was to wait for is there.
    Done(T),
    /// The process was told to stop.
    Told(Signal),
    /// The last mount is gone.
    Unmounted,
}

impl Server {
    /// Builds and starts the graph, mounts it, and returns when every mount answers through the kernel.
    ///
    /// # Errors
    /// The first thing that did not work, or `Interrupted` by a signal while it waited for a brick; what was begun
    /// before it is undone.
    pub async fn start(order: Order, signals: &mut Signals) -> Result<Server, Failure> {
        let started = Instant::now();
        let claim = Runtime::find().claim(&order.instance)?;
        let (sender, commands) = mpsc::channel(QUEUE_MAX);
        let admin = listen(&claim, sender)?;
        let runtime = tokio::runtime::Handle::current();
        let host: Arc<dyn Host> = Arc::new(TokioHost::with_pool(runtime, order.pool_threads));
        let heard = Arc::new(Heard::default());
        let (root, slot) = Root::new(start_graph(&order.plan, &host, heard.clone()).await?);
        let (tell_ended, ended) = mpsc::channel(MOUNTS_MAX);
        let mut server = Server {
            stack: order.stack,
            plan: order.plan,
            root,
            slot,
            fronts: Vec::new(),
            commands,
            ended,
            heard,
            reloads: ReloadReport::default(),
            started,
            asker: ClientId::random(),
            pool_threads: order.pool_threads,
            notify: order.notify,
            admin,
            claim,
        };
        let started = match server.wait_until_up(order.wait, signals).await {
            Ok(()) => server.mount_all(&order.points, &order.options, &host, &tell_ended).await,
            Err(failure) => Err(failure),
        };
        match started {
            Ok(()) => {
                server.notify.ready(&server.summary());
                Ok(server)
            }
            Err(failure) => {
                server.stop(true).await;
                Err(failure)
            }
        }
    }

    async fn mount_all(
        &mut self,
        points: &[PathBuf],
        options: &FuseOptions,
        host: &Arc<dyn Host>,
        ended: &mpsc::Sender<PathBuf>,
    ) -> Result<(), Failure> {
        for point in points {
            let front = Front::mount(&self.root, point, options, &self.stack.name(), host, ended.clone()).await?;
            self.heard.tell(front.mount_of());
            self.fronts.push(front);
        }
        for front in &self.fronts {
            front.answers(ANSWER_MAX).await?;
        }
        self.list_mounts()
    }

    /// The name of this instance.
    #[must_use]
    pub fn instance(&self) -> &str {
        self.claim.name()
    }

    /// Where it is mounted.
    pub fn points(&self) -> impl Iterator<Item = &Path> {
        self.fronts.iter().map(Front::point)
    }

    /// Serves until `until` is done, the process is told to stop, or the last mount is gone. Can be called again.
    pub async fn drive<F: Future>(&mut self, signals: &mut Signals, mut until: Pin<&mut F>) -> Ended<F::Output> {
        let mut beat = self.notify.beat();
        loop {
            tokio::select! {
                done = &mut until => return Ended::Done(done),
                Some(command) = self.commands.recv() => self.obey(command).await,
                Some(point) = self.ended.recv() => {
                    self.forget(&point);
                    if self.fronts.is_empty() {
                        return Ended::Unmounted;
                    }
                }
                signal = signals.next() => match signal {
                    Signal::Hangup => self.reload().await,
                    Signal::User1 => self.dump_to_file().await,
                    Signal::Interrupt | Signal::Terminate => return Ended::Told(signal),
                },
                // From here, so that a driver that is stuck is noticed.
                () = beat.next() => self.notify.alive(&self.summary()),
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        let answer = match command.request {
            Request::Unmount { path, lazy } => self.unmount(&path, lazy).await,
            // Questions are answered beside the driver: a brick that is slow to say how full it is holds up nobody.
            Request::Status => return self.answer_beside(command.answer, |report| report.status()),
            Request::Graph => Ok(json!(self.questions().graph())),
            Request::Dump => return self.answer_beside(command.answer, |report| report.dump()),
            Request::Locks { brick, paths, ask } => {
                return self.try_beside(command.answer, |locks| locks.locks(brick, paths, ask));
            }
            Request::LocksDrop { brick, ask } => {
                return self.try_beside(command.answer, |locks| locks.drop_locks(brick, ask));
            }
            Request::LocksRestore { brick, ask } => {
                return self.try_beside(command.answer, |locks| locks.restore_locks(brick, ask));
            }
            Request::MountLock(lock) => return self.mount_lock(lock, command.answer),
            Request::Grace { brick } => return self.try_beside(command.answer, |locks| locks.grace(brick)),
            Request::GraceEnd { brick, ask } => {
                return self.try_beside(command.answer, move |locks| locks.end_grace(brick, ask));
            }
        };
        // A client that did not wait for its answer needs none.
        let _ = command.answer.send(answer);
    }

    async fn unmount(&mut self, path: &Path, lazy: bool) -> Result<Value, Failure> {
        let Some(front) = self.fronts.iter().find(|front| front.point() == path) else {
            return Err(Failure::new(Code::NotMounted, format!("`{}` is not mounted here", path.display())));
        };
        front.unmount(lazy).await?;
        let left = self.fronts.iter().filter(|front| front.point() != path).count();
        Ok(json!({"left": left}))
    }

    fn forget(&mut self, point: &Path) {
        tracing::info!(point = %point.display(), "unmounted");
        self.fronts.retain(|front| front.point() != point);
        if let Err(failure) = self.list_mounts() {
            tracing::warn!(%failure, "the list of mounts is out of date");
        }
    }

    fn list_mounts(&self) -> Result<(), Failure> {
        self.claim.list_mounts(self.points()).map_err(|error| {
            Failure::new(Code::RuntimeDirectory, "the mounts of this instance cannot be written down").because(error)
        })
    }
}

impl Server {
    /// Unmounts everything and ends. Files that are still open on it may finish for [`STOP_MAX`], unless `at_once`;
    /// what clients on other machines have asked for is answered.
    ///
    /// Answers whether everything ended by itself.
    pub async fn stop(mut self, at_once: bool) -> bool {
        self.notify.stopping();
        let notify = std::mem::take(&mut self.notify);
        let mut beat = notify.beat();
        let mut stopped = Box::pin(self.stop_all(at_once));
        loop {
            tokio::select! {
                clean = &mut stopped => return clean,
                () = beat.next() => notify.alive("stopping"),
            }
        }
    }

    async fn stop_all(mut self, at_once: bool) -> bool {
        // Whoever asks from now on hears that the instance is stopping.
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        let patience = if at_once { Duration::ZERO } else { STOP_MAX };
        let mut clean = at_once || self.take_away().await;
        if tokio::time::timeout(patience, self.all_ended()).await.is_err() {
            clean &= at_once;
            clean &= self.cut().await;
            if tokio::time::timeout(STOP_MAX, self.all_ended()).await.is_err() {
                tracing::error!("a mount has not ended although its connection was cut");
                clean = false;
            }
        }
        self.admin.close().await;
        drop(self.fronts);
        drop(self.root);
        stop_graph(self.slot).await && clean
    }

    /// Takes every mount out of the tree; those in use live on.
    async fn take_away(&self) -> bool {
        let mut taken = true;
        for front in &self.fronts {
            if let Err(failure) = front.unmount(true).await {
                tracing::error!(%failure, "a mount could not be taken away");
                taken = false;
            }
        }
        taken
    }

    async fn all_ended(&mut self) {
        while !self.fronts.is_empty()
            && let Some(point) = self.ended.recv().await
        {
            self.forget(&point);
        }
    }

    /// Ends every mount that is left, open files or not.
    async fn cut(&self) -> bool {
        let mut all = true;
        for front in &self.fronts {
            all &= front.cut().await;
        }
        all
    }
}

fn listen(claim: &Claim, commands: mpsc::Sender<Command>) -> Result<Admin, Failure> {
    let refused = |error: std::io::Error| {
        Failure::new(Code::RuntimeDirectory, format!("the admin socket of `{}` cannot be made", claim.name()))
            .because(error)
    };
    let path = claim.socket().map_err(refused)?;
    Admin::serve(admin::bind(&path).map_err(refused)?, commands).map_err(refused)
}
