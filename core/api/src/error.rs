//! What a fop answers when it does not do what it was asked.
//!
//! The number speaks to the caller, the detail to the log. An error without detail allocates nothing.

use std::borrow::Cow;
use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

use crate::xdata::Xdata;

/// An error number of Linux.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Errno(i32);

macro_rules! errnos {
    ($($name:ident)*) => {
        impl Errno {
            $(#[doc = concat!("`", stringify!($name), "` of `errno.h`.")]
            pub const $name: Errno = Errno(libc::$name);)*

            /// The symbol of `errno.h`, or `None` for a number that no xlator uses.
            #[must_use]
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $(Errno::$name => Some(stringify!($name)),)*
                    _ => None,
                }
            }

            /// The number whose symbol is `name`, among those that have one here.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Errno> {
                match name {
                    $(stringify!($name) => Some(Errno::$name),)*
                    _ => None,
                }
            }
        }
    };
}

errnos! {
    EPERM ENOENT EINTR EIO ENXIO E2BIG EBADF EAGAIN ENOMEM EACCES EFAULT EBUSY EEXIST EXDEV ENODEV ENOTDIR
    EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM ERANGE EDEADLK
    ENAMETOOLONG ENOLCK ENOSYS ENOTEMPTY ELOOP ENODATA ETIME EREMOTE EPROTO EOVERFLOW EOPNOTSUPP ETIMEDOUT
    ECONNREFUSED ENOTCONN ECONNRESET ECANCELED ESTALE EDQUOT
}

impl Errno {
    /// The number `raw`, as a system call left it.
    #[must_use]
    pub const fn from_raw(raw: i32) -> Errno {
        Errno(raw)
    }

    /// The positive number.
    #[must_use]
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "errno {}", self.0),
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<io::Error> for Errno {
    /// The number of the operating system; `EIO` when there is none.
    fn from(error: io::Error) -> Errno {
        error.raw_os_error().map_or(Errno::EIO, Errno)
    }
}

impl From<rustix::io::Errno> for Errno {
    fn from(errno: rustix::io::Errno) -> Errno {
        Errno(errno.raw_os_error())
    }
}

/// A fop that failed: the number for the caller, and, when someone knew more, the detail for the log.
///
/// 16 bytes, so that a `Result` of it is cheap to hand up through the layers.
///
/// ```
/// use brickwork_api::{Errno, FopError};
/// let error = FopError::new(Errno::ENOSPC).doing("extending the file").with("offset", 4096);
/// assert_eq!(error.to_string(), "extending the file: ENOSPC (offset 4096)");
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct FopError {
    errno: Errno,
    detail: Option<Box<Detail>>,
}

#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
struct Detail {
    doing: Cow<'static, str>,
    xlator: Option<String>,
    fields: Vec<(Cow<'static, str>, String)>,
    xdata: Xdata,
}

/// What every fop answers.
pub type FopResult<T> = Result<T, FopError>;

impl FopError {
    /// A bare number.
    #[must_use]
    pub const fn new(errno: Errno) -> FopError {
        FopError { errno, detail: None }
    }

    /// What the caller sees.
    #[must_use]
    pub const fn errno(&self) -> Errno {
        self.errno
    }

    /// Says in words what was being done, as "extending the file".
    #[must_use]
    pub fn doing(mut self, doing: &'static str) -> FopError {
        self.detail_mut().doing = Cow::Borrowed(doing);
        self
    }

    /// Adds a value that a reader of the log needs.
    #[must_use]
    pub fn with(mut self, field: &'static str, value: impl fmt::Display) -> FopError {
        let value = value.to_string();
        self.detail_mut().fields.push((Cow::Borrowed(field), value));
        self
    }

    /// Adds what goes back to the caller beside the number, as the target of an `EREMOTE`.
    #[must_use]
    pub fn with_xdata(mut self, xdata: Xdata) -> FopError {
        self.detail_mut().xdata = xdata;
        self
    }

    /// Names the xlator the error comes from; the first name stays.
    #[must_use]
    pub fn from_xlator(mut self, xlator: &str) -> FopError {
        if let Some(detail) = &mut self.detail {
            detail.xlator.get_or_insert_with(|| xlator.to_owned());
        }
        self
    }

    /// What came back beside the number; empty for most errors.
    #[must_use]
    pub fn xdata(&self) -> &Xdata {
        self.detail.as_ref().map_or(const { &Xdata::EMPTY }, |detail| &detail.xdata)
    }

    /// Whether there is more to log than the number.
    #[must_use]
    pub fn has_detail(&self) -> bool {
        self.detail.is_some()
    }

    fn detail_mut(&mut self) -> &mut Detail {
        self.detail.get_or_insert_default()
    }
}

impl From<Errno> for FopError {
    fn from(errno: Errno) -> FopError {
        FopError::new(errno)
    }
}

impl From<io::Error> for FopError {
    fn from(error: io::Error) -> FopError {
        FopError::new(error.into())
    }
}

impl From<rustix::io::Errno> for FopError {
    fn from(errno: rustix::io::Errno) -> FopError {
        FopError::new(errno.into())
    }
}

impl fmt::Display for FopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(detail) = &self.detail else { return write!(f, "{}", self.errno) };
        if let Some(xlator) = &detail.xlator {
            write!(f, "`{xlator}` ")?;
        }
        if !detail.doing.is_empty() {
            write!(f, "{}: ", detail.doing)?;
        }
        write!(f, "{}", self.errno)?;
        for (index, (field, value)) in detail.fields.iter().enumerate() {
            write!(f, "{}{field} {value}", if index == 0 { " (" } else { ", " })?;
        }
        f.write_str(if detail.fields.is_empty() { "" } else { ")" })
    }
}

impl fmt::Debug for FopError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for FopError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_16_bytes() {
        assert_eq!(size_of::<FopError>(), 16);
    }

    #[test]
    fn an_error_tells_number_deed_and_values() {
        let error = FopError::new(Errno::ENOSPC).doing("extending the file").with("offset", 7).with("len", 9);
        assert_eq!(error.from_xlator("posix-1").to_string(), "`posix-1` extending the file: ENOSPC (offset 7, len 9)");
    }

    #[test]
    fn the_first_xlator_that_names_itself_stays() {
        let error = FopError::new(Errno::EIO).doing("reading").from_xlator("posix").from_xlator("locks");
        assert_eq!(error.to_string(), "`posix` reading: EIO");
    }

    #[test]
    fn a_bare_number_is_not_given_a_detail_by_naming_it() {
        assert!(!FopError::new(Errno::ENOENT).from_xlator("posix").has_detail());
    }

    #[test]
    fn names_and_numbers_of_errno_agree() {
        assert_eq!(Errno::from_name("ENOSPC"), Some(Errno::ENOSPC));
        assert_eq!(Errno::ENOSPC.raw(), libc::ENOSPC);
        assert_eq!(Errno::from_raw(libc::ESTALE).to_string(), "ESTALE");
        assert_eq!(Errno::from_raw(9999).to_string(), "errno 9999");
    }
}
