//! `brickwork explain`: what a code means, what causes it, what to do.

use brickwork_graph::diagnostic;
use serde_json::json;

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, table};

/// Explain the code of an error or finding.
#[derive(clap::Args, Debug)]
pub struct Explain {
    /// `V0004`, `E0131`; without it all codes are listed
    code: Option<String>,
}

struct Page {
    code: &'static str,
    title: &'static str,
    text: String,
}

impl Explain {
    /// Prints the page of the code, or the list of codes.
    pub fn run(&self, output: Output) -> Outcome {
        let pages = match &self.code {
            Some(code) => vec![find(code)?],
            None => diagnostic::Code::ALL
                .iter()
                .map(|&code| finding(code))
                .chain(Code::ALL.iter().map(|&code| error(code)))
                .collect(),
        };
        if output.is_json() {
            let items: Vec<_> =
                pages.iter().map(|page| json!({"code": page.code, "title": page.title, "text": page.text})).collect();
            output.document("ExplanationList", &items)?;
        } else if self.code.is_some() {
            output.text(&format!("{}\n", pages[0].text.trim_end()))?;
        } else {
            let rows: Vec<_> = pages.iter().map(|page| [page.code.to_owned(), page.title.to_owned()]).collect();
            output.text(&table(["CODE", "ABOUT"], &rows))?;
        }
        Ok(Exit::Done)
    }
}

fn find(text: &str) -> Result<Page, Failure> {
    match (Code::parse(text), diagnostic::Code::parse(text)) {
        (Some(code), _) => Ok(error(code)),
        (None, Some(code)) => Ok(finding(code)),
        (None, None) => Err(Failure::new(Code::NoSuchPage, format!("there is no code `{text}`"))
            .next("brickwork explain lists all codes")),
    }
}

fn error(code: Code) -> Page {
    let text =
        format!("{}: {}\n\n{}\n\nExit code {}.", code.as_str(), code.title(), code.page(), u8::from(code.exit()));
    Page { code: code.as_str(), title: code.title(), text }
}

fn finding(code: diagnostic::Code) -> Page {
    Page { code: code.as_str(), title: code.title(), text: brickwork_graph::explain::page(code).to_owned() }
}
