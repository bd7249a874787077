//! What the operations of one mount share: from a request to a fop on the graph, and from its answer to a reply.

use std::any::Any;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use brickwork_api::locks::LOCK_LOST;
use brickwork_api::xdata::UNCACHED;
use brickwork_api::{
    Attr, Cancel, Credentials, Cx, Errno, FileKind, FopError, FopKind, FopType, ForgetReq, Gfid, Host, LkOwner, LkReq,
    OpenFile, OpenId, ReadReq, ReleaseReq, ReleasedirReq, RequestId, WriteReq, Xdata, Xlator,
};
use brickwork_fuse::{Delivery, Entry, Fh, Handled, LockOwner, NodeId, Reply, Request, Started};
use brickwork_volume::{Client, Slot, Volume, lane};
use parking_lot::Mutex;

use crate::closings::Closings;
use crate::coherence::{Changing, Coherence, Freshness, Moment};
use crate::commands::Commands;
use crate::control::Control;
use crate::convert;
use crate::counters::Counters;
use crate::drops::Drops;
use crate::groups::{Groups, Identity};
use crate::invalidate::Later;
use crate::killed::{Flushes, Killable};
use crate::nodes::Nodes;
use crate::opens::Opens;

/// Where a mount finds the graph.
pub trait Roots: Send + Sync + 'static {
    /// The root of the graph that serves now. Asked once for each fop; whoever keeps the value keeps the graph.
    fn root(&self) -> Arc<dyn Xlator>;

    /// Whether an xlator of the graph keeps the locks of applications.
    fn keeps_locks(&self) -> bool;
}

/// Objects that one `forget` names at most.
const FORGET_BATCH: usize = 1024;

/// How the kernel is to treat what it is told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Treatment {
    /// Counts where the kernel can let all names run out; so does `negative_valid`.
    pub(crate) entry_valid: Duration,
    pub(crate) attr_valid: Duration,
    pub(crate) negative_valid: Duration,
    /// The graph tells of every change by others before it is answered.
    pub(crate) invalidates: bool,
    /// Reads and writes of every file go past the page cache.
    pub(crate) direct_io: bool,
    /// Size and time tell every change of content, so that what is cached may outlive a close.
    pub(crate) fine_timestamps: bool,
}

/// For whom a fop is done, as far as the request tells.
pub(crate) struct Caller {
    pub(crate) credentials: Credentials,
    pub(crate) lk_owner: LkOwner,
    /// Set when the process is being killed.
    pub(crate) killed: Cancel,
}

/// One mount in front of one graph.
pub(crate) struct Front {
    pub(crate) roots: Arc<dyn Roots>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) client: Arc<Client>,
    pub(crate) treatment: Treatment,
    pub(crate) nodes: Nodes,
    pub(crate) opens: Opens,
    pub(crate) flushes: Flushes,
    pub(crate) groups: Groups,
    pub(crate) commands: Commands,
    pub(crate) closings: Arc<Closings>,
    pub(crate) counters: Counters,
    pub(crate) started: OnceLock<Started>,
    pub(crate) coherence: Coherence,
    pub(crate) drops: Arc<Drops>,
    pub(crate) later: Later,
    pub(crate) control: Control,
    forgotten: Mutex<Vec<Gfid>>,
    forgetting: AtomicBool,
}

impl Front {
    pub(crate) fn new(roots: Arc<dyn Roots>, host: Arc<dyn Host>, client: Arc<Client>, treatment: Treatment) -> Front {
        let (graph, command) = (roots.clone(), "brickwork locks".to_owned());
        let control = Control::of(Volume::of(client.clone(), move || graph.root(), host.clone(), command));
        Front {
            roots,
            host,
            client,
            treatment,
            nodes: Nodes::new(),
            opens: Opens::new(),
            flushes: Flushes::default(),
            groups: Groups::new(),
            commands: Commands::default(),
            closings: Arc::default(),
            counters: Counters::new(),
            started: OnceLock::new(),
            coherence: Coherence::new(),
            drops: Arc::default(),
            later: Later::default(),
            control,
            forgotten: Mutex::default(),
            forgetting: AtomicBool::new(false),
        }
    }

    /// The caller of `request`, with its supplementary groups.
    ///
    /// Where they cannot be read, those that the kernel sent along count: the directory's group in a request that
    /// makes a file.
    pub(crate) fn caller(&self, request: &Request<'_>) -> Caller {
        let identity = Identity { uid: request.uid(), gid: request.gid(), pid: request.pid() };
        let groups = self.groups.of(identity).unwrap_or_else(|| match request.extensions().groups() {
            Some(sent) => sent.collect(),
            None => self.groups.none(),
        });
        Caller::new(identity, groups)
    }

