//! What follows `-o` of a mount: the options of the mount itself, and words about where the volume comes from.
//!
//! The words are those of mount.glusterfs. One that has no meaning here is accepted with a notice where leaving it out
//! changes nothing that anybody could miss, and refused with the reason where it does.

use std::path::PathBuf;
use std::time::Duration;

use brickwork_api::options::{OptionMap, OptionValue, Seconds};
use brickwork_mount::FuseOptions;

use crate::codes::Code;
use crate::failure::Failure;
use crate::spec::{PORT, SERVERS_MAX, Server};

/// What `-o` said.
#[derive(Clone, Debug)]
pub struct Words {
    /// Options of the mount itself.
    pub fuse: FuseOptions,
    /// How long to wait for the first brick.
    pub wait: Option<Duration>,
    /// Who else can be asked for the volfile.
    pub backups: Vec<Server>,
    /// The port of servers that are named without one.
    pub port: u16,
    /// How often the servers are asked, one after the other, before none of them answers.
    pub attempts: u32,
    /// Options of TLS by their names in volfiles.
    pub tls: OptionMap,
    /// As BRICKWORK_LOG spells it.
    pub log_level: Option<&'static str>,
    /// Where to log.
    pub log_file: Option<PathBuf>,
    /// As `--xlator-option`.
    pub xlator_options: Vec<String>,
    /// As `--volume-name`.
    pub volume_name: Option<String>,
    /// What has no effect here, for people.
    pub notices: Vec<String>,
    /// Words that only a volume on other machines has a use for.
    pub remote: Vec<&'static str>,
}

/// A word with its other names, its values, and what it does.
struct Known {
    names: &'static [&'static str],
    values: &'static str,
    doc: &'static str,
}

const fn known(names: &'static [&'static str], values: &'static str, doc: &'static str) -> Known {
    Known { names, values, doc }
}

const WAIT: &str = "wait";
const BACKUPS: &str = "backup-volfile-servers";
const BACKUP_PORT: &str = "volfile-server-port";
const TRANSPORT: &str = "transport";
const ATTEMPTS: &str = "fetch-attempts";
const LOG_LEVEL: &str = "log-level";
const LOG_FILE: &str = "log-file";
const XLATOR_OPTION: &str = "xlator-option";
const VOLUME_NAME: &str = "volume-name";
const SSL: &str = "ssl";

const WORDS: &[Known] = &[
    known(&[WAIT], "a time", "Keep trying until the first brick answers; for mounts at boot."),
    known(
        &[BACKUPS, "backupvolfile-server"],
        "HOST[:HOST...]",
        "Who is asked for the volfile after those before `:/`.",
    ),
    known(&[BACKUP_PORT, "server-port"], "a port", "The port of servers that are named without one [default: 24007]"),
    known(&[TRANSPORT], "tcp or unix", "How servers are reached; `unix:PATH:/VOLUME` names a unix socket."),
    known(
        &[ATTEMPTS, "volfile-max-fetch-attempts"],
        "a whole number",
        "How often the servers are asked, one after the other [default: 1]",
    ),
    known(&[SSL], "on or off", "The volfile is fetched over TLS. The volfile says itself how its bricks are reached."),
    known(&["ssl-ca-list", "transport.socket.ssl-ca-list"], "a path", "Who is believed, PEM, as in volfiles."),
    known(&["ssl-own-cert", "transport.socket.ssl-own-cert"], "a path", "The certificate of this machine, PEM."),
    known(&["ssl-private-key", "transport.socket.ssl-private-key"], "a path", "The key of this machine, PEM."),
    known(
        &["ssl-cert-depth", "transport.socket.ssl-cert-depth"],
        "a whole number",
        "How many certificates beside its own a brick may show.",
    ),
    known(
        &["ssl-verify-host", "transport.socket.ssl-verify-host"],
        "on or off",
        "Whether the certificate of a brick must be for the host that was named.",
    ),
    known(&[LOG_LEVEL], "TRACE, DEBUG, INFO, WARNING, ERROR or NONE", "How much is logged."),
    known(&[LOG_FILE], "a path", "As --log-file."),
    known(&[XLATOR_OPTION], "PATTERN.KEY=VALUE", "As --xlator-option; can be given again."),
    known(&[VOLUME_NAME, "volume-id"], "a volume of the volfile", "As --volume-name."),
];

