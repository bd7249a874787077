//! `brickwork dump`: everything an instance knows about itself, as JSON.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::args::Globals;
use crate::client::the_one;
use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{API_VERSION, Output, now};
use crate::protocol::{DumpReport, Request};

/// Write down everything an instance knows about itself. Secrets are masked.
#[derive(clap::Args, Debug)]
pub struct Dump {
    /// The instance
    #[arg(value_name = "INSTANCE")]
    name: Option<String>,
    /// Write to this file instead of stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Dump {
    /// Asks the instance and prints or writes its answer; it is JSON in any case.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        let report: DumpReport = the_one(globals, self.name.as_deref())?.ask(&Request::Dump)?;
        let document = json!({"apiVersion": API_VERSION, "kind": "Dump", "generatedAt": now(), "items": [report]});
        let text = if output.is_json() { format!("{document}\n") } else { format!("{document:#}\n") };
        match &self.output {
            None => output.text(&text)?,
            Some(path) => write(path, &text)?,
        }
        Ok(Exit::Done)
    }
}

/// Paths and options are not for everybody: the file is its user's alone.
fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    let file = std::fs::OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| Failure::new(Code::System, format!("`{}` cannot be written", path.display())).because(error))
}
