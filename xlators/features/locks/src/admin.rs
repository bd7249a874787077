//! What administrators ask of the locks of a brick, and how it is answered.
//!
//! The questions come by `ipc` from the process's own admin socket, never from clients; argument and answer are JSON.

mod drop;
mod find;
mod grace;
mod list;
mod restore;
pub mod shapes;

use brickwork_api::{Bytes, Errno, FopError, FopResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::brick::Brick;

/// Which locks there are. Argument: [`shapes::ListAsk`]. Answer: [`shapes::ListAnswer`].
pub const LIST: &str = "features/locks:list";
/// Takes locks from their owners. Argument: [`shapes::DropAsk`]. Answer: [`shapes::DropAnswer`].
pub const DROP: &str = "features/locks:drop";
/// Gives dropped locks back. Argument: [`shapes::RestoreAsk`]. Answer: [`shapes::RestoreAnswer`].
pub const RESTORE: &str = "features/locks:restore";
/// How a grace is going. Argument: none. Answer: [`shapes::GraceAnswer`].
pub const GRACE: &str = "features/locks:grace";
/// Ends a grace. Argument: [`shapes::GraceEndAsk`]. Answer: [`shapes::GraceEndAnswer`].
pub const GRACE_END: &str = "features/locks:grace-end";

/// Answers a question of an administrator; `None` when it is none.
pub(crate) async fn answer(brick: &Brick, operation: &str, payload: &[u8]) -> Option<FopResult<Bytes>> {
    Some(match operation {
        LIST => read(payload).map(|ask| said(&list::list(brick, &ask))),
        DROP => match read(payload) {
            Ok(ask) => drop::drop(brick, &ask).await.map(|answer| said(&answer)),
            Err(error) => Err(error),
        },
        RESTORE => match read(payload) {
            Ok(ask) => restore::restore(brick, &ask).await.map(|answer| said(&answer)),
            Err(error) => Err(error),
        },
        GRACE => Ok(said(&grace::grace(brick))),
        GRACE_END => read(payload).map(|ask| said(&grace::end(brick, ask))),
        _ => return None,
    })
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> FopResult<T> {
    serde_json::from_slice(payload).map_err(|error| {
        FopError::new(Errno::EINVAL).doing("reading an administrator's question about locks").with("reason", error)
    })
}

fn said<T: Serialize>(answer: &T) -> Bytes {
    serde_json::to_vec(answer).expect("plain data").into()
}

/// More than one question may hold.
fn too_many(locks: usize) -> FopError {
    FopError::new(Errno::EINVAL)
        .doing("reading an administrator's question about locks")
        .with("locks", locks)
        .with("limit", shapes::CHANGES_MAX)
}
