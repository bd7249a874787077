//! The graph of a serving process: started, heard, stopped.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use brickwork_api::{Event, Host};
use brickwork_graph::graph::{Graph, GraphError};
use brickwork_graph::plan::Plan;
use brickwork_graph::swap::Slot;
use brickwork_mount::Mount;
use tokio::sync::{oneshot, watch};

use super::DRAIN_MAX;
use crate::codes::Code;
use crate::failure::Failure;

/// Whether the volume can serve, as far as it has said.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Word {
    /// It has said nothing. What stands on disks of this machine has nothing to say while all is well.
    #[default]
    None,
    /// It can.
    Up,
    /// It cannot, and why.
    Down(String),
}

/// What came up from the graph, and who else is to hear it.
#[derive(Debug, Default)]
pub struct Heard {
    word: watch::Sender<Word>,
    mounts: Mutex<Vec<Weak<Mount>>>,
}

impl Heard {
    /// Why the volume cannot serve, when it cannot.
    pub fn down(&self) -> Option<String> {
        match &*self.word.borrow() {
            Word::Down(reason) => Some(reason.clone()),
            Word::None | Word::Up => None,
        }
    }

    /// Its last word, and each that comes.
    pub fn words(&self) -> watch::Receiver<Word> {
        self.word.subscribe()
    }

    /// Hands on to `mount` what the kernel must be told.
    pub fn tell(&self, mount: &Arc<Mount>) {
        let mut mounts = self.mounts();
        mounts.retain(|mount| mount.strong_count() > 0);
        mounts.push(Arc::downgrade(mount));
    }

    fn hear(&self, event: &Event) {
        match event {
            Event::ChildDown { reason } => {
                tracing::error!(reason, "the volume cannot serve");
                self.word.send_replace(Word::Down(reason.clone()));
            }
            Event::ChildUp => {
                if matches!(self.word.send_replace(Word::Up), Word::Down(_)) {
                    tracing::info!("the volume serves again");
                }
            }
            _ => {}
        }
        // Not under the mutex: a mount may do anything with it.
        let mounts: Vec<_> = self.mounts().iter().filter_map(Weak::upgrade).collect();
        mounts.iter().for_each(|mount| mount.notify(event));
    }

    fn mounts(&self) -> MutexGuard<'_, Vec<Weak<Mount>>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Builds and starts the graph of `plan`.
///
/// # Errors
/// `GraphRefused`; then nothing of it runs.
pub async fn start_graph(plan: &Plan, host: &Arc<dyn Host>, heard: Arc<Heard>) -> Result<Arc<Graph>, Failure> {
    let refused = |error: GraphError| {
        Failure::new(Code::GraphRefused, error.to_string())
            .next("correct the volfile or what it names; brickwork status lists the bricks that are served")
    };
    let (plan, host) = (plan.clone(), host.clone());
    // Opening a brick reads the disk: not on a thread that others wait for.
    let prepared = tokio::task::spawn_blocking(move || Graph::prepare(&plan, &host)).await;
    let prepared = prepared.map_err(|error| Failure::new(Code::GraphRefused, "an xlator panicked").because(error))?;
    let graph = Arc::new(prepared.map_err(refused)?);
    graph.listen(Box::new(move |event| heard.hear(event)));
    graph.start().await.map_err(refused)?;
    Ok(graph)
}

/// Stops the graph that comes out of `slot` when its last mount has let go, and its last fop has left.
///
/// Answers whether that was so in time; else the log says what was not.
pub async fn stop_graph(slot: oneshot::Receiver<Slot>) -> bool {
    let drained = async {
        match slot.await {
            Ok(slot) => Some(slot.close().drained().await),
            // The slot is sent when its root is dropped, always.
            Err(_) => None,
        }
    };
    let graph = match tokio::time::timeout(DRAIN_MAX, drained).await {
        Ok(Some(graph)) => graph,
        Ok(None) | Err(_) => {
            let waited_s = DRAIN_MAX.as_secs();
            tracing::error!(waited_s, "file operations are still under way; the process ends without them");
            return false;
        }
    };
    if let Err(error) = graph.stop().await {
        tracing::error!(%error, "the graph could not be stopped");
        return false;
    }
    true
}