/// Words of mount.glusterfs that change nothing here, and why nobody misses it.
const WITHOUT_EFFECT: &[(&str, &str)] = &[
    ("attr-times-granularity", "times have the brick's own granularity"),
    ("auto-invalidation", "what the kernel keeps is dropped when bricks say so"),
    ("capability", "security.capability is an extended attribute like any other"),
    ("event-history", "there is no such history"),
    ("fopen-keep-cache", "the kernel keeps its cache over an open while the file has not changed"),
    ("gid-timeout", "the groups of a process are remembered as long as it lives"),
    ("global-threading", "threads are shared by the whole process anyway"),
    ("invalidate-limit", "nothing is queued for the kernel without its own limit"),
    ("io-engine", "the kernel's requests are read by `readers` threads"),
    ("kernel-writeback-cache", "what is written goes to the brick at once"),
    ("log-server", "the log is a file here"),
    ("log-server-port", "the log is a file here"),
    ("lru-limit", "inodes are kept as long as the kernel knows them"),
    ("mem-accounting", "`brickwork dump` shows memory"),
    ("no-root-squash", "root is root here; the brick decides what becomes of it"),
    ("process-name", "the process is called brickwork"),
    ("resolve-gids", "all groups of a process are sent"),
    ("selinux", "security.selinux is an extended attribute like any other"),
    ("thin-client", "the volfile of the volume decides"),
];

/// Words of mount.glusterfs that would be missed, and why they are refused.
const REFUSED: &[(&str, &str)] = &[
    ("aux-gfid-mount", "files are reached by their names only"),
    ("client-pid", "a client cannot pass for a process of the volume itself"),
    ("dump-fuse", "requests are not recorded; BRICKWORK_LOG=brickwork_fuse=trace logs them"),
    ("enable-ino32", "inode numbers have 64 bits"),
    ("halo-enabled", "there are no replicas to choose from"),
    ("halo-max-latency", "there are no replicas to choose from"),
    ("halo-max-replicas", "there are no replicas to choose from"),
    ("halo-min-replicas", "there are no replicas to choose from"),
    ("oom-score-adj", "set it where the process is started: `choom -n N -- mount ...`"),
    (
        "root-squash",
        "whom root of this machine acts as is decided by the brick: `option root-squash` of protocol/server",
    ),
    ("subdir-mount", "only a whole volume can be mounted"),
    ("worm", "files that are written once are not built"),
];

/// The words for the end of the help of `mount`.
pub fn help() -> String {
    let mut help = String::from("Where the volume comes from, for -o:\n");
    for word in WORDS {
        help.push_str(&format!("  {}: {}\n          {}\n", word.names[0], word.values, word.doc));
    }
    help
}

/// Reads what every `-o` said where the volume cannot come from elsewhere.
///
/// # Errors
/// `MountOption` with everything that is wrong.
pub fn fuse(options: &[String]) -> Result<FuseOptions, Failure> {
    FuseOptions::from_words(&options.join(",")).map_err(|errors| {
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Failure::new(Code::MountOption, texts.join("\n")).next("brickwork mount --help")
    })
}

impl Default for Words {
    fn default() -> Words {
        Words {
            fuse: FuseOptions::default(),
            wait: None,
            backups: Vec::new(),
            port: PORT,
            attempts: 1,
            tls: OptionMap::default(),
            log_level: None,
            log_file: None,
            xlator_options: Vec::new(),
            volume_name: None,
            notices: Vec::new(),
            remote: Vec::new(),
        }
    }
}

