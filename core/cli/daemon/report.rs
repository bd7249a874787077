//! What a serving process tells about itself.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::{ClientId, Cx, Gfid, Host, StatfsReq, Xdata, Xlator};
use brickwork_graph::diagnostic::{MASK, is_secret_key};
use brickwork_graph::graph::{Graph, Node};
use brickwork_graph::host::TokioHost;
use brickwork_graph::plan::PlannedVolume;
use brickwork_graph::swap::Running;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::{CLIENT, SERVER, Server, admin};
use crate::codes::Code;
use crate::failure::Failure;
use crate::output::span;
use crate::protocol::{
    BrickReport, CapacityReport, DumpReport, GraphReport, InstanceReport, LinkReport, MountReport, ProblemReport,
    ProcessReport, ReloadReport, ServingReport, XlatorReport,
};
use crate::version::VERSION;

/// How long `status` waits for the volume to say how full it is.
const CAPACITY_MAX: Duration = Duration::from_millis(800);

/// What the driver knew at one moment; the answer is made of it without the driver.
#[derive(Debug)]
pub struct Questions {
    instance: String,
    file: String,
    volumes: Vec<PlannedVolume>,
    running: Arc<Running>,
    mounts: Vec<MountReport>,
    asker: ClientId,
    private_to_uid: Option<u32>,
    down: Option<String>,
    reloads: ReloadReport,
    started: Instant,
    pool_threads: usize,
}

impl Server {
    pub(super) fn questions(&self) -> Questions {
        Questions {
            instance: self.claim.name().to_owned(),
            file: self.stack.name(),
            volumes: self.plan.volumes.clone(),
            running: self.root.load(),
            mounts: self.fronts.iter().map(|front| front.report()).collect(),
            // A client of its own would be one more at every brick.
            asker: self.fronts.first().map_or(self.asker, |front| front.mount_of().client()),
            private_to_uid: self.fronts.iter().find_map(|front| front.private_to_uid()),
            down: self.heard.down(),
            reloads: self.reloads.clone(),
            started: self.started,
            pool_threads: self.pool_threads,
        }
    }

    /// One line about what it does, for a service manager.
    pub(super) fn summary(&self) -> String {
        summary(self.root.load().graph(), self.points(), self.heard.down())
    }

    /// Answers by `report` in a task of its own.
    pub(super) fn answer_beside<T, W>(
        &self,
        answer: oneshot::Sender<Result<Value, Failure>>,
        report: impl FnOnce(Questions) -> W + Send + 'static,
    ) where
        T: Serialize,
        W: Future<Output = T> + Send + 'static,
    {
        let questions = self.questions();
        tokio::spawn(async move {
            // A client that did not wait for its answer needs none.
            let _ = answer.send(Ok(json!(report(questions).await)));
        });
    }

    /// Writes a dump beside the admin socket and logs where it is.
    pub(super) async fn dump_to_file(&self) {
        let runtime = crate::instance::Runtime::find();
        let stamp: String = crate::output::now().chars().filter(char::is_ascii_digit).take(14).collect();
        let path = runtime.directory().join(format!("dump-{}-{stamp}.json", self.claim.name()));
        let dump = json!(self.questions().dump().await);
        match write_private(&path, &format!("{dump:#}\n")) {
            Ok(()) => tracing::info!(path = %path.display(), "dump written"),
            Err(error) => tracing::error!(path = %path.display(), %error, "the dump could not be written"),
        }
    }
}

fn write_private(path: &std::path::Path, text: &str) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    options.create(true).truncate(true).write(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}

impl Questions {
    /// The instance's name.
    pub(super) fn instance(&self) -> &str {
        &self.instance
    }

    /// The graph that ran when it was asked.
    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// As whom the graph is asked.
    pub(super) fn asker(&self) -> ClientId {
        self.asker
    }

