//! Types and the number of their subvolumes: V0003, V0009, V0020.

use super::model::{Model, Node};
use super::suggest::nearest_type;
use crate::compat::{State, TYPES, TypeRow};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::volfile::{Span, Statement, shorten};
use brickwork_api::Arity;
use std::collections::BTreeMap;

/// What a volume becomes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// A layer of a registered type.
    Layer(Arity),
    /// Nothing: it is left out, by its type's row or by `--skip-type`.
    LeftOut,
    /// Its type is not here.
    Missing,
}

/// Decides by the type's name.
pub(super) fn fate(model: &Model<'_>, kind: &str) -> Fate {
    if model.skipped(kind) {
        return Fate::LeftOut;
    }
    match (model.types.get(kind), TypeRow::find(kind)) {
        (Some(kind), _) => Fate::Layer(kind.subvolumes),
        (None, Some(row)) if row.state == State::WithoutEffect => Fate::LeftOut,
        _ => Fate::Missing,
    }
}

/// Checks the types of the volumes that are to be built.
pub(super) fn check(model: &Model<'_>, findings: &mut Diagnostics) {
    // One finding for each type, whatever the number of its volumes.
    let mut by_type: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (index, node) in model.live() {
        if let Some(kind) = node.kind {
            by_type.entry(&kind.text).or_default().push(index);
        }
    }
    for (kind, volumes) in &by_type {
        match fate(model, kind) {
            Fate::Layer(arity) => volumes.iter().for_each(|i| check_arity(model, *i, arity, findings)),
            Fate::LeftOut => {
                volumes.iter().for_each(|i| check_arity(model, *i, Arity::One, findings));
                findings.push(left_out(model, kind, volumes));
            }
            Fate::Missing => findings.push(missing(model, kind, volumes)),
        }
    }
}

fn and_others(model: &Model<'_>, volumes: &[usize], finding: Diagnostic) -> Diagnostic {
    const SHOWN_MAX: usize = 5;
    if volumes.len() < 2 {
        return finding;
    }
    let line = |i: &usize| model.sources.position(model.volumes[*i].kind_span()).line.to_string();
    let lines: Vec<String> = volumes[1..].iter().take(SHOWN_MAX).map(line).collect();
    let more = (volumes.len() - 1).saturating_sub(SHOWN_MAX);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let word = if volumes.len() == 2 { "line" } else { "lines" };
    finding.note(format!("the same at {word} {}{more}", lines.join(", ")))
}

fn left_out(model: &Model<'_>, kind: &str, volumes: &[usize]) -> Diagnostic {
    let span = model.volumes[volumes[0]].kind_span();
    let (consequence, label) = match TypeRow::find(kind).filter(|row| row.state == State::WithoutEffect) {
        Some(row) => (row.consequence, "accepted without effect"),
        None => ("what it would do is not done", "by `--skip-type`"),
    };
    let finding = Diagnostic::notice(Code::WithoutEffect, format!("`{}` is left out: {consequence}", shorten(kind)))
        .at(span, label);
    and_others(model, volumes, finding)
}

fn missing(model: &Model<'_>, kind: &str, volumes: &[usize]) -> Diagnostic {
    let node = &model.volumes[volumes[0]];
    let span = node.kind_span();
    let shown = shorten(kind);
    let finding = match TypeRow::find(kind) {
        Some(row) if row.state == State::Own => skippable(
            model,
            volumes,
            kind,
            Diagnostic::error(Code::UnknownType, format!("`{shown}` is not in this binary yet"))
                .at(span, row.consequence),
        ),
        Some(row) => skippable(
            model,
            volumes,
            kind,
            Diagnostic::error(Code::UnknownType, format!("GlusterFS's `{shown}` is not here"))
                .at(span, "")
                .note(row.consequence),
        ),
        None => unknown(model, kind, span),
    };
    and_others(model, volumes, finding)
}

