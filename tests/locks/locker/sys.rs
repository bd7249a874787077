//! The calls that take locks, and the signals that end them.

use std::ffi::c_int;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::os::unix::thread::RawPthread;

use brickwork_check::log::{Answer, CELL, Mode, Span};

/// What a lock belongs to, and how it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `fcntl`: to the process.
    Process,
    /// `fcntl` with the OFD commands: to the open file.
    Ofd,
    /// `flock`: to the open file, and all of it.
    Flock,
}

/// Takes a lock, or releases with `None`.
pub fn lock(file: &File, kind: Kind, mode: Option<Mode>, span: Span, wait: bool) -> Answer {
    let command = match (kind, wait) {
        (Kind::Flock, _) => return flock(file, mode, wait),
        (Kind::Process, false) => libc::F_SETLK,
        (Kind::Process, true) => libc::F_SETLKW,
        (Kind::Ofd, false) => libc::F_OFD_SETLK,
        (Kind::Ofd, true) => libc::F_OFD_SETLKW,
    };
    fcntl(file, command, &mut flock_of(mode, span)).err().map_or(Answer::Ok, failed)
}

/// What is in the way of a lock; `flock` has no such question.
pub fn test(file: &File, kind: Kind, mode: Mode, span: Span) -> Answer {
    let command = match kind {
        Kind::Process => libc::F_GETLK,
        Kind::Ofd => libc::F_OFD_GETLK,
        Kind::Flock => unreachable!("flock cannot be asked"),
    };
    let mut lock = flock_of(Some(mode), span);
    match fcntl(file, command, &mut lock) {
        Err(error) => failed(error),
        Ok(()) if i32::from(lock.l_type) == libc::F_UNLCK => Answer::Free,
        Ok(()) => {
            let start = lock.l_start.unsigned_abs();
            let end = if lock.l_len == 0 { u64::MAX } else { start + lock.l_len.unsigned_abs() };
            let mode = if i32::from(lock.l_type) == libc::F_WRLCK { Mode::Write } else { Mode::Read };
            Answer::Held { pid: lock.l_pid, mode, span: Span(start, end) }
        }
    }
}

/// Reads a cell by one call.
pub fn read(file: &File, at: u64) -> Answer {
    let mut token = [0; CELL as usize];
    match file.read_at(&mut token, at) {
        Ok(length) if length == token.len() => Answer::Token(u64::from_le_bytes(token)),
        Ok(length) => panic!("of a cell {length} bytes were read"),
        Err(error) => failed(error),
    }
}

/// Writes a cell by one call.
pub fn write(file: &File, at: u64, token: u64) -> Answer {
    whole(file.write_at(&token.to_le_bytes(), at))
}

/// Appends a token, by one call.
pub fn append(file: &File, token: u64) -> Answer {
    whole(io::Write::write(&mut &*file, &token.to_le_bytes()))
}

fn whole(written: io::Result<usize>) -> Answer {
    match written {
        Ok(length) if length as u64 == CELL => Answer::Ok,
        Ok(length) => panic!("of a token {length} bytes were written"),
        Err(error) => failed(error),
    }
}

fn failed(error: io::Error) -> Answer {
    Answer::Failed(error.raw_os_error().expect("an error of the system"))
}

fn flock_of(mode: Option<Mode>, span: Span) -> libc::flock {
    let kind = match mode {
        None => libc::F_UNLCK,
        Some(Mode::Read) => libc::F_RDLCK,
        Some(Mode::Write) => libc::F_WRLCK,
    };
    let length = if span.1 == u64::MAX { 0 } else { span.1 - span.0 };
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: span.0.cast_signed(),
        l_len: length.cast_signed(),
        l_pid: 0,
    }
}

fn fcntl(file: &File, command: c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the lock commands read and write a `flock`, which `lock` is for as long as the call lasts.
    if unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) } == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn flock(file: &File, mode: Option<Mode>, wait: bool) -> Answer {
    let operation = match mode {
        None => libc::LOCK_UN,
        Some(Mode::Read) => libc::LOCK_SH,
        Some(Mode::Write) => libc::LOCK_EX,
    };
    let flag = if wait { 0 } else { libc::LOCK_NB };
    // SAFETY: takes no memory of ours.
    if unsafe { libc::flock(file.as_raw_fd(), operation | flag) } == -1 {
        return failed(io::Error::last_os_error());
    }
    Answer::Ok
}

extern "C" fn heard(_signal: c_int) {}

/// From now on SIGUSR1 ends the wait of the thread that gets it, and nothing else.
pub fn hear_signals() {
    // SAFETY: an empty action with an empty mask and no flags, SA_RESTART among those that are not set.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = heard as extern "C" fn(c_int) as usize;
    // SAFETY: `action` is whole, and its handler does nothing.
    let done = unsafe { libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut()) };
    assert_eq!(done, 0, "SIGUSR1 can be handled");
}

/// Sends SIGUSR1 to a thread that was not joined yet.
pub fn interrupt(thread: RawPthread) {
    // SAFETY: a thread that was not joined has its number still, whether it has ended or not.
    let sent = unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
    // A thread that has ended needs no signal.
    assert!(sent == 0 || sent == libc::ESRCH, "pthread_kill: {sent}");
}
