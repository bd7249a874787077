//! Whose I/O a lock keeps away, and what a file does on which the newest lock wins.
//!
//! Pure: who asks, what is in the way and how the file is set are handed in; the answers are verdicts. I/O that is in the way
//! is refused, never made to wait.

use brickwork_api::ranges::ByteRange;
use brickwork_api::{Errno, option_enum};

use crate::table::Mode;

option_enum! {
    /// Which locks keep away others' I/O (`mandatory-locking`).
    pub enum Mandatory {
        /// None.
        Off = "off",
        /// All, on files with set-gid and without group execution.
        File = "file",
        /// All.
        Forced = "forced",
        /// Those that were taken as mandatory ones.
        Optimal = "optimal",
    }
}

/// What an I/O does to the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Read.
    Read,
    /// Write, truncate, fallocate, discard, zerofill, open with `O_TRUNC`.
    Write,
}

/// Who does an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// Whether the request names a lock owner. The kernel names none for what goes through its page cache.
    pub owner_known: bool,
    /// A process of Brickwork or GlusterFS itself, which marks its work so (see [`is_internal`]).
    pub internal: bool,
}

/// Whether a process of this number is no application: it is negative.
#[must_use]
pub const fn is_internal(pid: u32) -> bool {
    pid.cast_signed() < 0
}

/// Whose a held lock is, seen from the one who does the I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The same client and owner.
    Own,
    /// The same client and open, and another owner, or one that is not known.
    SameOpen,
    /// Somebody else's.
    Other,
}

impl Actor {
    /// Whether a lock is the actor's own: by its owner, or when it has named none by its open. A page that the kernel
    /// writes back for the holder of a lock would be lost otherwise.
    #[must_use]
    pub const fn holds(self, whose: Whose) -> bool {
        match whose {
            Whose::Own => true,
            Whose::SameOpen => !self.owner_known,
            Whose::Other => false,
        }
    }
}

/// A held lock that overlaps an I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InTheWay {
    /// Whose.
    pub whose: Whose,
    /// How it is held.
    pub mode: Mode,
    /// Whether it was taken as a mandatory one.
    pub mandatory: bool,
}

/// Set-gid and group execution: the one without the other marks a file for mandatory locking (System V).
const SET_GID: u32 = 0o2000;
const GROUP_EXECUTES: u32 = 0o0010;

impl Mandatory {
    /// Whether locks of a file with these permission bits may keep away I/O: when not, nothing has to be looked up.
    #[must_use]
    pub const fn applies(self, permissions: u32) -> bool {
        match self {
            Mandatory::Off => false,
            Mandatory::File => permissions & (SET_GID | GROUP_EXECUTES) == SET_GID,
            Mandatory::Forced | Mandatory::Optimal => true,
        }
    }

    /// Whether an I/O is done although `lock` overlaps it, on a file that this [applies](Mandatory::applies) to; if one
    /// lock says no, it is refused.
    ///
    /// A read stands only against exclusive locks, a write against all.
    ///
    /// # Errors
    /// `EAGAIN`.
    pub fn judge(self, actor: Actor, access: Access, lock: InTheWay) -> Result<(), Errno> {
        let counts = match self {
            Mandatory::Off => false,
            Mandatory::File | Mandatory::Forced => true,
            Mandatory::Optimal => lock.mandatory,
        };
        let excludes = access == Access::Write || lock.mode == Mode::Exclusive;
        match counts && excludes && !actor.internal && !actor.holds(lock.whose) {
            true => Err(Errno::EAGAIN),
            false => Ok(()),
        }
    }
}

/// The xattr that makes the newest lock on a file win.
pub const ENFORCE: &str = "trusted.glusterfs.enforce-mandatory-lock";

/// Whether a new lock on a file with [`ENFORCE`] takes this held lock, or the place of this waiter, from its owner: it
/// takes everything of others, wherever it is, so that one owner alone has locks. `EBUSY` is what a waiter is answered.
#[must_use]
pub const fn preempts(whose: Whose) -> bool {
    !matches!(whose, Whose::Own)
}

/// How somebody who does I/O stands on a file with [`ENFORCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Locks of its own [cover](covers) every byte of the I/O.
    Covered,
    /// It holds nothing there, or too little.
    Uncovered,
    /// Its lock was taken by a newer one.
    Lost,
}

/// Whether `held`, the ranges of one owner by start, leave no byte of `range` out.
#[must_use]
pub fn covers(held: impl IntoIterator<Item = ByteRange>, range: ByteRange) -> bool {
    let joined =
        |reached: u64, next: ByteRange| if next.start() <= reached { reached.max(next.end()) } else { reached };
    held.into_iter().fold(range.start(), joined) >= range.end()
}