    /// For `status`.
    pub async fn status(self) -> InstanceReport {
        let mut serving = serving(self.running.graph());
        let links = links(self.running.graph());
        let (capacity, silent) = if serving.is_empty() {
            let capacity = capacity(self.running.clone(), self.asker).await;
            (capacity, capacity.is_none().then(|| "the volume".to_owned()))
        } else {
            (None, self.fill(&mut serving).await)
        };
        let mut problems = self.problems(silent, &links);
        problems.extend(self.lock_problems().await);
        InstanceReport {
            pid: std::process::id(),
            version: VERSION.to_owned(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            problems,
            bricks: self.bricks(),
            serving,
            links,
            graph: self.root_name(),
            generation: self.running.generation(),
            capacity,
            private_to_uid: self.private_to_uid,
            mounts: self.mounts,
            instance: self.instance,
        }
    }

    /// Asks every brick that is served how full it is, all at the same time; answers the first that did not say so.
    async fn fill(&self, serving: &mut [ServingReport]) -> Option<String> {
        let nodes = self.running.graph().nodes();
        let mut asked = Vec::new();
        for export in serving.iter_mut().flat_map(|serving| &mut serving.exports) {
            if let Some(node) = nodes.iter().find(|node| *node.name == *export.name) {
                asked.push((tokio::spawn(capacity(node.xlator.clone(), self.asker)), export));
            }
        }
        let mut silent = None;
        for (answer, export) in asked {
            export.capacity = answer.await.ok().flatten();
            if export.capacity.is_none() && silent.is_none() {
                silent = Some(format!("brick `{}`", export.name));
            }
        }
        silent
    }

    /// For `graph show`.
    #[must_use]
    pub fn graph(&self) -> GraphReport {
        let graph = self.running.graph();
        let mut order = Vec::new();
        preorder(graph, graph.root_index(), &mut order);
        GraphReport {
            name: self.root_name(),
            generation: self.running.generation(),
            phase: format!("{:?}", graph.phase()).to_lowercase(),
            uptime_seconds: self.started.elapsed().as_secs_f64(),
            file: self.file.clone(),
            mounts: self.mounts.iter().map(|mount| mount.path.clone()).collect(),
            xlators: order.into_iter().map(|index| self.xlator(graph, index)).collect(),
        }
    }

    /// For `dump`.
    pub async fn dump(self) -> DumpReport {
        let (graph, reloads, pool_threads) = (self.graph(), self.reloads.clone(), self.pool_threads);
        DumpReport { graph, reloads, process: process(pool_threads), status: self.status().await }
    }

    fn root_name(&self) -> String {
        let graph = self.running.graph();
        graph.nodes()[graph.root_index()].name.to_string()
    }

    fn xlator(&self, graph: &Graph, index: usize) -> XlatorReport {
        let node: &Node = &graph.nodes()[index];
        XlatorReport {
            name: node.name.to_string(),
            kind: node.kind.name.to_owned(),
            options: shown(&self.volumes[index]),
            children: node.children.iter().map(|&child| graph.nodes()[child].name.to_string()).collect(),
            status: node.xlator.status(),
        }
    }

    fn bricks(&self) -> Vec<BrickReport> {
        let bricks = self.volumes.iter().filter(|volume| volume.kind.name == brickwork_posix::TYPE.name);
        let report = |volume: &PlannedVolume| {
            let directory = PathBuf::from(volume.options.get("directory")?);
            Some(BrickReport { name: volume.name.clone(), directory })
        };
        bricks.filter_map(report).collect()
    }

    fn problems(&self, silent: Option<String>, links: &[LinkReport]) -> Vec<ProblemReport> {
        let mut problems: Vec<ProblemReport> = links.iter().filter(|link| !link.up()).map(link_problem).collect();
        match (&self.down, silent) {
            // The links say it better.
            _ if !problems.is_empty() => {}
            (Some(reason), _) => problems.push(ProblemReport {
                what: format!("the volume cannot serve: {reason}"),
                effect: "file operations answer EIO or wait".to_owned(),
                next: "repair what the reason names; it serves again by itself".to_owned(),
            }),
            (None, Some(silent)) => problems.push(ProblemReport {
                what: format!("{silent} did not answer within {CAPACITY_MAX:?}"),
                effect: "programs that use it may hang".to_owned(),
                next: "look at the disk below the brick (dmesg)".to_owned(),
            }),
            (None, None) => {}
        }
        if let Some(failure) = &self.reloads.refused {
            problems.push(ProblemReport {
                what: format!("the last reload was refused: {}", failure.message()),
                effect: "the graph runs as before the change of its volfile".to_owned(),
                next: format!(
                    "correct the volfile and send SIGHUP again; brickwork explain {}",
                    failure.code().as_str()
                ),
            });
        }
        problems
    }
}

/// The indices of `at` and everything below it, each once, parents first.
fn preorder(graph: &Graph, at: usize, order: &mut Vec<usize>) {
    if !order.contains(&at) {
        order.push(at);
        graph.nodes()[at].children.iter().for_each(|&child| preorder(graph, child, order));
    }
}

/// The options of `volume`, without secrets.
fn shown(volume: &PlannedVolume) -> Map<String, Value> {
    let secret =
        |key: &str| is_secret_key(key) || volume.kind.options.iter().any(|spec| spec.matches(key) && spec.secret);
    let entry = |(key, value): (&str, &str)| {
        let value = if secret(key) { MASK } else { value };
        (key.to_owned(), Value::from(value))
    };
    volume.options.iter().map(entry).collect()
}

/// What the `protocol/server` volumes of `graph` say of themselves.
fn serving(graph: &Graph) -> Vec<ServingReport> {
    let servers = graph.nodes().iter().filter(|node| node.kind.name == SERVER);
    servers.map(told).collect()
}

/// What the `protocol/client` volumes of `graph` say of themselves.
pub fn links(graph: &Graph) -> Vec<LinkReport> {
    let clients = graph.nodes().iter().filter(|node| node.kind.name == CLIENT);
    clients.map(|node| LinkReport { name: node.name.to_string(), ..told(node) }).collect()
}

fn told<T: Default + serde::de::DeserializeOwned>(node: &Node) -> T {
    serde_json::from_value(node.xlator.status()).unwrap_or_else(|error| {
        tracing::warn!(volume = &*node.name, %error, "a volume tells of itself in words that are not known");
        T::default()
    })
}

fn link_problem(link: &LinkReport) -> ProblemReport {
    let since = span(link.since_seconds as u64);
    let (code, trouble) = link.trouble();
    let next = match code {
        Code::BrickUnreachable => "on its machine: brickwork brick status, systemctl start brickwork-brick@NAME",
        _ => "the log of the brick says more",
    };
    ProblemReport {
        what: format!("brick `{}` ({}) {trouble}, for {since}: {}", link.name, link.brick, link.reason()),
        effect: "operations on it wait, and answer ENOTCONN when they waited too long; they go on when it is back"
            .to_owned(),
        next: format!("{next}  ·  brickwork explain {}", code.as_str()),
    }
}

/// One line about what `graph` does, for a service manager.
fn summary<'a>(graph: &Graph, mounts: impl Iterator<Item = &'a std::path::Path>, down: Option<String>) -> String {
    let mut parts: Vec<String> = serving(graph)
        .iter()
        .map(|serving| {
            let sessions = serving.exports.iter().flat_map(|export| &export.sessions);
            let mut clients: Vec<_> =
                sessions.filter(|session| session.attached()).map(|session| session.client.as_str()).collect();
            clients.sort_unstable();
            clients.dedup();
            let names: Vec<_> = serving.exports.iter().map(|export| export.name.as_str()).collect();
            let count = clients.len();
            let plural = if count == 1 { "" } else { "s" };
            format!("serving {} at {}, {count} client{plural}", names.join(" "), serving.listening.join(" "))
        })
        .collect();
    let mounts: Vec<_> = mounts.map(|mount| mount.display().to_string()).collect();
    if !mounts.is_empty() {
        parts.push(format!("mounted at {}", mounts.join(" ")));
    }
    parts.extend(down.map(|reason| format!("cannot serve: {reason}")));
    // The protocol has lines.
    parts.join("; ").replace('\n', " ")
}

