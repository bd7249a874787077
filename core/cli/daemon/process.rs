//! What a serving process asks of the system: descriptors, threads, its standard streams.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::codes::Code;
use crate::failure::Failure;

/// The threads of a serving process.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Threads {
    /// Threads that carry on what is not done at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u16).range(1..=256))]
    worker_threads: u16,
    /// Most threads that wait for disks at the same time; they end when idle
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(4..=4096))]
    pool_threads: u16,
}

impl Threads {
    /// Most threads of the pool.
    #[must_use]
    pub fn pool(&self) -> usize {
        self.pool_threads.into()
    }

    /// The runtime of the process.
    ///
    /// # Errors
    /// A system that gives no threads.
    pub fn runtime(&self) -> Result<Runtime, Failure> {
        Builder::new_multi_thread()
            .worker_threads(self.worker_threads.into())
            .max_blocking_threads(self.pool_threads.into())
            .thread_name("brickwork")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::System, "threads cannot be started").because(error))
    }
}

/// Takes all descriptors that the system allows: every open file of a user is one here.
pub fn prepare() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum
        && let Err(errno) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
    {
        tracing::warn!(%errno, ?current, ?maximum, "the limit of open files cannot be raised");
    }
}

/// Closes stdout, so that whoever reads it sees its end.
///
/// # Errors
/// A system without `/dev/null`.
pub fn close_stdout() -> std::io::Result<()> {
    let null = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    Ok(rustix::stdio::dup2_stdout(&null)?)
}
