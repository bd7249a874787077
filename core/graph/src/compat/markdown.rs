//! The table as a page for the manual.

use super::{ANY_TYPE, OptionRow, State, TYPES, Takes, TypeRow};
use std::fmt::Write;

/// Writes `docs/gluster-compat.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# GlusterFS's xlators and options, and what becomes of them here\n\n\
         Made from the table that `brickwork volfile check` uses (`core/graph/src/compat/table.rs`); \
         `BLESS=1 cargo test -p brickwork-graph --test compat` writes it again.\n\n\
         * **implemented**: an xlator of our own. Its options are listed by `brickwork xlator info TYPE`; those below come \
         on top, so that volfiles of GlusterFS run unchanged. One that this binary does not have yet is refused by name.\n\
         * **accepted without effect**: the layer is left out of the graph. The check says so once, with the consequence. \
         A feature that is switched on is refused.\n\
         * **refused**: a graph with it is not built, because something a user counts on would be missing. \
         `--skip-type TYPE` leaves it out all the same.\n\n\
         Types that stand in neither list are unknown and refused. Every type accepts:\n\n",
    );
    options(&mut out, ANY_TYPE);
    for (state, title) in
        [(State::Own, "Implemented"), (State::WithoutEffect, "Accepted without effect"), (State::Refused, "Refused")]
    {
        let _ = write!(out, "\n## {title}\n");
        let rows: Vec<&TypeRow> = TYPES.iter().filter(|row| row.state == state).collect();
        if state == State::Own {
            rows.iter().for_each(|row| section(&mut out, row));
            continue;
        }
        out.push_str("\n| type | consequence |\n| --- | --- |\n");
        for row in &rows {
            let _ = writeln!(out, "| `{}` | {} |", row.name, row.consequence);
        }
        if state == State::WithoutEffect {
            out.push_str("\nTheir options; one that is not listed, or another value, is refused:\n");
            rows.iter().filter(|row| !row.options.is_empty()).for_each(|row| section(&mut out, row));
        }
    }
    out
}

fn section(out: &mut String, row: &TypeRow) {
    let _ = write!(out, "\n### {}\n\n", row.name);
    if row.state == State::Own {
        let _ = writeln!(out, "{}.", capital(row.consequence));
        if !row.implemented.is_empty() {
            let names: Vec<String> = row.implemented.iter().map(|key| format!("`{key}`")).collect();
            let _ = writeln!(out, "Implemented, of what GlusterFS generates: {}.", names.join(", "));
        }
        if !row.options.is_empty() {
            out.push_str("Accepted without effect on top of its own options:\n\n");
        }
    }
    options(out, row.options);
}

fn options(out: &mut String, rows: &[OptionRow]) {
    if rows.is_empty() {
        return;
    }
    out.push_str("| option | accepted | because |\n| --- | --- | --- |\n");
    for row in rows {
        let takes = match row.takes {
            Takes::Kind(kind) => kind.spec(row.key).values,
            Takes::Anything => "any value",
            Takes::Off => "only off",
            Takes::On => "only on",
            Takes::Outdated => "any value, with a warning",
        };
        let _ = writeln!(out, "| `{}` | {takes} | {} |", row.key, row.consequence);
    }
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
