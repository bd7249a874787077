//! `brickwork brick detach`: takes Brickwork's marks out of a directory that was a brick.

use std::io;
use std::path::{Path, PathBuf};

use brickwork_posix::{DetachError, Detached};
use serde_json::json;

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// Which brick.
#[derive(clap::Args, Debug)]
pub struct Detach {
    /// The brick
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Detach {
    /// Detaches it.
    pub fn run(&self, output: Output) -> Outcome {
        let directory = &self.directory;
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