    /// The caller of `request`, for a fop that acts through an open and asks nobody's rights again.
    pub(crate) fn caller_without_groups(&self, request: &Request<'_>) -> Caller {
        let identity = Identity { uid: request.uid(), gid: request.gid(), pid: request.pid() };
        Caller::new(identity, self.groups.none())
    }

    /// The object behind `node`.
    ///
    /// # Errors
    /// `ESTALE` for a node that the kernel was never told of.
    pub(crate) fn gfid(&self, node: NodeId) -> Result<Gfid, Errno> {
        self.nodes.gfid(node).ok_or(Errno::ESTALE)
    }

    /// The open behind a handle on `node`.
    ///
    /// # Errors
    /// `ESTALE` for a node that the kernel was never told of.
    pub(crate) fn open_file(&self, node: NodeId, fh: Fh) -> Result<OpenFile, Errno> {
        Ok(OpenFile { gfid: self.gfid(node)?, open: OpenId(fh.0) })
    }

    /// Answers `reply` with what one fop answers, by way of `answer`.
    ///
    /// Nothing is done before the reader polls it; a fop that is done at the first poll never leaves the reader.
    pub(crate) fn fop<F: FopType>(
        self: &Arc<Front>,
        caller: Caller,
        request: F::Request,
        reply: Reply,
        answer: impl FnOnce(&Arc<Front>, F::Reply, Reply) -> Delivery + Send + 'static,
    ) -> Handled {
        self.kept_fop::<F>(caller, request, reply, |front, answered, _, reply| answer(front, answered, reply))
    }

    /// As [`Front::fop`], for an answer of which the kernel keeps something.
    pub(crate) fn kept_fop<F: FopType>(
        self: &Arc<Front>,
        caller: Caller,
        request: F::Request,
        reply: Reply,
        answer: impl FnOnce(&Arc<Front>, F::Reply, Freshness, Reply) -> Delivery + Send + 'static,
    ) -> Handled {
        let front = self.clone();
        let reader = lane();
        self.killable(caller, move |caller| async move {
            let work = front.begin(caller).await;
            let result = work.call::<F>(&request).await;
            let fresh = work.freshness();
            // Before the reply: whoever has it finds the slot free.
            drop(work);
            let delivery = match result {
                Ok(answered) => answer(&front, answered, fresh, reply),
                Err(error) => front.refuse(F::KIND, &error, reply),
            };
            front.finish(reader, delivery);
        })
    }

    /// Answers `reply` by way of `work`, which may do several fops.
    pub(crate) fn fops<W>(
        self: &Arc<Front>,
        caller: Caller,
        reply: Reply,
        work: impl FnOnce(Arc<Front>, Caller, Reply) -> W,
    ) -> Handled
    where
        W: Future<Output = Delivery> + Send + 'static,
    {
        let front = self.clone();
        let reader = lane();
        self.killable(caller, move |caller| {
            let work = work(front.clone(), caller, reply);
            async move {
                let delivery = work.await;
                front.finish(reader, delivery);
            }
        })
    }

    /// A request that `caller` waits for: when its process is being killed, `cx.cancel` is set.
    fn killable<W>(self: &Arc<Front>, mut caller: Caller, work: impl FnOnce(Caller) -> W) -> Handled
    where
        W: Future<Output = ()> + Send + 'static,
    {
        let pid = caller.credentials.pid;
        if pid == 0 {
            return Handled::later(work(caller));
        }
        caller.killed = Cancel::new();
        let under_way = Arc::new(());
        let killable = Killable::new(self.clone(), pid, caller.killed.clone(), &under_way);
        let work = work(caller);
        let until_its_end = async move {
            work.await;
            drop(under_way);
        };
        Handled::interruptible(until_its_end, Arc::new(killable))
    }

