//! What an xlator did per second, from two looks at what it has counted.

use serde_json::{Value, json};

use crate::protocol::XlatorReport;

/// What happened in an xlator per second; `None` where it counts nothing, or nothing came.
///
/// Times are of the xlator and everything below it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Operations in a second.
    pub operations: Option<f64>,
    /// Those that failed.
    pub errors: Option<f64>,
    /// How long one took on average between the looks, in microseconds.
    pub mean_us: Option<f64>,
    /// The largest 99th percentile, since the start, of the kinds of operation that came between the looks.
    pub p99_us: Option<f64>,
}

/// What an xlator has counted since it runs.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counts {
    operations: u64,
    errors: u64,
    timed: u64,
    total_us: f64,
    fops: Vec<(String, u64, Option<f64>)>,
}

impl Rate {
    /// What happened in `after` since it was `before`, `seconds` ago.
    pub fn between(before: Option<&XlatorReport>, after: &XlatorReport, seconds: f64) -> Rate {
        let before = before.and_then(|xlator| Counts::of(&xlator.status));
        let (Some(before), Some(after)) = (before, Counts::of(&after.status)) else { return Rate::default() };
        let per_second = |before: u64, after: u64| Some(after.saturating_sub(before) as f64 / seconds);
        let timed = after.timed.saturating_sub(before.timed);
        Rate {
            operations: per_second(before.operations, after.operations),
            errors: per_second(before.errors, after.errors),
            mean_us: (timed > 0).then(|| (after.total_us - before.total_us) / timed as f64),
            p99_us: after.slowest_since(&before),
        }
    }

    /// For `--json`, in seconds.
    pub fn to_json(self) -> Value {
        json!({
            "operationsPerSecond": self.operations,
            "errorsPerSecond": self.errors,
            "meanSeconds": self.mean_us.map(|us| us / 1e6),
            "p99Seconds": self.p99_us.map(|us| us / 1e6),
        })
    }
}

impl Counts {
    /// Reads the status of debug/io-stats; `None` for xlators that do not count.
    fn of(status: &Value) -> Option<Counts> {
        let fops = status.get("fops")?.as_object()?;
        let sum = |key: &str| fops.values().filter_map(|fop| fop.get(key)).filter_map(Value::as_f64).sum::<f64>();
        Some(Counts {
            operations: status.get("calls")?.as_u64()?,
            errors: status.get("errors")?.as_u64()?,
            timed: sum("timed") as u64,
            total_us: sum("total_us"),
            fops: fops
                .iter()
                .filter_map(|(name, fop)| Some((name.clone(), fop["calls"].as_u64()?, fop["p99_us"].as_f64())))
                .collect(),
        })
    }

    fn slowest_since(&self, before: &Counts) -> Option<f64> {
        let calls_before =
            |name: &str| before.fops.iter().find(|(other, ..)| other == name).map_or(0, |(_, calls, _)| *calls);
        let came = self.fops.iter().filter(|(name, calls, _)| *calls > calls_before(name));
        came.filter_map(|(_, _, p99)| *p99).reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(status: Value) -> XlatorReport {
        XlatorReport {
            name: "stats".to_owned(),
            kind: "debug/io-stats".to_owned(),
            options: serde_json::Map::new(),
            children: Vec::new(),
            status,
        }
    }

    #[test]
    fn rates_are_of_the_time_between_two_looks() {
        let before = stats(json!({"calls": 100, "errors": 1, "fops": {
            "read": {"calls": 60, "errors": {}, "timed": 60, "total_us": 600.0, "p99_us": 20.0},
            "fsync": {"calls": 40, "errors": {"EIO": 1}, "timed": 40, "total_us": 400.0, "p99_us": 9000.0},
        }}));
        let after = stats(json!({"calls": 300, "errors": 2, "fops": {
            "read": {"calls": 160, "errors": {}, "timed": 160, "total_us": 1600.0, "p99_us": 21.0},
            "write": {"calls": 100, "errors": {"EIO": 1}, "timed": 100, "total_us": 3000.0, "p99_us": 50.0},
            "fsync": {"calls": 40, "errors": {"EIO": 1}, "timed": 40, "total_us": 400.0, "p99_us": 9000.0},
        }}));
        let rate = Rate::between(Some(&before), &after, 2.0);
        assert_eq!((rate.operations, rate.errors), (Some(100.0), Some(0.5)));
        assert_eq!((rate.mean_us, rate.p99_us), (Some(20.0), Some(50.0)), "fsync did not come");
    }

    #[test]
    fn what_does_not_count_has_no_rate() {
        assert_eq!(Rate::between(Some(&stats(Value::Null)), &stats(Value::Null), 1.0), Rate::default());
    }
}
