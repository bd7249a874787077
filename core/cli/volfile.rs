//! `brickwork volfile`: checks and formats volfiles.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use brickwork_graph::check::Checked;
use brickwork_graph::diagnostic::Look;
use brickwork_graph::volfile::{SourceId, Sources, parse, print};
use serde_json::{Map, Value, json};

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;
use crate::stack::{self, Changes, Stack, Text};

/// Check or format volfiles.
#[derive(clap::Subcommand, Debug)]
pub enum Volfile {
    /// Find everything that is wrong in volfiles; nothing is opened or started
    Check(Check),
    /// Write volfiles in their canonical form, in place
    Fmt(Fmt),
}

/// Find everything that is wrong in volfiles.
#[derive(clap::Args, Debug)]
pub struct Check {
    /// The volfiles
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    changes: Changes,
    /// Fail on warnings too
    #[arg(long)]
    deny_warnings: bool,
    /// Apply the suggestions to the files
    #[arg(long)]
    fix: bool,
}

/// Write volfiles in their canonical form.
#[derive(clap::Args, Debug)]
pub struct Fmt {
    /// The volfiles
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Change nothing; name the files that would change and exit with 1
    #[arg(long)]
    check: bool,
}

impl Volfile {
    /// Does what was asked for.
    pub fn run(&self, output: Output) -> Outcome {
        match self {
            Volfile::Check(check) => check.run(output),
            Volfile::Fmt(fmt) => fmt.run(output),
        }
    }
}

impl Check {
    fn run(&self, output: Output) -> Outcome {
        let mut items = Vec::new();
        let mut files = Vec::new();
        let mut worst = Exit::Done;
        for path in &self.files {
            let checked = self.check(path)?;
            if self.fails(&checked) {
                worst = Exit::Config;
            }
            if output.is_json() {
                let mut report = checked.to_json();
                items.extend(report["items"].take().as_array().into_iter().flatten().cloned());
                files.push(summary(report));
            } else {
                show(output, path, &checked)?;
            }
        }
        if output.is_json() {
            let more = Map::from_iter([("files".to_owned(), Value::Array(files))]);
            output.document_with("VolfileFindingList", &items, more)?;
        }
        Ok(worst)
    }

    fn check(&self, path: &Path) -> Result<Checked, Failure> {
        let stack = Stack { text: Text::File(path.to_owned()), overrides: self.changes.overrides() };
        let checked = stack.check()?;
        match checked.fixed_text().filter(|_| self.fix) {
            None => Ok(checked),
            Some(text) => {
                replace(path, &text)?;
                stack.check()
            }
        }
    }

    fn fails(&self, checked: &Checked) -> bool {
        checked.findings.error_count() > 0 || self.deny_warnings && checked.findings.warning_count() > 0
    }
}

/// The counts of one file's report; what every document has stands in the document.
fn summary(mut report: Value) -> Value {
    if let Some(fields) = report.as_object_mut() {
        fields.retain(|key, _| !matches!(key.as_str(), "apiVersion" | "kind" | "items"));
    }
    report
}

/// Findings go to stderr, as an error of any other verb does; that a file is sound is what was asked for.
fn show(output: Output, path: &Path, checked: &Checked) -> Result<(), Failure> {
    if checked.findings.is_empty() {
        let summary = checked.findings.summary_line(&checked.sources, checked.summary);
        return output.text(&format!("{}\n", if summary.is_empty() { path.display().to_string() } else { summary }));
    }
    output.aside(&checked.render(look(output)));
    Ok(())
}

/// How findings look on stderr.
#[must_use]
pub fn look(output: Output) -> Look {
    Look { colour: output.colours(&io::stderr()), ..Look::default() }
}

impl Fmt {
    fn run(&self, output: Output) -> Outcome {
        let mut changed = Vec::new();
        for path in &self.files {
            let (before, after) = formatted(output, path)?;
            if before != after {
                if !self.check {
                    replace(path, &after)?;
                }
                changed.push(path.display().to_string());
            }
        }
        if output.is_json() {
            let items: Vec<Value> = changed.iter().map(|file| json!({"file": file})).collect();
            output.document("ChangedVolfileList", &items)?;
        } else {
            output.text(&changed.iter().map(|file| format!("{file}\n")).collect::<String>())?;
        }
        Ok(if self.check && !changed.is_empty() { Exit::Failed } else { Exit::Done })
    }
}

fn formatted(output: Output, path: &Path) -> Result<(String, String), Failure> {
    let mut sources = Sources::new();
    let id = sources.add(stack::read(path)?);
    let parsed = parse(&sources, id);
    if parsed.problems.is_empty() {
        return Ok((sources.get(SourceId(0)).text().to_owned(), print(&parsed.tree)));
    }
    let stack = Stack { text: Text::File(path.to_owned()), overrides: Default::default() };
    let findings = stack.check()?.render(look(output));
    Err(Failure::new(Code::VolfileInvalid, format!("`{}` is not a volfile yet", path.display()))
        .next("correct the errors first")
        .with_findings(findings))
}

/// Puts `text` in place of the file at `path`, all or nothing, with the file's mode.
fn replace(path: &Path, text: &str) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(Code::System, format!("`{}` cannot be written", path.display())).because(error);
    let target = path.canonicalize().map_err(failed)?;
    let mode = fs::metadata(&target).map_err(failed)?.permissions();
    let beside =
        target.with_file_name(format!(".{}.{}", target.file_name().unwrap_or_default().display(), std::process::id()));
    let written = fs::File::create(&beside)
        .and_then(|mut file| {
            file.set_permissions(mode)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&beside, &target));
    written.map_err(|error| {
        // The file is as it was; what we began beside it must not stay.
        let _ = fs::remove_file(&beside);
        failed(error)
    })
}
