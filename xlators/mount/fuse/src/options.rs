//! The options of a mount: what `brickwork mount -o` takes.
//!
//! Names are those of `mount.glusterfs` where it has the option; words that `mount(8)` hands to every file system are
//! understood, and whatever is unknown is refused by name.

use std::time::Duration;

use brickwork_api::option_enum;
use brickwork_api::options::{OptionError, OptionMap, OptionValue, Seconds, options};

option_enum! {
    /// Who keeps the locks of applications.
    pub enum LockKeeper {
        /// The graph when it has an xlator that keeps locks, else the kernel.
        Auto = "auto",
        /// The graph.
        Graph = "graph",
        /// The kernel of this machine: locks are then not seen by other mounts.
        Local = "local",
    }
}

/// A decision that can be left open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Whatever is right here.
    Auto,
    /// Yes.
    On,
    /// No.
    Off,
}

impl OptionValue for Choice {
    const VALUES: &'static str = "auto, on or off";

    fn parse(text: &str) -> Result<Choice, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Choice::Auto);
        }
        match bool::parse(text) {
            Ok(true) => Ok(Choice::On),
            Ok(false) => Ok(Choice::Off),
            Err(_) => Err("is not one of `auto`, `on`, `off`".to_owned()),
        }
    }
}

/// For how long the kernel believes what it was told when the option is left to us and the graph tells of changes.
///
/// A change is told at once, so this bounds nothing but what a fault on the way could leave behind; and one question
/// a minute for each file in use costs nothing that can be measured.
pub(crate) const TOLD_TIMEOUT: Duration = Duration::from_secs(60);

/// For how long the kernel believes what it was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timeout {
    /// 60 s where the graph tells of changes, else 0.
    Auto,
    /// This long.
    For(Duration),
}

impl Timeout {
    pub(crate) fn span(self, told_of_changes: bool) -> Duration {
        match self {
            Timeout::For(span) => span,
            Timeout::Auto if told_of_changes => TOLD_TIMEOUT,
            Timeout::Auto => Duration::ZERO,
        }
    }

    fn is_above_zero(self) -> bool {
        matches!(self, Timeout::For(span) if !span.is_zero())
    }
}

impl OptionValue for Timeout {
    const VALUES: &'static str = "auto, or seconds, or a number with ms, s, min, h, d, wk";

    fn parse(text: &str) -> Result<Timeout, String> {
        if text.eq_ignore_ascii_case("auto") {
            return Ok(Timeout::Auto);
        }
        Seconds::parse(text)
            .map(|Seconds(span)| Timeout::For(span))
            .map_err(|reason| format!("{reason}, and not `auto`"))
    }
}

