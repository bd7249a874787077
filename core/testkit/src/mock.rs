//! A child that does nothing but remember and answer.

use std::collections::VecDeque;
use std::sync::Arc;

use brickwork_api::*;
use parking_lot::Mutex;

use crate::gate::Gate;
use crate::samples;

/// One fop that reached a [`MockChild`].
#[derive(Clone, Debug)]
pub struct Call {
    /// What was asked.
    pub fop: Fop,
    /// For whom.
    pub cx: Cx,
}

/// What a [`MockChild`] answers.
#[derive(Clone, Debug)]
pub enum Answer {
    /// This, at once.
    Now(FopResult<Reply>),
    /// `EINTR`, when `cx.cancel` is set and not before.
    WhenCancelled,
    /// This, once the gate is open.
    Behind(Gate, FopResult<Reply>),
}

/// Records every fop and answers what was scripted for its kind, else the sample reply of the kind.
#[derive(Debug, Default)]
pub struct MockChild {
    calls: Mutex<Vec<Call>>,
    script: Mutex<VecDeque<(FopKind, Answer)>>,
}

impl MockChild {
    /// A child without script.
    #[must_use]
    pub fn new() -> Arc<MockChild> {
        Arc::default()
    }

    /// Answers the next call of `kind` that has no answer yet by `answer`.
    pub fn script(&self, kind: FopKind, answer: Answer) {
        self.script.lock().push_back((kind, answer));
    }

    /// What came, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
    }

    /// The requests that came, oldest first.
    #[must_use]
    pub fn fops(&self) -> Vec<Fop> {
        self.calls.lock().iter().map(|call| call.fop.clone()).collect()
    }

    /// Forgets what came.
    pub fn clear(&self) {
        self.calls.lock().clear();
    }

    fn next_answer(&self, kind: FopKind) -> Answer {
        let mut script = self.script.lock();
        let place = script.iter().position(|(of, _)| *of == kind);
        let scripted = place.and_then(|place| script.remove(place));
        scripted.map_or_else(|| Answer::Now(Ok(samples::reply(kind))), |(_, answer)| answer)
    }

    async fn answer(&self, cx: &Cx, fop: Fop) -> FopResult<Reply> {
        let answer = self.next_answer(fop.kind());
        self.calls.lock().push(Call { fop, cx: cx.clone() });
        match answer {
            Answer::Now(result) => result,
            Answer::WhenCancelled => {
                cx.cancel.cancelled().await;
                Err(Errno::EINTR.into())
            }
            Answer::Behind(gate, result) => {
                gate.pass().await;
                result
            }
        }
    }
}

macro_rules! record_every_fop {
    ($($name:ident $kind:ident $request:ident $reply:ident;)*) => {
        #[async_trait]
        impl Xlator for MockChild {
            fn route(&self) -> Route<'_> {
                Route::Stop(Errno::ENOSYS)
            }

            $(
                async fn $name(&self, cx: &Cx, request: &$request) -> FopResult<$reply> {
                    match self.answer(cx, Fop::$kind(request.clone())).await? {
                        Reply::$kind(reply) => Ok(reply),
                        other => panic!("the script answers {} by {other:?}", FopKind::$kind.name()),
                    }
                }
            )*
        }
    };
}

for_each_fop!(record_every_fop);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{block_on, cx};

    #[test]
    fn scripted_answers_come_in_order_and_then_the_sample() {
        let mock = MockChild::new();
        mock.script(FopKind::Stat, Answer::Now(Err(Errno::EIO.into())));
        mock.script(FopKind::Stat, Answer::Now(Err(Errno::ESTALE.into())));
        let stat = samples::request(FopKind::Stat);
        let answers: Vec<_> = (0..3).map(|_| block_on(stat.call(&*mock, &cx()))).collect();
        assert_eq!(answers, [Err(Errno::EIO.into()), Err(Errno::ESTALE.into()), Ok(samples::reply(FopKind::Stat))]);
        assert_eq!(mock.fops(), vec![stat; 3]);
    }
}
