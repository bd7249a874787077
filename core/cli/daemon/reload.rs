//! SIGHUP: the volfile is read again, or fetched again from a brick, and new values of options that can change in place are given to the running graph.
//! Whatever does not allow that leaves the graph as it was, and says so.

use std::collections::BTreeSet;

use brickwork_graph::diagnostic::Look;
use brickwork_graph::graph::GraphError;
use brickwork_graph::plan::{Plan, PlannedVolume};

use super::Server;
use crate::codes::Code;
use crate::failure::Failure;

impl Server {
    /// Reads the volfile again and applies what changed, or logs why not.
    pub(super) async fn reload(&mut self) {
        self.notify.reloading();
        self.reloads.refused = match self.apply().await {
            Ok(changed) => {
                tracing::info!(volfile = self.stack.name(), changed, "reloaded");
                None
            }
            Err(failure) => {
                let (code, why) = (failure.code().as_str(), failure.why().unwrap_or_default());
                tracing::error!(code, why, "reload refused, the running graph is unchanged: {}", failure.message());
                Some(failure)
            }
        };
        // Behind the outcome: whoever waits for the count finds it.
        self.reloads.count += 1;
        self.notify.ready(&self.summary());
    }

    /// Answers how many options changed.
    async fn apply(&mut self) -> Result<usize, Failure> {
        let refused = |failure: Failure| {
            Failure::new(Code::ReloadRefused, failure.message())
                .because(failure.why().unwrap_or("the volfile has errors"))
        };
        let stack = self.stack.renewed().await.map_err(refused)?;
        let (plan, _) = stack.plan(Look::default()).map_err(refused)?;
        let changed = changes(&self.plan, &plan)?;
        self.root.load().graph().reconfigure(&plan).map_err(|error| match error {
            GraphError::OtherShape => Failure::new(Code::NeedsSwitch, error.to_string()),
            _ => Failure::new(Code::ReloadRefused, error.to_string()),
        })?;
        self.plan = plan;
        self.stack = stack;
        Ok(changed)
    }
}

/// Counts the options that differ.
///
/// # Errors
/// `NeedsSwitch` when an option differs that cannot change in place, or more than options.
fn changes(old: &Plan, new: &Plan) -> Result<usize, Failure> {
    if !same_shape(old, new) {
        return Err(Failure::new(Code::NeedsSwitch, GraphError::OtherShape.to_string()));
    }
    let mut changed = 0;
    for (old, new) in old.volumes.iter().zip(&new.volumes) {
        for key in differing(old, new) {
            changed += 1;
            if !old.kind.options.iter().any(|spec| spec.matches(key) && spec.live) {
                let what = format!("`{key}` of `{}` cannot change while it runs", old.name);
                return Err(Failure::new(Code::NeedsSwitch, what).at(&new.place).next("start the process again"));
            }
        }
    }
    Ok(changed)
}

fn same_shape(old: &Plan, new: &Plan) -> bool {
    let same = |(old, new): (&PlannedVolume, &PlannedVolume)| {
        old.name == new.name && old.kind.name == new.kind.name && old.children == new.children
    };
    old.root == new.root && old.volumes.len() == new.volumes.len() && old.volumes.iter().zip(&new.volumes).all(same)
}

fn differing<'a>(old: &'a PlannedVolume, new: &'a PlannedVolume) -> BTreeSet<&'a str> {
    let keys = old.options.iter().chain(new.options.iter()).map(|(key, _)| key);
    keys.filter(|key| old.options.get(key) != new.options.get(key)).collect()
}
