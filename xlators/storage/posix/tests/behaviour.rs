//! What every leaf must do, by the cases of the testkit.

mod common;

use brickwork_testkit::behaviour::{Subject, run_all};

#[test]
fn the_brick_keeps_every_promise_of_a_leaf() {
    run_all(&|| {
        let folder = common::folder();
        let brick = common::serve(folder.path());
        Subject::new(std::sync::Arc::clone(&brick.xlator)).keeping((brick, folder))
    });
}
