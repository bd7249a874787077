//! A lock as people and scripts see it.

use brickwork_locks::admin::shapes::{ClientState, Kind, LockRow};
use serde_json::{Value, json};

use super::range::Range;
use crate::output::span;

/// A lock with the brick that keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The instance that serves the brick.
    pub instance: String,
    /// The brick.
    pub brick: String,
    /// The lock.
    pub lock: LockRow,
}

impl Row {
    /// `WRITE` or `READ`.
    #[must_use]
    pub fn mode(&self) -> &'static str {
        if self.lock.exclusive { "WRITE" } else { "READ" }
    }

    /// Its bytes, or the name that it is about.
    #[must_use]
    pub fn range(&self) -> String {
        match (&self.lock.kind, &self.lock.name) {
            (Kind::Entry, Some(name)) => format!("name {}", plain(name)),
            (Kind::Entry, None) => "all names".to_owned(),
            _ => Range { start: self.lock.start, end: self.lock.end }.to_string(),
        }
    }

    /// Who: `web01:python3(18739)`.
    #[must_use]
    pub fn who(&self) -> String {
        let lock = &self.lock;
        let host = match (&lock.client_state, lock.host.as_str()) {
            (ClientState::Local, "") => "local".to_owned(),
            (_, "") => format!("{}", lock.client)[..8].to_owned(),
            (_, host) => plain(host),
        };
        match lock.command.as_str() {
            "" => format!("{host}:({})", lock.pid),
            command => format!("{host}:{}({})", plain(command), lock.pid),
        }
    }

    /// Which object: its path, or its gfid when it has none that is known.
    #[must_use]
    pub fn path(&self) -> String {
        self.lock.path.as_deref().map_or_else(|| format!("gfid:{}", self.lock.gfid), plain)
    }

    /// For how long.
    #[must_use]
    pub fn age(&self) -> String {
        span(self.lock.age_ms / 1000)
    }

    /// In one line: `lk:8f3a  POSIX WRITE 0-99  /lj/ctr.44  web01:python3(18739)  held 2m03s`.
    #[must_use]
    pub fn line(&self) -> String {
        let since = if self.lock.waits() { "waiting" } else { "held" };
        let (id, kind, mode, range) = (self.lock.id, self.lock.kind.word(), self.mode(), self.range());
        format!("{id}  {kind} {mode} {range}  {}  {}  {since} {}", self.path(), self.who(), self.age())
    }

    /// What is to be known about its client, when it is away.
    #[must_use]
    pub fn note(&self) -> Option<String> {
        let ClientState::Detached { silent_ms, protected_ms } = self.lock.client_state else { return None };
        let silent = span(silent_ms / 1000);
        Some(match protected_ms {
            0 => format!("{} is silent for {silent}; its lock goes to the first who wants it", self.who()),
            ms => format!(
                "{} is silent for {silent}; its lock is protected for {} more",
                self.who(),
                span(ms.div_ceil(1000))
            ),
        })
    }

    /// For scripts. `end` is the last byte, null when the lock reaches to the end of the file however it grows.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let lock = &self.lock;
        let seconds = |ms: u64| ms as f64 / 1000.0;
        let (state, silent, protected) = match lock.client_state {
            ClientState::Local => ("local", None, None),
            ClientState::Attached => ("attached", None, None),
            ClientState::Detached { silent_ms, protected_ms } => {
                ("detached", Some(seconds(silent_ms)), Some(seconds(protected_ms)))
            }
        };
        json!({
            "id": lock.id.to_string(),
            "state": if lock.waits() { "waiting" } else { "held" },
            "type": lock.kind,
            "mode": self.mode().to_lowercase(),
            "start": lock.start,
            "end": (lock.end != u64::MAX).then(|| lock.end - 1),
            "domain": lock.domain,
            "name": lock.name,
            "mandatory": lock.mandatory,
            "ageSeconds": seconds(lock.age_ms),
            "client": lock.client.to_string(),
            "owner": lock.owner,
            "host": lock.host,
            "command": lock.command,
            "pid": lock.pid,
            "clientState": state,
            "clientSilentSeconds": silent,
            "clientProtectedSeconds": protected,
            "blockers": lock.blockers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "instance": self.instance,
            "brick": self.brick,
            "gfid": lock.gfid.to_string(),
            "path": lock.path,
        })
    }
}

/// `text` without what would steer a terminal: names come from clients.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
pub mod tests {
    use brickwork_api::{ClientId, Gfid};
    use brickwork_locks::admin::shapes::RowId;

    use super::*;

    /// A row of `host` with the bytes `range`; each host is one client with one owner.
    pub fn row(id: &str, host: &str, mode: &str, range: &str) -> Row {
        let range: Range = range.parse().unwrap();
        let id: RowId = id.parse().unwrap();
        let client = host.bytes().fold(0, |hash: u128, byte| hash * 257 + u128::from(byte));
        let lock = LockRow {
            id,
            kind: Kind::Posix,
            gfid: Gfid::ROOT,
            path: Some("/lj/ctr.44".to_owned()),
            domain: None,
            name: None,
            exclusive: mode == "WRITE",
            start: range.start,
            end: range.end,
            age_ms: 4_200,
            client: ClientId(client),
            owner: "0a".to_owned(),
            host: host.to_owned(),
            command: "python3".to_owned(),
            pid: 18_739,
            open: Some(1),
            mandatory: false,
            client_state: ClientState::Attached,
            blockers: Vec::new(),
        };
        Row { instance: "gd1".to_owned(), brick: "b2".to_owned(), lock }
    }

    #[test]
    fn names_of_clients_cannot_steer_a_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\nü"), "a\\u{1b}[2Jb\\nü");
    }

    #[test]
    fn json_has_the_last_byte_or_null_for_the_end_of_the_file() {
        assert_eq!(row("lk:1", "web01", "WRITE", "0-99").to_json()["end"], 99);
        assert_eq!(row("lk:1", "web01", "WRITE", "0-EOF").to_json()["end"], Value::Null);
    }
}
