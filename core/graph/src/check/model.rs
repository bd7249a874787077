//! What the rules look at: the volumes of the tree with the command line's values put in.

use super::overrides::{self, Arguments};
use super::{graph, options, order, types};
use crate::diagnostic::{Code, Diagnostic, Diagnostics};
use crate::plan::{Plan, PlannedVolume};
use crate::registry::Registry;
use crate::volfile::{SourceId, Sources, Span, Statement, Volfile, Volume, Word};
use brickwork_api::XlatorType;
use brickwork_api::options::OptionMap;

/// One option of a volume, from the file or the command line.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub key: String,
    pub key_span: Span,
    pub value: String,
    pub value_span: Span,
}

/// One volume.
pub(super) struct Node<'a> {
    pub name: &'a Word,
    pub kind: Option<&'a Word>,
    pub settings: Vec<Setting>,
    pub subvolumes: Vec<&'a Word>,
    /// What the subvolumes' names mean; `None` for a name that is not defined or makes a circle.
    pub children: Vec<Option<usize>>,
    pub tree: &'a Volume,
    /// Whether the parser found something wrong in it that leaves open whether what seems to be missing was there.
    pub broken: bool,
}

impl<'a> Node<'a> {
    fn new(tree: &'a Volume) -> Self {
        let settings = tree.options().map(|(key, value, _)| Setting {
            key: key.text.clone(),
            key_span: key.span,
            value: value.text.clone(),
            value_span: value.span,
        });
        Self {
            name: tree.name(),
            kind: tree.kind(),
            settings: settings.collect(),
            subvolumes: tree.subvolumes().collect(),
            children: Vec::new(),
            tree,
            broken: false,
        }
    }

    /// The type's name; empty in a broken volume.
    pub fn kind_name(&self) -> &'a str {
        self.kind.map_or("", |word| &word.text)
    }

    /// The place of the type's name, or of the volume's in a broken one.
    pub fn kind_span(&self) -> Span {
        self.kind.unwrap_or(self.name).span
    }

    /// The names of the subvolumes, each with the number of its statement: there are several in a broken volume.
    pub fn numbered_subvolumes(&self) -> impl Iterator<Item = (usize, &'a Word)> + use<'a> {
        let numbered = self.tree.body.iter().enumerate();
        numbered.flat_map(|(number, entry)| {
            let words: &[Word] = match &entry.node {
                Statement::Subvolumes(words) => words,
                _ => &[],
            };
            words.iter().map(move |word| (number, word))
        })
    }

    /// Whether it has one type, and at most one list of subvolumes.
    pub fn has_one_type_and_list(&self) -> bool {
        let count = |wanted: fn(&Statement) -> bool| self.tree.body.iter().filter(|e| wanted(&e.node)).count();
        count(|s| matches!(s, Statement::Type(_))) == 1 && count(|s| matches!(s, Statement::Subvolumes(_))) <= 1
    }

    /// Puts a value of the command line in the place of the file's.
    pub fn set(&mut self, setting: Setting) {
        self.settings.retain(|old| old.key != setting.key);
        self.settings.push(setting);
    }
}

/// Whether the problem is a backtick that swallowed no other line.
fn is_one_line_command(problem: &Diagnostic, sources: &Sources, span: Span) -> bool {
    problem.code == Code::Backtick && !sources.snippet(span).contains('\n')
}

pub(super) struct Model<'a> {
    pub sources: &'a Sources,
    pub types: &'a Registry,
    pub arguments: &'a Arguments,
    pub volumes: Vec<Node<'a>>,
    /// The top, and whether each volume is it or below it. Nothing is if the top is not known.
    pub root: Option<usize>,
    pub live: Vec<bool>,
    /// Whether names are unique and every volume stands only on volumes above it in the file.
    pub is_layered: bool,
    /// Whether the parser found the text wrong.
    pub syntax_is_broken: bool,
    /// Where: what stands there may not be what was meant.
    suspect: Vec<Span>,
}

