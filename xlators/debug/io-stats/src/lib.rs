#![doc = include_str!("../README.md")]

pub mod counters;
pub mod histogram;
pub mod report;

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use brickwork_api::options::{OptionError, OptionMap, options};
use brickwork_api::{
    Arity, BoxFuture, Cx, Each, FopKind, FopResult, FopType, ReadReply, Route, Setup, SetupError, WriteReply, Xlator,
    XlatorType, each_fop,
};

use counters::Counters;

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "debug/io-stats",
    about: "counts fops, errors and bytes, and measures latencies",
    options: IoStatsOptions::SPECS,
    subvolumes: Arity::One,
    prepare,
};

options! {
    /// Options of `debug/io-stats`.
    pub struct IoStatsOptions {
        /// Count calls, errors and bytes of every fop.
        count_fop_hits: bool = "count-fop-hits" [default("on"), live()],
        /// Measure how long every fop takes; what is measured is counted too.
        latency_measurement: bool = "latency-measurement" [default("on"), live()],
    }
}

/// How much is done for a fop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum Effort {
    /// Nothing: fops pass as if the layer was not there.
    Nothing,
    /// It is counted.
    Count,
    /// It is counted and its time taken.
    Time,
}

impl Effort {
    fn of(options: &IoStatsOptions) -> Effort {
        match (options.latency_measurement, options.count_fop_hits) {
            (true, _) => Effort::Time,
            (false, true) => Effort::Count,
            (false, false) => Effort::Nothing,
        }
    }
}

/// Counts what passes.
#[derive(Debug)]
pub struct IoStats {
    child: Arc<dyn Xlator>,
    counters: Counters,
    effort: AtomicU8,
}

fn prepare(mut setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let options = IoStatsOptions::parse(&setup.options)?;
    Ok(Arc::new(IoStats::over(setup.only_child(), &options)))
}

impl IoStats {
    /// Stands above `child`, with all counts at zero.
    #[must_use]
    pub fn over(child: Arc<dyn Xlator>, options: &IoStatsOptions) -> IoStats {
        IoStats { child, counters: Counters::default(), effort: AtomicU8::new(Effort::of(options) as u8) }
    }

    /// What was counted since this was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn does(&self, effort: Effort) -> bool {
        self.effort.load(Ordering::Relaxed) >= effort as u8
    }

    fn count<F: FopType>(&self, result: &FopResult<F::Reply>, elapsed_ns: Option<u64>) {
        match result {
            Ok(reply) => {
                self.counters.add(F::KIND, None, elapsed_ns);
                self.count_bytes::<F>(reply);
            }
            Err(error) => self.counters.add(F::KIND, Some(error.errno()), elapsed_ns),
        }
    }

    fn count_bytes<F: FopType>(&self, reply: &F::Reply) {
        // Known when compiled: for every other fop nothing is left of this.
        let reply: &dyn Any = reply;
        match F::KIND {
            FopKind::Read => {
                if let Some(reply) = reply.downcast_ref::<ReadReply>() {
                    self.counters.add_read(reply.data.len());
                }
            }
            FopKind::Write => {
                if let Some(reply) = reply.downcast_ref::<WriteReply>() {
                    self.counters.add_written(reply.written);
                }
            }
            _ => {}
        }
    }
}

impl Xlator for IoStats {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        let effort = Effort::of(&IoStatsOptions::parse(options)?);
        self.effort.store(effort as u8, Ordering::Relaxed);
        Ok(())
    }

    fn status(&self) -> serde_json::Value {
        report::json(&self.counters.snapshot())
    }

    each_fop!();
}

