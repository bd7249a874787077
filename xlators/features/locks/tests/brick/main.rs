//! A brick with locks: calls, clients that come and go, restarts.

mod admin;
mod grace;
mod life;
mod once;
mod others;
mod random;
mod restart;
mod world;

use std::sync::Arc;

use brickwork_api::{FopKind, Xlator};
use brickwork_testkit::behaviour::{self, Subject};
use brickwork_testkit::{MemoryLeaf, conformance};

fn over(child: Arc<dyn Xlator>) -> Arc<dyn Xlator> {
    let setup = brickwork_api::Setup {
        name: "locks".into(),
        options: brickwork_api::options::OptionMap::default(),
        children: vec![child],
        subvolumes: vec!["posix".into()],
        up: brickwork_api::Upward::new(|_| {}),
        host: brickwork_testkit::TestHost::new(),
    };
    (brickwork_locks::TYPE.prepare)(setup).expect("prepared")
}

#[test]
fn all_but_lock_calls_pass_through() {
    conformance::passes_through(over, &[FopKind::Lk, FopKind::Inodelk, FopKind::Entrylk]);
}

#[test]
fn a_file_system_below_keeps_its_promises() {
    behaviour::run_all(&|| Subject::new(over(Arc::new(MemoryLeaf::new()))));
}
