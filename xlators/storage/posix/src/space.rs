//! Space: what the volume shows of it, and what is kept free.

use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use brickwork_api::options::{Percent, PercentOrSize, Size};
use brickwork_api::{FopResult, FsStat};
use tracing::{error, info};

use crate::brick::Brick;

/// How many bytes of a file system of `total` bytes are kept free.
pub(crate) fn reserved(reserve: PercentOrSize, total: u64) -> u64 {
    match reserve {
        PercentOrSize::Percent(Percent(share)) => (total as f64 * share / 100.0) as u64,
        PercentOrSize::Size(Size(bytes)) => bytes,
    }
}

/// Whether what is left for others than root is less than what is kept free.
pub(crate) fn is_full(reserved: u64, available: u64) -> bool {
    available < reserved
}

impl Brick {
    /// The counts of the file system, less what is kept free.
    pub(crate) fn statfs(&self) -> FopResult<FsStat> {
        let stat = rustix::fs::fstatvfs(self.root.fd.as_fd())?;
        let kept = self.reserved.load(Ordering::Relaxed) / stat.f_frsize.max(1);
        Ok(FsStat {
            fragment_size: stat.f_frsize,
            block_size: stat.f_bsize,
            blocks: stat.f_blocks,
            blocks_free: stat.f_bfree,
            blocks_available: stat.f_bavail.saturating_sub(kept),
            files: stat.f_files,
            files_free: stat.f_ffree,
            name_max: u32::try_from(stat.f_namemax).unwrap_or(u32::MAX),
        })
    }

    /// Looks how much is free, and says so when that changes what is allowed.
    pub(crate) fn watch_space(&self, reserve: PercentOrSize) -> FopResult<()> {
        let stat = rustix::fs::fstatvfs(self.root.fd.as_fd())?;
        let reserved = reserved(reserve, stat.f_blocks.saturating_mul(stat.f_frsize));
        let available = stat.f_bavail.saturating_mul(stat.f_frsize);
        self.reserved.store(reserved, Ordering::Relaxed);
        let full = is_full(reserved, available);
        if full != self.full.swap(full, Ordering::Relaxed) {
            let brick = self.path.display();
            match full {
                true => error!(%brick, available, reserved, "less than the reserve is free: nothing may grow"),
                false => info!(%brick, available, reserved, "the reserve is free again"),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_a_share_of_all_or_a_size() {
        assert_eq!(reserved(PercentOrSize::Percent(Percent(1.0)), 1000), 10);
        assert_eq!(reserved(PercentOrSize::Percent(Percent(0.0)), 1000), 0);
        assert_eq!(reserved(PercentOrSize::Size(Size(1 << 30)), 1000), 1 << 30);
    }

    #[test]
    fn a_brick_is_full_below_the_reserve_and_not_at_it() {
        assert!(is_full(10, 9));
        assert!(!is_full(10, 10));
        assert!(!is_full(0, 0));
    }
}
