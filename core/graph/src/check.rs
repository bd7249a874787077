//! The rules that a volfile must keep before anything is opened or started: names, shape of the graph, types, options.
//!
//! Pure: text, a list of types and the command line's overrides go in, a [`Plan`] to build and findings come out.
//! All findings of a file come in one run. One mistake gives one finding: what only follows from another is not said.
//!
//! GlusterFS accepts much of what is refused here, and then serves something else than what was written: a mistyped
//! option is ignored, a mistyped subvolume left out, of an option given twice the last one wins. Findings say so.

mod graph;
mod model;
mod options;
mod order;
mod overrides;
mod suggest;
mod types;

use crate::diagnostic::{Diagnostics, Look, Summary};
use crate::plan::Plan;
use crate::registry::Registry;
use crate::volfile::{COMMAND_LINE, Parsed, Source, SourceId, Sources, Volfile, parse};
use model::Model;
use std::time::Instant;

/// The process's exit code for a volfile with errors: `EX_CONFIG` of sysexits.
pub const EXIT_CONFIG: u8 = 78;

/// What the command line changes in a volfile.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Values of `--xlator-option`: `PATTERN.KEY=VALUE`. `PATTERN` is a shell pattern on volume names.
    ///
    /// Both names of volumes and keys may contain dots. The text is cut at the first dot where the left side matches
    /// a volume and the right side is an option of one of the matched; so `/bricks/a.b.log-level=INFO` and
    /// `*server.auth.addr./b.allow=*` both mean what they should. The option is given to all matched volumes that
    /// have it. Later values replace earlier ones and those of the file.
    pub xlator_options: Vec<String>,
    /// `--volume-name`: the volume that is the top of the graph, in place of the last one.
    pub volume_name: Option<String>,
    /// Values of `--skip-type`: types whose volumes are left out, so that what is below stands in their place.
    pub skip_types: Vec<String>,
}

/// What came out of a check.
#[derive(Debug, Clone)]
pub struct Checked {
    /// What to build; `None` if there is an error.
    pub plan: Option<Plan>,
    /// The findings, in the order of their places.
    pub findings: Diagnostics,
    /// The texts that findings point into: the volfile, then the command line if it changes anything.
    pub sources: Sources,
    /// The tree of the volfile.
    pub tree: Volfile,
    /// Counts and time for the last line of a report.
    pub summary: Summary,
}

impl Checked {
    /// The findings as text for a terminal.
    pub fn render(&self, look: Look) -> String {
        self.findings.render(&self.sources, look, self.summary)
    }

    /// The findings as JSON.
    pub fn to_json(&self) -> serde_json::Value {
        self.findings.to_json(&self.sources, self.summary)
    }

    /// The exit code of `volfile check`: 0, or [`EXIT_CONFIG`] with errors.
    pub fn exit_code(&self) -> u8 {
        if self.findings.error_count() > 0 { EXIT_CONFIG } else { 0 }
    }

    /// The text with the findings' fixes applied, as far as they only correct its spelling
    /// ([`Diagnostics::applicable`]) and do not overlap. `None` if there is nothing to apply.
    pub fn fixed_text(&self) -> Option<String> {
        suggest::apply(&self.findings, self.sources.get(SourceId(0)).text())
    }
}

/// Checks a volfile against `types`, with the command line's `overrides`.
pub fn check(source: Source, types: &Registry, overrides: &Overrides) -> Checked {
    let started = Instant::now();
    let mut sources = Sources::new();
    let file = sources.add(source);
    let arguments = overrides::Arguments::new(overrides, SourceId(1));
    if !arguments.text.is_empty() {
        sources.add(Source::new(COMMAND_LINE, arguments.text.clone()));
    }
    let Parsed { tree, problems } = parse(&sources, file);
    let mut findings = Diagnostics::new();
    let plan = {
        let mut model = Model::new(&sources, &tree, &problems, types, &arguments);
        problems.iter().for_each(|problem| findings.push(problem.clone()));
        model.check(&mut findings);
        (findings.error_count() == 0).then(|| model.into_plan())
    };
    findings.sort();
    let summary = Summary {
        xlators: tree.volumes.len(),
        lines: sources.get(file).line_count(),
        elapsed: Some(started.elapsed()),
    };
    Checked { plan: plan.flatten(), findings, sources, tree, summary }
}

/// Reads, checks, prints and shows `data`, whatever it is: the body of the fuzz target and of its seeds in the tests.
///
/// # Panics
/// On what would be a bug: printing that is not read back, a check that answers neither a plan nor an error.
pub fn fuzz_volfile(data: &[u8], types: &Registry) {
    let checked = check(Source::from_bytes("fuzz.vol", data), types, &Overrides::default());
    assert_eq!(checked.plan.is_none(), checked.findings.error_count() > 0);
    let text = checked.render(Look::default());
    assert_eq!(text.is_empty(), checked.findings.is_empty());
    checked.to_json();
    checked.fixed_text();
    let syntax = parse(&checked.sources, SourceId(0));
    if syntax.problems.is_empty() {
        let mut sources = Sources::new();
        let id = sources.add(Source::new("printed.vol", crate::volfile::print(&checked.tree)));
        let again = parse(&sources, id);
        assert!(again.problems.is_empty() && again.tree == checked.tree);
    }
}
