//! What holds for every filter, whatever it is for.

use std::pin::pin;
use std::sync::Arc;

use brickwork_api::xdata::Key;
use brickwork_api::*;

use crate::executor::{block_on, poll_once};
use crate::host::cx;
use crate::mock::{Answer, MockChild};
use crate::{NeverGrants, samples};

const ERROR_MARK: Key<u64> = Key::new("testkit-error-mark");

/// Walks all fops through `make(child)`: each reaches the child exactly once, unchanged and for the same caller, and
/// the child's reply or error comes back unchanged - or it stands in `refusals`, does not reach the child, and fails.
///
/// A future that is dropped before its first poll must have done nothing.
///
/// # Panics
/// Naming the fop, when it is otherwise.
pub fn passes_through(make: impl Fn(Arc<dyn Xlator>) -> Arc<dyn Xlator>, refusals: &[FopKind]) {
    for kind in FopKind::ALL.iter().copied() {
        let mock = MockChild::new();
        let xlator = make(mock.clone());
        let request = samples::request(kind);
        let name = kind.name();

        make_and_drop(&request, &*xlator, &cx());
        assert!(mock.calls().is_empty(), "`{name}` reached the child before its future was polled");

        if refusals.contains(&kind) {
            let refused = block_on(request.call(&*xlator, &cx()));
            assert!(refused.is_err(), "`{name}` is in the list of refusals and answered {refused:?}");
            assert!(mock.calls().is_empty(), "`{name}` is in the list of refusals and reached the child");
        } else {
            reply_comes_back(&mock, &*xlator, &request);
            error_comes_back(&mock, &*xlator, &request);
        }
    }
}

fn reply_comes_back(mock: &MockChild, xlator: &dyn Xlator, request: &Fop) {
    let (kind, name) = (request.kind(), request.kind().name());
    let cx = samples::caller();
    let reply = block_on(request.call(xlator, &cx));
    assert_eq!(reply, Ok(samples::reply(kind)), "the reply to `{name}` was changed");
    let calls = mock.calls();
    assert_eq!(calls.len(), 1, "`{name}` reached the child {} times", calls.len());
    assert_eq!(&calls[0].fop, request, "`{name}` was changed on its way to the child");
    let seen = &calls[0].cx;
    assert_eq!(seen.request, cx.request, "`{name}` reached the child under another request id");
    assert_eq!(seen.lk_owner, cx.lk_owner, "`{name}` reached the child with another lock owner");
    assert_eq!(seen.credentials, cx.credentials, "`{name}` reached the child for another user");
    assert_eq!(seen.deadline, cx.deadline, "`{name}` reached the child with another deadline");
}

fn error_comes_back(mock: &MockChild, xlator: &dyn Xlator, request: &Fop) {
    let (kind, name) = (request.kind(), request.kind().name());
    let error = FopError::new(Errno::EREMOTE).with_xdata(Xdata::EMPTY.with(&ERROR_MARK, 44));
    mock.clear();
    mock.script(kind, Answer::Now(Err(error.clone())));
    let answer = block_on(request.call(xlator, &samples::caller()));
    let back = answer.expect_err("the child failed");
    assert_eq!((back.errno(), back.xdata()), (error.errno(), error.xdata()), "the error of `{name}` was changed");
    assert_eq!(mock.calls().len(), 1, "`{name}` was tried {} times after an error", mock.calls().len());
}

/// A wait below `make(child)` that is cancelled answers `EINTR` through it, and none before.
///
/// # Panics
/// Naming the fop, when it is otherwise.
pub fn hands_on_cancelled_waits(make: impl Fn(Arc<dyn Xlator>) -> Arc<dyn Xlator>) {
    for kind in [FopKind::Lk, FopKind::Inodelk, FopKind::Entrylk] {
        let xlator = make(Arc::new(NeverGrants::over(MockChild::new())));
        let mut cx = samples::caller();
        cx.cancel = Cancel::new();
        let request = samples::request(kind);
        let mut wait = pin!(request.call(&*xlator, &cx));
        assert!(poll_once(wait.as_mut()).is_pending(), "`{}` did not wait", kind.name());
        assert!(poll_once(wait.as_mut()).is_pending(), "`{}` ended without being cancelled", kind.name());
        cx.cancel.cancel();
        let answer = block_on(wait).map_err(|error| error.errno());
        assert_eq!(answer, Err(Errno::EINTR), "the cancelled `{}`", kind.name());
    }
}

/// Makes the future of `request` and drops it without polling it.
fn make_and_drop(request: &Fop, xlator: &dyn Xlator, cx: &Cx) {
    macro_rules! make_each {
        ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
            match request {
                $(Fop::$kind(request) => drop(xlator.$name(cx, request)),)*
            }
        };
    }
    for_each_fop!(make_each);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Changes(Arc<dyn Xlator>);

    #[async_trait]
    impl Xlator for Changes {
        fn route(&self) -> Route<'_> {
            Route::Through(&*self.0)
        }

        async fn read(&self, cx: &Cx, req: &ReadReq) -> FopResult<ReadReply> {
            self.0.read(cx, &ReadReq { offset: req.offset + 1, ..req.clone() }).await
        }
    }

    struct ReadOnly(Arc<dyn Xlator>);

    #[async_trait]
    impl Xlator for ReadOnly {
        fn route(&self) -> Route<'_> {
            Route::Through(&*self.0)
        }

        async fn write(&self, _cx: &Cx, _req: &WriteReq) -> FopResult<WriteReply> {
            Err(Errno::EROFS.into())
        }
    }

    #[test]
    #[should_panic(expected = "`read` was changed on its way to the child")]
    fn a_filter_that_changes_a_request_is_found() {
        passes_through(|child| Arc::new(Changes(child)), &[]);
    }

    #[test]
    fn a_refusal_that_is_in_the_list_is_in_order() {
        passes_through(|child| Arc::new(ReadOnly(child)), &[FopKind::Write]);
    }

    #[test]
    #[should_panic(expected = "the reply to `write` was changed")]
    fn a_refusal_that_is_not_in_the_list_is_found() {
        passes_through(|child| Arc::new(ReadOnly(child)), &[]);
    }

    #[test]
    fn a_child_by_itself_hands_on_cancelled_waits() {
        hands_on_cancelled_waits(|child| child);
    }
}
