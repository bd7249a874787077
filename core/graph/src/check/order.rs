//! Orders of layers that are legal and not meant: V0012, V0013.

use super::model::{Model, Node};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::volfile::shorten;
use std::path::{Component, Path, PathBuf};

const POSIX: &str = "storage/posix";
const LOCKS: &str = "features/locks";
const SERVER: &str = "protocol/server";

/// Checks the order of the layers that are to be built, and the places of their bricks.
pub(super) fn check(model: &Model<'_>, findings: &mut Diagnostics) {
    shared_directories(model, findings);
    if model.is_layered {
        locks(model, findings);
    }
}

/// Two bricks in one directory write each other's metadata; one inside the other shows up in it as files.
fn shared_directories(model: &Model<'_>, findings: &mut Diagnostics) {
    let bricks: Vec<(usize, PathBuf)> = model
        .live()
        .filter(|(_, node)| node.kind_name() == POSIX)
        .filter_map(|(index, node)| Some((index, plain_path(directory(node)?.0)?)))
        .collect();
    let mut sorted: Vec<&(usize, PathBuf)> = bricks.iter().collect();
    // By components, a directory comes right before all that is inside it.
    sorted.sort_by(|a, b| a.1.cmp(&b.1).then(a.0.cmp(&b.0)));
    let mut outer: Vec<&(usize, PathBuf)> = Vec::new();
    for brick in sorted {
        outer.retain(|other| brick.1.starts_with(&other.1));
        if let Some(other) = outer.last() {
            findings.push(shared(model, other, brick));
        }
        outer.push(brick);
    }
}

fn directory<'n>(node: &'n Node<'_>) -> Option<(&'n str, crate::volfile::Span)> {
    let setting = node.settings.iter().find(|setting| setting.key == "directory")?;
    Some((&setting.value, setting.value_span))
}

/// The path without `.` and doubled slashes; none for one that is not absolute or goes through `..`, which the
/// option's own check refuses.
fn plain_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let sound = path.is_absolute() && !path.components().any(|c| c == Component::ParentDir);
    sound.then(|| path.components().collect())
}

fn shared(model: &Model<'_>, outer: &(usize, PathBuf), inner: &(usize, PathBuf)) -> Diagnostic {
    let span = |index: usize| {
        let node = &model.volumes[index];
        directory(node).map_or(node.name.span, |(_, span)| span)
    };
    let name = |index: usize| shorten(&model.volumes[index].name.text).into_owned();
    let (message, label) = if outer.1 == inner.1 {
        (format!("`{}` and `{}` are two bricks in one directory", name(outer.0), name(inner.0)), "the same here")
    } else {
        (format!("the brick `{}` is inside the brick `{}`", name(inner.0), name(outer.0)), "it is inside this one")
    };
    Diagnostic::error(Code::SharedDirectory, message)
        .at(span(inner.0), "")
        .and(span(outer.0), label)
        .help("give each brick a directory of its own")
}

/// What a way down from the top has met.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Met {
    server: bool,
    /// 0, 1 or 2 for more.
    locks: u8,
}

impl Met {
    const KINDS: usize = 6;

    fn number(self) -> usize {
        usize::from(self.server) * 3 + usize::from(self.locks)
    }
}

/// Follows all ways down to the bricks. Each volume is looked at once for each kind of way that leads to it.
fn locks(model: &Model<'_>, findings: &mut Diagnostics) {
    let Some(root) = model.root else { return };
    let mut seen = vec![[false; Met::KINDS]; model.volumes.len()];
    let mut arrivals: Vec<(usize, Met)> = Vec::new();
    let mut doubled: Vec<usize> = Vec::new();
    let start = Met { server: false, locks: 0 };
    let mut work = vec![(root, start)];
    while let Some((at, met)) = work.pop() {
        if !model.live[at] || std::mem::replace(&mut seen[at][met.number()], true) {
            continue;
        }
        let node = &model.volumes[at];
        let is_locks = node.kind_name() == LOCKS && !model.skipped(LOCKS);
        if is_locks && met.locks > 0 && !doubled.contains(&at) {
            doubled.push(at);
        }
        let met = Met {
            server: met.server || (node.kind_name() == SERVER && !model.skipped(SERVER)),
            locks: (met.locks + u8::from(is_locks)).min(2),
        };
        if node.kind_name() == POSIX {
            arrivals.push((at, met));
        }
        work.extend(node.children.iter().flatten().map(|child| (*child, met)));
    }
    for index in doubled {
        findings.push(
            Diagnostic::warning(Code::OrderHazard, "two `features/locks` stand above each other")
                .at(model.volumes[index].kind_span(), "the lower one")
                .note("each lock is taken in both, and the lower one sees one owner for all clients behind it")
                .help("keep one of them, right above `storage/posix`"),
        );
    }
    let mut bricks: Vec<usize> = arrivals.iter().map(|(brick, _)| *brick).collect();
    bricks.sort_unstable();
    bricks.dedup();
    for brick in bricks {
        let ways = || arrivals.iter().filter(|(at, _)| *at == brick).map(|(_, met)| *met);
        let (with, without) = (ways().any(|m| m.locks > 0), ways().any(|m| m.locks == 0));
        if with && without {
            findings.push(passed_by(model, brick));
        } else if ways().any(|m| m.server && m.locks == 0) {
            findings.push(without_locks(model, brick));
        }
    }
}

fn passed_by(model: &Model<'_>, brick: usize) -> Diagnostic {
    let node = &model.volumes[brick];
    Diagnostic::warning(
        Code::OrderHazard,
        format!("some requests reach `{}` past `features/locks`", shorten(&node.name.text)),
    )
    .at(node.name.span, "reached with locks and without")
    .note("a mandatory lock does not hold against them, and moving a file does not see their locks")
    .help("let every volume that stands on it stand on the `features/locks` volume")
}

fn without_locks(model: &Model<'_>, brick: usize) -> Diagnostic {
    let node = &model.volumes[brick];
    Diagnostic::warning(Code::OrderHazard, format!("`{}` is served without `features/locks`", shorten(&node.name.text)))
        .at(node.name.span, "no locks between this and `protocol/server`")
        .note("a file lock of a client is refused; programs that need one stop working")
        .help("put a `features/locks` volume right above it")
}
