//! Whether a client may have a lock that it did not take itself, or not under the eyes of this process.
//!
//! Pure: what the table has, who the clients are and whether a grace runs is handed in; a [`Decision`] comes out. A reclaim is
//! never an ordinary grant in disguise: where the brick cannot know that nobody held the range in between, it refuses.

use brickwork_api::locks::FailoverGroup;
use brickwork_api::option_enum;

option_enum! {
    /// From whom a lock may be taken over (`reclaim-from`).
    pub enum ReclaimFrom {
        /// A client that gave the same failover group and secret, here or away.
        Group = "group",
        /// A client that is away, whoever it is.
        Detached = "detached",
        /// Any client.
        Any = "any",
    }
}

/// How reclaims are set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// `reclaim-lock`.
    pub enabled: bool,
    /// `reclaim-from`.
    pub from: ReclaimFrom,
}

/// The client that holds a lock, seen from the one that wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Both are in one group ([`same_group`]).
    pub same_group: bool,
    /// It is away, protected or not.
    pub detached: bool,
}

/// What the table has of the lk-owner of a reclaim, whichever client it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record {
    /// The very range and type, held by the client that asks.
    Own,
    /// The very range and type, held by another client.
    Exact(Holder),
    /// Something on the range, of another extent or type.
    Differs,
    /// Nothing on the range.
    Nothing,
}

/// What a running grace means for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GraceFor {
    /// None runs.
    Nobody,
    /// One runs, in which the client may not reclaim: it is not on the record, or has said that it is complete.
    Others,
    /// One runs, in which it may.
    This,
}

/// What is known when a reclaim comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reclaim {
    /// Of the lk-owner.
    pub record: Record,
    /// Somebody's lock, other than an exact record, shuts it out.
    pub conflict: bool,
    /// For the client that asks.
    pub grace: GraceFor,
}

/// What becomes of a reclaim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The record gets the new client in place of the old one, which is fenced.
    TakeOver,
    /// It is taken as any other lock.
    Grant,
    /// `ENOLCK`, and why.
    Refuse(Why),
}

/// Why a reclaim is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// `reclaim-lock` is off.
    Off,
    /// `reclaim-from` does not allow it of this holder.
    NotAllowed,
    /// The lk-owner holds something on the range, but not this.
    RangeMismatch,
    /// Somebody else holds the range.
    Conflict,
    /// A grace runs, but not for this client.
    NoGrace,
    /// Nobody holds such a lock, and it cannot be known who held the range meanwhile.
    NoRecord,
}

impl Why {
    /// The value of `reclaim-refused`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Why::Off => "off",
            Why::NotAllowed => "not-allowed",
            Why::RangeMismatch => "range-mismatch",
            Why::Conflict => "conflict",
            Why::NoGrace => "no-grace",
            Why::NoRecord => "no-record",
        }
    }
}

impl Rules {
    /// Whether a lock of `holder` may be taken over.
    #[must_use]
    pub const fn allows(self, holder: Holder) -> bool {
        self.enabled
            && match self.from {
                ReclaimFrom::Group => holder.same_group,
                ReclaimFrom::Detached => holder.detached,
                ReclaimFrom::Any => true,
            }
    }

    /// Decides a reclaim. Where several clients hold the very lock of this lk-owner, the caller names one that
    /// [may be taken from](Rules::allows), if there is one.
    #[must_use]
    pub const fn decide(self, reclaim: Reclaim) -> Decision {
        if !self.enabled {
            return Decision::Refuse(Why::Off);
        }
        match (reclaim.record, reclaim.grace) {
            // It has it already: its reclaim was answered once, and the answer was lost.
            (Record::Own, _) => Decision::Grant,
            (Record::Exact(holder), _) if self.allows(holder) => Decision::TakeOver,
            (Record::Exact(_), _) => Decision::Refuse(Why::NotAllowed),
            (Record::Differs | Record::Nothing, GraceFor::This) if !reclaim.conflict => Decision::Grant,
            (Record::Nothing, GraceFor::This) => Decision::Refuse(Why::Conflict),
            (Record::Differs, _) => Decision::Refuse(Why::RangeMismatch),
            (Record::Nothing, _) if reclaim.conflict => Decision::Refuse(Why::Conflict),
            (Record::Nothing, GraceFor::Others) => Decision::Refuse(Why::NoGrace),
            (Record::Nothing, GraceFor::Nobody) => Decision::Refuse(Why::NoRecord),
        }
    }
}

/// Whether both clients gave the same failover group, of a name that is not empty, and knew the same secret. Takes as long
/// for every wrong secret.
#[must_use]
pub fn same_group(one: Option<&FailoverGroup>, other: Option<&FailoverGroup>) -> bool {
    let (Some(one), Some(other)) = (one, other) else { return false };
    let differing = one.secret.iter().zip(&other.secret).fold(0, |differing, (one, other)| differing | (one ^ other));
    !one.name.is_empty() && one.name == other.name && differing == 0
}

/// What becomes of the claim of a client that is back: of one range that it believes to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimDecision {
    /// It holds it.
    Held,
    /// It held it before the grace, and has it back.
    Grant,
    /// It is not its own any more.
    Lost,
}

