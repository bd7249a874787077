//! What the server logs, as lines.

use std::cell::RefCell;
use std::fmt::Write;
use std::sync::Once;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    /// What the test of this thread has seen.
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Everything that is logged on this thread from here on.
pub struct Logs(());

/// Begins to listen to all threads. One listener for all tests, before any of them logs: whether a line is listened to is
/// decided when it is logged first.
pub fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| tracing::subscriber::set_global_default(Collector).expect("nobody else listens"));
}

impl Logs {
    pub fn begin() -> Logs {
        install();
        LINES.with_borrow_mut(Vec::clear);
        Logs(())
    }

    /// Whether a line has all of `words` in it.
    pub fn tell(&self, words: &[&str]) -> bool {
        let has_all = |line: &String| words.iter().all(|word| line.contains(word));
        LINES.with_borrow(|lines| lines.iter().any(has_all))
    }

    /// Fails unless a line has all of `words` in it.
    #[track_caller]
    pub fn must_tell(&self, words: &[&str]) {
        assert!(self.tell(words), "no line with {words:?} in {:#?}", LINES.take());
    }
}

struct Collector;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Collector {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("brickwork") && *metadata.level() <= tracing::Level::INFO
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        LINES.with_borrow_mut(|lines| lines.push(line.0));
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
