//! What every leaf must do, done by a leaf behind a server.

mod stack;

use std::sync::Arc;

use brickwork_testkit::MemoryLeaf;
use brickwork_testkit::behaviour::{Subject, run_all};

use stack::{Stack, Way};

fn memory(way: Way) {
    run_all(&|| {
        let stack = Stack::over(way, Arc::new(MemoryLeaf::new()), &[("eos", "memory")]);
        Subject::new(stack.client.clone()).keeping(stack)
    });
}

fn posix(way: Way) {
    if !stack::privileged() {
        return;
    }
    run_all(&|| {
        let folder = tempfile::tempdir().unwrap();
        let stack = Stack::over(way, stack::posix(folder.path()), &[]);
        Subject::new(stack.client.clone()).keeping((stack, folder))
    });
}

#[test]
fn a_memory_leaf_over_tcp_keeps_every_promise() {
    memory(Way::Tcp);
}

#[test]
fn a_memory_leaf_over_a_unix_socket_keeps_every_promise() {
    memory(Way::Unix);
}

#[test]
fn a_memory_leaf_over_tls_keeps_every_promise() {
    memory(Way::Tls);
}

#[test]
fn a_posix_brick_over_tcp_keeps_every_promise() {
    posix(Way::Tcp);
}

#[test]
fn a_posix_brick_over_a_unix_socket_keeps_every_promise() {
    posix(Way::Unix);
}

#[test]
fn a_posix_brick_over_tls_keeps_every_promise() {
    posix(Way::Tls);
}
