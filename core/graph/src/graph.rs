//! A graph: the xlators of one plan, wired, with one life.
//!
//! Always true: xlators are made, started and wired from the bottom up and stopped from the top down; a step that
//! fails undoes what it did, and names the volume and its place.

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwap;
use brickwork_api::lifecycle::{Phase, Refused, Step};
use brickwork_api::options::OptionMap;
use brickwork_api::xlator::{Event, Onward, Setup, SetupError, Upward, Xlator};
use brickwork_api::{Host, XlatorType};
use parking_lot::Mutex;

use crate::plan::{Plan, PlannedVolume};

/// Hears the events that reach the top of a graph.
pub type Listener = Box<dyn Fn(&Event) + Send + Sync>;

/// The xlators of one plan.
pub struct Graph {
    nodes: Vec<Node>,
    root: usize,
    phase: Mutex<Phase>,
    wiring: Arc<OnceLock<Wiring>>,
}

/// One xlator in its graph.
pub struct Node {
    /// The volume's name.
    pub name: Arc<str>,
    /// Its type.
    pub kind: &'static XlatorType,
    /// The options it has now.
    options: ArcSwap<OptionMap>,
    /// Indices of its children.
    pub children: Vec<usize>,
    /// The instance.
    pub xlator: Arc<dyn Xlator>,
    place: String,
}

struct Wiring {
    xlators: Vec<Weak<dyn Xlator>>,
    parents: Vec<Vec<usize>>,
    listeners: Mutex<Vec<Arc<Listener>>>,
}

/// Why a graph could not be built, started or changed; what ran before still runs.
#[derive(Debug, PartialEq, Eq)]
pub enum GraphError {
    /// A volume refused.
    Volume {
        /// Which.
        name: String,
        /// Its type.
        kind: &'static str,
        /// Where it stands, as `file:line`.
        place: String,
        /// What it said.
        reason: String,
    },
    /// The step has no place in the graph's life now.
    Refused(Refused),
    /// A new plan differs in more than options.
    OtherShape,
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GraphError::Volume { name, kind, place, reason } => {
                write!(f, "{place}: `{name}` ({kind}) {reason}")
            }
            GraphError::Refused(refused) => refused.fmt(f),
            GraphError::OtherShape => {
                f.write_str("the new volfile adds, drops or moves xlators; only options can change in place")
            }
        }
    }
}

impl std::error::Error for GraphError {}

impl From<Refused> for GraphError {
    fn from(refused: Refused) -> GraphError {
        GraphError::Refused(refused)
    }
}

impl Graph {
    /// Makes every xlator of `plan`, bottom up. Nothing runs yet.
    ///
    /// # Errors
    /// The first volume that refuses; those made before it are dropped.
    pub fn prepare(plan: &Plan, host: &Arc<dyn Host>) -> Result<Graph, GraphError> {
        let wiring = Arc::new(OnceLock::new());
        let mut nodes: Vec<Node> = Vec::with_capacity(plan.volumes.len());
        for (index, volume) in plan.volumes.iter().enumerate() {
            let setup = Setup {
                name: volume.name.as_str().into(),
                options: volume.options.clone(),
                children: volume.children.iter().map(|&child| nodes[child].xlator.clone()).collect(),
                subvolumes: volume.children.iter().map(|&child| plan.volumes[child].name.as_str().into()).collect(),
                up: upward(&wiring, index),
                host: host.clone(),
            };
            nodes.push(Node::prepare(volume, setup)?);
        }
        let wired = wiring.set(Wiring {
            xlators: nodes.iter().map(|node| Arc::downgrade(&node.xlator)).collect(),
            parents: parents(plan),
            listeners: Mutex::default(),
        });
        assert!(wired.is_ok(), "a graph is wired once");
        Ok(Graph { nodes, root: plan.root, phase: Mutex::new(Phase::Prepared), wiring })
    }

    /// Starts every xlator, bottom up.
    ///
    /// # Errors
    /// The first volume that refuses; those started before it are stopped again and the graph cannot be used.
    pub async fn start(&self) -> Result<(), GraphError> {
        self.step(Step::Start)?;
        for (index, node) in self.nodes.iter().enumerate() {
            if let Err(reason) = node.xlator.start() {
                stop_all(&self.nodes[..index]).await;
                *self.phase.lock() = Phase::Stopped;
                return Err(node.refused(&reason));
            }
        }
        Ok(())
    }

