//! Decides fops that were under way when the brick died: looks, judges, puts back what was done by halves, and makes the
//! answer of what was done.

use std::sync::Arc;

use brickwork_api::*;
use tracing::{info, warn};

use super::Answer;
use super::intent::{Intent, Seen, Verdict};
use super::look::Look;
use super::record::Undecided;

/// What became of a fop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, or nobody can tell, and this is its answer.
    Done(Answer),
    /// Nothing of it is there.
    NotDone,
}

/// Decides `undecided`. Nobody else may use `child` meanwhile.
pub async fn decide(child: &dyn Xlator, host: &Arc<dyn Host>, undecided: &Undecided) -> Outcome {
    let Undecided { kind, intent, .. } = undecided;
    // Not as the client: it has nothing open here any more.
    let look = Look::at(child, ClientId(0), host);
    match settle(&look, *kind, intent).await {
        Ok(outcome) => {
            info!(fop = kind.name(), gfid = %intent.gfid(), done = matches!(outcome, Outcome::Done(_)), "decided");
            outcome
        }
        Err(error) => {
            warn!(fop = kind.name(), gfid = %intent.gfid(), %error, "a fop of before the restart cannot be decided");
            let error = FopError::new(Errno::EIO).doing("telling whether it was done before the brick restarted");
            Outcome::Done(Answer::failure(&error.with("gfid", intent.gfid())))
        }
    }
}

async fn settle(look: &Look<'_>, kind: FopKind, intent: &Intent) -> FopResult<Outcome> {
    let seen = see(look, intent).await?;
    match intent.judge(&seen) {
        Verdict::Done => answer(look, kind, intent, &seen).await.map(Outcome::Done),
        Verdict::NotDone => Ok(Outcome::NotDone),
        Verdict::CutBack(size) => {
            let target = Target::from(intent.gfid());
            let request = TruncateReq { target, size, kill_set_id: false, xdata: Xdata::EMPTY };
            look.child().truncate(look.cx(), &request).await?;
            Ok(Outcome::NotDone)
        }
        Verdict::PutBack => {
            put_back(look, intent).await?;
            Ok(Outcome::NotDone)
        }
    }
}

/// Looks at what `intent` names.
async fn see(look: &Look<'_>, intent: &Intent) -> FopResult<Seen> {
    let mut seen = Seen::default();
    match intent {
        Intent::Make { entry, .. } | Intent::Link { entry, .. } | Intent::Remove { entry, .. } => {
            seen.name = look.name_anywhere(entry).await?;
        }
        Intent::Rename { from, to, .. } => {
            seen.name = look.name_anywhere(from).await?;
            seen.to = look.name_anywhere(to).await?;
        }
        Intent::Append { gfid, .. } | Intent::Shift { gfid, .. } => {
            seen.size = look.stat_if_there(*gfid).await?.map(|attr| attr.size);
        }
        Intent::SetXattr { gfid, name, .. } | Intent::RemoveXattr { gfid, name } => {
            seen.values.push(look.xattr((*gfid).into(), name).await?);
        }
        Intent::Xattrop { gfid, before, .. } => {
            for (name, _) in before {
                seen.values.push(look.xattr((*gfid).into(), name).await?);
            }
        }
    }
    Ok(seen)
}

async fn put_back(look: &Look<'_>, intent: &Intent) -> FopResult<()> {
    let Intent::Xattrop { gfid, before, .. } = intent else { return Ok(()) };
    let target = Target::from(*gfid);
    for (name, value) in before {
        match value.clone() {
            Some(value) => {
                let (name, mode) = (name.clone(), XattrMode::Set);
                let request = SetxattrReq { target, name, value, mode, kill_set_gid: false, xdata: Xdata::EMPTY };
                look.child().setxattr(look.cx(), &request).await?;
            }
            None => {
                let request = RemovexattrReq { target, name: name.clone(), xdata: Xdata::EMPTY };
                match look.child().removexattr(look.cx(), &request).await {
                    Err(error) if error.errno() != Errno::ENODATA => return Err(error),
                    _ => {}
                }
            }
        }
    }
    Ok(())
}

/// The answer that was lost.
async fn answer(look: &Look<'_>, kind: FopKind, intent: &Intent, seen: &Seen) -> FopResult<Answer> {
    let (gfid, xdata) = (intent.gfid(), Xdata::EMPTY);
    Ok(match kind {
        FopKind::Mknod => encoded::<fop::Mknod>(MknodReply { attr: look.object(gfid).await?, xdata }),
        FopKind::Mkdir => encoded::<fop::Mkdir>(MkdirReply { attr: look.object(gfid).await?, xdata }),
        FopKind::Symlink => encoded::<fop::Symlink>(SymlinkReply { attr: look.object(gfid).await?, xdata }),
        FopKind::Create => encoded::<fop::Create>(CreateReply { attr: look.object(gfid).await?, xdata }),
        FopKind::Link => encoded::<fop::Link>(LinkReply { attr: look.object(gfid).await?, xdata }),
        FopKind::Unlink => encoded::<fop::Unlink>(UnlinkReply { removed: unnamed(look, gfid).await?, xdata }),
        FopKind::Rmdir => encoded::<fop::Rmdir>(RmdirReply { removed: Unnamed { gfid, links: 0 }, xdata }),
        FopKind::Rename => {
            let Intent::Rename { other, .. } = intent else { return Err(Errno::EIO.into()) };
            let replaced = match other {
                Some(other) => Some(unnamed(look, *other).await?),
                None => None,
            };
            encoded::<fop::Rename>(RenameReply { attr: look.object(gfid).await?, replaced, xdata })
        }
        FopKind::Write => {
            let Intent::Append { length, .. } = intent else { return Err(Errno::EIO.into()) };
            encoded::<fop::Write>(WriteReply { written: *length, xdata })
        }
        FopKind::Fallocate => encoded::<fop::Fallocate>(FallocateReply { xdata }),
        FopKind::Setxattr => encoded::<fop::Setxattr>(SetxattrReply { xdata }),
        FopKind::Removexattr => encoded::<fop::Removexattr>(RemovexattrReply { xdata }),
        FopKind::Xattrop => {
            let Intent::Xattrop { kind, before, .. } = intent else { return Err(Errno::EIO.into()) };
            let values = before.iter().zip(&seen.values).map(|((name, before), now)| {
                let value = if *kind == XattropKind::GetAndSet { before } else { now };
                (name.clone(), value.clone().unwrap_or_default())
            });
            encoded::<fop::Xattrop>(XattropReply { values: values.collect(), xdata })
        }
        other => {
            return Err(FopError::new(Errno::EIO).doing("deciding a fop without intents").with("fop", other.name()));
        }
    })
}

/// What is left of an object that lost a name.
async fn unnamed(look: &Look<'_>, gfid: Gfid) -> FopResult<Unnamed> {
    let left = look.stat_if_there(gfid).await?;
    let links = left.map_or(0, |attr| attr.links);
    Ok(Unnamed { gfid, links })
}

fn encoded<F: FopType>(reply: F::Reply) -> Answer {
    Answer::of::<F>(&Ok(reply))
}
