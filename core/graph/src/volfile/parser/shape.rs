//! What a volume must consist of, once all of it was read: an end, one type that comes first, one list of subvolumes.

use super::{Next, Parser, shorten};
use crate::diagnostic::{Code, Diagnostic};
use crate::volfile::source::Span;
use crate::volfile::tree::{Comment, Entry, Statement, Volume};
use std::collections::HashSet;

impl Parser<'_> {
    pub(super) fn unclosed(&mut self, volume: &mut Volume, leading: Vec<Comment>) {
        let name = shorten(&volume.name().text).into_owned();
        let head = volume.name().span;
        let message = format!("volume `{name}` is not closed");
        let next = self.next_span();
        let diagnostic = Diagnostic::error(Code::UnclosedVolume, message);
        let diagnostic = if self.next() == Next::End {
            let end = self.text.trim_end().len();
            let end = Span::new(self.source, end..end);
            diagnostic
                .at(head, "this one has no `end-volume`")
                .fix("add `end-volume` at the end of the file", vec![(end, "\nend-volume".to_owned())])
        } else {
            let here = Span { end: next.start, ..next };
            diagnostic
                .at(next, "a new volume starts here")
                .and(head, "this one has no `end-volume`")
                .fix("add `end-volume` before this line", vec![(here, "end-volume\n\n".into())])
        };
        self.problem(diagnostic);
        volume.end.leading = leading;
    }

    /// The order and number of a volume's statements.
    pub(super) fn shape(&mut self, volume: &Volume) {
        let mut kinds = volume.body.iter().filter(|e| matches!(e.node, Statement::Type(_)));
        match kinds.next() {
            None => self.without_type(volume),
            Some(kind) => {
                if !matches!(volume.body[0].node, Statement::Type(_)) {
                    self.type_not_first(volume, kind);
                }
                for second in kinds {
                    let d = self.second_statement("type", volume, kind.span, second.span);
                    self.problem(d.help("remove one of them"));
                }
            }
        }
        let lists: Vec<_> = volume.body.iter().filter(|e| matches!(e.node, Statement::Subvolumes(_))).collect();
        for second in lists.iter().skip(1) {
            let d = self.second_statement("subvolumes", volume, lists[0].span, second.span);
            let help = "name all subvolumes in one statement; it may go over several lines";
            // With more than two the edits of one would be in the way of those of the others.
            let d = match self.joined(lists[0], second).filter(|_| lists.len() == 2) {
                Some(edits) => d.fix(help, edits),
                None => d.help(help),
            };
            self.problem(d);
        }
    }

    /// Edits that move the names of `second` behind those of `first`; none where a comment would go lost.
    fn joined(&self, first: &Entry<Statement>, second: &Entry<Statement>) -> Option<Vec<(Span, String)>> {
        let (Statement::Subvolumes(names), Statement::Subvolumes(more)) = (&first.node, &second.node) else {
            return None;
        };
        let has_comment = self.text[second.span.range()].contains('#');
        let mut line = second.span.whole_lines(self.text);
        let behind = Span { start: first.span.end, ..first.span };
        let known: HashSet<&str> = names.iter().map(|word| word.text.as_str()).collect();
        let new = more.iter().filter(|word| !known.contains(word.text.as_str()));
        let new: String = new.map(|word| format!(" {}", &self.text[word.span.range()])).collect();
        let edits = if new.is_empty() {
            vec![(line, String::new())]
        } else {
            // With the newline before the line in place of the one behind it, only changed lines are shown.
            if line != second.span && self.text[line.range()].ends_with('\n') && line.start > 0 {
                line = Span { start: line.start - 1, end: line.end - 1, ..line };
            }
            vec![(behind, new), (line, String::new())]
        };
        (!has_comment).then_some(edits)
    }

    fn without_type(&mut self, volume: &Volume) {
        let name = volume.name();
        let span = name.span;
        let shown = shorten(&name.text).into_owned();
        // A `type` without its word was reported where it stands.
        let reported = self.problems.last().is_some_and(|d| {
            d.message.starts_with("`type`") && d.primary.as_ref().is_some_and(|l| l.span.start > span.start)
        });
        if !reported {
            self.syntax(format!("volume `{shown}` has no type"), span, "")
                .add_help("write `type CLASS/NAME` as its first line, for example `type storage/posix`");
        }
    }

    fn type_not_first(&mut self, volume: &Volume, kind: &Entry<Statement>) {
        let first = &volume.body[0];
        let name = shorten(&volume.name().text).into_owned();
        let d = Diagnostic::error(Code::Syntax, format!("the type of `{name}` comes after other statements"))
            .at(kind.span, "")
            .and(first.span, "this stands before it")
            .note("GlusterFS wants `type` first, because it decides what the options mean")
            .fix(
                "move `type` to the line after `volume`",
                vec![
                    (Span { end: first.span.start, ..first.span }, format!("{}\n    ", &self.text[kind.span.range()])),
                    (kind.span.whole_lines(self.text), String::new()),
                ],
            );
        self.problem(d);
    }

    fn second_statement(&self, what: &str, volume: &Volume, first: Span, second: Span) -> Diagnostic {
        let name = shorten(&volume.name().text).into_owned();
        Diagnostic::error(Code::Syntax, format!("`{what}` is given twice in volume `{name}`"))
            .at(second, "again here")
            .and(first, "first here")
    }
}
