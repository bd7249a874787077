//! `brickwork brick`: takes care of directories that are, or were, bricks.

use std::io;
use std::path::{Path, PathBuf};

use brickwork_posix::{DetachError, Detached};
use serde_json::json;

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// Take care of brick directories.
#[derive(clap::Subcommand, Debug)]
pub enum Brick {
    /// Take the marks and the working folder of Brickwork out of a brick that nobody serves
    ///
    /// What a process that was killed left there is put right first. Files, their GlusterFS attributes and `.glusterfs`
    /// stay: GlusterFS can serve the directory again. On a brick made without root the owners and modes of files stay
    /// in `user.brickwork.*`: nothing else knows them.
    Detach {
        /// The brick
        #[arg(value_name = "DIR")]
        directory: PathBuf,
    },
}

impl Brick {
    /// Does what was asked for.
    pub fn run(&self, output: Output) -> Outcome {
        let Brick::Detach { directory } = self;
        let Detached { xattrs, folder } = detach(directory)?;
        if output.is_json() {
            let item = json!({"path": directory, "removed": xattrs, "folderRemoved": folder});
            output.document("DetachedBrickList", &[item])?;
        } else {
            let removed = xattrs.iter().map(String::as_str).chain(folder.then_some("the working folder"));
            output.text(&format!(
                "removed {} from {}\n",
                removed.collect::<Vec<_>>().join(", "),
                directory.display()
            ))?;
        }
        Ok(Exit::Done)
    }
}

/// Detaches the brick `directory`, and says in codes why not.
fn detach(directory: &Path) -> Result<Detached, Failure> {
    let shown = directory.display();
    match std::fs::metadata(directory) {
        Ok(metadata) if !metadata.is_dir() => {
            return Err(
                Failure::new(Code::NotABrick, format!("`{shown}` cannot be detached")).because("it is not a directory")
            );
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Failure::new(Code::NotABrick, format!("`{shown}` cannot be detached")).because(error));
        }
        // Whatever else is wrong with it, the attempt says better.
        _ => {}
    }
    brickwork_posix::detach(directory).map_err(|error| match error {
        DetachError::InUse(_) => {
            Failure::new(Code::BrickInUse, format!("`{shown}` is being served")).next("unmount it first")
        }
        DetachError::NotOurs(_) => Failure::new(Code::NotABrick, format!("`{shown}` has no marks of Brickwork"))
            .because("only the root of a brick that was served has them, and `trusted.*` is seen by root alone"),
        DetachError::Failed(why) => {
            Failure::new(Code::DetachRefused, format!("`{shown}` cannot be detached")).because(why)
        }
    })
}
