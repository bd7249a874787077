//! `brickwork brick`: serves bricks, shows those that are served, and takes care of directories that were.

mod detach;
mod serve;
mod status;

use crate::args::Globals;
use crate::failure::Outcome;
use crate::output::Output;

/// Serve bricks and take care of their directories.
#[derive(clap::Subcommand, Debug)]
pub enum Brick {
    /// Serve bricks to other machines, as a volfile says
    Serve(serve::Serve),
    /// Show the bricks that are served on this machine, and their clients
    Status(status::Status),
    /// Take the marks and the working folder of Brickwork out of a brick that nobody serves
    ///
    /// What a process that was killed left there is put right first. Files, their GlusterFS attributes and `.glusterfs`
    /// stay: GlusterFS can serve the directory again. On a brick made without root the owners and modes of files stay
    /// in `user.brickwork.*`: nothing else knows them.
    Detach(detach::Detach),
}

impl Brick {
    /// Does what was asked for.
    pub fn run(&self, globals: &Globals, output: Output) -> Outcome {
        match self {
            Brick::Serve(serve) => serve.run(globals, output),
            Brick::Status(status) => status.run(globals, output),
            Brick::Detach(detach) => detach.run(output),
        }
    }
}
