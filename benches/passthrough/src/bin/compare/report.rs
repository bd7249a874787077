//! Figures become a table and a JSON document.

use std::fmt::Write;
use std::fs;

use serde_json::json;

/// What a row measures.
pub struct Row {
    /// Its name.
    pub title: String,
    /// The unit of its rates.
    pub unit: &'static str,
    /// What the first ratio has to reach here, where that differs from the other rows.
    pub floor: Option<f64>,
}

/// What was measured: per row and target one rate per round.
pub struct Report {
    rows: Vec<Row>,
    targets: Vec<String>,
    /// Which targets are divided by which; the first pair is the one that is judged.
    pairs: Vec<(usize, usize)>,
    /// `rates[row][target][round]`.
    rates: Vec<Vec<Vec<f64>>>,
}

impl Report {
    /// Nothing measured yet; `pairs` are places in `targets`.
    pub fn new(rows: Vec<Row>, targets: Vec<String>, pairs: Vec<(usize, usize)>) -> Self {
        let rates = vec![vec![Vec::new(); targets.len()]; rows.len()];
        Self { rows, targets, pairs, rates }
    }

    /// Adds the rates of one round of `target`, for the rows from `row` on.
    pub fn add(&mut self, row: usize, target: usize, rates: &[f64]) {
        for (offset, rate) in rates.iter().enumerate() {
            self.rates[row + offset][target].push(*rate);
        }
    }

    /// The table: medians, the ratio of each pair, and a mark where that of the first pair is below `require`.
    pub fn table(&self, require: f64) -> String {
        let mut text = format!("{:<32} {:>6}", "", "");
        for name in &self.targets {
            let _ = write!(text, " {name:>12}");
        }
        let names: Vec<String> = self.pairs.iter().map(|&pair| self.pair_name(pair)).collect();
        for name in &names {
            let _ = write!(text, "  {name}");
        }
        text.push('\n');
        for (row, Row { title, unit, floor }) in self.rows.iter().enumerate() {
            let floor = floor.unwrap_or(require);
            let _ = write!(text, "{title:<32} {unit:>6}");
            for rates in &self.rates[row] {
                let _ = write!(text, " {:>12.0}", median(rates.clone()));
            }
            for (&pair, name) in self.pairs.iter().zip(&names) {
                let _ = write!(text, "  {:>width$.2}", self.ratio(row, pair), width = name.len());
            }
            if self.judged(row).is_some_and(|ratio| ratio < floor) {
                let _ = write!(text, "  below {floor:.2}");
            }
            text.push('\n');
        }
        text
    }

    /// Whether the first pair reaches what its rows ask for: `require` where a row has no target of its own.
    pub fn meets(&self, require: f64) -> bool {
        let floors = self.rows.iter().map(|row| row.floor.unwrap_or(require)).enumerate();
        floors.filter_map(|(row, floor)| Some((self.judged(row)?, floor))).all(|(ratio, floor)| ratio >= floor)
    }

    /// Everything, with what is needed to judge it: kernel, processors, load.
    pub fn json(&self, quick: bool, rounds: usize) -> String {
        let rows: Vec<_> = self
            .rows
            .iter()
            .enumerate()
            .map(|(row, Row { title, unit, .. })| self.row_json(row, title, unit))
            .collect();
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
        let ratios: serde_json::Map<_, _> =
            self.pairs.iter().map(|&pair| (self.pair_name(pair), json!(self.ratio(row, pair)))).collect();
        json!({ "row": title, "unit": unit, "ratios": ratios, "rates": per_target })
    }

    fn pair_name(&self, (left, right): (usize, usize)) -> String {
        format!("{}/{}", self.targets[left], self.targets[right])
    }

    /// The ratio of the first pair, if there is one.
    fn judged(&self, row: usize) -> Option<f64> {
        self.pairs.first().map(|&pair| self.ratio(row, pair))
    }

    /// The median over the rounds of one target to another.
    fn ratio(&self, row: usize, (left, right): (usize, usize)) -> f64 {
        let (first, second) = (&self.rates[row][left], &self.rates[row][right]);
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

    fn rows(floor: Option<f64>) -> Vec<Row> {
        vec![Row { title: "row".to_owned(), unit: "ops/s", floor }]
    }

    #[test]
    fn the_ratio_is_the_median_of_the_rounds_not_of_the_rates() {
        let targets = vec!["a".to_owned(), "b".to_owned()];
        let mut report = Report::new(rows(None), targets, vec![(0, 1)]);
        for (first, second) in [(10.0, 10.0), (1.0, 2.0), (300.0, 100.0)] {
            report.add(0, 0, &[first]);
            report.add(0, 1, &[second]);
        }
        assert!(report.meets(1.0) && !report.meets(1.01));
        assert!(report.table(1.5).contains("below 1.50"));
        assert!(!report.table(0.8).contains("below"));
    }

    #[test]
    fn a_row_with_a_target_of_its_own_is_judged_by_that() {
        let targets = vec!["a".to_owned(), "b".to_owned()];
        let mut report = Report::new(rows(Some(3.0)), targets, vec![(0, 1)]);
        for (target, rate) in [(0, 2.0), (1, 1.0)] {
            report.add(0, target, &[rate]);
        }
        assert!(!report.meets(0.0));
        assert!(report.table(0.0).contains("below 3.00"));
    }

    #[test]
    fn only_the_first_pair_is_judged() {
        let targets = ["a", "b", "c"].map(str::to_owned).to_vec();
        let mut report = Report::new(rows(None), targets, vec![(0, 2), (0, 1)]);
        for (target, rate) in [(0, 4.0), (1, 8.0), (2, 2.0)] {
            report.add(0, target, &[rate]);
        }
        assert!(report.meets(2.0) && !report.meets(2.01));
        assert!(!report.table(2.0).contains("below"));
        assert!(report.table(0.0).contains("a/c  a/b"));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.5);
        assert!(median(Vec::new()).is_nan());
    }
}