impl<'a> Model<'a> {
    pub fn new(
        sources: &'a Sources,
        tree: &'a Volfile,
        problems: &[Diagnostic],
        types: &'a Registry,
        arguments: &'a Arguments,
    ) -> Self
    where
        'a: 'a,
    {
        let mut volumes: Vec<Node<'a>> = tree.volumes.iter().map(Node::new).collect();
        for problem in problems {
            let Some(label) = &problem.primary else { continue };
            if problem.code == Code::UnclosedVolume || label.span.source != SourceId(0) {
                continue;
            }
            let after = volumes.partition_point(|v| v.tree.head.span.start <= label.span.start);
            if let Some(index) = after.checked_sub(1) {
                let node = &mut volumes[index];
                node.broken = node.broken
                    || !(is_one_line_command(problem, sources, label.span) || node.tree.is_whole_despite(label.span));
            }
        }
        Self {
            sources,
            types,
            arguments,
            live: vec![false; volumes.len()],
            volumes,
            root: None,
            is_layered: false,
            suspect: problems.iter().filter_map(|p| Some(p.primary.as_ref()?.span)).collect(),
            syntax_is_broken: !problems.is_empty(),
        }
    }

    /// Runs all rules.
    pub fn check(&mut self, findings: &mut Diagnostics) {
        options::duplicates(self, findings);
        let arguments = self.arguments;
        overrides::apply(self, arguments, findings);
        graph::resolve(self, findings);
        types::check(self, findings);
        options::check(self, findings);
        order::check(self, findings);
    }

    /// The volumes that are to be built.
    pub fn live(&self) -> impl Iterator<Item = (usize, &Node<'a>)> {
        self.volumes.iter().enumerate().filter(|(i, _)| self.live[*i])
    }

    /// Whether the parser already said something about this place.
    pub fn is_suspect(&self, span: Span) -> bool {
        self.suspect.iter().any(|bad| bad.source == span.source && bad.start < span.end && span.start < bad.end)
    }

    /// Whether `--skip-type` names the type.
    pub fn skipped(&self, kind: &str) -> bool {
        self.arguments.skip_types.iter().any(|skip| skip.value == kind)
    }

    /// What a volfile without errors asks for.
    pub fn into_plan(self) -> Option<Plan> {
        let mut volumes: Vec<PlannedVolume> = Vec::new();
        // For each volume the one that stands for it: itself, or the one below a volume that is left out.
        let mut stands_for: Vec<Option<usize>> = vec![None; self.volumes.len()];
        for (index, node) in self.live() {
            let children: Option<Vec<usize>> = node.children.iter().map(|child| stands_for[(*child)?]).collect();
            let children = children?;
            let kind = self.types.get(node.kind_name());
            stands_for[index] = match kind.filter(|kind| !self.skipped(kind.name)) {
                None => children.first().copied(),
                Some(kind) => {
                    volumes.push(self.planned(node, kind, children));
                    Some(volumes.len() - 1)
                }
            };
        }
        let root = stands_for[self.root?]?;
        Some(Plan { volumes, root })
    }

    /// Options without effect here are not among the planned ones.
    fn planned(&self, node: &Node<'_>, kind: &'static XlatorType, children: Vec<usize>) -> PlannedVolume {
        let mut options = OptionMap::default();
        for setting in &node.settings {
            if let Some(spec) = kind.options.iter().find(|spec| spec.matches(&setting.key)) {
                let is_pattern = spec.key.contains('*');
                let key = if is_pattern { setting.key.as_str() } else { spec.key };
                options.insert(key, setting.value.as_str());
            }
        }
        let span = node.name.span;
        PlannedVolume {
            name: node.name.text.clone(),
            kind,
            options,
            children,
            place: format!("{}:{}", self.sources.get(span.source).name(), self.sources.position(span).line),
        }
    }
}
