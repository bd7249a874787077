//! Names become edges: V0002, V0007, V0008, V0010, and which volumes are to be built.

use super::model::Model;
use super::suggest::nearest;
use super::types::{Fate, fate};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::volfile::{Span, Word, shorten};
use brickwork_api::Arity;
use std::collections::{HashMap, HashSet, VecDeque};

/// Names that are compared with undefined ones in one file, all in all: a suggestion is not worth more time.
const COMPARISONS_MAX: usize = 200_000;

/// Resolves the names of subvolumes, finds the top and marks what is below it.
pub(super) fn resolve(model: &mut Model<'_>, findings: &mut Diagnostics) {
    let before = findings.error_count();
    let names = names(model, findings);
    let names_are_sound = findings.error_count() == before;
    let meant = edges(model, &names, findings);
    let before = findings.error_count();
    cycles(model, findings);
    model.is_layered = names_are_sound && findings.error_count() == before;
    find_root(model, &names, findings);
    let Some(root) = model.root else { return };
    model.live = reach(model, root, |model, i| model.volumes[i].children.iter().flatten().copied().collect());
    // Where the shape is not certain, who stands on whom is not either.
    let shape_is_certain = model.is_layered && !model.syntax_is_broken;
    if let (true, Some(meant)) = (shape_is_certain, &meant) {
        unreachable(model, root, meant, findings);
    }
    if !(shape_is_certain && findings.error_count() == 0) && model.arguments.volume_name.is_none() {
        // No graph is built: look at all volumes, so that one run finds everything.
        model.live.fill(true);
    }
}

/// The volumes by name; of two with one name the first.
fn names<'a>(model: &Model<'a>, findings: &mut Diagnostics) -> HashMap<&'a str, usize> {
    let mut out: HashMap<&str, usize> = HashMap::with_capacity(model.volumes.len());
    for (index, node) in model.volumes.iter().enumerate() {
        if node.name.text.is_empty() || node.name.span == Span::default() {
            continue;
        }
        match out.get(node.name.text.as_str()) {
            None => {
                out.insert(&node.name.text, index);
            }
            Some(first) => findings.push(
                Diagnostic::error(
                    Code::DuplicateVolume,
                    format!("volume `{}` is defined twice", shorten(&node.name.text)),
                )
                .at(node.name.span, "again here")
                .and(model.volumes[*first].name.span, "first here")
                .help("give one of them another name; other volumes refer to it by its name"),
            ),
        }
    }
    out
}

/// Fills in the children. Returns the volumes that undefined and missing names were probably meant to be, or nothing
/// if that is not known of all.
fn edges(model: &mut Model<'_>, names: &HashMap<&str, usize>, findings: &mut Diagnostics) -> Option<Vec<usize>> {
    let mut meant = Vec::new();
    let mut all_known = true;
    let mut compared = 0;
    for index in 0..model.volumes.len() {
        let mut seen: HashMap<&str, (usize, Span)> = HashMap::new();
        let mut children = Vec::with_capacity(model.volumes[index].subvolumes.len());
        for (statement, word) in model.volumes[index].numbered_subvolumes() {
            if let Some((other, first)) = seen.insert(&word.text, (statement, word.span)) {
                // That there are two statements is said already.
                if other == statement {
                    findings.push(twice(model, word, first));
                }
                continue;
            }
            let child = names.get(word.text.as_str()).copied();
            if child.is_none() {
                compared += index;
                let may_compare = compared < COMPARISONS_MAX && !findings.is_full_of_errors();
                let near = may_compare.then(|| nearest_volume(model, index, &word.text)).flatten();
                all_known &= near.is_some();
                meant.extend(near);
                findings.push(undefined(model, index, &word.text, word.span, near));
            }
            children.push(child);
        }
        // A filter that stands on nothing was probably meant to stand on the volume before it.
        let wants_one =
            !matches!(fate(model, model.volumes[index].kind_name()), Fate::Layer(Arity::Leaf) | Fate::Missing);
        if children.is_empty() && wants_one {
            meant.extend(index.checked_sub(1));
        }
        model.volumes[index].children = children;
    }
    all_known.then_some(meant)
}

fn nearest_volume(model: &Model<'_>, index: usize, name: &str) -> Option<usize> {
    let candidates = model.volumes[..index].iter().map(|v| v.name.text.as_str());
    let near = nearest(name, candidates)?;
    model.volumes.iter().position(|v| v.name.text == near)
}

fn twice(model: &Model<'_>, word: &Word, first: Span) -> Diagnostic {
    let text = &model.sources.get(word.span.source).text()[..word.span.start as usize];
    let with_blanks = Span { start: text.trim_end().len() as u32, ..word.span };
    Diagnostic::error(Code::DuplicateOption, format!("subvolume `{}` is named twice", shorten(&word.text)))
        .at(word.span, "again here")
        .and(first, "first here")
        .note("GlusterFS takes the volume for two: cluster/distribute would give it a double share")
        .fix("remove one", vec![(with_blanks, String::new())])
}

