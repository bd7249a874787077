//! The place where front-ends find the running graph: one atomic load for a fop, and the graph stays for as long as
//! that fop holds it.

use std::sync::Arc;

use arc_swap::ArcSwap;
use brickwork_api::{Route, Xlator};
use tokio::sync::watch;

use crate::graph::Graph;

/// A graph that serves, as an xlator that hands every fop to its top.
#[derive(Debug)]
pub struct Running {
    graph: Arc<Graph>,
    generation: u64,
    // Closed when the last fop has let go of this value.
    inside: watch::Sender<()>,
}

impl Running {
    /// The graph.
    #[must_use]
    pub fn graph(&self) -> &Arc<Graph> {
        &self.graph
    }

    /// Counts the graphs of this process; the first is 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

impl Xlator for Running {
    fn route(&self) -> Route<'_> {
        Route::Through(&**self.graph.root())
    }
}

/// The current graph of a front-end.
#[derive(Debug)]
pub struct Slot(ArcSwap<Running>);

impl Slot {
    /// A slot with its first graph.
    #[must_use]
    pub fn new(graph: Arc<Graph>) -> Slot {
        Slot(ArcSwap::from_pointee(Running { graph, generation: 1, inside: watch::Sender::new(()) }))
    }

    /// The current graph. Whoever keeps the value keeps the graph: hold it for one fop.
    #[must_use]
    pub fn load(&self) -> Arc<Running> {
        self.0.load_full()
    }

    /// Makes `graph` the current one; returns the old one, which may still have fops inside.
    #[must_use]
    pub fn swap(&self, graph: Arc<Graph>) -> Draining {
        let generation = self.0.load().generation + 1;
        Draining::of(self.0.swap(Arc::new(Running { graph, generation, inside: watch::Sender::new(()) })))
    }

    /// Ends the slot; returns its graph, which may still have fops inside.
    #[must_use]
    pub fn close(self) -> Draining {
        Draining::of(self.0.into_inner())
    }
}

/// A graph that takes no new fops.
#[derive(Debug)]
pub struct Draining {
    graph: Arc<Graph>,
    inside: watch::Receiver<()>,
}

impl Draining {
    fn of(running: Arc<Running>) -> Draining {
        Draining { graph: running.graph.clone(), inside: running.inside.subscribe() }
    }

    /// Waits until the last fop has left and returns the graph, ready to be stopped.
    pub async fn drained(mut self) -> Arc<Graph> {
        // An error says that the sender is gone, which is what we wait for; nothing is ever sent.
        while self.inside.changed().await.is_ok() {}
        self.graph
    }
}