    /// Takes a request id, and the root of the graph of this moment.
    pub(crate) async fn begin(self: &Arc<Front>, caller: Caller) -> Work<'_> {
        let slot = self.client.requests().take(lane()).await;
        let killed = caller.killed.clone();
        self.work(caller, slot, killed)
    }

    /// Takes a request id for a wait; `None` when too many wait.
    pub(crate) fn begin_wait(self: &Arc<Front>, caller: Caller, cancel: Cancel) -> Option<Work<'_>> {
        let slot = self.client.waits().try_take(lane())?;
        Some(self.work(caller, slot, cancel))
    }

    fn work<'a>(self: &'a Arc<Front>, caller: Caller, slot: Slot<'a>, cancel: Cancel) -> Work<'a> {
        let cx = Cx {
            request: RequestId { client: self.client.id(), slot: slot.number(), sequence: slot.sequence() },
            lk_owner: caller.lk_owner,
            credentials: caller.credentials,
            deadline: None,
            cancel,
            host: self.host.clone(),
        };
        let (root, since) = (self.roots.root(), self.coherence.now());
        Work { front: self, root, cx, slot, since, uncached: AtomicBool::new(false) }
    }

    /// Counts what became of a request that `reader` began.
    pub(crate) fn finish(&self, reader: usize, delivery: Delivery) {
        if lane() != reader {
            self.counters.handed_on();
        }
        if delivery != Delivery::Taken {
            self.counters.reply_lost();
        }
    }

    /// Answers an error: the number to the caller, the detail to the log.
    pub(crate) fn refuse(&self, fop: FopKind, error: &FopError, reply: Reply) -> Delivery {
        self.counters.error();
        if error.has_detail() {
            let (fop, point) = (fop.name(), error);
            if error.errno() == Errno::EIO {
                tracing::warn!(fop, error = %point, "a file operation failed");
            } else {
                tracing::debug!(fop, error = %point, "a file operation failed");
            }
        }
        reply.error(convert::errno(error.errno()))
    }

    /// Answers an error that no fop was needed for.
    pub(crate) fn refuse_at_once(&self, errno: Errno, reply: Reply) -> Handled {
        self.counters.error();
        if reply.error(convert::errno(errno)) != Delivery::Taken {
            self.counters.reply_lost();
        }
        Handled::Done
    }

    /// The entry of an object found in `parent`, counted as told to the kernel: once the reply was not taken,
    /// [`Front::forget_untold`] takes it back.
    pub(crate) fn entry(&self, attr: &Attr, parent: Option<Gfid>, fresh: Freshness) -> Entry {
        let parent = parent.filter(|_| attr.kind == FileKind::Directory);
        let node = self.nodes.remember(attr, parent);
        // After it stands in the table: an invalidation finds it there, or is found here.
        let kept = self.may_be_kept(attr.gfid, fresh);
        Entry {
            node,
            generation: 0,
            entry_valid: if kept { self.entry_valid() } else { Duration::ZERO },
            attr_valid: if kept { self.treatment.attr_valid } else { Duration::ZERO },
            attr: convert::attr(attr),
        }
    }

    /// Whether the kernel may keep what an answer says of `gfid`, as nothing has happened to it since it was asked for.
    pub(crate) fn may_be_kept(&self, gfid: Gfid, fresh: Freshness) -> bool {
        // The `forget` is looked for first: it leaves a mark when it is answered.
        !fresh.uncached && !self.nodes.is_forgetting(gfid) && !self.coherence.overtaken(gfid, fresh.since)
    }

    /// Whether the kernel keeps names: the graph tells of changes, and the kernel can let them run out without a lock.
    pub(crate) fn keeps_names(&self) -> bool {
        self.treatment.invalidates && self.started.get().is_some_and(|started| started.granted.has_epoch())
    }

    fn entry_valid(&self) -> Duration {
        if self.keeps_names() { self.treatment.entry_valid } else { Duration::ZERO }
    }

    /// For how long the kernel may believe that a name does not exist.
    pub(crate) fn negative_valid(&self, fresh: Freshness) -> Duration {
        // An answer that was overtaken needs nothing: the kernel counts the epoch from before it asked.
        if self.keeps_names() && !fresh.uncached { self.treatment.negative_valid } else { Duration::ZERO }
    }

    /// Notes that the content of `gfid` is being changed through this mount; see [`crate::invalidate`].
    pub(crate) fn changing(self: &Arc<Front>, gfid: Gfid) -> Option<Changing> {
        self.changing_bytes(gfid, 0..0)
    }

    /// As [`Front::changing`], of `bytes`, which the kernel has in its pages already.
    pub(crate) fn changing_bytes(self: &Arc<Front>, gfid: Gfid, bytes: Range<u64>) -> Option<Changing> {
        self.treatment.invalidates.then(|| Changing::begin(self.clone(), gfid, bytes))
    }

    /// Answers a request for a name with the object it stands for.
    pub(crate) fn reply_entry(
        self: &Arc<Front>,
        attr: &Attr,
        parent: Option<Gfid>,
        fresh: Freshness,
        reply: Reply,
    ) -> Delivery {
        let entry = self.entry(attr, parent, fresh);
        let delivery = reply.entry(&entry);
        if delivery != Delivery::Taken {
            self.forget_untold([(entry.node, 1)]);
        }
        delivery
    }

    /// Whether the time of the content of `node` tells the kernel every change, so that what it cached may stay.
    ///
    /// A time that was set by hand tells nothing, it may be an older content's; but setting it is a change itself,
    /// and so the two times of the object then differ.
    ///
    /// Where the graph tells of every change, what the kernel cached is right until then.
    pub(crate) fn keeps_cache(&self, node: NodeId) -> bool {
        let told = self.treatment.invalidates;
        !self.treatment.direct_io && (told || self.treatment.fine_timestamps && self.nodes.content_last(node))
    }

    /// Answers a request for attributes.
    pub(crate) fn reply_attr(&self, attr: &Attr, fresh: Freshness, reply: Reply) -> Delivery {
        if attr.gfid == Gfid::ROOT {
            self.nodes.looked_at_root(attr);
        }
        let kept = self.may_be_kept(attr.gfid, fresh);
        reply.attr(&convert::attr(attr), if kept { self.treatment.attr_valid } else { Duration::ZERO })
    }

    /// Answers a change of attributes, which the kernel takes in without asking whether it is older than an
    /// invalidation: so it is to look again before it believes them for longer than this call.
    pub(crate) fn reply_changed_attr(&self, attr: &Attr, reply: Reply) -> Delivery {
        reply.attr(&convert::attr(attr), Duration::ZERO)
    }

    /// FORGET: takes lookups back; the graph is told of the objects that the kernel no longer refers to.
    ///
    /// Told together: while one `forget` is under way those that follow wait for the next.
    pub(crate) fn forget(self: &Arc<Front>, lookups: impl IntoIterator<Item = (NodeId, u64)>) -> Handled {
        if !self.is_to_tell(lookups) {
            return Handled::Done;
        }
        let (front, reader) = (self.clone(), lane());
        Handled::later(async move {
            front.tell_forgotten().await;
            front.finish(reader, Delivery::Taken);
        })
    }

    /// As [`Front::forget`], of what the kernel was to be told and did not take.
    pub(crate) fn forget_untold(self: &Arc<Front>, lookups: impl IntoIterator<Item = (NodeId, u64)>) {
        if self.is_to_tell(lookups) {
            let front = self.clone();
            self.host.spawn(Box::pin(async move { front.tell_forgotten().await }));
        }
    }

    /// Takes lookups back; whether the caller is to tell the graph, as nobody else is at it.
    fn is_to_tell(&self, lookups: impl IntoIterator<Item = (NodeId, u64)>) -> bool {
        let gone: Vec<Gfid> = lookups.into_iter().filter_map(|(node, count)| self.nodes.forget(node, count)).collect();
        if gone.is_empty() {
            return false;
        }
        self.forgotten.lock().extend(gone);
        !self.forgetting.swap(true, Ordering::AcqRel)
    }

    async fn tell_forgotten(self: &Arc<Front>) {
        loop {
            let turn = Turn(&self.forgetting);
            self.forget_batches().await;
            drop(turn);
            // Whoever added to the list before that relied on us.
            if self.forgotten.lock().is_empty() || self.forgetting.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }

    async fn forget_batches(self: &Arc<Front>) {
        loop {
            let gfids: Vec<Gfid> = {
                let mut list = self.forgotten.lock();
                let count = list.len().min(FORGET_BATCH);
                list.drain(..count).collect()
            };
            if gfids.is_empty() {
                return;
            }
            let work = self.begin(self.nobody()).await;
            let request = ForgetReq { gfids, xdata: Xdata::EMPTY };
            if let Err(error) = work.root.forget(&work.cx, &request).await {
                tracing::debug!(%error, "a forget was refused");
            }
            for gfid in request.gfids {
                // What was told of it again meanwhile may be what the graph has just forgotten.
                self.coherence.invalidated(gfid);
                self.nodes.forgotten(gfid);
            }
        }
    }

    /// Ends an open in the graph and here.
    pub(crate) async fn release(self: &Arc<Front>, caller: Caller, file: OpenFile, directory: bool) {
        let work = self.begin(caller).await;
        let result = if directory {
            let request = ReleasedirReq { file, xdata: Xdata::EMPTY };
            work.root.releasedir(&work.cx, &request).await.map(drop)
        } else {
            let request = ReleaseReq { file, xdata: Xdata::EMPTY };
            work.root.release(&work.cx, &request).await.map(drop)
        };
        self.opens.remove(Fh(file.open.0));
        if let Err(error) = result {
            tracing::warn!(%error, gfid = %file.gfid, "an open could not be released");
        }
    }

    /// Gives back to the graph what the kernel can no longer give back: the mount has ended.
    pub(crate) async fn give_back(self: &Arc<Front>) {
        self.control.end().await;
        for (file, directory) in self.opens.clear() {
            self.release(self.nobody(), file, directory).await;
        }
        self.forgotten.lock().extend(self.nodes.clear());
        self.forget_batches().await;
    }

    /// Brickwork itself as the caller.
    pub(crate) fn nobody(&self) -> Caller {
        Caller::new(Identity { uid: 0, gid: 0, pid: 0 }, self.groups.none())
    }
}

