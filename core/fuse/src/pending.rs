//! From the one poll on the reader to the runtime.
//!
//! The reader polls a request's future once. If it is pending it stays where it is: nothing is handed on until somebody
//! wakes it, and then the runtime takes it over on the waker's own worker, whose next task it becomes. So a request that
//! goes to the network costs no hand-off beside that of its answer.

use std::any::Any;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use parking_lot::Mutex;
use tokio::runtime::Handle;

/// A request that may not be done yet.
pub type Pending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Where a future is between its first poll and the runtime; `P` is what it keeps until its end.
enum State<P> {
    /// With the reader, not woken yet.
    Polling,
    /// With the reader, which is to hand it on at once.
    Woken,
    /// Waiting to be woken.
    Waiting(Pending, P),
    /// Done, or the runtime's; later wakes come from wakers it has replaced.
    Gone,
}

struct FirstPoll<P> {
    runtime: Handle,
    state: Mutex<State<P>>,
}

impl<P: Send + 'static> Wake for FirstPoll<P> {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Gone) {
            State::Polling | State::Woken => *state = State::Woken,
            State::Waiting(future, parked) => {
                drop(state);
                spawn(&self.runtime, future, parked);
            }
            State::Gone => {}
        }
    }
}

fn spawn(runtime: &Handle, future: Pending, parked: impl Send + 'static) {
    runtime.spawn(async move {
        future.await;
        drop(parked);
    });
}

/// Polls `future` once; if it is pending, `park`s it and leaves it to whoever wakes it. What `park` returns is dropped
/// when the future has ended.
///
/// Returns the panic of the future, if it panicked; its reply was then dropped, which answered `EIO`.
pub(crate) fn poll_once<P: Send + 'static>(
    mut future: Pending,
    runtime: &Handle,
    park: impl FnOnce() -> P,
) -> Result<(), Box<dyn Any + Send>> {
    let first = Arc::new(FirstPoll { runtime: runtime.clone(), state: Mutex::new(State::Polling) });
    let waker = Waker::from(first.clone());
    let poll = || future.as_mut().poll(&mut Context::from_waker(&waker));
    match catch_unwind(AssertUnwindSafe(poll))? {
        Poll::Ready(()) => {
            *first.state.lock() = State::Gone;
        }
        Poll::Pending => {
            // Interrupting, which parking may do, can wake the future: not under the lock of the state.
            let parked = park();
            let mut state = first.state.lock();
            match *state {
                State::Woken => {
                    *state = State::Gone;
                    drop(state);
                    spawn(runtime, future, parked);
                }
                _ => *state = State::Waiting(future, parked),
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interrupt::Interrupts;
    use std::sync::mpsc;

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap()
    }

    /// Pending until its gate opens; sends the name of the thread that finished it.
    fn gated(gate: Arc<Mutex<(bool, Option<Waker>)>>, done: mpsc::Sender<Option<String>>) -> Pending {
        Box::pin(async move {
            std::future::poll_fn(|cx| {
                let mut gate = gate.lock();
                gate.1 = Some(cx.waker().clone());
                if gate.0 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            done.send(std::thread::current().name().map(str::to_owned)).unwrap();
        })
    }

    #[test]
    fn a_future_that_is_ready_is_done_on_the_reader_and_never_parked() {
        let (send, receive) = mpsc::channel();
        let gate = Arc::new(Mutex::new((true, None)));
        let runtime = runtime();
        poll_once(gated(gate, send), runtime.handle(), || -> () { panic!("parked") }).unwrap();
        assert_eq!(receive.try_recv().unwrap().as_deref(), std::thread::current().name());
    }

    #[test]
    fn a_pending_future_is_finished_by_the_runtime_after_its_wake() {
        let (send, receive) = mpsc::channel();
        let gate = Arc::new(Mutex::new((false, None)));
        let (runtime, interrupts) = (runtime(), Interrupts::new(1));
        poll_once(gated(gate.clone(), send), runtime.handle(), || interrupts.park(0, 2, None)).unwrap();
        assert_eq!(interrupts.pending(), 1);
        assert!(receive.try_recv().is_err());
        let waker = {
            let mut gate = gate.lock();
            gate.0 = true;
            gate.1.take().unwrap()
        };
        waker.wake_by_ref();
        waker.wake();
        assert_ne!(receive.recv().unwrap().as_deref(), std::thread::current().name());
        drop(runtime);
        assert_eq!(interrupts.pending(), 0);
    }

    #[test]
    fn a_wake_during_the_first_poll_is_not_lost() {
        let (send, receive) = mpsc::channel();
        let (runtime, interrupts) = (runtime(), Interrupts::new(1));
        let mut polls = 0;
        let future = Box::pin(async move {
            std::future::poll_fn(|cx| {
                polls += 1;
                cx.waker().wake_by_ref();
                if polls == 2 { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            send.send(()).unwrap();
        });
        poll_once(future, runtime.handle(), || interrupts.park(0, 2, None)).unwrap();
        receive.recv().unwrap();
    }

    #[test]
    fn an_interrupt_while_parking_wakes_the_future() {
        let (send, receive) = mpsc::channel();
        let gate = Arc::new(Mutex::new((false, None::<Waker>)));
        let (runtime, interrupts) = (runtime(), Interrupts::new(1));
        interrupts.begin(0, 2);
        assert!(interrupts.interrupt(2));
        let opener = gate.clone();
        let open = move || {
            let mut gate = opener.lock();
            gate.0 = true;
            gate.1.take().unwrap().wake();
        };
        poll_once(gated(gate, send), runtime.handle(), || interrupts.park(0, 2, Some(Arc::new(open)))).unwrap();
        receive.recv().unwrap();
    }

    #[test]
    fn a_panicking_future_leaves_the_reader_alive() {
        let runtime = runtime();
        let future = Box::pin(async { panic!("told to") });
        assert!(poll_once(future, runtime.handle(), || -> () { panic!("parked") }).is_err());
    }
}
