//! The life of a graph: which step may follow which.
//!
//! One table; a step that is not in it is refused and changes nothing.

use std::fmt;

/// Where a graph is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Its volfile holds no error. Nothing was opened.
    Checked,
    /// Every xlator has opened and validated what it needs. Nothing runs.
    Prepared,
    /// It serves fops.
    Running,
    /// It takes no new fops; those inside go on.
    Quiesced,
    /// Its client state was handed out and must not change.
    Exported,
    /// The last fops leave it.
    Draining,
    /// Nothing of it runs.
    Stopped,
}

/// What can be asked of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Open and validate; spawns nothing.
    Prepare,
    /// Begin to serve.
    Start,
    /// Take new options in place.
    Reconfigure,
    /// Hold new fops back.
    Quiesce,
    /// Hand out client state.
    Export,
    /// Take fops again, as if nothing had been.
    Resume,
    /// Let the last fops leave.
    Drain,
    /// End all tasks and close everything.
    Stop,
}

impl Phase {
    /// Every phase.
    pub const ALL: [Phase; 7] = [
        Phase::Checked,
        Phase::Prepared,
        Phase::Running,
        Phase::Quiesced,
        Phase::Exported,
        Phase::Draining,
        Phase::Stopped,
    ];

    /// The phase after `step`.
    ///
    /// # Errors
    /// [`Refused`] when `step` has no place here; the phase is then as it was.
    pub fn after(self, step: Step) -> Result<Phase, Refused> {
        Ok(match (self, step) {
            (Phase::Checked, Step::Prepare) => Phase::Prepared,
            (Phase::Prepared, Step::Start) => Phase::Running,
            (Phase::Running, Step::Reconfigure) => Phase::Running,
            (Phase::Running, Step::Quiesce) => Phase::Quiesced,
            (Phase::Quiesced, Step::Export) => Phase::Exported,
            (Phase::Quiesced | Phase::Exported, Step::Resume) => Phase::Running,
            (Phase::Running | Phase::Quiesced | Phase::Exported, Step::Drain) => Phase::Draining,
            (Phase::Prepared | Phase::Draining, Step::Stop) => Phase::Stopped,
            (phase, step) => return Err(Refused { phase, step }),
        })
    }
}

/// A step that has no place in the phase a graph is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Where the graph is.
    pub phase: Phase,
    /// What was asked.
    pub step: Step,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} a graph that is {}", word(self.step), word(self.phase))
    }
}

impl std::error::Error for Refused {}

fn word(value: impl fmt::Debug) -> String {
    format!("{value:?}").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEPS: [Step; 8] = [
        Step::Prepare,
        Step::Start,
        Step::Reconfigure,
        Step::Quiesce,
        Step::Export,
        Step::Resume,
        Step::Drain,
        Step::Stop,
    ];

    #[test]
    fn a_life_without_incident_runs_from_checked_to_stopped() {
        let steps = [Step::Prepare, Step::Start, Step::Quiesce, Step::Export, Step::Drain, Step::Stop];
        let end = steps.into_iter().try_fold(Phase::Checked, Phase::after);
        assert_eq!(end, Ok(Phase::Stopped));
    }

    #[test]
    fn an_aborted_switch_goes_back_to_running() {
        for phase in [Phase::Quiesced, Phase::Exported] {
            assert_eq!(phase.after(Step::Resume), Ok(Phase::Running));
        }
    }

    #[test]
    fn nothing_follows_stopped_and_every_other_phase_can_reach_it() {
        for step in STEPS {
            assert!(Phase::Stopped.after(step).is_err());
        }
        for phase in Phase::ALL {
            let mut reached = vec![phase];
            for _ in Phase::ALL {
                let next: Vec<Phase> =
                    reached.iter().flat_map(|at| STEPS.iter().filter_map(|step| at.after(*step).ok())).collect();
                reached.extend(next);
                reached.sort_by_key(|at| *at as u8);
                reached.dedup();
            }
            assert!(reached.contains(&Phase::Stopped), "{phase:?}");
        }
    }

    #[test]
    fn a_refusal_names_step_and_phase() {
        let refused = Phase::Checked.after(Step::Start).unwrap_err();
        assert_eq!(refused.to_string(), "cannot start a graph that is checked");
    }
}