impl Each for IoStats {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        if !self.does(Effort::Count) {
            return F::call(&*self.child, cx, request);
        }
        Box::pin(async move {
            let begin = self.does(Effort::Time).then(Instant::now);
            let result = F::call(&*self.child, cx, request).await;
            let elapsed_ns = begin.map(|begin| u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
            self.count::<F>(&result, elapsed_ns);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::{Errno, Gfid, Upward};
    use brickwork_testkit::behaviour::{self, Subject};
    use brickwork_testkit::{
        Answer, Client, Gate, MemoryLeaf, MockChild, TestHost, block_on, conformance, cx, samples,
    };

    fn make(child: Arc<dyn Xlator>, options: &[(&str, &str)]) -> Arc<dyn Xlator> {
        let setup = Setup {
            name: "io-stats".into(),
            options: options.iter().copied().collect(),
            children: vec![child],
            subvolumes: Vec::new(),
            up: Upward::new(|_| {}),
            host: TestHost::new(),
        };
        (TYPE.prepare)(setup).unwrap()
    }

    const EFFORTS: [&[(&str, &str)]; 3] =
        [&[], &[("latency-measurement", "off")], &[("latency-measurement", "off"), ("count-fop-hits", "off")]];

    #[test]
    fn every_fop_passes_through_whatever_is_counted() {
        for options in EFFORTS {
            conformance::passes_through(|child| make(child, options), &[]);
        }
    }

    #[test]
    fn a_cancelled_wait_below_answers_eintr_and_is_counted_as_that() {
        for options in EFFORTS {
            conformance::hands_on_cancelled_waits(|child| make(child, options));
        }
        let mock = MockChild::new();
        mock.script(FopKind::Lk, Answer::WhenCancelled);
        let xlator = make(mock, &[]);
        let mut cx = cx();
        cx.cancel = brickwork_api::Cancel::new();
        cx.cancel.cancel();
        assert!(block_on(samples::request(FopKind::Lk).call(&*xlator, &cx)).is_err());
        assert_eq!(xlator.status()["fops"]["lk"]["errors"]["EINTR"], 1);
    }

    #[test]
    fn a_file_system_below_keeps_its_promises() {
        behaviour::run_all(&|| Subject::new(make(Arc::new(MemoryLeaf::new()), &[])));
    }

    #[test]
    fn status_tells_calls_errors_and_bytes() {
        let stats = make(Arc::new(MemoryLeaf::new()), &[]);
        let c = Client::new(stats.clone());
        let gfid = c.put(Gfid::ROOT, "file", b"12345").unwrap();
        assert_eq!(c.content(gfid).unwrap().len(), 5);
        assert_eq!(c.lookup(Gfid::ROOT, "nothing"), Err(Errno::ENOENT));
        assert_eq!(c.lookup(Gfid::ROOT, "nothing"), Err(Errno::ENOENT));
        let status = stats.status();
        assert_eq!((&status["calls"], &status["errors"]), (&8.into(), &2.into()));
        assert_eq!((&status["read_bytes"], &status["written_bytes"]), (&5.into(), &5.into()));
        assert_eq!(status["fops"]["lookup"]["calls"], 2);
        assert_eq!(status["fops"]["lookup"]["errors"], serde_json::json!({ "ENOENT": 2 }));
        assert_eq!(status["fops"]["release"]["errors"], serde_json::json!({}));
        assert!(status["fops"].get("mkdir").is_none(), "a fop that never came is not listed");
        let max = status["fops"]["create"]["max_us"].as_f64().unwrap();
        assert!(max > 0.0 && status["fops"]["create"]["p99_us"].as_f64().unwrap() <= max);
    }

    #[test]
    fn the_wait_below_is_in_the_latency() {
        let (mock, gate) = (MockChild::new(), Gate::new());
        let stat = samples::request(FopKind::Stat);
        mock.script(FopKind::Stat, Answer::Behind(gate.clone(), Ok(samples::reply(FopKind::Stat))));
        let stats = make(mock, &[]);
        let begin = Instant::now();
        let waited = std::thread::scope(|scope| {
            let call = scope.spawn(|| block_on(stat.call(&*stats, &cx())));
            block_on(gate.arrivals(1));
            let held = Instant::now();
            while held.elapsed().as_micros() < 200 {
                std::hint::spin_loop();
            }
            gate.open();
            call.join().unwrap().unwrap();
            begin.elapsed()
        });
        let max_us = stats.status()["fops"]["stat"]["max_us"].as_f64().unwrap();
        assert!(max_us >= 200.0 && max_us <= waited.as_secs_f64() * 1e6, "{max_us} us of {waited:?}");
    }

    #[test]
    fn a_reload_changes_what_is_counted_and_keeps_the_counts() {
        let stats = make(MockChild::new(), &[]);
        let stat = || block_on(samples::request(FopKind::Stat).call(&*stats, &cx())).unwrap();
        let counted = || {
            let fop = &stats.status()["fops"]["stat"];
            (fop["calls"].as_u64(), fop["timed"].as_u64())
        };
        stat();
        assert_eq!(counted(), (Some(1), Some(1)));
        stats.reconfigure(&OptionMap::from_iter([("latency-measurement", "off")])).unwrap();
        stat();
        assert_eq!(counted(), (Some(2), Some(1)));
        let off = OptionMap::from_iter([("latency-measurement", "off"), ("count-fop-hits", "no")]);
        stats.reconfigure(&off).unwrap();
        stat();
        assert_eq!(counted(), (Some(2), Some(1)));
        let refused = stats.reconfigure(&OptionMap::from_iter([("latency-measurement", "maybe")])).unwrap_err();
        assert_eq!(refused[0].to_string(), "option `latency-measurement`: `maybe` is neither `on` nor `off`");
        stat();
        assert_eq!(counted(), (Some(2), Some(1)));
    }
}
