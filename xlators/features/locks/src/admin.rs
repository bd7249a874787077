//! What administrators ask of the locks of a brick, and how it is answered.

pub mod shapes;

/// Which locks there are. Argument: [`shapes::ListAsk`]. Answer: [`shapes::ListAnswer`].
pub const LIST: &str = "features/locks:list";
/// Takes locks from their owners. Argument: [`shapes::DropAsk`]. Answer: [`shapes::DropAnswer`].
pub const DROP: &str = "features/locks:drop";
/// Gives dropped locks back. Argument: [`shapes::RestoreAsk`]. Answer: [`shapes::RestoreAnswer`].
pub const RESTORE: &str = "features/locks:restore";
/// How a grace is going. Argument: empty. Answer: [`shapes::GraceAnswer`].
pub const GRACE: &str = "features/locks:grace";
/// Ends a grace. Argument: [`shapes::GraceEndAsk`]. Answer: [`shapes::GraceEndAnswer`].
pub const GRACE_END: &str = "features/locks:grace-end";
