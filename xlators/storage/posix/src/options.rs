//! The options of storage/posix. Names are GlusterFS's where it has the option.

use brickwork_api::Gfid;
use brickwork_api::options::{AbsolutePath, OptionValue, PercentOrSize, Seconds, options};

/// Permission bits in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permissions(pub u32);

impl OptionValue for Permissions {
    const VALUES: &'static str = "octal permissions, 0 to 0777";

    fn parse(text: &str) -> Result<Permissions, String> {
        match u32::from_str_radix(text, 8) {
            Ok(bits @ 0..=0o777) => Ok(Permissions(bits)),
            _ => Err("is not an octal number from 0 to 0777".to_owned()),
        }
    }
}

options! {
    /// Options of `storage/posix`.
    pub struct PosixOptions {
        /// The folder that is served: the brick.
        directory: AbsolutePath = "directory" [required()],
        /// The volume the brick belongs to. A brick that carries another one is refused; a new brick gets this one.
        volume_id: Option<Gfid> = "volume-id" [],
        /// Space kept free: below it, whatever would use more answers `ENOSPC`; removing and renaming go on.
        reserve: PercentOrSize = "reserve" [default("1%"), live()],
        /// How often the brick's file system is tried by a small write and read; 0 for never.
        health_check_interval: Seconds = "health-check-interval" [default("30"), live()],
        /// How long such a try may take before the brick counts as down.
        health_check_timeout: Seconds = "health-check-timeout" [default("20"), range(1, 86_400), live()],
        /// Most names of one file; 0 for as many as the file system below allows.
        max_hardlinks: u32 = "max-hardlinks" [default("100"), live()],
        /// Whether each file carries an xattr for each of its names, from which its paths can be told.
        gfid2path: bool = "gfid2path" [default("on")],
        /// Directories kept open, so that what lies in them is reached in one step. Bounded also by a quarter of the
        /// process's limit of open files.
        dirfd_cache: usize = "dirfd-cache" [default("4096"), range(16, 1_048_576)],
        /// Permissions that new files may have.
        create_mask: Permissions = "create-mask" [default("0777"), live()],
        /// Permissions that new files have in any case.
        force_create_mode: Permissions = "force-create-mode" [default("0"), live()],
        /// Permissions that new directories may have.
        create_directory_mask: Permissions = "create-directory-mask" [default("0777"), live()],
        /// Permissions that new directories have in any case.
        force_directory_mode: Permissions = "force-directory-mode" [default("0"), live()],
        /// Owner that the brick's root is given at the start.
        brick_uid: Option<u32> = "brick-uid" [],
        /// Group that the brick's root is given at the start.
        brick_gid: Option<u32> = "brick-gid" [],
    }
}

impl PosixOptions {
    /// The defaults for the brick `directory`, an absolute path.
    ///
    /// # Errors
    /// What is wrong with the path.
    pub(crate) fn at(directory: &std::path::Path) -> Result<PosixOptions, String> {
        let text = directory.to_str().ok_or_else(|| format!("`{}` is not UTF-8", directory.display()))?;
        let options = [("directory", text)].into_iter().collect();
        PosixOptions::parse(&options)
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brickwork_api::options::OptionMap;

    #[test]
    fn permissions_are_octal_and_hold_no_set_id_bits() {
        assert_eq!(Permissions::parse("0750"), Ok(Permissions(0o750)));
        for text in ["", "8", "1777", "rwx"] {
            assert!(Permissions::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_directory_is_all_that_must_be_given() {
        let options = PosixOptions::parse(&OptionMap::from_iter([("directory", "/b")])).unwrap();
        assert_eq!((options.max_hardlinks, options.dirfd_cache, options.gfid2path), (100, 4096, true));
        assert_eq!(PosixOptions::parse(&OptionMap::default()).unwrap_err().len(), 1);
    }
}
