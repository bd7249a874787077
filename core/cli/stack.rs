//! A volfile and what the command line changes in it: read, checked, ready to be built.

use std::path::PathBuf;
use std::sync::Arc;

use brickwork_graph::check::{Checked, Overrides, check};
use brickwork_graph::diagnostic::Look;
use brickwork_graph::plan::Plan;
use brickwork_graph::volfile::Source;

use crate::codes::Code;
use crate::failure::Failure;
use crate::registry;
use crate::remote::Remote;

/// What the command line changes in a volfile.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct Changes {
    /// Set an option of the volumes that PATTERN matches, in place of what the volfile says
    #[arg(long = "xlator-option", value_name = "PATTERN.KEY=VALUE")]
    xlator_options: Vec<String>,
    /// Take this volume as the top of the graph instead of the last one
    #[arg(long, value_name = "VOLUME")]
    volume_name: Option<String>,
    /// Leave volumes of this type out
    #[arg(long = "skip-type", value_name = "TYPE")]
    skip_types: Vec<String>,
}

impl Changes {
    /// As the check takes them.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            xlator_options: self.xlator_options.clone(),
            volume_name: self.volume_name.clone(),
            skip_types: self.skip_types.clone(),
        }
    }
}

/// Where the text of a volfile comes from.
#[derive(Clone, Debug)]
pub enum Text {
    /// A file, read anew for every check.
    File(PathBuf),
    /// A text of this command, under a name for messages.
    BuiltIn(&'static str, &'static str),
    /// What a brick gave, and where to ask for it again.
    Fetched(Arc<Remote>, String),
}

/// A volfile and what changes in it.
#[derive(Clone, Debug)]
pub struct Stack {
    /// The volfile.
    pub text: Text,
    /// What changes.
    pub overrides: Overrides,
}

impl Stack {
    /// What messages call the volfile.
    #[must_use]
    pub fn name(&self) -> String {
        match &self.text {
            Text::File(path) => path.display().to_string(),
            Text::BuiltIn(name, _) => (*name).to_owned(),
            Text::Fetched(remote, _) => remote.name().to_owned(),
        }
    }

    /// This stack with what a brick gives now; a file is read anew by every check.
    ///
    /// # Errors
    /// Those of [`Remote::fetch_again`].
    pub async fn renewed(&self) -> Result<Stack, Failure> {
        let text = match &self.text {
            Text::Fetched(remote, _) => Text::Fetched(remote.clone(), remote.fetch_again().await?),
            text => text.clone(),
        };
        Ok(Stack { text, overrides: self.overrides.clone() })
    }

    /// Reads and checks the volfile.
    ///
    /// # Errors
    /// `VolfileUnreadable`; findings are in the answer.
    pub fn check(&self) -> Result<Checked, Failure> {
        let source = match &self.text {
            Text::BuiltIn(name, text) => Source::new(*name, *text),
            Text::Fetched(remote, text) => Source::from_bytes(remote.name(), text.as_bytes()),
            Text::File(path) => read(path)?,
        };
        Ok(check(source, &registry::built_in(), &self.overrides))
    }

    /// Reads and checks the volfile and returns the plan with the findings that do not forbid it.
    ///
    /// # Errors
    /// `VolfileUnreadable`; `VolfileInvalid`, which carries the findings, drawn as `look` says.
    pub fn plan(&self, look: Look) -> Result<(Plan, Checked), Failure> {
        let mut checked = self.check()?;
        match checked.plan.take() {
            Some(plan) => Ok((plan, checked)),
            None => Err(invalid(&checked, look)),
        }
    }
}

fn invalid(checked: &Checked, look: Look) -> Failure {
    let first =
        checked.findings.iter().find(|finding| finding.severity == brickwork_graph::diagnostic::Severity::Error);
    let what = first.map_or_else(|| "no graph".to_owned(), |finding| finding.one_line(&checked.sources));
    Failure::new(Code::VolfileInvalid, what)
        .because(checked.findings.summary_line(&checked.sources, checked.summary))
        .next("brickwork volfile check FILE shows all findings")
        .with_findings(checked.render(look))
}

/// Reads the volfile at `path`.
///
/// # Errors
/// `VolfileUnreadable`.
pub fn read(path: &std::path::Path) -> Result<Source, Failure> {
    use std::io::Read;
    let unreadable = |error: std::io::Error| {
        let failure = Failure::new(Code::VolfileUnreadable, format!("`{}` cannot be read", path.display()));
        failure.because(error).next("name a file that this user can read")
    };
    let mut bytes = Vec::new();
    // One byte beyond the limit is enough for the check to see that it is too large, whatever the file holds.
    let limit = brickwork_graph::volfile::FILE_BYTES_MAX as u64 + 1;
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(Source::from_bytes(path.display().to_string(), &bytes))
}
