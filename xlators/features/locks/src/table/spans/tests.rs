use std::collections::BTreeMap;

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Plain {
    range: ByteRange,
    number: u64,
    exclusive: bool,
}

impl Span for Plain {
    fn range(&self) -> ByteRange {
        self.range
    }

    fn number(&self) -> u64 {
        self.number
    }

    fn exclusive(&self) -> bool {
        self.exclusive
    }
}

fn plain(start: u64, len: u64, number: u64, exclusive: bool) -> Plain {
    Plain { range: ByteRange::new(start, start + len).expect("not empty"), number, exclusive }
}

/// Panics if what the module promises of nodes does not hold; returns the height.
fn check(node: &Node<Plain>) -> usize {
    assert!(node.len() <= CAP);
    match node {
        Node::Leaf(_) => 1,
        Node::Inner(children) => {
            let heights: Vec<usize> = children.iter().map(|child| check(&child.node)).collect();
            assert!(heights.iter().all(|height| *height == heights[0]));
            for child in children {
                let (noted, is) = (child.summary, child.node.summary());
                assert_eq!(format!("{noted:?}"), format!("{is:?}"));
            }
            heights[0] + 1
        }
    }
}

fn compare(spans: &Spans<Plain>, model: &BTreeMap<Key, Plain>, wanted: &Wanted) {
    let expected: Vec<Plain> = model.values().filter(|plain| wanted.is(*plain)).copied().collect();
    let mut seen = Vec::new();
    _ = spans.visit(wanted, &mut |plain| {
        seen.push(*plain);
        ControlFlow::Continue(())
    });
    assert_eq!(seen, expected);
    let odd = |plain: &Plain| plain.number % 2 == 1;
    let last = expected.iter().rev().find(|plain| odd(plain));
    assert_eq!(spans.last(wanted, &mut |plain| odd(plain)), last);
}

/// Grows to four levels and shrinks to nothing, several times.
#[test]
fn spans_find_what_a_search_of_all_finds() {
    let mut seed = 7_u64;
    let mut random = move |limit: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    let (mut spans, mut model, mut tallest) = (Spans::default(), BTreeMap::new(), 0);
    for step in 0..60_000_u64 {
        let growing = step / 10_000 % 2 == 0;
        if random(10) < if growing { 9 } else { 1 } {
            let len = if random(50) == 0 { 5_000 } else { 1 + random(9) };
            let plain = plain(random(10_000), len, step, random(3) == 0);
            spans.insert(plain);
            model.insert(plain.key(), plain);
        } else if let Some(key) = model.range((random(10_000), 0)..).next().or(model.iter().next()).map(|(key, _)| *key)
        {
            assert_eq!(spans.get(key), model.get(&key));
            assert_eq!(spans.remove(key), model.remove(&key));
            assert_eq!(spans.remove(key), None);
        }
        if step % 64 == 0 {
            let range = ByteRange::new(random(10_000), 10_000 + random(100)).expect("not empty");
            let short = ByteRange::new(range.start(), range.start() + 1 + random(20)).expect("not empty");
            for (range, before) in [(range, u64::MAX), (short, u64::MAX), (short, random(step + 1)), (range, step / 9)]
            {
                compare(&spans, &model, &Wanted { range, exclusive: random(2) == 0, before });
            }
        }
        if step % 1_000 == 0 {
            tallest = tallest.max(check(&spans.root));
            assert_eq!(spans.len(), model.len());
            assert!(spans.iter().eq(model.values()));
        }
    }
    assert!(tallest >= 4, "the trees were of {tallest} levels only");
    model.keys().for_each(|key| assert!(spans.remove(*key).is_some()));
    assert!(spans.len() == 0 && spans.iter().next().is_none());
}

fn leaves<S>(node: &Node<S>) -> usize {
    match node {
        Node::Leaf(_) => 1,
        Node::Inner(children) => children.iter().map(|child| leaves(&child.node)).sum(),
    }
}

#[test]
fn ascending_entries_leave_full_nodes_and_thinned_ones_half_full_ones() {
    const MANY: u64 = 10_000;
    let mut spans = Spans::default();
    (0..MANY).for_each(|at| spans.insert(plain(at * 2, 1, at, true)));
    assert!(leaves(&spans.root) <= MANY as usize / CAP + 1);
    (0..MANY).filter(|at| at % 10 != 0).for_each(|at| assert!(spans.remove((at * 2, at)).is_some()));
    assert!(leaves(&spans.root) <= MANY as usize / 10 / (CAP * 2 / 5), "{} leaves", leaves(&spans.root));
    check(&spans.root);
}
