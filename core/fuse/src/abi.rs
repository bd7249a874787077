//! The kernel's binary interface: `linux/fuse.h` of FUSE 7.45, as Rust sees it.
//!
//! Names are the kernel's without `fuse_` and `FUSE_`. Integers are in the machine's own byte order; every structure is
//! padded to eight bytes and has no hidden padding, which `zerocopy` proves at compile time and the tests below
//! compare with the sizes and offsets a C compiler prints for the kernel's header.

mod input;
mod opcode;
mod output;

pub use input::*;
pub use opcode::{NotifyCode, Opcode};
pub use output::*;

/// The major version of the protocol; there has been no other since 2005.
pub const KERNEL_VERSION: u32 = 7;
/// The newest minor version this crate speaks.
pub const KERNEL_MINOR_VERSION: u32 = 45;
/// The oldest minor version this crate speaks: Linux 5.4.
pub const KERNEL_MINOR_VERSION_MIN: u32 = 31;
/// The node id of the root directory.
pub const ROOT_ID: u64 = 1;
/// The kernel refuses reads into buffers smaller than this, in bytes.
pub const MIN_READ_BUFFER: usize = 8192;
/// The bit that an INTERRUPT's own `unique` carries beside that of its request.
pub const INT_REQ_BIT: u64 = 1;

/// `_IOR(229, 0, uint32_t)`: joins a fresh `/dev/fuse` descriptor to the connection of another.
pub const DEV_IOC_CLONE: u32 = 0x8004_e500;

/// Rounds `length` up to the eight bytes on which the kernel aligns directory entries and extensions.
pub const fn record_align(length: usize) -> usize {
    (length + 7) & !7
}

/// Declares a set of bits of the protocol as its own type.
macro_rules! bits {
    ($(#[$doc:meta])* $name:ident: $word:ty { $($(#[$bit_doc:meta])* $bit:ident = $value:expr;)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct $name(pub $word);

        impl $name {
            $($(#[$bit_doc])* pub const $bit: Self = Self($value);)*

            /// No bit at all.
            pub const fn empty() -> Self {
                Self(0)
            }

            /// Whether every bit of `other` is set here.
            pub const fn contains(self, other: Self) -> bool {
                self.0 & other.0 == other.0
            }

            /// The bits set in either.
            #[must_use]
            pub const fn with(self, other: Self) -> Self {
                Self(self.0 | other.0)
            }

            /// The bits set here and not in `other`.
            #[must_use]
            pub const fn without(self, other: Self) -> Self {
                Self(self.0 & !other.0)
            }

            /// The bits set in both.
            #[must_use]
            pub const fn both(self, other: Self) -> Self {
                Self(self.0 & other.0)
            }

            /// Whether no bit is set.
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }
        }

        impl std::ops::BitOr for $name {
            type Output = Self;
            fn bitor(self, other: Self) -> Self {
                self.with(other)
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let mut rest = self.0;
                let mut names: Vec<&str> = Vec::new();
                $(if rest & $value != 0 && self.contains(Self($value)) {
                    names.push(stringify!($bit));
                    rest &= !$value;
                })*
                write!(f, "{}", names.join("|"))?;
                match rest {
                    0 if names.is_empty() => f.write_str("0"),
                    0 => Ok(()),
                    rest => write!(f, "+{rest:#x}"),
                }
            }
        }
    };
}
pub(crate) use bits;

#[cfg(test)]
mod tests;
