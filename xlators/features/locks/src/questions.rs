//! Questions to the locks that are no fops.

use brickwork_api::locks::{ATTACHED, CLAIM, DEADLOCKED, DETACHED, Detaching, ENDED, GIVEN_UP, HOLDS, PREFIX, PROBE};
use brickwork_api::{Bytes, Cx, Errno, FopError, FopResult};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::brick::Brick;

impl Brick {
    /// Answers a question; `None` when it is for somebody below.
    pub(crate) async fn asked_of_locks(&self, cx: &Cx, operation: &str, payload: &Bytes) -> Option<FopResult<Bytes>> {
        if !operation.starts_with(PREFIX) {
            return None;
        }
        if let Some(answer) = crate::admin::answer(self, operation, payload).await {
            return Some(answer);
        }
        let id = cx.client();
        Some(match operation {
            ATTACHED => read(payload).map(|attaching| said(&self.attached(id, attaching))),
            DETACHED => read(payload).map(|Detaching { silent_ms }| said(&self.detached(id, silent_ms))),
            ENDED => Ok(said(&self.ended(id))),
            HOLDS => Ok(said(&self.holds(id))),
            GIVEN_UP => read(payload).map(|given_up| said(&self.given_up(id, given_up))),
            DEADLOCKED => read(payload).map(|deadlocked| said(&self.deadlocked(id, deadlocked))),
            PROBE => read(payload).map(|probe| said(&self.probed(id, &probe))),
            CLAIM => match read(payload) {
                Ok(claims) => self.claimed(id, claims).await.map(|verdicts| said(&verdicts)),
                Err(error) => Err(error),
            },
            _ => Err(FopError::new(Errno::EOPNOTSUPP)
                .doing("answering a question about locks")
                .with("question", operation)),
        })
    }
}

fn read<T: DeserializeOwned>(payload: &[u8]) -> FopResult<T> {
    brickwork_codec::decode(payload)
        .map_err(|error| FopError::new(Errno::EINVAL).doing("reading a question about locks").with("reason", error))
}

fn said<T: Serialize>(answer: &T) -> Bytes {
    brickwork_codec::encode(answer).into()
}