/// Advises `--skip-type` where it can be followed: on layers with one subvolume.
fn skippable(model: &Model<'_>, volumes: &[usize], kind: &str, finding: Diagnostic) -> Diagnostic {
    let filters = volumes.iter().all(|i| model.volumes[*i].subvolumes.len() == 1);
    if filters && kind != "mount/fuse" {
        finding.help(format!("`--skip-type {kind}` builds the graph without it and what it does"))
    } else if kind == "mount/fuse" {
        let words = "remove the volume; the one below it becomes the top";
        match (volumes, model.volumes.last()) {
            ([only], Some(top)) if only + 1 == model.volumes.len() && filters && !top.broken => {
                let text = model.sources.get(top.name.span.source).text();
                let all = top.tree.head.span.to(top.tree.end.span).whole_lines(text);
                finding.fix(words, vec![(all, String::new())])
            }
            _ => finding.help(words),
        }
    } else {
        finding.help("use a volfile without it")
    }
}

fn unknown(model: &Model<'_>, kind: &str, span: Span) -> Diagnostic {
    let own = model.types.iter().map(|t| t.name);
    let all: Vec<&str> = own.chain(TYPES.iter().map(|row| row.name)).collect();
    let finding = Diagnostic::error(Code::UnknownType, format!("unknown xlator type `{}`", shorten(kind))).at(span, "");
    match nearest_type(kind, &all) {
        Some(near) => finding.fix("there is a type with a similar name", vec![(span, near.to_owned())]),
        None => {
            let names: Vec<&str> = model.types.iter().map(|t| t.name).collect();
            finding.help(format!("the types here are {}; `brickwork xlator list` describes them", names.join(", ")))
        }
    }
}

fn check_arity(model: &Model<'_>, index: usize, arity: Arity, findings: &mut Diagnostics) {
    let node = &model.volumes[index];
    let found = node.subvolumes.len();
    if arity.admits(found) || (node.broken && !is_certain(model, node)) {
        return;
    }
    let kind = node.kind_name();
    let message = match fate(model, kind) {
        Fate::LeftOut => format!("`{kind}` is left out, and needs exactly 1 subvolume in its place, found {found}"),
        _ => format!("`{kind}` takes {}, found {found}", arity.words()),
    };
    let finding = Diagnostic::error(Code::Arity, message);
    findings.push(if found == 0 { too_few(model, index, finding) } else { too_many(node, arity, finding) });
}

/// Whether a broken volume stands on too many all the same: its type and its list of subvolumes were read well.
fn is_certain(model: &Model<'_>, node: &Node<'_>) -> bool {
    let mut list = node.tree.body.iter().filter(|e| matches!(e.node, Statement::Subvolumes(_)));
    let list_is_sound = list.next().is_some_and(|entry| !model.is_suspect(entry.span));
    node.has_one_type_and_list() && list_is_sound && !model.is_suspect(node.kind_span())
}

/// A filter or cluster that stands on nothing; probably on the volume above it in the file.
fn too_few(model: &Model<'_>, index: usize, finding: Diagnostic) -> Diagnostic {
    let node = &model.volumes[index];
    let finding = finding.at(node.kind_span(), "it stands on nothing");
    let above = index.checked_sub(1).map(|i| &model.volumes[i].name.text);
    let Some(above) = above else {
        return finding.help("define the volume that it stands on above it");
    };
    let end = node.tree.end.span;
    let word = crate::volfile::printed_word(above).into_owned();
    let last = node.tree.body.last().map_or(node.tree.head.span, |entry| entry.span);
    if end == node.tree.head.span {
        return finding.help(format!("add `subvolumes {word}`"));
    }
    let behind = Span { start: last.end, ..last };
    finding.fix("the volume before it in the file may be meant", vec![(behind, format!("\n    subvolumes {word}"))])
}

fn too_many(node: &Node<'_>, arity: Arity, finding: Diagnostic) -> Diagnostic {
    let statement = node.tree.body.iter().find(|e| matches!(e.node, Statement::Subvolumes(_)));
    let place = statement.map_or(node.kind_span(), |entry| entry.span);
    let finding = finding.at(place, "").and(node.kind_span(), "the type that decides");
    if arity == Arity::Leaf {
        finding.fix("a leaf stands on a directory or a network, not on volumes", vec![(place, String::new())])
    } else {
        finding.help("keep the one that it should stand on; several are joined by `cluster/distribute`")
    }
}
