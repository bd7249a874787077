#![doc = include_str!("../README.md")]

mod subject;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use brickwork_api::options::{OptionError, OptionMap, options};
use brickwork_api::{
    Arity, BoxFuture, Cx, Each, FopResult, FopSet, FopType, Route, Setup, SetupError, Xlator, XlatorType, each_fop,
};
use tracing::Level;

/// What a volfile knows it by.
pub const TYPE: XlatorType = XlatorType {
    name: "debug/trace",
    about: "logs every fop",
    options: TraceOptions::SPECS,
    subvolumes: Arity::One,
    prepare,
};

/// The target of every line.
pub const TARGET: &str = "brickwork::trace";

options! {
    /// Options of `debug/trace`.
    pub struct TraceOptions {
        /// The fops that are logged; all when none are named.
        include_ops: Option<FopSet> = "include-ops" [live()],
        /// Fops that are not logged, also when they are included.
        exclude_ops: Option<FopSet> = "exclude-ops" [live()],
    }
}

impl TraceOptions {
    /// The fops that are logged.
    #[must_use]
    pub fn logged(&self) -> FopSet {
        self.include_ops.unwrap_or(FopSet::ALL).without(self.exclude_ops.unwrap_or_default())
    }
}

/// Logs what passes.
#[derive(Debug)]
pub struct Trace {
    name: Arc<str>,
    child: Arc<dyn Xlator>,
    /// A [`FopSet`].
    logged: AtomicU64,
}

fn prepare(mut setup: Setup) -> Result<Arc<dyn Xlator>, SetupError> {
    let logged = TraceOptions::parse(&setup.options)?.logged();
    let child = setup.only_child();
    Ok(Arc::new(Trace { name: setup.name, child, logged: AtomicU64::new(logged.bits()) }))
}

impl Trace {
    fn logs<F: FopType>(&self) -> bool {
        let logged = FopSet::from_bits(self.logged.load(Ordering::Relaxed));
        logged.contains(F::KIND) && tracing::enabled!(target: TARGET, Level::DEBUG)
    }

    fn log<F: FopType>(&self, cx: &Cx, request: &F::Request, result: &FopResult<F::Reply>, begin: Instant) {
        let subject = subject::subject::<F>(request);
        tracing::debug!(
            target: TARGET,
            xlator = &*self.name,
            fop = F::KIND.name(),
            client = %cx.client(),
            request = format_args!("{}.{}", cx.request.slot, cx.request.sequence),
            uid = cx.credentials.uid,
            pid = cx.credentials.pid,
            gfid = subject.gfid.map(tracing::field::display),
            name = subject.name.as_ref().map(tracing::field::debug),
            args = subject.args,
            result = %Outcome(result),
            elapsed_us = begin.elapsed().as_nanos() as f64 / 1000.0,
            "fop",
        );
    }
}

/// `ok`, or the error with its detail.
struct Outcome<'a, T>(&'a FopResult<T>);

impl<T> fmt::Display for Outcome<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Ok(_) => f.write_str("ok"),
            Err(error) => error.fmt(f),
        }
    }
}

impl Xlator for Trace {
    fn route(&self) -> Route<'_> {
        Route::Through(&*self.child)
    }

    fn reconfigure(&self, options: &OptionMap) -> Result<(), Vec<OptionError>> {
        let logged = TraceOptions::parse(options)?.logged();
        self.logged.store(logged.bits(), Ordering::Relaxed);
        Ok(())
    }

    each_fop!();
}

