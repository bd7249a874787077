//! The statements of a volume, and the words that stand where none begins.

use super::{Parser, SUBVOLUMES_PER_VOLUME_MAX, shorten};
use crate::diagnostic::{Code, Diagnostic};
use crate::volfile::lexer::{Keyword, Token, TokenKind};
use crate::volfile::source::Span;
use crate::volfile::tree::{Comment, Statement, Volume, Word};

impl<'a> Parser<'a> {
    pub(super) fn type_statement(&mut self, volume: &mut Volume, leading: Vec<Comment>) {
        let first = self.tokens[self.at].first_of_line;
        let mut entry = self.begin(leading, ());
        let keyword = entry.span;
        let Some(word) = self.word(&mut entry, first) else {
            self.syntax("`type` without a name", keyword, "")
                .add_help("write `type CLASS/NAME`, for example `type storage/posix`");
            return;
        };
        let extra = self.rest_of_line(&mut entry);
        self.too_many(&extra, "`type` takes one word", word.span);
        self.finish(&mut entry);
        volume.body.push(entry.with(Statement::Type(word)));
    }

    pub(super) fn option_statement(&mut self, volume: &mut Volume, leading: Vec<Comment>, keep: bool) {
        let first = self.tokens[self.at].first_of_line;
        let mut entry = self.begin(leading, ());
        let keyword = entry.span;
        let Some(key) = self.word(&mut entry, first) else {
            self.syntax("`option` without a name and a value", keyword, "").add_help("write `option NAME VALUE`");
            return;
        };
        let Some(value) = self.word(&mut entry, first) else {
            let name = shorten(&key.text).into_owned();
            self.syntax(format!("option `{name}` has no value"), key.span, "")
                .add_help(&format!("write `option {name} VALUE`"));
            return;
        };
        let extra = self.rest_of_line(&mut entry);
        self.spare_value_words(&key, &value, &extra);
        self.finish(&mut entry);
        if keep {
            volume.body.push(entry.with(Statement::Option { key, value }));
        }
    }

    fn spare_value_words(&mut self, key: &Word, value: &Word, extra: &[Word]) {
        let Some(last) = extra.last() else { return };
        let name = shorten(&key.text).into_owned();
        let all = value.span.to(last.span);
        let raw = &self.text[all.range()];
        let d =
            self.syntax(format!("option `{name}` takes one value"), extra[0].span.to(last.span), "one word too many");
        // Only plain words on one line can be joined without guessing.
        if raw.contains(['"', '\\', '`', '\n', '#']) {
            d.add_help("quote the whole value if it contains blanks, or begin the next statement with its keyword");
        } else {
            let joined = format!("\"{raw}\"");
            d.help_fix("quote a value that contains blanks", all, joined);
        }
    }

    pub(super) fn subvolumes_statement(&mut self, volume: &mut Volume, leading: Vec<Comment>) {
        let first = self.tokens[self.at].first_of_line;
        let mut entry = self.begin(leading, ());
        let keyword = entry.span;
        let mut words: Vec<Word> = Vec::new();
        while let Some(at) = self.peek_at() {
            let token = &self.tokens[at];
            if let (TokenKind::Word { text, quoted: false }, true) = (&token.kind, token.first_of_line)
                && Keyword::near(text).is_some()
                && !self.names.contains(text.as_ref())
            {
                break;
            }
            let Some(word) = self.word(&mut entry, first) else { break };
            if words.len() == SUBVOLUMES_PER_VOLUME_MAX {
                let message = format!("more than {SUBVOLUMES_PER_VOLUME_MAX} subvolumes of a volume");
                self.problem(Diagnostic::error(Code::Limit, message).at(word.span, "from here on"));
            }
            if words.len() <= SUBVOLUMES_PER_VOLUME_MAX {
                words.push(word);
            }
        }
        words.truncate(SUBVOLUMES_PER_VOLUME_MAX);
        if words.is_empty() {
            self.syntax("`subvolumes` without a name", keyword, "")
                .add_help("name the volumes below, or leave the line out if there are none");
            return;
        }
        self.finish(&mut entry);
        volume.body.push(entry.with(Statement::Subvolumes(words)));
    }

    /// Words where a statement should begin. Two words on a line are probably an option without its keyword.
    pub(super) fn stray_words(&mut self, volume: &mut Volume, leading: Vec<Comment>) {
        let mut entry = self.begin(leading, ());
        let first = entry.span;
        let rest = self.rest_of_line(&mut entry);
        let word = shorten(&self.text[first.range()]).into_owned();
        let [value] = rest.as_slice() else {
            self.syntax(format!("`{word}` begins no statement"), entry.span, "")
                .add_help("a statement begins with `type`, `option`, `subvolumes` or `end-volume`");
            return;
        };
        self.syntax(format!("`{word}` begins no statement"), first, "").help_fix(
            "an option begins with the word `option`",
            Span { end: first.start, ..first },
            "option ".to_owned(),
        );
        let key = Self::word_of(self.tokens_at(first));
        let value = value.clone();
        self.finish(&mut entry);
        volume.body.push(entry.with(Statement::Option { key, value }));
    }

    fn tokens_at(&self, span: Span) -> Token<'a> {
        let index = self.tokens.partition_point(|t| t.span.start < span.start);
        self.tokens[index].clone()
    }

    pub(super) fn too_many(&mut self, extra: &[Word], message: &str, first: Span) {
        let Some(last) = extra.last() else { return };
        let span = extra[0].span.to(last.span);
        let all = first.to(last.span);
        let raw = &self.text[all.range()];
        let quoted = (!raw.contains(['"', '\\', '`', '\n'])).then(|| format!("\"{raw}\""));
        let d = self.syntax(message, span, "one word too many");
        match quoted {
            Some(quoted) => d.help_fix("quote a name that contains blanks", all, quoted),
            None => d.add_help("remove it"),
        }
    }
}
