//! What a serving process asks of the system: descriptors, threads, its standard streams.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::runtime::{Builder, Runtime};

use crate::codes::Code;
use crate::failure::Failure;

/// The threads of a serving process.
#[derive(clap::Args, Clone, Copy, Debug)]
pub struct Threads {
    /// Threads that carry on what is not done at once [default: 2 for a mount, one for each processor for bricks]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    worker_threads: Option<u16>,
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

    /// The runtime of the process, with `workers` threads unless the command line says another number.
    ///
    /// # Errors
    /// A system that gives no threads.
    pub fn runtime(&self, workers: usize) -> Result<Runtime, Failure> {
        Builder::new_multi_thread()
            .worker_threads(self.worker_threads.map_or(workers, usize::from))
            .max_blocking_threads(self.pool_threads.into())
            .thread_name("brickwork")
            .enable_all()
            .build()
            .map_err(|error| Failure::new(Code::System, "threads cannot be started").because(error))
    }
}

/// Worker threads of a mount unless the command line says another number: its readers do most of the work.
pub const MOUNT_WORKERS: usize = 2;

/// Worker threads of bricks unless the command line says another number: one for each processor, as they do it all.
#[must_use]
pub fn brick_workers() -> usize {
    std::thread::available_parallelism().map_or(MOUNT_WORKERS, std::num::NonZero::get)
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