/// Asks `volume` as `asker` how full it is; `None` when it does not say so in time.
async fn capacity(volume: Arc<dyn Xlator>, asker: ClientId) -> Option<CapacityReport> {
    let host: Arc<dyn Host> = Arc::new(TokioHost::new(tokio::runtime::Handle::current()));
    // In a task of its own: a fop that was started is polled to its end, also when nobody waits for it any more.
    let asked = tokio::spawn(async move {
        let cx = Cx::internal(asker, host);
        volume.statfs(&cx, &StatfsReq { gfid: Gfid::ROOT, xdata: Xdata::EMPTY }).await
    });
    let stat = tokio::time::timeout(CAPACITY_MAX, asked).await.ok()?.ok()?.ok()?.stat;
    Some(CapacityReport {
        total_bytes: stat.blocks.saturating_mul(stat.fragment_size),
        used_bytes: stat.blocks.saturating_sub(stat.blocks_free).saturating_mul(stat.fragment_size),
    })
}

fn process(pool_threads: usize) -> ProcessReport {
    let resident_pages = std::fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    let limits = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    ProcessReport {
        resident_bytes: resident_pages.map(|pages| pages * rustix::param::page_size() as u64),
        open_files: std::fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as u64),
        open_files_max: limits.current,
        pool_threads,
        admin_connections_max: admin::CONNECTIONS_MAX,
    }
}
