//! The names of the commands that take locks, for people who look at them.
//!
//! Read from `/proc/PID/comm` and believed for a second: a process that locks all day is read once a second, and costs 40 ns
//! each time in between.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long a name is believed: as long as an `exec` may take to be seen here.
const BELIEVED: Duration = Duration::from_secs(1);
const SHARDS: usize = 16;
/// Processes remembered in one shard; at the limit those not believed any more go, or if there are none, all.
const PROCESSES_MAX: usize = 256;

/// The commands of recent processes.
#[derive(Default)]
pub(crate) struct Commands {
    shards: [Mutex<HashMap<u32, Known>>; SHARDS],
}

struct Known {
    command: Option<Arc<str>>,
    read: Instant,
}

impl Commands {
    /// The command of the process `pid`; `None` when it cannot be read: it is in another pid namespace, or `/proc` hides it.
    pub(crate) fn of(&self, pid: u32) -> Option<Arc<str>> {
        if pid == 0 {
            return None;
        }
        let now = Instant::now();
        let mut shard = self.shards[pid as usize % SHARDS].lock();
        if let Some(known) = shard.get(&pid)
            && now.duration_since(known.read) < BELIEVED
        {
            return known.command.clone();
        }
        if shard.len() >= PROCESSES_MAX {
            shard.retain(|_, known| now.duration_since(known.read) < BELIEVED);
        }
        if shard.len() >= PROCESSES_MAX {
            shard.clear();
        }
        let command = read(pid);
        shard.insert(pid, Known { command: command.clone(), read: now });
        command
    }
}

fn read(pid: u32) -> Option<Arc<str>> {
    let comm = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(&comm).trim_end_matches('\n').into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_that_of_the_process() {
        let commands = Commands::default();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().expect("sleep");
        // Between fork and exec it has our name.
        while read(child.id()).as_deref() != Some("sleep") {
            std::thread::yield_now();
        }
        assert_eq!(commands.of(child.id()).as_deref(), Some("sleep"));
        child.kill().expect("a child");
        child.wait().expect("a child");
        assert_eq!(commands.of(child.id()).as_deref(), Some("sleep"), "believed for a second");
    }

    #[test]
    fn who_cannot_be_read_has_none() {
        let commands = Commands::default();
        assert_eq!(commands.of(0), None);
        assert_eq!(commands.of(u32::MAX), None);
    }

    #[test]
    fn at_the_limit_a_shard_begins_anew() {
        let commands = Commands::default();
        for place in 0..=PROCESSES_MAX as u32 {
            // Above all that Linux gives.
            commands.of(0x4000_0000 + place * SHARDS as u32);
        }
        assert_eq!(commands.shards[0].lock().len(), 1);
    }
}
