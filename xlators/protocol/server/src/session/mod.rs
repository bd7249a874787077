//! Sessions of clients: their slots, remembered answers, opens and intents. What makes every operation happen once.
//!
//! ```text
//! let sessions = Sessions::<Destination>::open(&options, Some(&folder))?;
//! sessions.decide(&*child, &host).await;                 // before anybody is let in
//! let Attached { session, known, fenced } = sessions.attach(&call)?;
//!
//! match session.slots().begin(slot, sequence, F::KIND, &cancel, destination)? {
//!     Begun::New { superseded, remembered } => {
//!         // fire `superseded`
//!         let performed = session.perform::<F>(&*child, &cx, &request, remembered).await;
//!         // tell those who cached what it changed
//!         let finished = session.slots().finish(slot, sequence, performed.kept.clone());
//!         // send performed.into_answer() to its destination, if there is one; a lock that nobody heard of has to go
//!     }
//!     Begun::Unnumbered(destination) => {}               // the same with `remembered: None`, without `finish`
//!     Begun::Again(answer, destination) => {}            // send it
//!     Begun::GivenUp(destination) => {}                  // `EINTR`
//!     Begun::Joined | Begun::Stale => {}
//! }
//!
//! sessions.detach(&session, incarnation);                // a connection was lost
//! sessions.goodbye(&session, incarnation)?.put_away(&*child, &host).await;
//! sessions.overdue();                                    // about every second; then `end_overdue`, and `put_away`
//! sessions.rotate_if_due(&host).await;                   // as often
//! sessions.close().await;                                // when all fops have ended
//! ```
//!
//! | file | what | |
//! | --- | --- | --- |
//! | `slots` | which request each slot carries, and its last answer | pure |
//! | `roster` | the live incarnations of a client | pure |
//! | `opens` | what a client has open | pure |
//! | `record` | what the journal holds, and the state it tells of | pure |
//! | `intent` | what a fop is about to do, and whether it did | pure |
//! | `plan` | which turns and which intent a request needs | looks |
//! | `turns` | who may change a name, a length, xattrs: one after the other | waits |
//! | `ledger` | the journal and what of it is undecided | writes |
//! | `probe` | decides intents after a restart | looks |
//! | `perform` | one fop from its turns to its answer | |
//! | `sessions` | who comes, who goes, what outlives the brick | |

mod answer;
#[cfg(test)]
mod cost_tests;
#[cfg(test)]
mod exactly_once_tests;
mod intent;
mod kinds;
mod ledger;
mod look;
mod opens;
mod perform;
mod plan;
mod probe;
mod record;
mod roster;
#[expect(clippy::module_inception, reason = "a session is what the module is about")]
mod session;
mod sessions;
mod slots;
mod turns;
#[cfg(test)]
mod world;

pub use answer::{Answer, Performed};
pub use kinds::is_lock;
pub use session::Session;
pub use sessions::{Ended, Sessions};
pub use slots::{Abandoned, Begun, Destination, Finished, Origin};
