//! The operations of the kernel, each as the fops it becomes.
//!
//! Each method checks what the request names and returns the work that answers it.

mod attributes;
mod create;
mod directories;
pub(crate) mod files;
mod locks;
pub(crate) mod names;
mod xattrs;

/// The value, or the end of the request with its error.
macro_rules! or_refuse {
    ($front:expr, $reply:expr, $value:expr) => {
        match $value {
            Ok(value) => value,
            Err(errno) => return $front.refuse_at_once(errno, $reply),
        }
    };
}
pub(crate) use or_refuse;
