//! Acting for the caller: its user, group, supplementary groups and umask, on this thread and for as long as needed.
//!
//! The kernel below then checks what the kernel above has checked already, by the same rules and against what is really
//! on disk. The thread is back to what it was when [`Acting`] goes: threads belong to all xlators.
//!
//! `CAP_SYS_ADMIN` stays while acting, so the `trusted.` xattrs of an open descriptor can be written in between; the
//! capabilities that pass file permissions are gone.

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;
use std::sync::Arc;

use brickwork_api::{Credentials, Errno, FopError, FopResult};
use rustix::fs::Mode;

use crate::sys;

const CAP_SETGID: u64 = 1 << 6;
const CAP_SETUID: u64 = 1 << 7;

/// How this process can act for others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identities {
    uid: u32,
    gid: u32,
    switches: bool,
}

/// The thread acts for somebody until this goes. It cannot be taken to another thread or over an await.
#[derive(Debug)]
#[must_use = "the thread acts for the caller only while this lives"]
pub(crate) struct Acting {
    back_to: Option<(u32, u32)>,
    umask: Option<Mode>,
    thread: PhantomData<*const ()>,
}

thread_local! {
    /// The supplementary groups that this thread was last given; root needs none, so they are left standing.
    static GROUPS: RefCell<Option<Arc<[u32]>>> = const { RefCell::new(None) };
    /// Whether this thread has a umask of its own; `None` before the first try.
    static OWN_UMASK: Cell<Option<bool>> = const { Cell::new(None) };
}

impl Identities {
    /// What the process that runs this thread may do.
    pub(crate) fn of_process() -> Identities {
        let both = CAP_SETUID | CAP_SETGID;
        let uid = rustix::process::geteuid().as_raw();
        Identities {
            uid,
            gid: rustix::process::getegid().as_raw(),
            switches: uid == 0 && sys::capabilities() & both == both,
        }
    }

    /// Whether it can act for other users at all.
    pub(crate) fn switches(&self) -> bool {
        self.switches
    }

    /// Whether `who` is whom this process is already, so that nothing changes by acting for it.
    pub(crate) fn is_self(&self, who: &Credentials) -> bool {
        self.switches && who.uid == 0 && who.gid == self.gid
    }

    /// Acts for `who`.
    ///
    /// # Errors
    /// `EACCES` for another user where the process cannot act for others.
    pub(crate) fn assume(&self, who: &Credentials) -> FopResult<Acting> {
        let mut acting = Acting { back_to: None, umask: None, thread: PhantomData };
        if !self.switches {
            let known = who.uid == self.uid || who.uid == 0;
            return if known { Ok(acting) } else { Err(Errno::EACCES.into()) };
        }
        if self.is_self(who) {
            return Ok(acting);
        }
        // Set first: whatever fails below, the way back is taken.
        acting.back_to = Some((self.uid, self.gid));
        let refused = |errno| FopError::from(errno).doing("acting for the caller").with("uid", who.uid);
        if who.uid != 0 {
            set_groups(&who.groups).map_err(refused)?;
        }
        sys::set_fsgid(who.gid).map_err(refused)?;
        sys::set_fsuid(who.uid).map_err(refused)?;
        Ok(acting)
    }
}

impl Acting {
    /// Gives the thread `umask` too. `false` when a filter keeps it from having one of its own: then whatever was created
    /// needs its mode set by hand.
    pub(crate) fn with_umask(&mut self, umask: u32) -> bool {
        let own = OWN_UMASK.get().unwrap_or_else(|| {
            let own = sys::own_umask().is_ok();
            OWN_UMASK.set(Some(own));
            own
        });
        if own {
            let before = rustix::process::umask(Mode::from_raw_mode(umask & 0o777));
            self.umask.get_or_insert(before);
        }
        own
    }
}

impl Drop for Acting {
    fn drop(&mut self) {
        if let Some(umask) = self.umask {
            rustix::process::umask(umask);
        }
        if let Some((uid, gid)) = self.back_to {
            // A thread that stayed somebody else would act wrongly for everyone after; its own identity is never refused.
            sys::set_fsuid(uid).expect("a thread may always be itself again");
            sys::set_fsgid(gid).expect("a thread may always be itself again");
        }
    }
}

fn set_groups(groups: &Arc<[u32]>) -> rustix::io::Result<()> {
    GROUPS.with_borrow_mut(|last| {
        if last.as_ref().is_some_and(|last| Arc::ptr_eq(last, groups) || last[..] == groups[..]) {
            return Ok(());
        }
        sys::set_groups(groups)?;
        *last = Some(Arc::clone(groups));
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> (String, String, String) {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let field = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
        (field("Uid:"), field("Gid:"), field("Groups:"))
    }

    #[test]
    fn the_thread_is_itself_again_afterwards_and_somebody_else_in_between() {
        let identities = Identities::of_process();
        if !identities.switches() {
            println!("SKIPPED: needs CAP_SETUID and CAP_SETGID");
            return;
        }
        let before = identity();
        let who = Credentials { uid: 4242, gid: 4243, pid: 1, groups: Arc::new([77, 78]) };
        let acting = identities.assume(&who).unwrap();
        let (uid, gid, groups) = identity();
        assert!(uid.ends_with("\t4242"), "{uid}");
        assert!(gid.ends_with("\t4243"), "{gid}");
        assert_eq!(groups.trim_end(), "Groups:\t77 78");
        drop(acting);
        let after = identity();
        assert_eq!((before.0, before.1), (after.0, after.1));
    }

    #[test]
    fn a_process_without_the_capabilities_serves_only_its_own_user() {
        let identities = Identities { uid: 1000, gid: 1000, switches: false };
        let who = |uid| Credentials { uid, ..Credentials::root() };
        assert!(identities.assume(&who(1000)).is_ok());
        assert!(identities.assume(&Credentials::root()).is_ok());
        assert_eq!(identities.assume(&who(1001)).unwrap_err().errno(), Errno::EACCES);
    }

    #[test]
    fn the_umask_of_one_thread_leaves_those_of_others_alone() {
        std::thread::spawn(|| {
            let identities = Identities::of_process();
            let mut acting = identities.assume(&Credentials::root()).unwrap();
            if !acting.with_umask(0o057) {
                println!("SKIPPED: unshare(CLONE_FS) is not allowed here");
                return;
            }
            let other = std::thread::spawn(|| std::fs::read_to_string("/proc/self/status").unwrap()).join().unwrap();
            let mine = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            assert!(mine.contains("Umask:\t0057"), "{mine}");
            drop(other);
            let main = std::fs::read_to_string("/proc/self/status").unwrap();
            assert!(!main.contains("Umask:\t0057"), "{main}");
        })
        .join()
        .unwrap();
    }
}