    /// Gives running xlators the options of `plan`, which must have the same volumes in the same places.
    ///
    /// # Errors
    /// [`GraphError::OtherShape`], or the first volume that refuses; those before it then have their old options again.
    pub fn reconfigure(&self, plan: &Plan) -> Result<(), GraphError> {
        self.step(Step::Reconfigure)?;
        if !self.has_shape_of(plan) {
            return Err(GraphError::OtherShape);
        }
        for (index, (node, volume)) in self.nodes.iter().zip(&plan.volumes).enumerate() {
            if let Err(errors) = node.xlator.reconfigure(&volume.options) {
                for node in &self.nodes[..index] {
                    node.xlator.reconfigure(&node.options()).expect("options that were taken before");
                }
                return Err(node.refused(&SetupError::Options(errors).to_string()));
            }
        }
        for (node, volume) in self.nodes.iter().zip(&plan.volumes) {
            node.options.store(Arc::new(volume.options.clone()));
        }
        Ok(())
    }

    /// Stops every xlator, top down. The caller has seen the last fop leave.
    ///
    /// # Errors
    /// [`GraphError::Refused`] when the graph is stopped already.
    pub async fn stop(&self) -> Result<(), GraphError> {
        if self.phase() == Phase::Running {
            self.step(Step::Drain)?;
        }
        self.step(Step::Stop)?;
        stop_all(&self.nodes).await;
        Ok(())
    }

    /// Where the graph is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.lock()
    }

    /// The xlators, bottom up.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The index of the top among [`Graph::nodes`].
    #[must_use]
    pub fn root_index(&self) -> usize {
        self.root
    }

    /// The top.
    #[must_use]
    pub fn root(&self) -> &Arc<dyn Xlator> {
        &self.nodes[self.root].xlator
    }

    /// Calls `listener` for every event that reaches the top from now on.
    pub fn listen(&self, listener: Listener) {
        self.wiring.get().expect("wired when it was prepared").listeners.lock().push(Arc::new(listener));
    }

    fn step(&self, step: Step) -> Result<(), GraphError> {
        let mut phase = self.phase.lock();
        *phase = phase.after(step)?;
        Ok(())
    }

    fn has_shape_of(&self, plan: &Plan) -> bool {
        let same = |node: &Node, volume: &PlannedVolume| {
            *node.name == *volume.name && node.kind.name == volume.kind.name && node.children == volume.children
        };
        self.nodes.len() == plan.volumes.len()
            && self.root == plan.root
            && self.nodes.iter().zip(&plan.volumes).all(|(node, volume)| same(node, volume))
    }
}

impl Node {
    /// The options it has now.
    #[must_use]
    pub fn options(&self) -> Arc<OptionMap> {
        self.options.load_full()
    }

    fn prepare(volume: &PlannedVolume, setup: Setup) -> Result<Node, GraphError> {
        let name = setup.name.clone();
        match (volume.kind.prepare)(setup) {
            Ok(xlator) => Ok(Node {
                name,
                kind: volume.kind,
                options: ArcSwap::from_pointee(volume.options.clone()),
                children: volume.children.clone(),
                xlator,
                place: volume.place.clone(),
            }),
            Err(error) => Err(GraphError::Volume {
                name: volume.name.clone(),
                kind: volume.kind.name,
                place: volume.place.clone(),
                reason: error.to_string(),
            }),
        }
    }

    fn refused(&self, reason: &str) -> GraphError {
        GraphError::Volume {
            name: self.name.to_string(),
            kind: self.kind.name,
            place: self.place.clone(),
            reason: reason.to_owned(),
        }
    }
}

async fn stop_all(nodes: &[Node]) {
    for node in nodes.iter().rev() {
        node.xlator.stop().await;
    }
}

fn parents(plan: &Plan) -> Vec<Vec<usize>> {
    let mut parents = vec![Vec::new(); plan.volumes.len()];
    for (index, volume) in plan.volumes.iter().enumerate() {
        for &child in &volume.children {
            parents[child].push(index);
        }
    }
    parents
}

