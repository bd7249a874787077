//! The xlators that are built into this command.

use brickwork_graph::registry::Registry;

/// All of them.
#[must_use]
pub fn built_in() -> Registry {
    Registry::new([
        &brickwork_error_gen::TYPE,
        &brickwork_io_stats::TYPE,
        &brickwork_null::TYPE,
        &brickwork_posix::TYPE,
        &brickwork_trace::TYPE,
    ])
}