options! {
    /// Options of a mount (`brickwork mount -o ...`).
    pub struct FuseOptions {
        /// How long the kernel may believe the attributes of a file without asking. `auto`: 60 s where the bricks tell
        /// this mount of every change by others before it is answered, as served bricks do; else 0, and a number above 0
        /// is refused.
        attribute_timeout: Timeout = "attribute-timeout" [default("auto")],
        /// How long the kernel may believe that a name stands for a file without asking. As `attribute-timeout`; needs
        /// Linux 6.16.
        entry_timeout: Timeout = "entry-timeout" [default("auto")],
        /// How long the kernel may believe that a name does not exist without asking. As `entry-timeout`.
        negative_timeout: Timeout = "negative-timeout" [default("auto")],
        /// Threads that read requests of the kernel. Not given: one for each processor, at most 4.
        readers: Option<u32> = "readers" [range(1, 64), aliases(&["reader-thread-count"])],
        /// Requests that the kernel may send ahead in the background, as readahead does.
        max_background: u16 = "max-background" [default("64"), range(1, 65_535), aliases(&["background-qlen"])],
        /// Background requests at which the kernel holds readahead back.
        congestion_threshold: u16 = "congestion-threshold" [default("48"), range(1, 65_535)],
        /// Whether other users than the one who mounts may use the mount. Not given: yes for root, no for others.
        allow_other: Option<bool> = "allow-other" [aliases(&["allow_other"])],
        /// Nothing can be changed through this mount.
        read_only: bool = "ro" [default("off")],
        /// Set-user-id and set-group-id bits of programs count. Not given: yes for root, as of any `mount`; others
        /// cannot have it.
        suid: Option<bool> = "suid" [],
        /// Device files can be opened. Not given: yes for root, as of any `mount`; others cannot have it.
        dev: Option<bool> = "dev" [],
        /// Programs can be run.
        exec: bool = "exec" [default("on")],
        /// Reads and writes go past the kernel's page cache. `auto`: where nobody tells of changes and the
        /// brick's timestamps are too coarse to tell two of them apart (README, Coherence). Files opened with O_APPEND always do.
        direct_io: Choice = "direct-io" [default("auto"), aliases(&["direct-io-mode"])],
        /// Directories are listed with attributes. `auto`: when a timeout lets the kernel use them; with timeouts
        /// of 0 it asks for every one of them again.
        readdirplus: Choice = "readdirplus" [default("auto"), aliases(&["use-readdirp"])],
        /// Who keeps the locks of applications.
        locks: LockKeeper = "locks" [default("auto")],
        /// What `df` and `/proc/mounts` show as the source. Not given: the name that the mount was started with.
        fsname: Option<String> = "fsname" [],
        /// Requests under way in the graph at once; more of them wait. Waiting locks are counted apart.
        slots: u32 = "slots" [default("1024"), range(1, 1_024)],
        /// Lock calls that wait at once; one more answers `ENOLCK`.
        waiters_max: u32 = "waiters-max" [default("65536"), range(1, 65_536)],
    }
}

/// Words of `mount(8)` that say nothing to a file system.
const WITHOUT_EFFECT: &[&str] = &[
    "defaults",
    "rw",
    "_netdev",
    "auto",
    "noauto",
    "nofail",
    "user",
    "nouser",
    "users",
    "async",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "diratime",
    "nodiratime",
    "acl",
    "default_permissions",
];

/// The word by which `mount(8)` asks for a change of a mount that is there.
const REMOUNT: &str = "remount";

/// Words of `mount(8)` that spell the opposite of an option.
const OPPOSITES: &[(&str, &str)] = &[("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")];

impl FuseOptions {
    /// Reads `text` as it follows `-o`: `ro,entry-timeout=0,direct-io=auto`.
    ///
    /// # Errors
    /// Every word that is unknown or has a value that is refused, all at once.
    pub fn from_words(text: &str) -> Result<FuseOptions, Vec<OptionError>> {
        let mut map = OptionMap::default();
        let mut errors = Vec::new();
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
            let (key, value) = word.split_once('=').unwrap_or((word, "on"));
            match known(key) {
                Known::Remount => errors.push(OptionError { key: key.to_owned(), reason: remount() }),
                Known::Option(key) => drop(map.insert(key, value)),
                Known::Opposite(key) => drop(map.insert(key, "off")),
                Known::WithoutEffect => {}
                Known::No => errors.push(OptionError { key: key.to_owned(), reason: unknown() }),
            }
        }
        match FuseOptions::parse(&map) {
            Ok(options) if errors.is_empty() => Ok(options),
            Ok(_) => Err(errors),
            Err(refused) => {
                errors.extend(refused);
                Err(errors)
            }
        }
    }

    /// Whether `name`, a word of `-o` without its value, means something here, were it only that it is refused.
    #[must_use]
    pub fn knows(name: &str) -> bool {
        !matches!(known(name), Known::No)
    }

    /// The first timeout that is set above 0.
    pub(crate) fn timeout_above_zero(&self) -> Option<&'static str> {
        let above = self.attribute_timeout.is_above_zero().then_some("attribute-timeout");
        above.or_else(|| self.names_option())
    }

    /// The first timeout of names that is set above 0.
    pub(crate) fn names_option(&self) -> Option<&'static str> {
        let options = [("entry-timeout", self.entry_timeout), ("negative-timeout", self.negative_timeout)];
        options.into_iter().find(|(_, timeout)| timeout.is_above_zero()).map(|(option, _)| option)
    }
}

