//! The groups of users: where they come from, and how long they are remembered.

use std::collections::HashMap;
use std::ffi::CString;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::Credentials;
use nix::unistd::{Uid, User, getgrouplist};
use parking_lot::Mutex;

/// Users remembered at once.
const USERS_MAX: usize = 16_384;
/// Groups remembered at once, of all users together: 4 MiB.
const GROUPS_MAX: usize = 1 << 20;

/// Who knows the groups of a user; may block for long.
#[derive(Clone)]
pub(super) struct Database(Arc<dyn Fn(u32) -> io::Result<Vec<u32>> + Send + Sync>);

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database")
    }
}

impl Database {
    /// What `id` asks: files, or a directory service.
    pub(super) fn of_this_machine() -> Database {
        Database(Arc::new(of_this_machine))
    }

    #[cfg(test)]
    pub(super) fn of(groups: impl Fn(u32) -> io::Result<Vec<u32>> + Send + Sync + 'static) -> Database {
        Database(Arc::new(groups))
    }

    /// The groups of `uid`; none for a user that is not known.
    ///
    /// # Errors
    /// That of the database; `EINVAL` for more groups than a caller can have.
    pub(super) fn groups(&self, uid: u32) -> io::Result<Vec<u32>> {
        let groups = (self.0)(uid)?;
        if groups.len() > Credentials::GROUPS_MAX {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        Ok(groups)
    }
}

fn of_this_machine(uid: u32) -> io::Result<Vec<u32>> {
    let Some(user) = User::from_uid(Uid::from_raw(uid))? else { return Ok(Vec::new()) };
    let name = CString::new(user.name)?;
    Ok(getgrouplist(&name, user.gid)?.into_iter().map(|gid| gid.as_raw()).collect())
}

/// Groups that were looked up not long ago.
#[derive(Debug)]
pub(super) struct Remembered {
    timeout: Duration,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    users: HashMap<u32, Entry>,
    /// How many groups all of `users` have.
    groups: usize,
}

#[derive(Debug)]
struct Entry {
    groups: Arc<[u32]>,
    since: Instant,
}

impl Remembered {
    /// Nobody yet; each for `timeout`.
    pub(super) fn new(timeout: Duration) -> Remembered {
        Remembered { timeout, known: Mutex::default() }
    }

    /// The groups of `uid`, if they were looked up not longer than the timeout before `now`.
    pub(super) fn groups(&self, uid: u32, now: Instant) -> Option<Arc<[u32]>> {
        let known = self.known.lock();
        let user = known.users.get(&uid).filter(|user| self.is_fresh(user, now))?;
        Some(user.groups.clone())
    }

    /// Remembers what was found at `now`. At the limit those whose time is over go, or if there are none, all.
    pub(super) fn remember(&self, uid: u32, groups: Arc<[u32]>, now: Instant) {
        let mut known = self.known.lock();
        known.forget(uid);
        if !known.has_room(&groups) {
            known.users.retain(|_, user| self.is_fresh(user, now));
            known.groups = known.users.values().map(|user| user.groups.len()).sum();
        }
        if !known.has_room(&groups) {
            *known = Known::default();
        }
        known.groups += groups.len();
        known.users.insert(uid, Entry { groups, since: now });
    }

    fn is_fresh(&self, user: &Entry, now: Instant) -> bool {
        now.duration_since(user.since) < self.timeout
    }
}

impl Known {
    fn has_room(&self, groups: &[u32]) -> bool {
        self.users.len() < USERS_MAX && self.groups + groups.len() <= GROUPS_MAX
    }

    fn forget(&mut self, uid: u32) {
        if let Some(user) = self.users.remove(&uid) {
            self.groups -= user.groups.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(300);

    fn list(count: u32) -> Arc<[u32]> {
        (0..count).collect()
    }

    #[test]
    fn groups_are_remembered_until_the_timeout() {
        let (remembered, start) = (Remembered::new(TIMEOUT), Instant::now());
        remembered.remember(7, list(3), start);
        assert_eq!(remembered.groups(7, start + TIMEOUT - Duration::from_millis(1)), Some(list(3)));
        assert_eq!(remembered.groups(7, start + TIMEOUT), None);
        assert_eq!(remembered.groups(8, start), None);
    }

    #[test]
    fn with_a_timeout_of_zero_nothing_is_remembered() {
        let (remembered, start) = (Remembered::new(Duration::ZERO), Instant::now());
        remembered.remember(7, list(3), start);
        assert_eq!(remembered.groups(7, start), None);
    }

    #[test]
    fn at_the_limit_of_users_those_whose_time_is_over_go_first() {
        let (remembered, start) = (Remembered::new(TIMEOUT), Instant::now());
        let later = start + TIMEOUT;
        for uid in 0..USERS_MAX as u32 - 1 {
            remembered.remember(uid, list(0), start);
        }
        remembered.remember(1_000_000, list(1), later);
        remembered.remember(1_000_001, list(1), later);
        assert_eq!(remembered.known.lock().users.len(), 2);
        assert!(remembered.groups(1_000_000, later).is_some() && remembered.groups(1_000_001, later).is_some());
    }

    #[test]
    fn there_are_never_more_users_or_groups_than_the_limit() {
        let (remembered, start) = (Remembered::new(TIMEOUT), Instant::now());
        for uid in 0..USERS_MAX as u32 + 10 {
            remembered.remember(uid, list(0), start);
        }
        assert!(remembered.known.lock().users.len() <= USERS_MAX);
        let many = list(Credentials::GROUPS_MAX as u32);
        for uid in 0..40 {
            remembered.remember(uid, many.clone(), start);
            remembered.remember(uid, many.clone(), start);
            let known = remembered.known.lock();
            assert!(known.groups <= GROUPS_MAX);
            assert_eq!(known.groups, known.users.values().map(|user| user.groups.len()).sum::<usize>());
        }
        assert_eq!(remembered.groups(39, start), Some(many));
    }

    #[test]
    fn this_machine_knows_root_and_not_a_number_that_nobody_has() {
        let database = Database::of_this_machine();
        assert!(database.groups(0).unwrap().contains(&0));
        assert_eq!(database.groups(4_000_000_001).unwrap(), [0; 0]);
    }

    #[test]
    fn more_groups_than_a_caller_can_have_are_refused() {
        let database = Database::of(|uid| Ok(vec![0; uid as usize]));
        assert_eq!(database.groups(65_536).unwrap().len(), 65_536);
        assert_eq!(database.groups(65_537).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
