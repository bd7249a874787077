//! Figures become a table and a JSON document.

use std::fmt::Write;
use std::fs;

use serde_json::json;

/// What was measured: per row and target one rate per round.
pub struct Report {
    rows: Vec<(String, &'static str)>,
    targets: Vec<String>,
    /// `rates[row][target][round]`.
    rates: Vec<Vec<Vec<f64>>>,
}

impl Report {
    /// Nothing measured yet.
    pub fn new(rows: Vec<(String, &'static str)>, targets: Vec<String>) -> Self {
        let rates = vec![vec![Vec::new(); targets.len()]; rows.len()];
        Self { rows, targets, rates }
    }

    /// Adds the rates of one round of `target`, for the rows from `row` on.
    pub fn add(&mut self, row: usize, target: usize, rates: &[f64]) {
        for (offset, rate) in rates.iter().enumerate() {
            self.rates[row + offset][target].push(*rate);
        }
    }

    /// The table: medians, each target's ratio to the next, and a mark where the first ratio is below `require`.
    pub fn table(&self, require: f64) -> String {
        let mut text = format!("{:<32} {:>6}", "", "");
        for name in &self.targets {
            let _ = write!(text, " {name:>12}");
        }
        for pair in self.targets.windows(2) {
            let _ = write!(text, "  {}/{}", pair[0], pair[1]);
        }
        text.push('\n');
        for (row, (title, unit)) in self.rows.iter().enumerate() {
            let _ = write!(text, "{title:<32} {unit:>6}");
            for rates in &self.rates[row] {
                let _ = write!(text, " {:>12.0}", median(rates.clone()));
            }
            for (left, pair) in self.targets.windows(2).enumerate() {
                let width = pair[0].len() + pair[1].len() + 1;
                let _ = write!(text, "  {:>width$.2}", self.ratio(row, left));
            }
            if self.targets.len() > 1 && self.ratio(row, 0) < require {
                let _ = write!(text, "  below {require:.2}");
            }
            text.push('\n');
        }
        text
    }

    /// The lowest ratio of the first target to the second; infinite with one target.
    pub fn lowest_ratio(&self) -> f64 {
        match self.targets.len() {
            0 | 1 => f64::INFINITY,
            _ => (0..self.rows.len()).map(|row| self.ratio(row, 0)).fold(f64::INFINITY, f64::min),
        }
    }

    /// Everything, with what is needed to judge it: kernel, processors, load.
    pub fn json(&self, quick: bool, rounds: usize) -> String {
        let rows: Vec<_> =
            self.rows.iter().enumerate().map(|(row, (title, unit))| self.row_json(row, title, unit)).collect();
        let document = json!({
            "kernel": read("/proc/sys/kernel/osrelease"),
            "processors": std::thread::available_parallelism().map_or(0, usize::from),
            "load": read("/proc/loadavg"),
            "quick": quick,
            "rounds": rounds,
            "rows": rows,
        });
        format!("{document:#}\n")
    }

    fn row_json(&self, row: usize, title: &str, unit: &str) -> serde_json::Value {
        let per_target: serde_json::Map<_, _> =
            self.targets.iter().zip(&self.rates[row]).map(|(name, rates)| (name.clone(), json!(rates))).collect();
        let ratio = (self.targets.len() > 1).then(|| self.ratio(row, 0));
        json!({ "row": title, "unit": unit, "ratio": ratio, "rates": per_target })
    }

    /// The median over the rounds of target `left` to the one after it.
    fn ratio(&self, row: usize, left: usize) -> f64 {
        let (first, second) = (&self.rates[row][left], &self.rates[row][left + 1]);
        median(first.iter().zip(second).map(|(first, second)| first / second).collect())
    }
}

/// The middle value, or the mean of the two middle ones; NaN of nothing.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|error| error.to_string(), |text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_not_of_the_rates() {
        let mut report = Report::new(vec![("row".to_owned(), "ops/s")], vec!["a".to_owned(), "b".to_owned()]);
        for (first, second) in [(10.0, 10.0), (1.0, 2.0), (300.0, 100.0)] {
            report.add(0, 0, &[first]);
            report.add(0, 1, &[second]);
        }
        assert_eq!(report.lowest_ratio(), 1.0);
        assert!(report.table(1.5).contains("below 1.50"));
        assert!(!report.table(0.8).contains("below"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
