//! Locks that are taken over from a client that failed.

use std::sync::Arc;

use brickwork_api::locks::RECLAIM_REFUSED;
use brickwork_api::{Errno, FopError, FopResult, Xdata};

use crate::brick::Brick;
use crate::clients::Client;
use crate::record::Lk;

impl Brick {
    /// Does an `lk` with `reclaim-lock`.
    pub(crate) async fn reclaim(&self, _client: &Arc<Client>, _asks: Lk) -> FopResult<()> {
        Err(refused("off"))
    }
}

fn refused(why: &'static str) -> FopError {
    let error = FopError::new(Errno::ENOLCK).doing("taking a lock over").with("reason", why);
    error.with_xdata(Xdata::EMPTY.with(&RECLAIM_REFUSED, why.to_owned()))
}
