//! What a process leaves in the log when it opens and closes it, so that the next one knows how it ended.

use crate::Mode;

/// The payload of an [`Opened`](crate::frame::Kind::Opened) frame: who, under which boot of the machine, in which mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub boot: Boot,
    pub process: u32,
    pub mode: Mode,
}

/// One run of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Boot(pub u128);

impl Boot {
    /// The present one. Where the kernel does not say it is zero, which [`is_known`](Self::is_known) refuses.
    pub fn present() -> Self {
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        Self(u128::from_str_radix(&digits, 16).unwrap_or(0))
    }

    pub fn is_known(self) -> bool {
        self.0 != 0
    }
}

/// Bytes of an encoded mark.
pub(crate) const BYTES: usize = 21;

impl Mark {
    /// That of this process.
    pub fn present(mode: Mode) -> Self {
        Self { boot: Boot::present(), process: std::process::id(), mode }
    }

    pub fn encode(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..16].copy_from_slice(&self.boot.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.process.to_le_bytes());
        bytes[20] = match self.mode {
            Mode::Process => 1,
            Mode::Disk => 2,
        };
        bytes
    }

    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; BYTES] = bytes.try_into().ok()?;
        let mode = match bytes[20] {
            1 => Mode::Process,
            2 => Mode::Disk,
            _ => return None,
        };
        let boot = u128::from_le_bytes(std::array::from_fn(|index| bytes[index]));
        let process = u32::from_le_bytes(std::array::from_fn(|index| bytes[16 + index]));
        Some(Self { boot: Boot(boot), process, mode })
    }
}