fn undefined(model: &Model<'_>, index: usize, name: &str, span: Span, near: Option<usize>) -> Diagnostic {
    let message = format!("subvolume `{}` is not defined", shorten(name));
    let user = shorten(&model.volumes[index].name.text).into_owned();
    let finding = Diagnostic::error(Code::UndefinedSubvolume, message)
        .at(span, "")
        .note(format!("GlusterFS 10.3 logs a line, builds `{user}` without it and mounts"));
    match near {
        Some(near) => finding.fix(
            "there is a volume with a similar name",
            vec![(span, crate::volfile::printed_word(&model.volumes[near].name.text).into_owned())],
        ),
        None => finding.help("define it above, or remove the name"),
    }
}

// ---- cycles and forward references ----

/// Reports volumes that stand on each other in a circle, and names that are defined only later.
fn cycles(model: &mut Model<'_>, findings: &mut Diagnostics) {
    let component = components(model);
    let mut reported = HashSet::new();
    for index in 0..model.volumes.len() {
        for place in 0..model.volumes[index].children.len() {
            let Some(child) = model.volumes[index].children[place] else { continue };
            if child < index {
                continue;
            }
            let is_cycle = component[child] == component[index];
            if is_cycle && !reported.insert(component[index]) {
                continue;
            }
            findings.push(match (findings.is_full_of_errors(), is_cycle) {
                (true, _) => Diagnostic::error(Code::UndefinedSubvolume, ""),
                (false, true) => cycle(model, index, child),
                (false, false) => forward(model, index, child),
            });
        }
    }
}

fn word_span(model: &Model<'_>, index: usize, child: usize) -> Span {
    let node = &model.volumes[index];
    let word = node.subvolumes.iter().find(|w| w.text == model.volumes[child].name.text);
    word.map_or(node.name.span, |word| word.span)
}

fn forward(model: &Model<'_>, index: usize, child: usize) -> Diagnostic {
    let name = shorten(&model.volumes[child].name.text).into_owned();
    let user = shorten(&model.volumes[index].name.text).into_owned();
    let defined = model.volumes[child].name.span;
    let line = model.sources.position(defined).line;
    Diagnostic::error(Code::UndefinedSubvolume, format!("subvolume `{name}` is defined only later, at line {line}"))
        .at(word_span(model, index, child), "used here")
        .and(defined, "defined here")
        .note(format!("GlusterFS 10.3 logs a line, builds `{user}` without it and mounts"))
        .help(format!("move volume `{name}` up, above `{user}`: a volfile is written from the bottom to the top"))
}

fn cycle(model: &Model<'_>, index: usize, child: usize) -> Diagnostic {
    let name = |i: usize| shorten(&model.volumes[i].name.text).into_owned();
    let note = "GlusterFS 10.3 logs a line and leaves the edge out";
    if child == index {
        let message = format!("the graph has a cycle: `{}` stands on itself", name(index));
        let place = word_span(model, index, child);
        let finding = Diagnostic::error(Code::Cycle, message)
            .at(place, "")
            .and(model.volumes[index].name.span, "this is the volume itself")
            .note(note);
        let below = index.checked_sub(1).map(|below| &model.volumes[below].name.text);
        return match below.filter(|_| model.volumes[index].children.len() == 1) {
            Some(below) => finding.fix(
                "name the volume below; the one before it in the file may be meant",
                vec![(place, crate::volfile::printed_word(below).into_owned())],
            ),
            None => finding.help("name the volume below"),
        };
    }
    let path = path(model, child, index);
    let mut names: Vec<String> = vec![name(index)];
    names.extend(path.iter().map(|i| name(*i)));
    const SHOWN_MAX: usize = 8;
    if names.len() > SHOWN_MAX {
        names.drain(SHOWN_MAX / 2..names.len() - SHOWN_MAX / 2);
        names.insert(SHOWN_MAX / 2, "…".to_owned());
    }
    let mut finding = Diagnostic::error(Code::Cycle, format!("the graph has a cycle: {}", names.join(" → ")))
        .at(word_span(model, index, child), format!("`{}` stands on `{}` …", name(index), name(child)))
        .and(model.volumes[index].name.span, "the cycle starts here");
    for pair in path.windows(2).take(4) {
        finding = finding.and(
            word_span(model, pair[0], pair[1]),
            format!("… and `{}` stands on `{}`", name(pair[0]), name(pair[1])),
        );
    }
    finding.note(note).help("remove one of these names; a volume may stand only on volumes above it in the file")
}

/// A shortest way down from `from` to `to`, both included. There is one: they are in one component.
fn path(model: &Model<'_>, from: usize, to: usize) -> Vec<usize> {
    let mut came: HashMap<usize, usize> = HashMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(at) = queue.pop_front() {
        if at == to {
            break;
        }
        for child in model.volumes[at].children.iter().flatten() {
            came.entry(*child).or_insert_with(|| {
                queue.push_back(*child);
                at
            });
        }
    }
    let mut out = vec![to];
    let mut at = to;
    while at != from {
        at = came[&at];
        out.push(at);
    }
    out.reverse();
    out
}