impl Caller {
    fn new(Identity { uid, gid, pid }: Identity, groups: Arc<[u32]>) -> Caller {
        let credentials = Credentials { uid, gid, pid, groups };
        Caller { credentials, lk_owner: LkOwner::default(), killed: Cancel::never() }
    }

    /// The same caller for a further request.
    pub(crate) fn again(&self) -> Caller {
        Caller { credentials: self.credentials.clone(), lk_owner: self.lk_owner.clone(), killed: self.killed.clone() }
    }

    /// The same caller as the owner of locks.
    pub(crate) fn owning(mut self, owner: Option<LockOwner>) -> Caller {
        if let Some(owner) = owner {
            self.lk_owner = LkOwner::from_u64(owner.0);
        }
        self
    }
}

/// The turn of one task to tell the graph what was forgotten; it ends also when that task panics.
struct Turn<'a>(&'a AtomicBool);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Whether the open behind a fop is good for nothing any more, as a lock that was taken through it is gone.
fn tells_of_a_lost_lock(error: &FopError) -> bool {
    error.errno() == Errno::EIO && error.xdata().get(&LOCK_LOST).is_ok_and(|why| why.is_some())
}

/// The open that a request of the three fops which applications do through opens with locks goes through.
fn file_of(request: &dyn Any) -> Option<OpenFile> {
    let read = request.downcast_ref::<ReadReq>().map(|read| read.file);
    let write = || request.downcast_ref::<WriteReq>().map(|write| write.file);
    let lk = || request.downcast_ref::<LkReq>().map(|lk| lk.file);
    read.or_else(write).or_else(lk)
}

