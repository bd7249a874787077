//! What any leaf, and any stack that changes nothing for its caller, must do.
//!
//! Each case is one promise and gets a fresh, empty file system. Cases act as root unless they say otherwise and keep
//! to what every file system below can do: where one may refuse (`EOPNOTSUPP`), the case says so and accepts it.

mod data;
mod names;
mod objects;
mod renames;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use brickwork_api::{Cx, Xlator};

use crate::client::Client;

/// A fresh, empty file system, and what must live as long as it does.
pub struct Subject {
    xlator: Arc<dyn Xlator>,
    cx: Option<Cx>,
    keep: Box<dyn Any>,
}

impl Subject {
    /// A file system that needs nothing beside it.
    #[must_use]
    pub fn new(xlator: Arc<dyn Xlator>) -> Subject {
        Subject { xlator, cx: None, keep: Box::new(()) }
    }

    /// Keeps `keep` (a temporary directory, a running daemon) until the case is over.
    #[must_use]
    pub fn keeping(mut self, keep: impl Any) -> Subject {
        self.keep = Box::new(keep);
        self
    }

    /// Does everything in the context `cx`, for a leaf that needs a host or user of its own.
    #[must_use]
    pub fn acting_in(mut self, cx: Cx) -> Subject {
        self.cx = Some(cx);
        self
    }

    fn into_client(self) -> (Client, Box<dyn Any>) {
        let mut client = Client::new(self.xlator);
        if let Some(cx) = self.cx {
            client.cx = cx;
        }
        (client, self.keep)
    }
}

/// One promise.
#[derive(Clone, Copy)]
pub struct Case {
    /// The promise.
    pub name: &'static str,
    run: fn(&Client),
}

impl Case {
    /// Runs it on `subject`.
    ///
    /// # Panics
    /// When the promise is not kept.
    pub fn run(&self, subject: Subject) {
        let (client, keep) = subject.into_client();
        (self.run)(&client);
        // The file system goes before what it stands on.
        drop(client);
        drop(keep);
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// Lists functions as cases named like them.
macro_rules! promises {
    ($($name:ident)*) => {
        pub(super) const CASES: &[super::Case] = &[$(super::Case { name: stringify!($name), run: $name },)*];
    };
}
use promises;

/// All cases.
pub fn cases() -> impl Iterator<Item = Case> {
    [names::CASES, renames::CASES, data::CASES, objects::CASES].into_iter().flatten().copied()
}

/// Runs all cases, each on a fresh file system from `make`.
///
/// # Panics
/// After the last case, with the names of all that failed.
pub fn run_all(make: &dyn Fn() -> Subject) {
    run_except(make, &[]);
}

/// Runs all cases but those in `except`, for which the caller's own test says what happens instead.
///
/// # Panics
/// After the last case, with the names of all that failed; for a name in `except` that is no case.
pub fn run_except(make: &dyn Fn() -> Subject, except: &[&str]) {
    for name in except {
        assert!(cases().any(|case| case.name == *name), "no case is called `{name}`");
    }
    let chosen = cases().filter(|case| !except.contains(&case.name));
    let fails = |case: &Case| catch_unwind(AssertUnwindSafe(|| case.run(make()))).is_err();
    let failed: Vec<&str> = chosen.filter(fails).map(|case| case.name).collect();
    assert!(failed.is_empty(), "{} of {} cases failed: {}", failed.len(), cases().count(), failed.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryLeaf;

    #[test]
    fn the_memory_leaf_keeps_every_promise() {
        run_all(&|| Subject::new(Arc::new(MemoryLeaf::new())));
    }

    #[test]
    #[should_panic(expected = "cases failed: ")]
    fn a_leaf_that_does_nothing_fails() {
        run_all(&|| Subject::new(crate::MockChild::new()));
    }
}
