//! A value for each byte of a file, of which most have none: disjoint spans, in order.
//!
//! Always true between calls: no span is empty, none overlap, and neighbours that touch differ in their value.

use std::collections::BTreeMap;

use crate::log::Span;

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Spans<T>(BTreeMap<u64, (u64, T)>);

impl<T> Default for Spans<T> {
    fn default() -> Spans<T> {
        Spans(BTreeMap::new())
    }
}

impl<T: Clone + PartialEq> Spans<T> {
    /// Whether no byte has a value.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The parts of `span` that have a value, in order.
    pub(crate) fn within(&self, span: Span) -> impl Iterator<Item = (Span, &T)> {
        let before = self.0.range(..=span.0).next_back();
        let first = before.filter(|(_, (end, _))| *end > span.0).map_or(span.0, |(start, _)| *start);
        self.0.range(first..span.1).map(|(&start, (end, value))| (Span(start, *end), value))
    }

    /// Gives each part of `span` the value that `change` makes of its present one.
    pub(crate) fn change(&mut self, span: Span, mut change: impl FnMut(Span, Option<T>) -> Option<T>) {
        self.cut(span.0);
        self.cut(span.1);
        let starts: Vec<u64> = self.0.range(span.0..span.1).map(|(&start, _)| start).collect();
        let mut at = span.0;
        for start in starts {
            if at < start {
                self.put(Span(at, start), change(Span(at, start), None));
            }
            let (end, value) = self.0.remove(&start).expect("it was listed");
            self.put(Span(start, end), change(Span(start, end), Some(value)));
            at = end;
        }
        if at < span.1 {
            self.put(Span(at, span.1), change(Span(at, span.1), None));
        }
        self.join(span.1);
    }

    /// Makes a boundary at `at`, if a span goes over it.
    fn cut(&mut self, at: u64) {
        let Some((_, (end, value))) = self.0.range_mut(..at).next_back().filter(|(_, (end, _))| *end > at) else {
            return;
        };
        let rest = (*end, value.clone());
        *end = at;
        self.0.insert(at, rest);
    }

    fn put(&mut self, span: Span, value: Option<T>) {
        if let Some(value) = value {
            self.0.insert(span.0, (span.1, value));
        }
        self.join(span.0);
    }

    /// Joins the spans that meet at `at`, if they are alike.
    fn join(&mut self, at: u64) {
        let Some((end, value)) = self.0.get(&at).cloned() else { return };
        let before = self.0.range_mut(..at).next_back();
        if let Some((_, (until, _))) = before.filter(|(_, (until, before))| *until == at && *before == value) {
            *until = end;
            self.0.remove(&at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(spans: &Spans<u8>) -> Vec<(Span, u8)> {
        spans.within(Span::ALL).map(|(span, value)| (span, *value)).collect()
    }

    #[test]
    fn a_change_in_the_middle_cuts_and_a_change_back_joins() {
        let mut spans = Spans::default();
        spans.change(Span(10, 50), |_, _| Some(1));
        spans.change(Span(20, 30), |part, value| {
            assert_eq!((part, value), (Span(20, 30), Some(1)));
            Some(2)
        });
        assert_eq!(all(&spans), [(Span(10, 20), 1), (Span(20, 30), 2), (Span(30, 50), 1)]);
        spans.change(Span(20, 30), |_, _| Some(1));
        assert_eq!(all(&spans), [(Span(10, 50), 1)]);
    }

    #[test]
    fn a_change_sees_gaps_and_parts_in_order() {
        let mut spans = Spans::default();
        spans.change(Span(10, 20), |_, _| Some(1));
        spans.change(Span(30, u64::MAX), |_, _| Some(2));
        let mut seen = Vec::new();
        spans.change(Span(5, 40), |part, value| {
            seen.push((part, value));
            None
        });
        let expected = [(Span(5, 10), None), (Span(10, 20), Some(1)), (Span(20, 30), None), (Span(30, 40), Some(2))];
        assert_eq!(seen, expected);
        assert_eq!(all(&spans), [(Span(40, u64::MAX), 2)]);
    }

    #[test]
    fn what_is_within_a_span_begins_with_the_one_that_reaches_into_it() {
        let mut spans = Spans::default();
        spans.change(Span(0, 10), |_, _| Some(1));
        spans.change(Span(10, 20), |_, _| Some(2));
        let within = |span| spans.within(span).map(|(_, value)| *value).collect::<Vec<_>>();
        assert_eq!(within(Span(9, 10)), [1]);
        assert_eq!(within(Span(9, 11)), [1, 2]);
        assert_eq!(within(Span(10, 11)), [2]);
        assert!(within(Span(20, 21)).is_empty());
    }
}
