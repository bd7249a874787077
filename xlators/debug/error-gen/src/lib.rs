#![doc = include_str!("../README.md")]

pub mod decision;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brickwork_api::options::{OptionError, OptionMap, OptionValue, Percent, options};
use brickwork_api::{
    Arity, BoxFuture, ClientId, Cx, Each, Errno, FopError, FopKind, FopResult, FopSet, FopType, Route, Setup,
    SetupError, Xlator, XlatorType, each_fop,
};
use parking_lot::RwLock;

use decision::Plan;

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "debug/error-gen",
    about: "fails fops on purpose",
    options: ErrorGenOptions::SPECS,
    subvolumes: Arity::One,
    prepare,
};

options! {
    /// Options of `debug/error-gen`.
    pub struct ErrorGenOptions {
        /// Percent of the chosen fops that fail.
        failure: Percent = "failure" [default("10"), live()],
        /// The error they answer.
        error_no: ErrorNumber = "error-no" [default("EIO"), live()],
        /// The chosen fops; all but release, releasedir and forget when none are named.
        enable: Option<FopSet> = "enable" [live()],
        /// By chance instead of at even distances.
        random_failure: bool = "random-failure" [default("off"), live()],
        /// Of the chance: runs with the same seed fail the same fops. Random, and logged, when none is given.
        seed: Option<u64> = "seed" [live()],
    }
}

/// An error number, by its symbol or as a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ErrorNumber(pub Errno);

/// Above every error number of Linux.
const ERRNO_END: i32 = 4096;

impl OptionValue for ErrorNumber {
    const VALUES: &'static str = "the symbol of an error, as `ENOSPC`, or its number";

    fn parse(text: &str) -> Result<ErrorNumber, String> {
        let number = || text.parse().ok().filter(|number| (1..ERRNO_END).contains(number)).map(Errno::from_raw);
        let errno = Errno::from_name(&text.to_ascii_uppercase()).or_else(number);
        errno.map(ErrorNumber).ok_or_else(|| "is neither the symbol nor the number of an error".to_owned())
    }
}

/// Fops that fail only when named: they never fail for their caller, and failing them leaks opens below.
const SPARED: FopSet = FopSet::EMPTY.with(FopKind::Release).with(FopKind::Releasedir).with(FopKind::Forget);

/// Fails some fops, hands on the others.
#[derive(Debug)]
pub struct ErrorGen {
    name: Arc<str>,
    child: Arc<dyn Xlator>,
    settings: RwLock<Settings>,
    /// Chosen fops that came.
    calls: AtomicU64,
    failed: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Settings {
    chosen: FopSet,
    plan: Plan,
    errno: Errno,
}

impl Settings {
    fn read(name: &str, options: &OptionMap) -> Result<Settings, Vec<OptionError>> {
        let options = ErrorGenOptions::parse(options)?;
        let seed = options.random_failure.then(|| options.seed.unwrap_or_else(|| fresh_seed(name)));
        Ok(Settings {
            chosen: options.enable.unwrap_or(FopSet::ALL.without(SPARED)),
            plan: Plan::new(options.failure.0, seed),
            errno: options.error_no.0,
        })
    }
}

/// A random seed, logged so that the run can be had again.
fn fresh_seed(name: &str) -> u64 {
    let seed = ClientId::random().0 as u64;
    tracing::info!(xlator = name, seed, "failing fops by chance; give this `seed` to repeat the run");
    seed
}

fn prepare(mut setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let settings = Settings::read(&setup.name, &setup.options)?;
    Ok(Arc::new(ErrorGen {
        name: setup.name.clone(),
        child: setup.only_child(),
        settings: RwLock::new(settings),
        calls: AtomicU64::new(0),
        failed: AtomicU64::new(0),
    }))
}

impl ErrorGen {
    /// Counts a call of `kind` and returns the error it shall answer.
    fn next_error(&self, kind: FopKind) -> Option<FopError> {
        let settings = *self.settings.read();
        if !settings.chosen.contains(kind) {
            return None;
        }
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if !settings.plan.fails(number) {
            return None;
        }
        self.failed.fetch_add(1, Ordering::Relaxed);
        Some(FopError::new(settings.errno).doing("failing on purpose").with("call", number))
    }
}

impl Xlator for ErrorGen {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        let settings = Settings::read(&self.name, options)?;
        *self.settings.write() = settings;
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        serde_json::json!({
            "calls": self.calls.load(Ordering::Relaxed),
            "failed": self.failed.load(Ordering::Relaxed),
        })
    }