impl Words {
    /// Reads what every `-o` said; `sloppy` leaves out what is unknown, with a notice, as `mount -s` asks.
    ///
    /// # Errors
    /// `MountOption` with everything that is wrong.
    pub fn parse(options: &[String], sloppy: bool) -> Result<Words, Failure> {
        let mut words = Words::default();
        let mut fuse = Vec::new();
        let mut wrong = Vec::new();
        for word in options.iter().flat_map(|list| list.split(',')).map(str::trim).filter(|word| !word.is_empty()) {
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match words.take(name, value) {
                Taken::Yes => {}
                Taken::Wrong(why) => wrong.push(format!("option `{name}`: {why}")),
                Taken::No if FuseOptions::knows(name) => fuse.push(word),
                Taken::No if sloppy => words.notices.push(format!("option `{name}` is unknown and left out")),
                Taken::No => wrong.push(format!("option `{name}`: {}", unknown())),
            }
        }
        match FuseOptions::from_words(&fuse.join(",")) {
            Ok(fuse) if wrong.is_empty() => return Ok(Words { fuse, ..words }),
            Ok(_) => {}
            Err(errors) => wrong.extend(errors.iter().map(ToString::to_string)),
        }
        Err(Failure::new(Code::MountOption, wrong.join("\n")).next("brickwork mount --help"))
    }

    fn take(&mut self, name: &str, value: &str) -> Taken {
        if let Some((_, why)) = WITHOUT_EFFECT.iter().find(|(word, _)| *word == name) {
            self.notices.push(format!("option `{name}` has no effect: {why}"));
            return Taken::Yes;
        }
        if let Some((_, why)) = REFUSED.iter().find(|(word, _)| *word == name) {
            return Taken::Wrong((*why).to_owned());
        }
        let Some(word) = WORDS.iter().find(|word| word.names.contains(&name)) else { return Taken::No };
        match self.set(word, value) {
            Ok(()) => Taken::Yes,
            Err(why) => Taken::Wrong(why),
        }
    }

    fn set(&mut self, word: &Known, value: &str) -> Result<(), String> {
        let key = word.names[0];
        // What has no other default than `on` can stand alone.
        if value.is_empty() && key != SSL && word.values != "on or off" {
            return Err(format!("needs a value: {}", word.values));
        }
        match key {
            WAIT => self.wait = Some(Seconds::parse(value).map_err(|why| format!("`{value}` {why}"))?.0),
            LOG_LEVEL => self.log_level = Some(level(value)?),
            LOG_FILE => self.log_file = Some(value.into()),
            XLATOR_OPTION => self.xlator_options.push(value.to_owned()),
            VOLUME_NAME => self.volume_name = Some(value.to_owned()),
            _ => {
                self.remote.push(key);
                self.set_remote(key, value)?;
            }
        }
        Ok(())
    }

    fn set_remote(&mut self, key: &'static str, value: &str) -> Result<(), String> {
        match key {
            BACKUPS => self.backups.extend(backups(value)?),
            BACKUP_PORT => {
                self.port = value.parse().ok().filter(|&port| port > 0).ok_or(format!("`{value}` is no port"))?;
            }
            TRANSPORT if matches!(value, "tcp" | "socket" | "unix") => {}
            TRANSPORT => return Err(format!("`{value}` is not built: bricks are reached over TCP and unix sockets")),
            ATTEMPTS => {
                let attempts = value.parse().ok().filter(|attempts| (1..=1000).contains(attempts));
                self.attempts = attempts.ok_or(format!("`{value}` is not a number from 1 to 1000"))?;
            }
            SSL => drop(self.tls.insert("transport.socket.ssl-enabled", if value.is_empty() { "on" } else { value })),
            key => {
                let value = if value.is_empty() { "on" } else { value };
                drop(self.tls.insert(format!("transport.socket.{key}"), value));
            }
        }
        Ok(())
    }
}

enum Taken {
    Yes,
    No,
    Wrong(String),
}

/// Machines with colons between them; an IPv6 address in brackets.
fn backups(text: &str) -> Result<Vec<Server>, String> {
    let mut inside = false;
    let separator = |c: char| {
        inside = (inside || c == '[') && c != ']';
        c == ':' && !inside
    };
    let servers: Vec<Server> = text.split(separator).map(Server::parse).collect::<Result<_, _>>()?;
    if servers.len() > SERVERS_MAX { Err(format!("at most {SERVERS_MAX} servers are asked")) } else { Ok(servers) }
}