/// Numbers the strongly connected components (Tarjan's algorithm, without recursion: a chain may be long).
fn components(model: &Model<'_>) -> Vec<usize> {
    const NONE: usize = usize::MAX;
    let count = model.volumes.len();
    let (mut order, mut low, mut component) = (vec![NONE; count], vec![0; count], vec![NONE; count]);
    let (mut stack, mut next, mut found) = (Vec::new(), 0, 0);
    for start in 0..count {
        if order[start] != NONE {
            continue;
        }
        let mut work = vec![(start, 0)];
        while let Some((at, place)) = work.pop() {
            if place == 0 {
                order[at] = next;
                low[at] = next;
                next += 1;
                stack.push(at);
            }
            match model.volumes[at].children.get(place) {
                Some(child) => {
                    work.push((at, place + 1));
                    match *child {
                        Some(child) if order[child] == NONE => work.push((child, 0)),
                        Some(child) if component[child] == NONE => low[at] = low[at].min(order[child]),
                        _ => {}
                    }
                }
                None => {
                    if low[at] == order[at] {
                        while let Some(member) = stack.pop() {
                            component[member] = found;
                            if member == at {
                                break;
                            }
                        }
                        found += 1;
                    }
                    if let Some((parent, _)) = work.last() {
                        low[*parent] = low[*parent].min(low[at]);
                    }
                }
            }
        }
    }
    component
}

// ---- the top ----

fn find_root(model: &mut Model<'_>, names: &HashMap<&str, usize>, findings: &mut Diagnostics) {
    let Some(wanted) = &model.arguments.volume_name else {
        model.root = model.volumes.len().checked_sub(1);
        return;
    };
    model.root = names.get(wanted.value.as_str()).copied();
    if model.root.is_none() {
        let message = format!("there is no volume `{}`", shorten(&wanted.value));
        let finding = Diagnostic::error(Code::CommandLine, message).at(wanted.span, "asked for here");
        findings.push(match nearest(&wanted.value, names.keys().copied()) {
            Some(near) => finding.fix("there is a volume with a similar name", vec![(wanted.span, near.to_owned())]),
            None => finding.help("without `--volume-name` the last volume of the file is the top"),
        });
    }
}

fn reach(model: &Model<'_>, from: usize, next: impl Fn(&Model<'_>, usize) -> Vec<usize>) -> Vec<bool> {
    let mut seen = vec![false; model.volumes.len()];
    let mut work = vec![from];
    while let Some(at) = work.pop() {
        if !std::mem::replace(&mut seen[at], true) {
            work.extend(next(model, at));
        }
    }
    seen
}

/// Reports the volumes that no request reaches, by the highest of each group.
fn unreachable(model: &Model<'_>, root: usize, meant: &[usize], findings: &mut Diagnostics) {
    let mut parents: Vec<Vec<usize>> = vec![Vec::new(); model.volumes.len()];
    for (index, node) in model.volumes.iter().enumerate() {
        for child in node.children.iter().flatten().filter(|child| **child != index) {
            parents[*child].push(index);
        }
    }
    let chosen = model.arguments.volume_name.is_some();
    // What stands above a top that was asked for is left out on purpose.
    let above = if chosen { reach(model, root, |_, i| parents[i].clone()) } else { vec![false; model.volumes.len()] };
    for index in 0..model.volumes.len() {
        let is_top = parents[index].is_empty() && !meant.contains(&index);
        if is_top && !model.live[index] && !above[index] {
            findings.push(unreached(model, root, index, chosen));
        }
    }
}

fn unreached(model: &Model<'_>, root: usize, index: usize, chosen: bool) -> Diagnostic {
    let name = |i: usize| shorten(&model.volumes[i].name.text).into_owned();
    let (own, top) = (name(index), name(root));
    let message = format!("no request reaches `{own}`: it is not below the top `{top}`");
    let place = model.volumes[index].name.span;
    if chosen {
        return Diagnostic::warning(Code::Unreachable, message)
            .at(place, "is not built")
            .help("remove it, or name it in the subvolumes of another volume");
    }
    let finding = Diagnostic::error(Code::Unreachable, message)
        .at(place, "nothing stands on this")
        .and(model.volumes[root].name.span, "the last volume is the top");
    let bypass = model.volumes[index].children.iter().flatten().find(|child| model.live[**child]);
    let Some(below) = bypass.copied() else {
        return finding
            .note("GlusterFS 10.3 starts it and sends it nothing")
            .help("remove it, name it in the subvolumes of another volume, or choose the top with `--volume-name`");
    };
    let user = (0..model.volumes.len())
        .find(|i| model.live[*i] && model.volumes[*i].children.contains(&Some(below)) && *i > index);
    let finding =
        finding.note(format!("GlusterFS 10.3 starts it, and every request goes past it to `{}`", name(below)));
    match user {
        Some(user) => finding.fix(
            format!("let `{}` stand on it", name(user)),
            vec![(
                word_span(model, user, below),
                crate::volfile::printed_word(&model.volumes[index].name.text).into_owned(),
            )],
        ),
        None => finding.help("move it above the volume that should stand on it"),
    }
}
