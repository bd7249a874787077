//! Fresh gfids, as a front-end draws them.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::types::Gfid;

/// Objects in a row whose gfids begin alike.
const ALIKE: u64 = 256;

/// A source of random gfids of which 256 in a row share their first two bytes.
///
/// Those bytes name the folder of the object's handle on the brick (`.glusterfs/XX/YY`). With wholly random ones nearly
/// every object of a young brick makes a folder, which costs more than the object; this way one in 256 does, and
/// the folders fill as evenly. The 110 bits that remain are random.
#[derive(Debug)]
pub struct GfidSource {
    seed: u64,
    drawn: AtomicU64,
}

impl Default for GfidSource {
    fn default() -> GfidSource {
        GfidSource { seed: Gfid::random().ino(), drawn: AtomicU64::new(0) }
    }
}

impl GfidSource {
    /// A gfid that nobody had before.
    #[must_use]
    pub fn fresh(&self) -> Gfid {
        let row = self.drawn.fetch_add(1, Ordering::Relaxed) / ALIKE;
        let [first, second, ..] = scatter(self.seed.wrapping_add(row)).to_be_bytes();
        let mut bytes = Gfid::random().to_bytes();
        (bytes[0], bytes[1]) = (first, second);
        Gfid::from_bytes(bytes)
    }
}

/// Spreads neighbouring numbers over all 64 bits.
///
/// # Source
/// The finalizer of splitmix64 (Steele, Lea, Flood 2014).
fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    #[test]
    fn no_two_are_equal_and_each_is_a_version_4_uuid() {
        let source = GfidSource::default();
        let drawn: HashSet<Gfid> = (0..10_000).map(|_| source.fresh()).collect();
        assert_eq!(drawn.len(), 10_000);
        assert!(drawn.iter().all(|gfid| gfid.to_string().as_bytes()[14] == b'4'));
    }

    #[test]
    fn a_row_of_256_shares_a_handle_folder_and_the_next_has_another() {
        let source = GfidSource::default();
        let folder = |gfid: Gfid| [gfid.to_bytes()[0], gfid.to_bytes()[1]];
        let folders: Vec<_> = (0..2 * ALIKE).map(|_| folder(source.fresh())).collect();
        assert!(folders[..256].iter().all(|other| *other == folders[0]));
        assert!(folders[256..].iter().all(|other| *other == folders[256]));
        assert_ne!(folders[0], folders[256]);
    }

    #[test]
    fn rows_are_spread_over_the_folders() {
        let source = GfidSource { seed: 7, drawn: AtomicU64::new(0) };
        let mut rows = HashMap::new();
        for row in 0..65_536 {
            source.drawn.store(row * ALIKE, Ordering::Relaxed);
            *rows.entry(source.fresh().to_bytes()[0]).or_insert(0_u32) += 1;
        }
        assert_eq!(rows.len(), 256);
        assert!(rows.values().all(|count| (128..=512).contains(count)), "{rows:?}");
    }
}
