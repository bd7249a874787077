#![doc = include_str!("../README.md")]

use std::sync::Arc;

use brickwork_api::{Arity, Route, Setup, SetupError, Xlator, XlatorType};

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "debug/null",
    about: "hands every fop to its subvolume",
    options: &[],
    subvolumes: Arity::One,
    prepare,
};

/// Opens and validates: here there is nothing to do but to take the child.
fn prepare(mut setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    Ok(Arc::new(Null::over(setup.only_child())))
}

/// A layer that changes nothing.
#[derive(Debug)]
pub struct Null {
    child: Arc<dyn Xlator>,
}

impl Null {
    /// Stands above `child`.
    #[must_use]
    pub fn over(child: Arc<dyn Xlator>) -> Null {
        Null { child }
    }
}

impl Xlator for Null {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::options::OptionMap;
    use brickwork_api::{Event, Onward, Upward};
    use brickwork_testkit::behaviour::{self, Subject};
    use brickwork_testkit::{MemoryLeaf, MockChild, TestHost, conformance};

    fn null(child: Arc<dyn Xlator>) -> Arc<dyn Xlator> {
        let setup = Setup {
            name: "null".into(),
            options: OptionMap::default(),
            children: vec![child],
            subvolumes: Vec::new(),
            up: Upward::new(|_| {}),
            host: TestHost::new(),
        };
        (TYPE.prepare)(setup).unwrap()
    }

    #[test]
    fn every_fop_passes_through() {
        conformance::passes_through(null, &[]);
    }

    #[test]
    fn a_cancelled_wait_below_answers_eintr() {
        conformance::hands_on_cancelled_waits(null);
    }

    #[test]
    fn a_file_system_below_keeps_its_promises() {
        behaviour::run_all(&|| Subject::new(null(Arc::new(MemoryLeaf::new()))));
    }

    #[test]
    fn events_of_the_child_go_on_to_the_parents() {
        let event = Event::ChildDown { reason: "unplugged".to_owned() };
        assert_eq!(null(MockChild::new()).notify(&event), Onward::Up);
    }

    #[test]
    fn every_fop_passes_through_after_a_reload_too() {
        let reloaded = |child| {
            let null = null(child);
            null.reconfigure(&OptionMap::default()).unwrap();
            null
        };
        conformance::passes_through(reloaded, &[]);
    }
}
