//! From the tree to its canonical text: four blanks before statements, one empty line between volumes, quotes only
//! where they are needed, comments kept.
//!
//! Always true for a tree that came from a text without problems: reading the printed text gives an equal tree.

use super::lexer::Keyword;
use super::tree::{Comment, Entry, Statement, Volfile, Volume};
use std::borrow::Cow;

const INDENT: &str = "    ";

/// Writes `file` in its canonical form.
pub fn print(file: &Volfile) -> String {
    let mut out = String::new();
    for volume in &file.volumes {
        print_volume(&mut out, volume);
    }
    comments(&mut out, "", &file.closing);
    out
}

fn print_volume(out: &mut String, volume: &Volume) {
    line(out, "", &volume.head, &format!("volume {}", word(&volume.head.node.text)));
    for entry in &volume.body {
        line(out, INDENT, entry, &statement(&entry.node));
    }
    comments(out, INDENT, &volume.end.leading);
    gap(out, volume.end.after_blank_line);
    out.push_str("end-volume");
    end_line(out, volume.end.trailing.as_ref());
}

fn statement(statement: &Statement) -> String {
    match statement {
        Statement::Type(kind) => format!("type {}", word(&kind.text)),
        Statement::Option { key, value } => {
            format!("option {} {}", word(&key.text), word(&value.text))
        }
        Statement::Subvolumes(names) => names.iter().fold("subvolumes".to_owned(), |mut out, name| {
            out.push(' ');
            out.push_str(&word(&name.text));
            out
        }),
    }
}

fn line<T>(out: &mut String, indent: &str, entry: &Entry<T>, text: &str) {
    comments(out, indent, &entry.leading);
    gap(out, entry.after_blank_line);
    out.push_str(indent);
    out.push_str(text);
    end_line(out, entry.trailing.as_ref());
}

fn comments(out: &mut String, indent: &str, list: &[Comment]) {
    for comment in list {
        gap(out, comment.after_blank_line);
        out.push_str(indent);
        out.push_str(&comment.text);
        out.push('\n');
    }
}

fn gap(out: &mut String, wanted: bool) {
    if wanted {
        out.push('\n');
    }
}

fn end_line(out: &mut String, trailing: Option<&Comment>) {
    if let Some(comment) = trailing {
        out.push(' ');
        out.push_str(&comment.text);
    }
    out.push('\n');
}

/// A word as it must be written to be read as itself.
pub fn word(text: &str) -> Cow<'_, str> {
    let plain = !text.is_empty()
        && !text.starts_with('#')
        && Keyword::exact(text).is_none()
        && !text.contains([' ', '\t', '\r', '\n', '"', '\\', '`', '\u{feff}']);
    if plain {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        if matches!(c, '"' | '\\' | '`') {
            out.push('\\');
        }
        out.push(c);
    }
    out.push('"');
    out.into()
}
