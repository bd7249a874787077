//! The xlators that are built into this command.

use brickwork_graph::registry::Registry;

/// All of them.
#[must_use]
pub fn built_in() -> Registry {
    Registry::new([
        &brickwork_client::TYPE,
        &brickwork_error_gen::TYPE,
        &brickwork_io_stats::TYPE,
        &brickwork_locks::TYPE,
        &brickwork_null::TYPE,
        &brickwork_posix::TYPE,
        &brickwork_server::TYPE,
        &brickwork_trace::TYPE,
    ])
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_option_that_the_compat_table_calls_implemented_is_one() {
        assert_eq!(brickwork_graph::compat::missing(&super::built_in()), []);
    }
}