/// A request under way: its context, its slot, and the graph it runs on.
pub(crate) struct Work<'a> {
    front: &'a Arc<Front>,
    pub(crate) root: Arc<dyn Xlator>,
    pub(crate) cx: Cx,
    slot: Slot<'a>,
    /// Before the first fop of it.
    since: Moment,
    uncached: AtomicBool,
}

impl Work<'_> {
    /// Does one fop.
    pub(crate) async fn call<F: FopType>(&self, request: &F::Request) -> Result<F::Reply, FopError> {
        let mut result = F::call(&*self.root, &self.cx, request).await;
        let xdata = match &mut result {
            Ok(reply) => &*F::reply_xdata(reply),
            Err(error) => error.xdata(),
        };
        // Nearly all carry nothing. Another shape under this name says as little.
        if !xdata.is_empty() {
            if xdata.get(&UNCACHED).ok().flatten() == Some(true) {
                self.uncached.store(true, Ordering::Relaxed);
            }
            if matches!(&result, Err(error) if tells_of_a_lost_lock(error))
                && let Some(file) = file_of(request)
            {
                self.front.lose(file.gfid, &[file.open]);
            }
        }
        result
    }

    /// What the answers so far say about being kept.
    pub(crate) fn freshness(&self) -> Freshness {
        Freshness { since: self.since, uncached: self.uncached.load(Ordering::Relaxed) }
    }

    /// Gives the context the id of a further request of the same slot, for the next fop of a chain.
    ///
    /// Each fop is a request of its own to whoever remembers answers.
    pub(crate) fn next(&mut self) {
        self.slot.advance();
        self.cx.request.sequence = self.slot.sequence();
    }
}