/// The level by GlusterFS's name or ours.
fn level(text: &str) -> Result<&'static str, String> {
    Ok(match text.to_ascii_uppercase().as_str() {
        "TRACE" => "trace",
        "DEBUG" => "debug",
        "INFO" => "info",
        "WARNING" | "WARN" => "warn",
        "ERROR" | "CRITICAL" => "error",
        "NONE" => "off",
        _ => return Err(format!("`{text}` is none of TRACE, DEBUG, INFO, WARNING, ERROR, NONE")),
    })
}

fn unknown() -> String {
    let ours = WORDS.iter().map(|word| word.names[0]);
    let keys: Vec<&str> = ours.chain(FuseOptions::SPECS.iter().map(|spec| spec.key)).collect();
    format!("no such mount option; there are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Words, String> {
        Words::parse(&[text.to_owned()], false).map_err(|failure| failure.message().to_owned())
    }

    #[test]
    fn a_line_of_fstab_is_read() {
        let words = parse("_netdev,x-systemd.automount,wait=30s,backup-volfile-servers=vm3:[::1]:vm4,ro").unwrap();
        assert_eq!(words.wait, Some(Duration::from_secs(30)));
        let backups: Vec<String> = words.backups.iter().map(ToString::to_string).collect();
        assert_eq!(backups, ["vm3", "[::1]", "vm4"]);
        assert!(words.fuse.read_only && words.notices.is_empty());
        assert_eq!(words.remote, [BACKUPS]);
    }

    #[test]
    fn every_word_of_the_table_is_taken_by_all_its_names() {
        for word in WORDS {
            for name in word.names {
                let value = match word.values {
                    "a time" => "1s",
                    "a port" | "a whole number" => "2",
                    "tcp or unix" => "tcp",
                    "on or off" => "on",
                    "TRACE, DEBUG, INFO, WARNING, ERROR or NONE" => "DEBUG",
                    _ => "value",
                };
                parse(&format!("{name}={value}")).unwrap_or_else(|why| panic!("{name}: {why}"));
                assert!(!FuseOptions::knows(name), "{name} would never reach the mount");
            }
        }
    }

    #[test]
    fn words_reach_what_they_are_for() {
        let words = parse(
            "server-port=24010,fetch-attempts=3,log-level=WARNING,log-file=/l,xlator-option=a.b=c,volume-id=top,ssl,\
             ssl-ca-list=/ca",
        )
        .unwrap();
        assert_eq!((words.port, words.attempts, words.log_level), (24010, 3, Some("warn")));
        assert_eq!((words.log_file, words.volume_name.as_deref()), (Some("/l".into()), Some("top")));
        assert_eq!(words.xlator_options, ["a.b=c"]);
        assert_eq!(words.tls.get("transport.socket.ssl-enabled"), Some("on"));
        assert_eq!(words.tls.get("transport.socket.ssl-ca-list"), Some("/ca"));
    }

    #[test]
    fn what_has_no_meaning_is_a_notice_or_a_reason() {
        let words = parse("fopen-keep-cache,gid-timeout=300").unwrap();
        assert_eq!(words.notices.len(), 2);
        let said = parse("root-squash=on,transport=rdma,wait=soon,backup-volfile-servers,bogus,slots=0").unwrap_err();
        let first: Vec<&str> = said.lines().map(|line| line.split('`').nth(1).unwrap()).collect();
        assert_eq!(first, ["root-squash", "transport", "wait", BACKUPS, "bogus", "slots"], "{said}");
        assert!(said.contains("decided by the brick"), "{said}");
    }

    #[test]
    fn sloppy_leaves_out_what_is_unknown_but_not_what_is_wrong() {
        let words = Words::parse(&["bogus=1,ro".to_owned()], true).unwrap();
        assert!(words.fuse.read_only);
        assert_eq!(words.notices, ["option `bogus` is unknown and left out"]);
        assert!(Words::parse(&["slots=0".to_owned()], true).is_err());
    }

    #[test]
    fn no_word_stands_in_two_tables() {
        let mut names: Vec<&str> = WORDS.iter().flat_map(|word| word.names.iter().copied()).collect();
        names.extend(WITHOUT_EFFECT.iter().chain(REFUSED).map(|(name, _)| *name));
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