impl Each for Trace {
    fn each<'a, F: FopType>(&'a self, cx: &'a Cx, request: &'a F::Request) -> BoxFuture<'a, FopResult<F::Reply>> {
        if !self.logs::<F>() {
            return F::call(&*self.child, cx, request);
        }
        Box::pin(async move {
            let begin = Instant::now();
            let result = F::call(&*self.child, cx, request).await;
            self.log::<F>(cx, request, &result, begin);
            result
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::{Errno, Fop, FopError, FopKind, Upward};
    use brickwork_testkit::{Answer, MockChild, TestHost, block_on, conformance, samples};
    use std::io::{self, Write};
    use std::sync::Mutex;
    use tracing_subscriber::fmt::MakeWriter;

    fn make(child: Arc<dyn Xlator>, options: &[(&str, &str)]) -> Arc<dyn Xlator> {
        let setup = Setup {
            name: "trace-1".into(),
            options: options.iter().copied().collect(),
            children: vec![child],
            subvolumes: Vec::new(),
            up: Upward::new(|_| {}),
            host: TestHost::new(),
        };
        (TYPE.prepare)(setup).unwrap()
    }

    /// What was logged on this thread.
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Lines {
        type Writer = Lines;

        fn make_writer(&'a self) -> Lines {
            self.clone()
        }
    }

    /// Runs `work` with the target enabled and returns its lines.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let lines = Lines::default();
        let subscriber = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::new("off,brickwork::trace=debug"))
            .with_ansi(false)
            .without_time()
            .with_writer(lines.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, work);
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn call(xlator: &Arc<dyn Xlator>, kind: FopKind) {
        // Whether it succeeded is in the line.
        let _ = block_on(samples::request(kind).call(&**xlator, &samples::caller()));
    }

    #[test]
    fn every_fop_passes_through_logged_or_not() {
        conformance::passes_through(|child| make(child, &[]), &[]);
        logged(|| conformance::passes_through(|child| make(child, &[]), &[]));
    }

    #[test]
    fn a_cancelled_wait_below_answers_eintr_and_is_logged_as_that() {
        let lines = logged(|| conformance::hands_on_cancelled_waits(|child| make(child, &[])));
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.contains("result=EINTR")), "{lines:#?}");
    }

    #[test]
    fn a_line_tells_who_what_and_what_came_of_it() {
        let lines = logged(|| call(&make(MockChild::new(), &[]), FopKind::Create));
        let [line] = &lines[..] else { panic!("one fop, one line: {lines:#?}") };
        let words = [
            "DEBUG brickwork::trace: fop xlator=\"trace-1\" fop=\"create\"",
            "client=00000000000000000000000000000051 request=3.9 uid=1001 pid=4242",
            "gfid=d1d1d1d1-d1d1-d1d1-d1d1-d1d1d1d1d1d1 name=\"created\"",
            "new=c1c1c1c1-c1c1-c1c1-c1c1-c1c1c1c1c1c1 open=13 flags=0o2 mode=0o640 umask=0o27",
            "result=ok elapsed_us=",
        ];
        assert!(words.iter().all(|words| line.contains(words)), "{line}");
    }

    #[test]
    fn an_error_is_logged_with_its_detail() {
        let mock = MockChild::new();
        let error = FopError::new(Errno::ENOSPC).doing("extending the file").with("offset", 7);
        mock.script(FopKind::Write, Answer::Now(Err(error)));
        let lines = logged(|| call(&make(mock, &[]), FopKind::Write));
        assert!(lines[0].contains("result=extending the file: ENOSPC (offset 7)"), "{}", lines[0]);
    }

    #[test]
    fn no_payload_is_in_any_line() {
        let xlator = make(MockChild::new(), &[]);
        let lines = logged(|| FopKind::ALL.iter().for_each(|kind| call(&xlator, *kind)));
        assert_eq!(lines.len(), FopKind::ALL.len());
        // What the samples carry: content, xattr value, link target, state, ipc argument and answer, read bytes, xdata.
        for secret in ["payload", "value", "elsewhere", "\"state\"", "argument", "answer", "bytes", "testkit-mark"] {
            let found: Vec<&String> = lines.iter().filter(|line| line.contains(secret)).collect();
            assert!(found.is_empty(), "`{secret}` is in {found:#?}");
        }
    }

    #[test]
    fn only_chosen_fops_are_logged_and_a_reload_chooses_anew() {
        let xlator = make(MockChild::new(), &[("include-ops", "STAT,write"), ("exclude-ops", "write")]);
        let fops = || {
            let lines = logged(|| FopKind::ALL.iter().for_each(|kind| call(&xlator, *kind)));
            let name = |line: &String| line.split_once("fop=\"").unwrap().1.split('"').next().unwrap().to_owned();
            lines.iter().map(name).collect::<Vec<String>>()
        };
        assert_eq!(fops(), ["stat"]);
        xlator.reconfigure(&OptionMap::from_iter([("include-ops", "mkdir,rmdir")])).unwrap();
        assert_eq!(fops(), ["mkdir", "rmdir"]);
        let refused = xlator.reconfigure(&OptionMap::from_iter([("exclude-ops", "mkdri")])).unwrap_err();
        assert_eq!(refused[0].to_string(), "option `exclude-ops`: `mkdri` names no fop with `mkdri`");
        assert_eq!(fops(), ["mkdir", "rmdir"]);
    }

    #[test]
    fn every_fop_has_a_line_about_its_object() {
        for kind in FopKind::ALL.iter().copied() {
            let text = subject_of(&samples::request(kind));
            assert!(text.gfid.is_some() || !text.args.is_empty(), "{} tells nothing", kind.name());
        }
    }

    fn subject_of(fop: &Fop) -> subject::Subject {
        macro_rules! tell {
            ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
                match fop {
                    $(Fop::$kind(request) => subject::subject::<brickwork_api::fop::$kind>(request),)*
                }
            };
        }
        brickwork_api::for_each_fop!(tell)
    }
}
