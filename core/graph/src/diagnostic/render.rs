//! Findings as text, in rustc's manner.

use super::mask::Masked;
use super::{Diagnostic, Diagnostics, Fix, Label, Severity, Summary};
use crate::volfile::{SourceId, Sources, Span};
use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Patch, Renderer, Snippet};
use std::fmt::Write;
use std::ops::Range;

/// How text output looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// With terminal colours.
    pub colour: bool,
    /// Columns of the terminal; longer lines are cut around what matters.
    pub width: usize,
}

impl Default for Look {
    fn default() -> Self {
        Self { colour: false, width: 120 }
    }
}

/// Lines kept around the outermost places: what the renderer may want to show of the context.
const CONTEXT_LINES: usize = 2;

impl Diagnostics {
    /// Writes all findings, the summary line and a pointer to `explain`; empty if there is nothing to say.
    pub fn render(&self, sources: &Sources, look: Look, summary: Summary) -> String {
        if self.is_empty() {
            return String::new();
        }
        let painter = Painter::new(sources, look);
        let mut out = String::new();
        for diagnostic in self {
            out.push_str(&painter.paint(diagnostic));
            out.push_str("\n\n");
        }
        if self.dropped > 0 {
            let _ = writeln!(out, "… at least {} more findings are not shown\n", self.dropped);
        }
        let _ = writeln!(out, "{}", self.summary_line(sources, summary));
        let worst = self.iter().min_by_key(|d| d.severity);
        if let Some(worst) = worst.filter(|d| d.severity != Severity::Notice) {
            let _ = writeln!(out, "For more about a finding: brickwork explain {}", worst.code);
        }
        out
    }

    /// One line: `bad.vol: 3 errors, 1 warning, 4 xlators, 19 lines, 0.9 ms`.
    pub fn summary_line(&self, sources: &Sources, summary: Summary) -> String {
        let name = sources.iter().next().map_or("", |(_, source)| source.name());
        let mut out = format!(
            "{name}: {}, {}, {}, {}",
            count(self.errors, "error"),
            count(self.warnings, "warning"),
            count(summary.xlators, "xlator"),
            count(summary.lines, "line"),
        );
        if let Some(elapsed) = summary.elapsed {
            let _ = write!(out, ", {:.1} ms", elapsed.as_secs_f64() * 1e3);
        }
        match self.applicable().count() {
            0 => {}
            1 => out.push_str(" · 1 suggestion can be applied with --fix"),
            n => {
                let _ = write!(out, " · {n} suggestions can be applied with --fix");
            }
        }
        out
    }
}

fn count(n: usize, word: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {word}{s}")
}

/// Renders findings about the same texts; masks each text once.
struct Painter<'a> {
    sources: &'a Sources,
    masked: Vec<Masked>,
    renderer: Renderer,
}

impl<'a> Painter<'a> {
    fn new(sources: &'a Sources, look: Look) -> Self {
        let renderer = if look.colour { Renderer::styled() } else { Renderer::plain() };
        Self {
            sources,
            masked: sources.iter().map(|(_, source)| Masked::new(source)).collect(),
            renderer: renderer.term_width(look.width),
        }
    }

    fn paint(&self, diagnostic: &Diagnostic) -> String {
        let level = match diagnostic.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
            Severity::Notice => Level::NOTE.with_name("notice"),
        };
        let title = level.primary_title(diagnostic.message.as_str()).id(diagnostic.code.as_str());
        let mut main = Group::with_title(title);
        for snippet in self.snippets(diagnostic) {
            main = main.element(snippet);
        }
        for note in &diagnostic.notes {
            main = main.element(Level::NOTE.message(note.as_str()));
        }
        let mut groups = Vec::new();
        match &diagnostic.help {
            None => groups.push(main),
            Some(help) => match help.fix.as_ref().and_then(|fix| self.patches(fix)) {
                None => groups.push(main.element(Level::HELP.message(help.message.as_str()))),
                Some(patch) => {
                    groups.push(main);
                    let title = Level::HELP.secondary_title(help.message.as_str());
                    groups.push(Group::with_title(title).element(patch));
                }
            },
        }
        self.renderer.render(&groups)
    }

    /// The places of a finding, the text of the primary one first.
    fn snippets<'d>(&'d self, diagnostic: &'d Diagnostic) -> Vec<Snippet<'d, Annotation<'d>>> {
        let mut places: Vec<(&Label, AnnotationKind)> = Vec::new();
        places.extend(diagnostic.primary.iter().map(|l| (l, AnnotationKind::Primary)));
        places.extend(diagnostic.labels.iter().map(|l| (l, AnnotationKind::Context)));
        let mut order: Vec<SourceId> = Vec::new();
        for (label, _) in &places {
            if !order.contains(&label.span.source) {
                order.push(label.span.source);
            }
        }
        order
            .into_iter()
            .map(|id| {
                let here: Vec<_> = places.iter().filter(|(l, _)| l.span.source == id).collect();
                let window = self.window(id, here.iter().map(|(label, _)| label.span));
                here.iter().fold(
                    Snippet::source(&self.masked[id.0 as usize].text[window.bytes.clone()])
                        .path(self.sources.get(id).name())
                        .line_start(window.line),
                    |snippet, (label, kind)| {
                        let annotation = kind.span(self.local(label.span, &window));
                        snippet.annotation(if label.text.is_empty() {
                            annotation
                        } else {
                            annotation.label(label.text.as_str())
                        })
                    },
                )
            })
            .collect()
    }

    /// The edit as a snippet; none where it would show a secret or go over several texts.
    fn patches<'d>(&'d self, fix: &'d Fix) -> Option<Snippet<'d, Patch<'d>>> {
        let id = fix.edits.first()?.0.source;
        let masked = &self.masked[id.0 as usize];
        let shown = |span: &Span| span.source == id && !masked.hides(*span);
        if !fix.edits.iter().all(|(span, _)| shown(span)) {
            return None;
        }
        let window = self.window(id, fix.edits.iter().map(|(span, _)| *span));
        Some(
            fix.edits.iter().fold(
                Snippet::source(&masked.text[window.bytes.clone()])
                    .path(self.sources.get(id).name())
                    .line_start(window.line),
                |snippet, (span, text)| snippet.patch(Patch::new(self.local(*span, &window), text.as_str())),
            ),
        )
    }

    fn local(&self, span: Span, window: &Window) -> Range<usize> {
        let range = self.masked[span.source.0 as usize].range(span);
        range.start - window.bytes.start..range.end - window.bytes.start
    }

    /// The lines around all `spans`, so that the renderer need not look at the rest of a large file.
    fn window(&self, id: SourceId, spans: impl Iterator<Item = Span>) -> Window {
        let masked = &self.masked[id.0 as usize];
        let text = &masked.text;
        let (start, end) = spans
            .map(|span| masked.range(span))
            .fold((text.len(), 0), |(start, end), range| (start.min(range.start), end.max(range.end)));
        let from = text[..start].rmatch_indices('\n').nth(CONTEXT_LINES).map_or(0, |(at, _)| at + 1);
        let to = text[end..].match_indices('\n').nth(CONTEXT_LINES).map_or(text.len(), |(at, _)| end + at + 1);
        Window { line: 1 + text[..from].matches('\n').count(), bytes: from..to }
    }
}

struct Window {
    bytes: Range<usize>,
    /// The number of its first line.
    line: usize,
}