    each_fop!();
}

impl Each for ErrorGen {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        if !self.settings.read().chosen.contains(F::KIND) {
            return F::call(&*self.child, cx, request);
        }
        Box::pin(async move {
            match self.next_error(F::KIND) {
                Some(error) => Err(error),
                None => F::call(&*self.child, cx, request).await,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::Upward;
    use brickwork_testkit::{MockChild, TestHost, block_on, conformance, cx, samples};

    fn make(child: Arc<dyn Xlator>, options: &[(&str, &str)]) -> Result<Arc<dyn Xlator>, SetupError> {
        (TYPE.prepare)(Setup {
            name: "error-gen".into(),
            options: options.iter().copied().collect(),
            children: vec![child],
            subvolumes: Vec::new(),
            up: Upward::new(|_| {}),
            host: TestHost::new(),
        })
    }

    /// The errors of `count` calls of `kind`; `None` for those that passed.
    fn errors(xlator: &Arc<dyn Xlator>, kind: FopKind, count: usize) -> Vec<Option<Errno>> {
        let request = samples::request(kind);
        (0..count).map(|_| block_on(request.call(&**xlator, &cx())).err().map(|error| error.errno())).collect()
    }

    #[test]
    fn with_a_failure_of_0_every_fop_passes() {
        conformance::passes_through(|child| make(child, &[("failure", "0")]).unwrap(), &[]);
    }

    #[test]
    fn with_a_failure_of_100_every_fop_is_refused_but_those_that_cannot_fail() {
        let refused: Vec<FopKind> = FopSet::ALL.without(SPARED).iter().collect();
        conformance::passes_through(|child| make(child, &[("failure", "100")]).unwrap(), &refused);
    }

    #[test]
    fn a_cancelled_wait_below_answers_eintr() {
        conformance::hands_on_cancelled_waits(|child| make(child, &[("failure", "0")]).unwrap());
    }

    #[test]
    fn every_second_write_fails_and_does_not_reach_the_child() {
        let mock = MockChild::new();
        let options = [("failure", "50"), ("error-no", "ENOSPC"), ("enable", "WRITE")];
        let xlator = make(mock.clone(), &options).unwrap();
        let full = Some(Errno::ENOSPC);
        assert_eq!(errors(&xlator, FopKind::Write, 4), [None, full, None, full]);
        assert_eq!(errors(&xlator, FopKind::Read, 4), [None; 4]);
        assert_eq!(mock.calls().len(), 6);
        assert_eq!(xlator.status(), serde_json::json!({ "calls": 4, "failed": 2 }));
    }

    #[test]
    fn two_runs_with_one_seed_fail_the_same_calls() {
        let run = || {
            let options = [("failure", "30"), ("random-failure", "on"), ("seed", "7")];
            errors(&make(MockChild::new(), &options).unwrap(), FopKind::Stat, 100)
        };
        let first = run();
        assert_eq!(first, run());
        assert!(first.iter().any(Option::is_some) && first.iter().any(Option::is_none));
    }

    #[test]
    fn a_reload_takes_effect_with_the_next_fop_and_a_wrong_one_not_at_all() {
        let xlator = make(MockChild::new(), &[("failure", "0")]).unwrap();
        assert_eq!(errors(&xlator, FopKind::Stat, 1), [None]);
        let new = OptionMap::from_iter([("failure", "100"), ("error-no", "13")]);
        xlator.reconfigure(&new).unwrap();
        assert_eq!(errors(&xlator, FopKind::Stat, 1), [Some(Errno::EACCES)]);
        let wrong = OptionMap::from_iter([("failure", "0"), ("error-no", "EWHAT"), ("enable", "stat,tsat")]);
        let refused: Vec<String> = xlator.reconfigure(&wrong).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(
            refused,
            [
                "option `error-no`: `EWHAT` is neither the symbol nor the number of an error",
                "option `enable`: `stat,tsat` names no fop with `tsat`",
            ]
        );
        assert_eq!(errors(&xlator, FopKind::Stat, 1), [Some(Errno::EACCES)]);
    }
}
