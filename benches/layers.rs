//! What a layer costs: nanoseconds of one `stat` on a file system in memory, through stacks of different layers.
//!
//! `cargo bench --bench layers` takes about three seconds. The stacks take turns, so that a busy moment of the machine
//! falls on all of them; each number is the median of the rounds.
//!
//! - *inherited*: a layer that leaves the fop to its child's own future (`debug/null`);
//! - *active*: a layer with one body around every fop, which boxes a future of its own (`Each`).

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Poll;
use std::time::Instant;

use brickwork_api::options::OptionMap;
use brickwork_api::{
    BoxFuture, Cx, Each, FopResult, FopType, Gfid, Route, Setup, StatReq, Upward, Xdata, Xlator, XlatorType, each_fop,
};
use brickwork_testkit::{MemoryLeaf, TestHost, cx, poll_once};

const CALLS_PER_ROUND: u32 = 10_000;
const ROUNDS: usize = 41;
const LAYERS: u32 = 10;

/// The least an active layer does: it counts replies.
struct Active {
    child: Arc<dyn Xlator>,
    replies: AtomicU64,
}

impl Xlator for Active {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    each_fop!();
}

impl Each for Active {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        Box::pin(async move {
            let result = F::call(&*self.child, cx, request).await;
            self.replies.fetch_add(1, Ordering::Relaxed);
            result
        })
    }
}

type Stack = Arc<dyn Xlator>;

fn active(child: Stack) -> Stack {
    Arc::new(Active { child, replies: AtomicU64::new(0) })
}

fn layer(kind: &XlatorType, options: &[(&str, &str)], child: Stack) -> Stack {
    let setup = Setup {
        name: kind.name.into(),
        options: options.iter().copied().collect::<OptionMap>(),
        children: vec![child],
        subvolumes: Vec::new(),
        up: Upward::new(|_| {}),
        host: TestHost::new(),
    };
    (kind.prepare)(setup).expect("options of this file")
}

fn repeated(make: impl Fn(Stack) -> Stack) -> Stack {
    (0..LAYERS).fold(leaf(), |child, _| make(child))
}

fn leaf() -> Stack {
    Arc::new(MemoryLeaf::new())
}

/// Nanoseconds of one call, on average over a round.
fn round(stack: &Stack, cx: &Cx, request: &StatReq) -> f64 {
    let begin = Instant::now();
    for _ in 0..CALLS_PER_ROUND {
        let mut stat = stack.stat(cx, black_box(request));
        match poll_once(stat.as_mut()) {
            Poll::Ready(reply) => _ = black_box(reply),
            Poll::Pending => unreachable!("nothing here waits"),
        }
    }
    begin.elapsed().as_nanos() as f64 / f64::from(CALLS_PER_ROUND)
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

/// The middle of many pairs of looks at the clock, in nanoseconds.
fn two_looks_at_the_clock() -> f64 {
    let one = |_| {
        let begin = Instant::now();
        for _ in 0..CALLS_PER_ROUND {
            black_box(black_box(Instant::now()).elapsed());
        }
        begin.elapsed().as_nanos() as f64 / f64::from(CALLS_PER_ROUND)
    };
    median((0..ROUNDS).map(one).collect())
}

fn main() {
    let io_stats = |options: &[(&str, &str)]| layer(&brickwork_io_stats::TYPE, options, leaf());
    let off = [("latency-measurement", "off"), ("count-fop-hits", "off")];
    let no_error = [("failure", "0")];
    let stacks: [(&str, u32, Stack); 8] = [
        ("leaf alone", 1, leaf()),
        ("+ 10 inherited", LAYERS, repeated(|child| layer(&brickwork_null::TYPE, &[], child))),
        ("+ 10 active", LAYERS, repeated(active)),
        ("+ io-stats", 1, io_stats(&[])),
        ("+ io-stats, counts only", 1, io_stats(&off[..1])),
        ("+ io-stats, off", 1, io_stats(&off)),
        ("+ trace, nobody listens", 1, layer(&brickwork_trace::TYPE, &[], leaf())),
        ("+ error-gen, 0 %", 1, layer(&brickwork_error_gen::TYPE, &no_error, leaf())),
    ];
    let (cx, request) = (cx(), StatReq { target: Gfid::ROOT.into(), xdata: Xdata::EMPTY });
    let mut rounds = vec![Vec::with_capacity(ROUNDS); stacks.len()];
    for number in 0..=ROUNDS {
        for ((_, _, stack), rounds) in stacks.iter().zip(&mut rounds) {
            let ns = round(stack, &cx, &request);
            // The first round is for caches and lazily made counters.
            if number > 0 {
                rounds.push(ns);
            }
        }
    }
    let medians: Vec<f64> = rounds.into_iter().map(median).collect();
    println!("{:<26} {:>8} {:>14}", "stat through", "ns/fop", "ns per layer");
    for ((name, layers, _), ns) in stacks.iter().zip(&medians) {
        println!("{name:<26} {ns:>8.1} {:>14.1}", (ns - medians[0]) / f64::from(*layers));
    }
    println!("{:<26} {:>8.1}", "two looks at the clock", two_looks_at_the_clock());
}