fn upward(wiring: &Arc<OnceLock<Wiring>>, from: usize) -> Upward {
    let wiring = wiring.clone();
    Upward::new(move |event| match wiring.get() {
        Some(wiring) => wiring.send(from, &event),
        None => tracing::warn!(?event, "event of an xlator that was not started, dropped"),
    })
}

impl Wiring {
    /// Offers `event` of node `from` to its parents, to theirs if they hand it on, and from the top to the listeners.
    fn send(&self, from: usize, event: &Event) {
        if self.parents[from].is_empty() {
            // Called without the mutex: a listener may want to look at the graph.
            let listeners = self.listeners.lock().clone();
            listeners.iter().for_each(|listener| listener(event));
        }
        for &parent in &self.parents[from] {
            let onward = self.xlators[parent].upgrade().map(|xlator| xlator.notify(event));
            if onward == Some(Onward::Up) {
                self.send(parent, event);
            }
        }
    }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.nodes.iter().map(|node| &node.name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use brickwork_api::options::OptionError;
    use brickwork_api::{Arity, BoxFuture, Errno, Route};

    use super::*;
    use crate::host::TokioHost;
    use crate::swap::Slot;

    /// What happened, in order, to the xlators of one test.
    type Log = Arc<Mutex<Vec<String>>>;

    thread_local! {
        static LOG: Log = Log::default();
    }

    /// A layer that writes down its life and refuses what its options say.
    struct Layer {
        name: Arc<str>,
        options: OptionMap,
        up: Upward,
        log: Log,
    }

    impl Layer {
        fn prepare(setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
            let log = LOG.with(Clone::clone);
            log.lock().push(format!("prepare {}", setup.name));
            if setup.options.get("refuse") == Some("prepare") {
                return Err(SetupError::Failed("cannot open /b: permission denied".to_owned()));
            }
            Ok(Arc::new(Layer { name: setup.name, options: setup.options, up: setup.up, log }))
        }
    }

    impl Xlator for Layer {
        fn route(&self) -> Route<'_> {
            Route::Stop(Errno::ENOSYS)
        }

        fn start(&self) -> Result<(), String> {
            self.log.lock().push(format!("start {}", self.name));
            self.up.notify(Event::ChildUp);
            match self.options.get("refuse") {
                Some("start") => Err("has no room".to_owned()),
                _ => Ok(()),
            }
        }

        fn stop<'a, 'async_trait>(&'a self) -> BoxFuture<'async_trait, ()>
        where
            'a: 'async_trait,
            Self: 'async_trait,
        {
            self.log.lock().push(format!("stop {}", self.name));
            Box::pin(std::future::ready(()))
        }

        fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
            let said = options.get("say").unwrap_or_default();
            self.log.lock().push(format!("{} {said}", self.name));
            match said {
                "no" => Err(vec![OptionError { key: "say".to_owned(), reason: "is refused".to_owned() }]),
                _ => Ok(()),
            }
        }

        fn notify(&self, _event: &Event) -> Onward {
            match self.options.get("events") {
                Some("stop") => Onward::Stop,
                _ => Onward::Up,
            }
        }
    }

    static LAYER: XlatorType = XlatorType {
        name: "test/layer",
        about: "a layer",
        options: &[],
        subvolumes: Arity::Some,
        prepare: Layer::prepare,
    };

