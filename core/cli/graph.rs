//! `brickwork graph show`: the running graph as a tree, with rates, as a drawing for dot, or as JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::args::Globals;
use crate::client::the_one;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, span};
use crate::protocol::{GraphReport, Request, XlatorReport};

mod rate;

use rate::Rate;

/// The time between the two looks of `--live`.
const SAMPLE: Duration = Duration::from_secs(1);

/// Show a running graph.
#[derive(clap::Subcommand, Debug)]
pub enum Graph {
    /// Show the graph of an instance
    Show(Show),
}

/// Show the graph of an instance.
#[derive(clap::Args, Debug)]
pub struct Show {
    /// The instance
    #[arg(value_name = "INSTANCE")]
    name: Option<String>,
    /// As a tree, as input for graphviz, or as JSON
    #[arg(long, value_enum, default_value_t = Format::Tree)]
    format: Format,
    /// With what happens in one second
    #[arg(long)]
    live: bool,
}

/// How a graph is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    Tree,
    Dot,
    Json,
}

impl Graph {
    /// Shows what was asked for.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let Graph::Show(show) = self;
        show.run(globals, output)
    }
}

impl Show {
    fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let (graph, rates) = self.look(globals)?;
        match self.format {
            Format::Json => print_json(output, &graph, rates.as_deref())?,
            _ if output.is_json() => print_json(output, &graph, rates.as_deref())?,
            Format::Tree => output.text(&tree(&graph, rates.as_deref()))?,
            Format::Dot => output.text(&dot(&graph))?,
        }
        Ok(Exit::Done)
    }

    fn look(&self, globals: &Globals) -> Result<(GraphReport, Option<Vec<Rate>>), Failure> {
        let mut client = the_one(globals, self.name.as_deref())?;
        let before: GraphReport = client.ask(&Request::Graph)?;
        if !self.live {
            return Ok((before, None));
        }
        // Not a wait for something: the time between two samples is what is measured.
        std::thread::sleep(SAMPLE);
        let after: GraphReport = client.ask(&Request::Graph)?;
        let seconds = (after.uptime_seconds - before.uptime_seconds).max(f64::EPSILON);
        let rates = after.xlators.iter().map(|now| {
            let then = before.xlators.iter().find(|then| then.name == now.name);
            Rate::between(then, now, seconds)
        });
        let rates = rates.collect();
        Ok((after, Some(rates)))
    }
}

fn print_json(output: Output, graph: &GraphReport, rates: Option<&[Rate]>) -> Result<(), Failure> {
    let items: Vec<Value> = graph
        .xlators
        .iter()
        .enumerate()
        .map(|(index, xlator)| {
            let mut item = json!(xlator);
            if let Some(rate) = rates.map(|rates| rates[index]) {
                item["live"] = rate.to_json();
            }
            item
        })
        .collect();
    let mut head = json!(graph);
    let fields = head.as_object_mut().map(std::mem::take).unwrap_or_default();
    let head: Map<String, Value> = fields.into_iter().filter(|(key, _)| key != "xlators").collect();
    output.document_with("Graph", &items, Map::from_iter([("graph".to_owned(), Value::Object(head))]))
}

/// One line of the tree: its drawing with the type, the name, and what is behind it.
struct Line<'a> {
    drawing: String,
    name: &'a str,
    about: String,
    rate: Option<Rate>,
}

fn tree(graph: &GraphReport, rates: Option<&[Rate]>) -> String {
    let mut lines = Vec::new();
    for mount in &graph.mounts {
        lines.push(Line { drawing: "mount/fuse".to_owned(), name: "", about: mount.display().to_string(), rate: None });
    }
    if let Some(root) = graph.xlators.first() {
        draw(graph, rates, root, "", "└─ ", &mut lines);
    }
    let head = format!(
        "{}  generation {}  {} {} · {} mount{} · file {}\n\n",
        graph.name,
        graph.generation,
        graph.phase,
        span(graph.uptime_seconds as u64),
        graph.mounts.len(),
        if graph.mounts.len() == 1 { "" } else { "s" },
        graph.file,
    );
    head + &columns(&lines, rates.is_some())
}

