//! The counts as JSON, for `status`, `graph show` and `dump`.

use serde_json::{Map, Value, json};

use crate::counters::{FopSnapshot, Snapshot};

/// `snapshot` as JSON: totals, and each fop that came.
///
/// Times are in microseconds. Rates are the reader's part, from two samples.
#[must_use]
pub fn json(snapshot: &Snapshot) -> Value {
    let calls: u64 = snapshot.fops.iter().map(|fop| fop.calls).sum();
    let errors: u64 = snapshot.fops.iter().flat_map(|fop| &fop.errors).map(|(_, count)| count).sum();
    let fops: Map<String, Value> =
        snapshot.fops.iter().map(|fop| (fop.kind.name().to_owned(), fop_json(fop))).collect();
    json!({
        "calls": calls,
        "errors": errors,
        "read_bytes": snapshot.read_bytes,
        "written_bytes": snapshot.written_bytes,
        "fops": fops,
    })
}

fn fop_json(fop: &FopSnapshot) -> Value {
    let errors: Map<String, Value> =
        fop.errors.iter().map(|(errno, count)| (errno.to_string(), json!(count))).collect();
    let mut value = json!({ "calls": fop.calls, "errors": errors });
    let timed = fop.durations.count();
    if timed > 0 {
        let percentile = |share| microseconds(fop.durations.percentile(share).unwrap_or_default());
        value["timed"] = json!(timed);
        value["total_us"] = json!(microseconds(fop.durations.sum_ns));
        value["p50_us"] = json!(percentile(0.5));
        value["p99_us"] = json!(percentile(0.99));
        value["max_us"] = json!(microseconds(fop.durations.max_ns));
    }
    value
}

fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1000.0
}