/// Decides a claim: whether all of it is `held` by the client, whether `conflict`ing locks of others are there, and what a
/// grace means for it. Whatever is set for reclaims has no say: it is the client's own lock.
#[must_use]
pub const fn decide_claim(held: bool, conflict: bool, grace: GraceFor) -> ClaimDecision {
    match (held, conflict, grace) {
        (true, _, _) => ClaimDecision::Held,
        (false, false, GraceFor::This) => ClaimDecision::Grant,
        (false, _, _) => ClaimDecision::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::options::OptionValue;

    const FROM: [ReclaimFrom; 3] = [ReclaimFrom::Group, ReclaimFrom::Detached, ReclaimFrom::Any];
    const GRACES: [GraceFor; 3] = [GraceFor::Nobody, GraceFor::Others, GraceFor::This];
    const BOTH: [bool; 2] = [false, true];

    fn holders() -> impl Iterator<Item = Holder> {
        BOTH.into_iter().flat_map(|same_group| BOTH.map(|detached| Holder { same_group, detached }))
    }

    /// Every input there is, but for the setting.
    fn reclaims() -> impl Iterator<Item = Reclaim> {
        let records = [Record::Own, Record::Differs, Record::Nothing].into_iter().chain(holders().map(Record::Exact));
        let with_grace = records.flat_map(|record| GRACES.map(|grace| (record, grace)));
        with_grace.flat_map(|(record, grace)| BOTH.map(|conflict| Reclaim { record, conflict, grace }))
    }

    #[test]
    fn the_settings_are_read() {
        assert_eq!(["group", "detached", "any"].map(|word| ReclaimFrom::parse(word).unwrap()), FROM);
    }

    #[test]
    fn switched_off_refuses_everything() {
        for reclaim in reclaims() {
            for from in FROM {
                assert_eq!(Rules { enabled: false, from }.decide(reclaim), Decision::Refuse(Why::Off));
            }
        }
    }

    #[test]
    fn an_exact_record_is_taken_over_from_whom_the_setting_allows_whatever_else_is() {
        // For group, detached, any.
        let table = [
            (Holder { same_group: false, detached: false }, [false, false, true]),
            (Holder { same_group: false, detached: true }, [false, true, true]),
            (Holder { same_group: true, detached: false }, [true, false, true]),
            (Holder { same_group: true, detached: true }, [true, true, true]),
        ];
        for (holder, allowed) in table {
            for (from, allowed) in FROM.into_iter().zip(allowed) {
                let expected = if allowed { Decision::TakeOver } else { Decision::Refuse(Why::NotAllowed) };
                for reclaim in reclaims().filter(|reclaim| reclaim.record == Record::Exact(holder)) {
                    assert_eq!(Rules { enabled: true, from }.decide(reclaim), expected, "{from:?} {reclaim:?}");
                }
            }
        }
    }

    #[test]
    fn without_an_exact_record_of_another_client_the_table_decides() {
        use {GraceFor::*, Record::*};
        // Free, and with a lock of somebody else in the way.
        let (grant, refuse) = (Decision::Grant, Decision::Refuse);
        let table = [
            (Own, Nobody, grant, grant),
            (Own, Others, grant, grant),
            (Own, This, grant, grant),
            (Differs, Nobody, refuse(Why::RangeMismatch), refuse(Why::RangeMismatch)),
            (Differs, Others, refuse(Why::RangeMismatch), refuse(Why::RangeMismatch)),
            (Differs, This, grant, refuse(Why::RangeMismatch)),
            (Nothing, Nobody, refuse(Why::NoRecord), refuse(Why::Conflict)),
            (Nothing, Others, refuse(Why::NoGrace), refuse(Why::Conflict)),
            (Nothing, This, grant, refuse(Why::Conflict)),
        ];
        for (record, grace, free, taken) in table {
            for from in FROM {
                for (conflict, expected) in [(false, free), (true, taken)] {
                    let reclaim = Reclaim { record, conflict, grace };
                    assert_eq!(Rules { enabled: true, from }.decide(reclaim), expected, "{from:?} {reclaim:?}");
                }
            }
        }
    }

    #[test]
    fn the_words_are_those_of_the_protocol() {
        let all = [Why::NoRecord, Why::NoGrace, Why::RangeMismatch, Why::Conflict, Why::NotAllowed, Why::Off];
        let words = ["no-record", "no-grace", "range-mismatch", "conflict", "not-allowed", "off"];
        assert_eq!(all.map(Why::word), words);
    }

    #[test]
    fn a_group_is_the_same_by_name_and_secret_and_none_is_the_same_as_none() {
        let group = |name: &str, secret| Some(FailoverGroup { name: name.to_owned(), secret: [secret; 32] });
        let same =
            |one: &Option<FailoverGroup>, other: &Option<FailoverGroup>| same_group(one.as_ref(), other.as_ref());
        assert!(same(&group("nfs", 1), &group("nfs", 1)));
        assert!(!same(&group("nfs", 1), &group("nfs", 2)));
        assert!(!same(&group("nfs", 1), &group("smb", 1)));
        assert!(!same(&group("", 1), &group("", 1)));
        assert!(!same(&None, &None));
        assert!(!same(&group("nfs", 1), &None));
    }

    #[test]
    fn a_claim_is_held_or_comes_back_in_a_grace_or_is_lost() {
        for grace in GRACES {
            for conflict in BOTH {
                assert_eq!(decide_claim(true, conflict, grace), ClaimDecision::Held);
                let comes_back = grace == GraceFor::This && !conflict;
                let expected = if comes_back { ClaimDecision::Grant } else { ClaimDecision::Lost };
                assert_eq!(decide_claim(false, conflict, grace), expected, "{conflict} {grace:?}");
            }
        }
    }
}
