//! How a client that is attached again asks the brick whether it still holds what it believes.
//!
//! Asked in pieces, several on their way at once, and all answered before anything else of that client goes. The last
//! piece says so, also when there is nothing to claim: a brick that waits for its clients to come back need not wait on.

use std::collections::VecDeque;
use std::time::Instant;

use brickwork_api::locks::{CLAIM, CLAIMS_MAX, Claim, Claims, Verdict};
use brickwork_api::{Credentials, Errno, FopError, FopKind, IpcReply, IpcReq, Xdata};
use brickwork_codec::encode;
use brickwork_wire::connection::decode;
use brickwork_wire::frame::{Frame, Kind, Prefix};
use bytes::Bytes;

use crate::beliefs::Key;
use crate::brick::Brick;
use crate::clients::Session;
use crate::line::Line;
use crate::link::Failure;
use crate::sessions::head;
use crate::waits::{Outcome, Wait};

/// Pieces on their way at once.
const PIECES_AT_ONCE: usize = 16;
/// Bytes in one piece, but for the last claim in it.
const PIECE_BYTES: usize = 512 << 10;
/// What a claim and one of its ranges take at most, beside the owner.
const CLAIM_BYTES: usize = 64;
const RANGE_BYTES: usize = 32;

/// One question, and whose beliefs it is about.
#[derive(Default)]
struct Piece {
    claims: Vec<Claim>,
    keys: Vec<Key>,
    bytes: usize,
}

impl Piece {
    fn is_full(&self) -> bool {
        self.claims.len() == CLAIMS_MAX || self.bytes >= PIECE_BYTES
    }

    fn push(&mut self, key: Key, claim: Claim) {
        self.bytes += CLAIM_BYTES + claim.owner.as_bytes().len() + RANGE_BYTES * claim.ranges.len();
        self.claims.push(claim);
        self.keys.push(key);
    }
}

/// Compares what the client of `session` believes with what the brick holds; what is lost is lost when this is done.
///
/// # Errors
/// The connection is lost, or the brick does not say.
pub(crate) async fn claim(brick: &Brick, line: &Line, session: Session) -> Result<(), Failure> {
    let keys = brick.believers.with(session.client, |beliefs| beliefs.begin_claims(session.incarnation));
    if keys.is_empty() && line.keeps_no_locks() {
        return Ok(());
    }
    if !keys.is_empty() {
        tracing::info!(xlator = %brick.name, client = %session.client, owners = keys.len(), "comparing locks with the brick");
    }
    let mut asked = Asked { brick, line, session, under_way: VecDeque::new() };
    let mut piece = Piece::default();
    for key in keys {
        let claims = brick.believers.with(session.client, |beliefs| beliefs.claims(&key));
        for claim in claims {
            if piece.is_full() {
                asked.ask(std::mem::take(&mut piece), false).await?;
            }
            piece.push(key.clone(), claim);
        }
    }
    asked.ask(piece, true).await?;
    asked.all_answered().await
}

/// The pieces on their way.
struct Asked<'a> {
    brick: &'a Brick,
    line: &'a Line,
    session: Session,
    under_way: VecDeque<(Vec<Key>, Wait<'a, Frame>)>,
}

impl<'a> Asked<'a> {
    async fn ask(&mut self, piece: Piece, complete: bool) -> Result<(), Failure> {
        if self.under_way.len() == PIECES_AT_ONCE {
            self.line.outbox.flush();
            self.one_answered().await?;
        }
        let limit = Instant::now() + self.brick.patience.load().frame;
        let wait = self.line.waits.begin(0, Some(limit)).ok_or_else(cut)?;
        let Piece { claims, keys, .. } = piece;
        let payload = encode(&Claims { claims, complete }).into();
        let request = IpcReq { operation: CLAIM.to_owned(), payload, xdata: Xdata::EMPTY };
        let prefix = Prefix::new(Kind::Request, wait.number()).of(FopKind::Ipc as u8, self.session.number);
        self.line.outbox.put(prefix, &(head(&Credentials::root()), request), Bytes::new()).map_err(|_| cut())?;
        self.under_way.push_back((keys, wait));
        Ok(())
    }

    async fn all_answered(mut self) -> Result<(), Failure> {
        self.line.outbox.flush();
        while !self.under_way.is_empty() {
            self.one_answered().await?;
        }
        Ok(())
    }

    async fn one_answered(&mut self) -> Result<(), Failure> {
        let Some((keys, wait)) = self.under_way.pop_front() else { return Ok(()) };
        let verdicts = match wait.await {
            Outcome::Came(frame) => self.verdicts(&frame, keys.len())?,
            Outcome::Lost => return Err(cut()),
            Outcome::TooLate => return Err(Failure::lost("the brick has not said in time which locks it holds")),
        };
        for (key, verdict) in keys.iter().zip(verdicts) {
            if verdict == Verdict::Lost {
                self.brick.claim_lost(self.session.client, key);
            }
        }
        Ok(())
    }

    fn verdicts(&self, frame: &Frame, count: usize) -> Result<Vec<Verdict>, Failure> {
        if frame.prefix.kind == Kind::Reply {
            let reply: IpcReply = decode(&frame.header)?;
            let verdicts: Vec<Verdict> = decode(&reply.payload)?;
            return match verdicts.len() == count {
                true => Ok(verdicts),
                false => Err(Failure::lost(format!("the brick answered {} of {count} claims", verdicts.len()))),
            };
        }
        let error: FopError = decode(&frame.header)?;
        if error.errno() == Errno::EOPNOTSUPP {
            // What was held there is held no more.
            self.line.set_keeps_no_locks();
            return Ok(vec![Verdict::Lost; count]);
        }
        Err(Failure::lost(format!("the brick does not say which locks it holds: {error}")))
    }
}

fn cut() -> Failure {
    Failure::lost("the connection was lost while locks were compared")
}
