//! For whom a fop of a client is done: who is squashed, and which groups count.
//!
//! A client says who asks, and nobody signs that: who may attach is decided before (see [`auth`](crate::auth)), and
//! these rules make sure that a client speaks for fewer users than it says. They hold for every caller alike: GlusterFS
//! lets those with a negative process number past them.
//!
//! Always true of what comes out: root has no supplementary groups, and nobody has more than
//! [`Credentials::GROUPS_MAX`].

mod groups;

use std::sync::Arc;
use std::time::{Duration, Instant};

use brickwork_api::{Credentials, Errno, FopError, FopResult, Host, blocking};
use tokio::sync::Semaphore;

use crate::options::ServerOptions;
use groups::{Database, Remembered};

/// Questions to the user database of this machine at once. It may ask a directory service, which takes its time: the
/// other threads of the pool are for the disk.
const LOOKUPS_MAX: usize = 4;

/// The user and the group that may do everything.
const ROOT: u32 = 0;

/// Who acts as nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Squash {
    /// Root does.
    pub(crate) root: bool,
    /// Everybody does.
    pub(crate) all: bool,
    /// Nobody's user.
    pub(crate) uid: u32,
    /// Nobody's group.
    pub(crate) gid: u32,
}

/// The credentials to act with for someone who says `said`.
///
/// With `all`, everybody has nobody's user and group and no others. With `root`, user 0 becomes nobody's user and group 0,
/// also among others, nobody's group: as exports(5) has it.
pub(crate) fn squash(said: Credentials, rules: &Squash) -> Credentials {
    if rules.all {
        return Credentials { uid: rules.uid, gid: rules.gid, groups: Arc::new([]), ..said };
    }
    let mut acts = said;
    if rules.root {
        if acts.groups.contains(&ROOT) {
            acts.groups = acts.groups.iter().map(|gid| if *gid == ROOT { rules.gid } else { *gid }).collect();
        }
        acts.gid = if acts.gid == ROOT { rules.gid } else { acts.gid };
        acts.uid = if acts.uid == ROOT { rules.uid } else { acts.uid };
    }
    if acts.uid == ROOT && !acts.groups.is_empty() {
        acts.groups = Arc::new([]);
    }
    acts
}

/// The rules of a server, and what it remembers of this machine's users.
#[derive(Debug)]
pub(crate) struct Identities {
    squash: Squash,
    /// With `manage-gids`.
    managed: Option<Managed>,
}

#[derive(Debug)]
struct Managed {
    database: Database,
    remembered: Remembered,
    lookups: Semaphore,
}

impl Identities {
    pub(crate) fn new(options: &ServerOptions) -> Identities {
        let squash =
            Squash { root: options.root_squash, all: options.all_squash, uid: options.anonuid, gid: options.anongid };
        let managed = options.manage_gids.then(|| Managed::new(Database::of_this_machine(), options.gid_timeout.0));
        Identities { squash, managed }
    }

    /// The credentials to act with for someone who says `said`.
    ///
    /// With `manage-gids` the groups are those that this machine's user database has, none for a user that it does not
    /// know. A user that is remembered costs no wait; else it is one of a few lookups at once, and those who wait for
    /// their turn mostly find the answer remembered then.
    ///
    /// # Errors
    /// `EINVAL` for the number that stands for no user or group. `EIO` when the database does not answer: to go by what
    /// the client says would let it choose.
    pub(crate) async fn of(&self, host: &dyn Host, said: Credentials) -> FopResult<Credentials> {
        let acts = squash(said, &self.squash);
        // System calls take -1 for "as before", and before is root.
        if acts.uid == u32::MAX || acts.gid == u32::MAX {
            return Err(FopError::new(Errno::EINVAL).doing("looking at who asks").with("uid", acts.uid));
        }
        match &self.managed {
            Some(managed) if acts.uid != ROOT => {
                let groups = managed.groups(acts.uid, host).await?;
                Ok(Credentials { groups, ..acts })
            }
            _ => Ok(acts),
        }
    }
}

impl Managed {
    fn new(database: Database, timeout: Duration) -> Managed {
        Managed { database, remembered: Remembered::new(timeout), lookups: Semaphore::new(LOOKUPS_MAX) }
    }

    async fn groups(&self, uid: u32, host: &dyn Host) -> FopResult<Arc<[u32]>> {
        if let Some(groups) = self.remembered.groups(uid, Instant::now()) {
            return Ok(groups);
        }
        let _turn = self.lookups.acquire().await.expect("nobody closes it");
        if let Some(groups) = self.remembered.groups(uid, Instant::now()) {
            return Ok(groups);
        }
        let database = self.database.clone();
        let found = blocking(host, move || database.groups(uid)).await?.map_err(|error| {
            tracing::warn!(uid, %error, "the groups of a user cannot be looked up; its requests fail");
            FopError::new(Errno::EIO).doing("looking up the groups of a user").with("uid", uid)
        })?;
        let groups: Arc<[u32]> = found.into();
        self.remembered.remember(uid, groups.clone(), Instant::now());
        Ok(groups)
    }
}

#[cfg(test)]
mod tests;
