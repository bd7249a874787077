//! A set of fops, and how a volfile lists one.

use super::FopKind;
use crate::options::OptionValue;

/// Some of the fops.
///
/// As the value of an option: names joined by commas, in either case, those of GlusterFS too.
///
/// ```
/// use brickwork_api::options::OptionValue;
/// use brickwork_api::{FopKind, FopSet};
/// let set = FopSet::parse("read, FSTAT").unwrap();
/// assert!(set.contains(FopKind::Read) && set.contains(FopKind::Stat) && !set.contains(FopKind::Write));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FopSet(u64);

const _: () = assert!(FopKind::ALL.len() <= 64, "a fop has no bit in `FopSet`");

/// GlusterFS's names of fops that have another one here.
const GLUSTERFS: &[(&str, FopKind)] = &[
    ("fentrylk", FopKind::Entrylk),
    ("fgetxattr", FopKind::Getxattr),
    ("finodelk", FopKind::Inodelk),
    ("fremovexattr", FopKind::Removexattr),
    ("fsetattr", FopKind::Setattr),
    ("fsetxattr", FopKind::Setxattr),
    ("fstat", FopKind::Stat),
    ("ftruncate", FopKind::Truncate),
    ("fxattrop", FopKind::Xattrop),
    ("readdirp", FopKind::Readdirplus),
    ("readv", FopKind::Read),
    ("writev", FopKind::Write),
];

impl FopSet {
    /// No fop.
    pub const EMPTY: FopSet = FopSet(0);

    /// Every fop.
    pub const ALL: FopSet = FopSet(u64::MAX >> (64 - FopKind::ALL.len()));

    /// Whether `kind` is in it.
    #[must_use]
    pub const fn contains(self, kind: FopKind) -> bool {
        self.0 >> kind as u8 & 1 == 1
    }

    /// This set and `kind`.
    #[must_use]
    pub const fn with(self, kind: FopKind) -> FopSet {
        FopSet(self.0 | 1 << kind as u8)
    }

    /// This set without what is in `other`.
    #[must_use]
    pub const fn without(self, other: FopSet) -> FopSet {
        FopSet(self.0 & !other.0)
    }

    /// The bits, by the numbers of the fops; for an atomic.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// The set with these bits; those of no fop are left out.
    #[must_use]
    pub const fn from_bits(bits: u64) -> FopSet {
        FopSet(bits & FopSet::ALL.0)
    }

    /// Its fops, in the order of the table.
    pub fn iter(self) -> impl Iterator<Item = FopKind> {
        FopKind::ALL.iter().copied().filter(move |kind| self.contains(*kind))
    }
}

impl FromIterator<FopKind> for FopSet {
    fn from_iter<I: IntoIterator<Item = FopKind>>(kinds: I) -> FopSet {
        kinds.into_iter().fold(FopSet::EMPTY, FopSet::with)
    }
}

impl OptionValue for FopSet {
    const VALUES: &'static str = "names of fops, joined by commas";

    fn parse(text: &str) -> Result<FopSet, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        names.map(|name| named(name).ok_or_else(|| format!("names no fop with `{name}`"))).collect()
    }
}

fn named(name: &str) -> Option<FopKind> {
    let ours = FopKind::ALL.iter().find(|kind| kind.name().eq_ignore_ascii_case(name));
    let theirs = || GLUSTERFS.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name)).map(|(_, kind)| *kind);
    ours.copied().or_else(theirs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_holds_every_fop_and_empty_none() {
        assert!(FopKind::ALL.iter().all(|kind| FopSet::ALL.contains(*kind)));
        assert_eq!(FopSet::ALL.iter().count(), FopKind::ALL.len());
        assert_eq!(FopSet::EMPTY.iter().count(), 0);
    }

    #[test]
    fn names_are_ours_or_glusterfs_in_either_case() {
        let set = FopSet::parse("LOOKUP,readdirp, Write ,").unwrap();
        assert_eq!(set.iter().collect::<Vec<_>>(), [FopKind::Lookup, FopKind::Write, FopKind::Readdirplus]);
        assert_eq!(FopSet::parse("lookup,lokup").unwrap_err(), "names no fop with `lokup`");
    }

    #[test]
    fn bits_of_no_fop_are_left_out() {
        assert_eq!(FopSet::from_bits(u64::MAX), FopSet::ALL);
        assert_eq!(FopSet::ALL.without(FopSet::ALL), FopSet::EMPTY);
    }
}