    /// A volume: its name, its options, the indices of its children.
    type Volume<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [usize]);

    fn plan(volumes: &[Volume]) -> Plan {
        let planned = volumes.iter().enumerate().map(|(line, (name, options, children))| PlannedVolume {
            name: (*name).to_owned(),
            kind: &LAYER,
            options: options.iter().copied().collect(),
            children: children.to_vec(),
            place: format!("test.vol:{}", line + 1),
        });
        Plan { volumes: planned.collect(), root: volumes.len() - 1 }
    }

    fn host() -> Arc<dyn Host> {
        Arc::new(TokioHost::new(tokio::runtime::Handle::current()))
    }

    fn log() -> Vec<String> {
        LOG.with(|log| std::mem::take(&mut *log.lock()))
    }

    #[tokio::test]
    async fn a_graph_is_made_and_started_from_the_bottom_up_and_stopped_from_the_top_down() {
        let graph = Graph::prepare(&plan(&[("a", &[], &[]), ("b", &[], &[0])]), &host()).unwrap();
        graph.start().await.unwrap();
        graph.stop().await.unwrap();
        assert_eq!(log(), ["prepare a", "prepare b", "start a", "start b", "stop b", "stop a"]);
        assert_eq!(graph.phase(), Phase::Stopped);
    }

    #[tokio::test]
    async fn a_volume_that_cannot_be_made_is_named_with_its_place_and_reason() {
        let refused = plan(&[("a", &[("refuse", "prepare")], &[]), ("b", &[], &[0])]);
        let error = Graph::prepare(&refused, &host()).unwrap_err();
        assert_eq!(error.to_string(), "test.vol:1: `a` (test/layer) cannot open /b: permission denied");
    }

    #[tokio::test]
    async fn a_volume_that_cannot_start_leaves_nothing_started() {
        let refused = plan(&[("a", &[], &[]), ("b", &[("refuse", "start")], &[0])]);
        let graph = Graph::prepare(&refused, &host()).unwrap();
        log();
        assert!(graph.start().await.is_err());
        assert_eq!(log(), ["start a", "start b", "stop a"]);
        assert!(matches!(graph.stop().await, Err(GraphError::Refused(_))));
    }

    #[tokio::test]
    async fn an_event_goes_up_until_someone_stops_it() {
        for (events, heard) in [("up", 2), ("stop", 1)] {
            let graph = Graph::prepare(&plan(&[("a", &[], &[]), ("b", &[("events", events)], &[0])]), &host()).unwrap();
            let count = Arc::new(AtomicUsize::new(0));
            let counter = count.clone();
            graph.listen(Box::new(move |event| {
                assert_eq!(*event, Event::ChildUp);
                counter.fetch_add(1, Ordering::Relaxed);
            }));
            graph.start().await.unwrap();
            assert_eq!(count.load(Ordering::Relaxed), heard, "events {events}");
        }
    }

    #[tokio::test]
    async fn another_shape_is_not_taken_in_place() {
        let graph = Graph::prepare(&plan(&[("a", &[], &[]), ("b", &[], &[0])]), &host()).unwrap();
        graph.start().await.unwrap();
        assert_eq!(graph.reconfigure(&plan(&[("a", &[], &[])])), Err(GraphError::OtherShape));
        assert_eq!(graph.reconfigure(&plan(&[("a", &[], &[]), ("b", &[], &[0])])), Ok(()));
    }

    /// A reload that failed gave back the options of the start, not those of the last reload that was taken.
    #[tokio::test]
    async fn a_refused_reload_gives_back_the_options_of_the_last_one_that_was_taken() {
        let reload = |a: &str, b: &str| plan(&[("a", &[("say", a)], &[]), ("b", &[("say", b)], &[0])]);
        let graph = Graph::prepare(&reload("first", "first"), &host()).unwrap();
        graph.start().await.unwrap();
        graph.reconfigure(&reload("second", "second")).unwrap();
        log();
        let refused = graph.reconfigure(&reload("third", "no")).unwrap_err();
        assert_eq!(refused.to_string(), "test.vol:2: `b` (test/layer) option `say`: is refused");
        assert_eq!(log(), ["a third", "b no", "a second"]);
        assert_eq!(graph.nodes()[0].options().get("say"), Some("second"));
    }

    #[tokio::test]
    async fn a_swapped_graph_is_drained_when_the_last_fop_has_left() {
        let one = || Arc::new(Graph::prepare(&plan(&[("a", &[], &[])]), &host()).unwrap());
        let slot = Slot::new(one());
        let fop = slot.load();
        let mut draining = std::pin::pin!(slot.swap(one()).drained());
        let early = std::future::poll_fn(|cx| std::task::Poll::Ready(draining.as_mut().poll(cx))).await;
        assert!(early.is_pending(), "a fop is inside");
        drop(fop);
        draining.await;
        assert_eq!(slot.load().generation(), 2);
    }
}
