//! `brickwork brick`: takes care of directories that are, or were, bricks.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flistxattr, flock, fremovexattr};
use rustix::io::Errno;
use serde_json::json;

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::Output;

/// The attributes that Brickwork itself adds to the root of a brick of GlusterFS.
const OURS: &str = "trusted.brickwork.";
/// The one among those of a brick made without root that says that it is served by Brickwork; the others hold the
/// metadata of the files and stay with them.
const MARK_WITHOUT_ROOT: &str = "user.brickwork.brick";
/// The names of all attributes of a file together; the kernel's own limit (`XATTR_LIST_MAX`).
const LIST_BYTES_MAX: usize = 64 << 10;

/// Take care of brick directories.
#[derive(clap::Subcommand, Debug)]
pub enum Brick {
    /// Remove what Brickwork added to a brick, so that it is as if it had never been served
    ///
    /// Files, their GlusterFS attributes and `.glusterfs` stay: GlusterFS can serve the directory again.
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
        let removed = detach(directory)?;
        if output.is_json() {
            output.document("DetachedBrickList", &[json!({"path": directory, "removed": removed})])?;
        } else {
            output.text(&format!("removed {} from {}\n", removed.join(", "), directory.display()))?;
        }
        Ok(Exit::Done)
    }
}

/// Removes our attributes from the root `directory`; answers their names.
fn detach(directory: &Path) -> Result<Vec<String>, Failure> {
    let refused = |code: Code, error: io::Error| {
        Failure::new(code, format!("`{}` cannot be detached", directory.display())).because(error)
    };
    let root = File::open(directory).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => refused(Code::DetachRefused, error),
        _ => refused(Code::NotABrick, error),
    })?;
    // Whoever serves the brick holds this lock; while we hold it, nobody begins to.
    flock(&root, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
        Errno::WOULDBLOCK => Failure::new(Code::BrickInUse, format!("`{}` is being served", directory.display()))
            .next("unmount it first"),
        errno => refused(Code::DetachRefused, errno.into()),
    })?;
    let names = attributes(&root).map_err(|error| refused(Code::NotABrick, error))?;
    let ours: Vec<String> =
        names.into_iter().filter(|name| name.starts_with(OURS) || name == MARK_WITHOUT_ROOT).collect();
    if ours.is_empty() {
        return Err(Failure::new(Code::NotABrick, format!("`{}` has no marks of Brickwork", directory.display()))
            .because("only the root of a brick that was served has them, and `trusted.*` is seen by root alone"));
    }
    for name in &ours {
        fremovexattr(&root, name.as_str()).map_err(|errno| refused(Code::DetachRefused, errno.into()))?;
    }
    Ok(ours)
}

fn attributes(file: &File) -> io::Result<Vec<String>> {
    let mut list = vec![0_u8; LIST_BYTES_MAX];
    let length = flistxattr(file, &mut list[..])?;
    let names = list[..length].split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}