fn draw<'a>(
    graph: &'a GraphReport,
    rates: Option<&[Rate]>,
    xlator: &'a XlatorReport,
    above: &str,
    branch: &str,
    lines: &mut Vec<Line<'a>>,
) {
    let place = graph.xlators.iter().position(|other| other.name == xlator.name);
    lines.push(Line {
        drawing: format!("{above}{branch}{}", xlator.kind),
        name: &xlator.name,
        about: xlator.options.get("directory").and_then(Value::as_str).unwrap_or_default().to_owned(),
        rate: rates.zip(place).map(|(rates, place)| rates[place]),
    });
    let below = format!("{above}{}", if branch.starts_with('├') { "│  " } else { "   " });
    for (index, child) in xlator.children.iter().enumerate() {
        let branch = if index + 1 == xlator.children.len() { "└─ " } else { "├─ " };
        if let Some(child) = graph.xlators.iter().find(|other| other.name == *child) {
            draw(graph, rates, child, &below, branch, lines);
        }
    }
}

fn columns(lines: &[Line<'_>], live: bool) -> String {
    let width = |cell: fn(&Line<'_>) -> usize| lines.iter().map(cell).max().unwrap_or(0);
    let drawing = width(|line| line.drawing.chars().count());
    let name = width(|line| line.name.chars().count());
    let about = width(|line| line.about.chars().count());
    let mut text = String::new();
    if live {
        let blank = drawing + name + about + 4;
        text.push_str(&format!("{:blank$}  {:>8}  {:>9}  {:>9}  {:>7}\n", "", "op/s", "mean", "p99", "err/s"));
    }
    for line in lines {
        let mut row = format!("{:drawing$}  {:name$}  {:about$}", line.drawing, line.name, line.about);
        if let Some(rate) = line.rate.filter(|_| live) {
            row.push_str(&format!(
                "  {:>8}  {:>9}  {:>9}  {:>7}",
                number(rate.operations, 0),
                rate.mean_us.map_or("–".to_owned(), latency),
                rate.p99_us.map_or("–".to_owned(), latency),
                number(rate.errors, 1)
            ));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

fn number(value: Option<f64>, decimals: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.decimals$}"))
}

fn latency(us: f64) -> String {
    match us {
        us if us < 1000.0 => format!("{us:.0} µs"),
        us if us < 1_000_000.0 => format!("{:.1} ms", us / 1e3),
        us => format!("{:.1} s", us / 1e6),
    }
}

fn dot(graph: &GraphReport) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = format!("digraph {} {{\n  node [shape=box];\n", quoted(&graph.name));
    for xlator in &graph.xlators {
        let label = quoted(&format!("{}\n{}", xlator.name, xlator.kind)).replace('\n', "\\n");
        text.push_str(&format!("  {} [label={label}];\n", quoted(&xlator.name)));
    }
    for mount in &graph.mounts {
        let mount = quoted(&mount.display().to_string());
        text.push_str(&format!("  {mount} [shape=folder];\n  {mount} -> {};\n", quoted(&graph.name)));
    }
    for xlator in &graph.xlators {
        for child in &xlator.children {
            text.push_str(&format!("  {} -> {};\n", quoted(&xlator.name), quoted(child)));
        }
    }
    text + "}\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> GraphReport {
        let xlator = |name: &str, kind: &str, children: &[&str], options: Value| XlatorReport {
            name: name.to_owned(),
            kind: kind.to_owned(),
            options: options.as_object().cloned().unwrap_or_default(),
            children: children.iter().map(|&child| child.to_owned()).collect(),
            status: Value::Null,
        };
        GraphReport {
            name: "dht".to_owned(),
            generation: 1,
            phase: "running".to_owned(),
            uptime_seconds: 12.0,
            file: "two.vol".to_owned(),
            mounts: vec!["/mnt/g1".into()],
            xlators: vec![
                xlator("dht", "cluster/distribute", &["b1", "b2"], json!({})),
                xlator("b1", "debug/null", &["p1"], json!({})),
                xlator("p1", "storage/posix", &[], json!({"directory": "/b1"})),
                xlator("b2", "storage/posix", &[], json!({"directory": "/b2"})),
            ],
        }
    }

    #[test]
    fn a_graph_is_drawn_from_the_mount_down_to_the_disks() {
        assert_eq!(
            tree(&graph(), None),
            "dht  generation 1  running 12s · 1 mount · file two.vol\n\n\
             mount/fuse                   /mnt/g1\n\
             └─ cluster/distribute   dht\n\
             \u{20}  ├─ debug/null        b1\n\
             \u{20}  │  └─ storage/posix  p1   /b1\n\
             \u{20}  └─ storage/posix     b2   /b2\n"
        );
    }

    #[test]
    fn dot_has_every_xlator_and_every_edge() {
        let dot = dot(&graph());
        for part in ["\"dht\" -> \"b1\"", "\"b1\" -> \"p1\"", "\"dht\" -> \"b2\"", "\"/mnt/g1\" -> \"dht\""] {
            assert!(dot.contains(part), "{part} in {dot}");
        }
    }
}
