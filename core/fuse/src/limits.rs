//! What a session may take of the machine.

/// The bounds of a session; each has a default that suits a mount of a busy server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Reader threads, each with its own descriptor. Default: the processors, at most 4. At least 1.
    pub readers: usize,
    /// Requests that wait for something at once: F_SETLKW waiters and whatever went to the network. Default: 65,536.
    ///
    /// At the limit further requests are refused before they start, lock waits with `ENOLCK` and others with
    /// `ENOMEM`; FORGET, FLUSH, RELEASE, RELEASEDIR and unlocking always pass, as they are what ends the shortage.
    pub pending_max: usize,
    /// Message buffers, used and idle, each a little more than `max_write` of address space. Default: 32.
    ///
    /// At the limit payloads of WRITE are copied instead of keeping their buffer. At least one for each reader.
    pub buffers_max: usize,
    /// Message buffers kept in memory while nobody uses them, beside two of each reader. Default: 2.
    pub buffers_idle_max: usize,
    /// Payloads of fewer bytes are copied even where a buffer could be kept. Default: 4096.
    ///
    /// What is kept begins on a page, so O_DIRECT can take it; what is less than a page O_DIRECT cannot take anyway.
    pub payload_copy_below: usize,
    /// Requests the kernel may send ahead in the background: readahead, asynchronous direct I/O. Default: 64.
    ///
    /// Without `CAP_SYS_ADMIN` the kernel cuts it to `/sys/module/fuse/parameters/max_user_bgreq`.
    pub max_background: u16,
    /// Background requests at which the kernel calls the mount congested and readahead stops. Default: 48.
    pub congestion_threshold: u16,
}

impl Default for Limits {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            readers: processors.min(4),
            pending_max: 65_536,
            buffers_max: 32,
            buffers_idle_max: 2,
            payload_copy_below: 4096,
            max_background: 64,
            congestion_threshold: 48,
        }
    }
}

impl Limits {
    /// These limits with what cannot work raised to the least that does.
    pub(crate) fn workable(mut self) -> Self {
        self.readers = self.readers.max(1);
        self.buffers_max = self.buffers_max.max(self.readers);
        self.max_background = self.max_background.max(1);
        self.congestion_threshold = self.congestion_threshold.min(self.max_background);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_zero_are_raised_to_what_works() {
        let zero = Limits { readers: 0, buffers_max: 0, max_background: 0, ..Limits::default() };
        let limits = zero.workable();
        assert_eq!((limits.readers, limits.buffers_max, limits.max_background), (1, 1, 1));
        assert_eq!(limits.congestion_threshold, 1);
        assert_eq!(limits.workable(), limits);
    }
}
