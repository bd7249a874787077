//! Tells the service manager how far this process is, by systemd's protocol: words in datagrams to $NOTIFY_SOCKET.
//!
//! A manager that does not listen stops nobody: what cannot be told is logged.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How often what the manager shows of this process is renewed.
const STATUS_EVERY: Duration = Duration::from_secs(10);

/// The way to the service manager, if there is one.
#[derive(Debug, Default)]
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
}

impl Notify {
    /// The manager that started this process, as $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID say.
    #[must_use]
    pub fn from_environment() -> Notify {
        let var = |name| std::env::var_os(name).filter(|value| !value.is_empty());
        let Some(socket) = var("NOTIFY_SOCKET") else { return Notify::default() };
        let number = |name| var(name).and_then(|text| text.to_str()?.parse::<u64>().ok());
        // The variables are inherited: a watchdog for another process is not for this one.
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog = number("WATCHDOG_USEC").filter(|&usec| usec > 0 && ours).map(Duration::from_micros);
        Notify::to(&socket, watchdog)
    }

    /// A manager that listens at `socket`: a path, or a name in the abstract space behind `@`.
    fn to(socket: &OsStr, watchdog: Option<Duration>) -> Notify {
        let open = || {
            let address = match socket.as_bytes().strip_prefix(b"@") {
                Some(name) => SocketAddr::from_abstract_name(name)?,
                None => SocketAddr::from_pathname(socket)?,
            };
            let datagrams = UnixDatagram::unbound()?;
            // A manager that does not read must not hold up who serves.
            datagrams.set_nonblocking(true)?;
            io::Result::Ok((datagrams, address))
        };
        match open() {
            Ok(to) => Notify { to: Some(to), watchdog },
            Err(error) => {
                tracing::warn!(socket = %socket.display(), %error, "the service manager cannot be told anything");
                Notify::default()
            }
        }
    }

    /// Everything serves; `status` is for people.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// The volfile is being read again; [`Notify::ready`] ends it.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec as i128 * 1_000_000 + i128::from(now.tv_nsec / 1000);
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={usec}\nSTATUS=reloading"));
    }

    /// The end has begun.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// What is going on before everything serves.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}"));
    }

    /// This process is not stuck.
    pub fn alive(&self, status: &str) {
        match self.watchdog {
            Some(_) => self.send(&format!("WATCHDOG=1\nSTATUS={status}")),
            None => self.status(status),
        }
    }

    /// How often [`Notify::alive`] is to be said: twice within the patience of the watchdog.
    #[must_use]
    pub fn beat(&self) -> Beat {
        let every = self.to.as_ref().map(|_| self.watchdog.map_or(STATUS_EVERY, |limit| STATUS_EVERY.min(limit / 2)));
        Beat(every.map(|every| {
            let mut beat = tokio::time::interval(every.max(Duration::from_millis(1)));
            // One that was late says it once.
            beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            beat
        }))
    }

    fn send(&self, words: &str) {
        let Some((datagrams, address)) = &self.to else { return };
        if let Err(error) = datagrams.send_to_addr(words.as_bytes(), address) {
            tracing::warn!(words, %error, "the service manager could not be told");
        }
    }
}

/// A clock for [`Notify::alive`]; without a manager it stands still.
#[derive(Debug)]
pub struct Beat(Option<tokio::time::Interval>);

impl Beat {
    /// The next beat.
    pub async fn next(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A manager at a path, and one in the abstract space.
    fn managers() -> (tempfile::TempDir, [(UnixDatagram, std::ffi::OsString); 2]) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("brickwork-test-{}", folder.path().file_name().unwrap().to_str().unwrap());
        let managers = [
            (UnixDatagram::bind(&path).unwrap(), path.into_os_string()),
            (
                UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap(),
                format!("@{name}").into(),
            ),
        ];
        (folder, managers)
    }

    fn heard(manager: &UnixDatagram) -> String {
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut bytes = [0; 4096];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn the_manager_hears_every_step_at_a_path_and_at_an_abstract_name() {
        let (_folder, managers) = managers();
        for (manager, address) in &managers {
            let notify = Notify::to(address, Some(Duration::from_secs(20)));
            notify.status("waiting for a brick");
            notify.ready("serving, 2 clients");
            notify.alive("serving, 3 clients");
            notify.reloading();
            notify.stopping();
            assert_eq!(heard(manager), "STATUS=waiting for a brick");
            assert_eq!(heard(manager), "READY=1\nSTATUS=serving, 2 clients");
            assert_eq!(heard(manager), "WATCHDOG=1\nSTATUS=serving, 3 clients");
            let reloading = heard(manager);
            let usec = reloading.lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).unwrap();
            assert!(reloading.starts_with("RELOADING=1\n") && usec.parse::<u64>().unwrap() > 0, "{reloading}");
            assert_eq!(heard(manager), "STOPPING=1\nSTATUS=stopping");
        }
    }

    #[test]
    fn without_a_watchdog_only_the_status_is_told() {
        let (_folder, [(manager, address), _]) = managers();
        Notify::to(&address, None).alive("serving");
        assert_eq!(heard(&manager), "STATUS=serving");
    }

    #[tokio::test]
    async fn it_beats_twice_within_the_watchdogs_patience_and_not_at_all_without_a_manager() {
        let (_folder, [(_manager, address), _]) = managers();
        let period = |notify: Notify| notify.beat().0.map(|beat| beat.period());
        assert_eq!(period(Notify::to(&address, Some(Duration::from_secs(6)))), Some(Duration::from_secs(3)));
        assert_eq!(period(Notify::to(&address, Some(Duration::from_secs(600)))), Some(STATUS_EVERY));
        assert_eq!(period(Notify::to(&address, None)), Some(STATUS_EVERY));
        assert_eq!(period(Notify::default()), None);
    }

    #[test]
    fn a_manager_that_has_gone_stops_nobody() {
        let (folder, [(manager, address), _]) = managers();
        let notify = Notify::to(&address, None);
        drop((manager, folder));
        notify.ready("serving");
    }
}
