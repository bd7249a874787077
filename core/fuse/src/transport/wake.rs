//! Waking a thread that waits in a read of `/dev/fuse`.
//!
//! Closing the descriptor does not end such a read, polling would wake every reader for each request, and forcing an
//! unmount needs root. What remains is a signal: the highest real-time signal that nobody else uses gets a handler that
//! does nothing, so that it interrupts the read. It is sent when a lane is closed, and at no other time.

use std::cell::Cell;
use std::sync::OnceLock;

/// The signal, chosen once for the process; none if every one of them is used by others.
static SIGNAL: OnceLock<Option<i32>> = OnceLock::new();

thread_local! {
    static THREAD: Cell<i32> = const { Cell::new(0) };
}

/// The id of this thread, which can be woken from now on.
pub(super) fn this_thread() -> i32 {
    THREAD.with(|thread| {
        if thread.get() == 0 {
            if let Some(signal) = *SIGNAL.get_or_init(choose) {
                unblock(signal);
            }
            thread.set(rustix::thread::gettid().as_raw_nonzero().get());
        }
        thread.get()
    })
}

/// Interrupts what the thread `thread` of this process waits in. A thread that has ended by now is no matter.
pub(super) fn wake(thread: i32) {
    let Some(signal) = SIGNAL.get().copied().flatten() else {
        tracing::error!("no real-time signal is free to wake a reader; its mount stays until the process ends");
        return;
    };
    // SAFETY: a system call with three numbers. A thread of ours that has got the same id by now runs a handler that
    // does nothing.
    unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), thread, signal) };
}

fn choose() -> Option<i32> {
    (libc::SIGRTMIN()..=libc::SIGRTMAX()).rev().find(|&signal| take(signal))
}

/// Gives `signal` the handler, unless it has one of somebody else.
fn take(signal: i32) -> bool {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: all-zero is a valid `sigaction`: no flags, so no SA_RESTART. The handler does nothing, so it may run
    // anywhere. Whoever had none has the default action, which nobody can want of a real-time signal: to be killed.
    unsafe {
        let mut old: libc::sigaction = std::mem::zeroed();
        if libc::sigaction(signal, std::ptr::null(), &mut old) != 0 || old.sa_sigaction != libc::SIG_DFL {
            return false;
        }
        let mut new: libc::sigaction = std::mem::zeroed();
        new.sa_sigaction = nothing as extern "C" fn(i32) as usize;
        libc::sigaction(signal, &new, std::ptr::null_mut()) == 0
    }
}

fn unblock(signal: i32) {
    // SAFETY: the set is initialised by `sigemptyset` before it is used, and both calls keep no pointer to it.
    unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(libc::SIG_UNBLOCK, &set, std::ptr::null_mut());
    }
}
