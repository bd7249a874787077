//! What a command prints: data on stdout, everything else on stderr, in the form that was asked for.

use std::io::{ErrorKind, IsTerminal, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{Colour, Globals};
use crate::codes::Code;
use crate::failure::Failure;

/// The version of the JSON forms: within it fields are only added.
pub const API_VERSION: &str = "brickwork/v1";

/// How a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    json: bool,
    colour: Colour,
}

impl Output {
    /// As the command line asks.
    #[must_use]
    pub fn new(globals: &Globals) -> Output {
        Output { json: globals.json, colour: globals.color }
    }

    /// Whether JSON was asked for.
    #[must_use]
    pub fn is_json(self) -> bool {
        self.json
    }

    /// Whether what goes to `stream` is coloured.
    #[must_use]
    pub fn colours(self, stream: &impl IsTerminal) -> bool {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto if set("NO_COLOR") => false,
            Colour::Auto if set("CLICOLOR_FORCE") => true,
            Colour::Auto => stream.is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        }
    }

    /// Prints `text` as data.
    ///
    /// # Errors
    /// A stdout that cannot be written to. That the reader has gone is no error: it has seen what it wanted.
    pub fn text(self, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout().lock();
        match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                Err(Failure::new(Code::System, "stdout cannot be written to").because(error))
            }
            _ => Ok(()),
        }
    }

    /// Prints `items` as one JSON document of `kind`.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub fn document<T: Serialize>(self, kind: &str, items: &[T]) -> Result<(), Failure> {
        self.document_with(kind, items, Map::new())
    }

    /// Prints `items` as one JSON document of `kind`, with `more` beside them.
    ///
    /// # Errors
    /// As [`Output::text`].
    pub fn document_with<T: Serialize>(self, kind: &str, items: &[T], more: Map<String, Value>) -> Result<(), Failure> {
        let mut document = Map::from_iter([
            ("apiVersion".to_owned(), json!(API_VERSION)),
            ("kind".to_owned(), json!(kind)),
            ("generatedAt".to_owned(), json!(now())),
        ]);
        document.extend(more);
        document.insert("items".to_owned(), json!(items));
        self.text(&format!("{}\n", Value::Object(document)))
    }

    /// Tells the user on stderr why the command failed.
    pub fn failure(self, failure: &Failure) {
        let text = if self.json { failure.to_json().to_string() } else { failure.to_string() };
        self.aside(&text);
    }

    /// Prints `text` beside the data unless there is nothing to say.
    pub fn aside_unless_empty(self, text: &str) {
        if !text.trim().is_empty() {
            self.aside(text);
        }
    }

    /// Prints a line beside the data, on stderr.
    pub fn aside(self, text: &str) {
        // Nobody is left to tell when stderr is gone.
        let _ = writeln!(std::io::stderr(), "{}", text.trim_end());
    }
}

/// Prints a line on stdout.
///
/// # Errors
/// A stdout that cannot be written to.
pub fn line(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout(), "{text}")
}

/// The time now, as RFC 3339 in UTC.
#[must_use]
pub fn now() -> String {
    use tracing_subscriber::fmt::format::Writer;
    use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
    let mut text = String::new();
    SystemTime.format_time(&mut Writer::new(&mut text)).expect("writing to a string");
    text
}

/// `rows` under `head`, in columns as wide as their widest cell; no blanks at the ends of lines.
#[must_use]
pub fn table<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let mut widths = head.map(|cell| cell.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: [&str; N]| {
        let padded: Vec<String> = cells.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(std::array::from_fn(|column| row[column].as_str())));
    std::iter::once(line(head)).chain(body).collect()
}

/// `bytes` for people, in powers of ten as disks are sold: `1.3 TB`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    let power = (0..UNITS.len() - 1).find(|power| bytes < 1000_u64.pow(*power as u32 + 1)).unwrap_or(UNITS.len() - 1);
    match power {
        0 => format!("{bytes} B"),
        _ => format!("{:.1} {}", bytes as f64 / 1000_f64.powi(power as i32), UNITS[power]),
    }
}

/// A span of time for people, by its two largest units: `2d04h`, `17s`.
#[must_use]
pub fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_in_utc() {
        let now = now();
        assert!(now.ends_with('Z') && now.as_bytes()[10] == b'T', "{now}");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["b1".to_owned(), "up".to_owned()], ["brick-2".to_owned(), String::new()]];
        assert_eq!(table(["BRICK", "STATE"], &rows), "BRICK    STATE\nb1       up\nbrick-2\n");
    }

    #[test]
    fn sizes_and_times_are_short() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_300_000_000_000), "1.3 TB");
        assert_eq!(bytes(u64::MAX), "18446.7 PB");
        assert_eq!([span(17), span(192), span(187_200)], ["17s", "3m12s", "2d04h"]);
    }
}
