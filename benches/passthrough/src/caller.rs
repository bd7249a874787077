//! Creating things in the name of whoever asked.
//!
//! A created object belongs to the caller, so the thread takes the caller's fsuid, fsgid and umask for the one call.
//! The kernel has already checked the caller's permissions on the mount (`default_permissions`), so the thread keeps
//! the right to pass by them: the caller's supplementary groups need not be known here.

use std::cell::Cell;

use fuser::Request;
use rustix::fs::Mode;
use rustix::io::Result;
use rustix::thread::{CapabilitySet, UnshareFlags, capabilities, set_capabilities, unshare_unsafe};

thread_local! {
    /// The umask of this thread, once it is its own.
    static UMASK: Cell<Option<u32>> = const { Cell::new(None) };
}

/// While it lives, this thread creates objects as the caller; dropped, it is root again.
pub struct Caller {
    switched: bool,
}

impl Caller {
    /// Takes the identity of `request`; costs nothing for root with an unchanged umask.
    ///
    /// # Errors
    /// Those of `unshare` and `capset`; the identity is then root's as before.
    pub fn enter(request: &Request, umask: u32) -> Result<Self> {
        set_umask(umask)?;
        let switched = request.uid() != 0 || request.gid() != 0;
        let caller = Self { switched };
        if switched {
            set_fs_ids(request.uid(), request.gid());
            let mut sets = capabilities(None)?;
            sets.effective |= CapabilitySet::DAC_OVERRIDE;
            set_capabilities(None, sets)?;
        }
        Ok(caller)
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if self.switched {
            set_fs_ids(0, 0);
        }
    }
}

/// Gives this thread `umask`, and before the first time a umask apart from the other threads'.
fn set_umask(umask: u32) -> Result<()> {
    let current = UMASK.get();
    if current.is_none() {
        // SAFETY: only the umask, root and current directory become this thread's own; no descriptor table is unshared.
        unsafe { unshare_unsafe(UnshareFlags::FS) }?;
    }
    if current != Some(umask) {
        rustix::process::umask(Mode::from_raw_mode(umask));
        UMASK.set(Some(umask));
    }
    Ok(())
}

/// Sets the ids that this thread accesses files with; the calls report the former id, never an error.
fn set_fs_ids(uid: u32, gid: u32) {
    // SAFETY: both calls take one integer and touch nothing but this thread's credentials.
    unsafe {
        libc::syscall(libc::SYS_setfsgid, gid);
        libc::syscall(libc::SYS_setfsuid, uid);
    }
}