/// Whether an I/O is done on a file with [`ENFORCE`].
///
/// # Errors
/// `EBUSY` for whoever has lost its lock, and for a write without one; `EAGAIN` for a read without one.
pub fn judge_enforced(actor: Actor, access: Access, standing: Standing) -> Result<(), Errno> {
    match (standing, access) {
        _ if actor.internal => Ok(()),
        (Standing::Covered, _) => Ok(()),
        (Standing::Lost, _) | (Standing::Uncovered, Access::Write) => Err(Errno::EBUSY),
        (Standing::Uncovered, Access::Read) => Err(Errno::EAGAIN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::options::OptionValue;

    const KNOWN: Actor = Actor { owner_known: true, internal: false };
    const UNKNOWN: Actor = Actor { owner_known: false, internal: false };
    const OPTIONS: [Mandatory; 4] = [Mandatory::Off, Mandatory::File, Mandatory::Forced, Mandatory::Optimal];

    fn lock(whose: Whose, mode: Mode, mandatory: bool) -> InTheWay {
        InTheWay { whose, mode, mandatory }
    }

    #[test]
    fn the_words_are_those_of_glusterfs() {
        assert_eq!(["off", "file", "forced", "optimal"].map(|word| Mandatory::parse(word).unwrap()), OPTIONS);
    }

    #[test]
    fn a_file_is_marked_by_set_gid_without_group_execution() {
        let marked = |permissions| Mandatory::File.applies(permissions);
        assert_eq!([0o2644, 0o2755, 0o644, 0o755, 0o2745].map(marked), [true, false, false, false, true]);
    }

    #[test]
    fn the_other_settings_do_not_look_at_the_file() {
        for permissions in [0, 0o2644, 0o7777] {
            let applies =
                [Mandatory::Off, Mandatory::Forced, Mandatory::Optimal].map(|option| option.applies(permissions));
            assert_eq!(applies, [false, true, true]);
        }
    }

    /// Every combination of setting, access, mode and mandatory flag against somebody else's lock.
    #[test]
    fn somebody_elses_lock_keeps_away_what_the_table_says() {
        // For off, file, forced, optimal.
        let table = [
            (Access::Read, Mode::Shared, false, [false, false, false, false]),
            (Access::Read, Mode::Shared, true, [false, false, false, false]),
            (Access::Read, Mode::Exclusive, false, [false, true, true, false]),
            (Access::Read, Mode::Exclusive, true, [false, true, true, true]),
            (Access::Write, Mode::Shared, false, [false, true, true, false]),
            (Access::Write, Mode::Shared, true, [false, true, true, true]),
            (Access::Write, Mode::Exclusive, false, [false, true, true, false]),
            (Access::Write, Mode::Exclusive, true, [false, true, true, true]),
        ];
        for (access, mode, mandatory, refused) in table {
            let refuses = |option: Mandatory| {
                option.judge(KNOWN, access, lock(Whose::Other, mode, mandatory)) == Err(Errno::EAGAIN)
            };
            assert_eq!(OPTIONS.map(refuses), refused, "{access:?} {mode:?} {mandatory}");
        }
    }

    #[test]
    fn ones_own_lock_is_not_in_the_way_and_without_an_owner_the_open_tells_whose_it_is() {
        let allowed =
            |actor, whose| Mandatory::Forced.judge(actor, Access::Write, lock(whose, Mode::Exclusive, true)).is_ok();
        let all = |actor| [Whose::Own, Whose::SameOpen, Whose::Other].map(|whose| allowed(actor, whose));
        assert_eq!(all(KNOWN), [true, false, false]);
        assert_eq!(all(UNKNOWN), [true, true, false]);
    }

    #[test]
    fn what_is_done_by_no_application_is_exempt() {
        assert_eq!(
            [0, 1, i32::MAX as u32, (-1i32) as u32, (-3i32) as u32].map(is_internal),
            [false, false, false, true, true]
        );
        let internal = Actor { owner_known: true, internal: true };
        for option in OPTIONS {
            assert_eq!(option.judge(internal, Access::Write, lock(Whose::Other, Mode::Exclusive, true)), Ok(()));
        }
        for standing in [Standing::Covered, Standing::Uncovered, Standing::Lost] {
            assert_eq!(judge_enforced(internal, Access::Write, standing), Ok(()));
        }
    }

    #[test]
    fn ranges_cover_what_they_reach_together_without_a_gap() {
        let range = |start, end| ByteRange::new(start, end).unwrap();
        let covered = |held: &[ByteRange]| covers(held.iter().copied(), range(10, 20));
        assert!(covered(&[range(10, 20)]));
        assert!(covered(&[range(0, 5), range(5, 15), range(15, u64::MAX)]));
        assert!(!covered(&[]));
        assert!(!covered(&[range(0, 19)]));
        assert!(!covered(&[range(11, 30)]));
        assert!(!covered(&[range(5, 15), range(16, 30)]));
    }

    #[test]
    fn where_the_newest_lock_wins_it_takes_all_that_is_not_its_owners() {
        assert_eq!([Whose::Own, Whose::SameOpen, Whose::Other].map(preempts), [false, true, true]);
    }

    #[test]
    fn where_the_newest_lock_wins_io_is_done_under_ones_own_lock_only() {
        let table = [
            (Access::Read, Standing::Covered, Ok(())),
            (Access::Read, Standing::Uncovered, Err(Errno::EAGAIN)),
            (Access::Read, Standing::Lost, Err(Errno::EBUSY)),
            (Access::Write, Standing::Covered, Ok(())),
            (Access::Write, Standing::Uncovered, Err(Errno::EBUSY)),
            (Access::Write, Standing::Lost, Err(Errno::EBUSY)),
        ];
        for (access, standing, expected) in table {
            assert_eq!(judge_enforced(KNOWN, access, standing), expected, "{access:?} {standing:?}");
            assert_eq!(judge_enforced(UNKNOWN, access, standing), expected, "{access:?} {standing:?}");
        }
    }
}
