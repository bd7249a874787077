//! What a connection sends for a request.

use brickwork_api::{FopError, FopResult, FopType};
use brickwork_codec::{decode, encode};
use bytes::Bytes;

use super::kinds::is_kept;

/// A reply or a failure in the form that travels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Whether `header` is an encoded [`FopError`], not a reply.
    pub failure: bool,
    /// The encoded reply or error.
    pub header: Bytes,
    /// What was read; empty for every other fop.
    pub payload: Bytes,
}

impl Answer {
    /// Encodes what a fop answered.
    #[must_use]
    pub fn of<F: FopType>(result: &FopResult<F::Reply>) -> Answer {
        match result {
            Ok(reply) => {
                Answer { failure: false, header: encode(reply).into(), payload: brickwork_wire::payload::of(reply) }
            }
            Err(error) => Answer::failure(error),
        }
    }

    /// Encodes an error.
    #[must_use]
    pub fn failure(error: &FopError) -> Answer {
        Answer { failure: true, header: encode(error).into(), payload: Bytes::new() }
    }

    /// What was encoded; of a `read` without its bytes.
    ///
    /// # Errors
    /// The error that it carries; `EIO` for bytes that are no answer of this fop.
    pub fn result<F: FopType>(&self) -> FopResult<F::Reply> {
        let unreadable = |_| FopError::new(brickwork_api::Errno::EIO).doing("reading a remembered answer");
        match self.failure {
            false => decode(&self.header).map_err(unreadable),
            true => Err(decode(&self.header).unwrap_or_else(unreadable)),
        }
    }
}

/// What became of a fop.
#[derive(Debug)]
pub struct Performed<F: FopType> {
    /// What the child answered, for those who look at it before it is sent.
    pub result: FopResult<F::Reply>,
    /// Its encoding, where the slot keeps it; all others are encoded when they are sent.
    pub kept: Option<Answer>,
}

impl<F: FopType> Performed<F> {
    /// A fop that was not begun. That is its answer all the same: a duplicate that is still on its way must not begin it.
    #[must_use]
    pub fn refused(error: FopError) -> Performed<F> {
        let kept = is_kept(F::KIND).then(|| Answer::failure(&error));
        Performed { result: Err(error), kept }
    }

    /// What to send.
    #[must_use]
    pub fn into_answer(self) -> Answer {
        self.kept.unwrap_or_else(|| Answer::of::<F>(&self.result))
    }
}