impl Default for FuseOptions {
    fn default() -> FuseOptions {
        FuseOptions::parse(&OptionMap::default()).expect("every option has a default or may be missing")
    }
}

enum Known {
    Option(&'static str),
    Opposite(&'static str),
    WithoutEffect,
    Remount,
    No,
}

fn known(key: &str) -> Known {
    if let Some(spec) = FuseOptions::SPECS.iter().find(|spec| spec.matches(key)) {
        return Known::Option(spec.key);
    }
    if let Some((_, positive)) = OPPOSITES.iter().find(|(word, _)| *word == key) {
        return Known::Opposite(positive);
    }
    if key == REMOUNT {
        return Known::Remount;
    }
    if WITHOUT_EFFECT.contains(&key) || key.starts_with("x-") || key == "comment" {
        return Known::WithoutEffect;
    }
    Known::No
}

fn remount() -> String {
    "the options of a mount, `ro` and `rw` too, cannot change while it is mounted: unmount it and mount it again"
        .to_owned()
}

fn unknown() -> String {
    let keys: Vec<&str> = FuseOptions::SPECS.iter().map(|spec| spec.key).collect();
    format!("no such mount option; there are {}", keys.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_words_everything_has_its_default() {
        let options = FuseOptions::from_words("").unwrap();
        assert_eq!(options, FuseOptions::default());
        assert_eq!((options.direct_io, options.locks), (Choice::Auto, LockKeeper::Auto));
        assert_eq!((options.read_only, options.exec, options.slots), (false, true, 1024));
    }

    #[test]
    fn words_of_mount_and_of_glusterfs_are_understood() {
        let options =
            FuseOptions::from_words("ro,noexec,_netdev,direct-io-mode=disable,reader-thread-count=2,x-systemd.a=1")
                .unwrap();
        assert!(options.read_only && !options.exec);
        assert_eq!((options.direct_io, options.readers), (Choice::Off, Some(2)));
    }

    #[test]
    fn a_later_word_wins_also_under_another_name() {
        let options = FuseOptions::from_words("direct-io=on,direct-io-mode=off,suid,nosuid").unwrap();
        assert_eq!((options.direct_io, options.suid), (Choice::Off, Some(false)));
    }

    #[test]
    fn a_remount_is_refused_instead_of_mounting_a_second_time() {
        let errors = FuseOptions::from_words("remount,ro").unwrap_err();
        assert_eq!((errors.len(), errors[0].key.as_str()), (1, "remount"));
        assert!(errors[0].reason.ends_with("unmount it and mount it again"), "{}", errors[0]);
    }

    #[test]
    fn timeouts_are_left_to_the_graph_unless_a_number_is_given() {
        let options = FuseOptions::from_words("attribute-timeout=auto,entry-timeout=2min,negative-timeout=0").unwrap();
        assert_eq!(
            (options.attribute_timeout, options.negative_timeout),
            (Timeout::Auto, Timeout::For(Duration::ZERO))
        );
        assert_eq!(options.entry_timeout.span(true).as_secs(), 120);
        assert_eq!([true, false].map(|told| Timeout::Auto.span(told).as_secs()), [60, 0]);
        assert_eq!(options.timeout_above_zero(), Some("entry-timeout"));
        assert_eq!(FuseOptions::default().timeout_above_zero(), None);
        let errors = FuseOptions::from_words("attribute-timeout=soon").unwrap_err();
        assert!(errors[0].to_string().contains("`auto`"), "{}", errors[0]);
    }

    #[test]
    fn unknown_words_and_bad_values_are_all_named_at_once() {
        let errors = FuseOptions::from_words("entry-timeuot=1,slots=0,bogus").unwrap_err();
        let keys: Vec<&str> = errors.iter().map(|error| error.key.as_str()).collect();
        assert_eq!(keys, ["entry-timeuot", "bogus", "slots"]);
    }
}
