//! `brickwork version`.

use serde_json::json;

use crate::failure::{Exit, Outcome};
use crate::output::Output;

/// The version of this build.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version.
pub fn run(output: Output) -> Outcome {
    if output.is_json() {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        output.document("Version", &[json!({"name": "brickwork", "version": VERSION, "profile": profile})])?;
    } else {
        output.text(&format!("brickwork {VERSION}\n"))?;
    }
    Ok(Exit::Done)
}
