//! `gluster-compat`: what becomes of GlusterFS's xlator types and options here. One table, from which come the check,
//! its messages and `docs/gluster-compat.md`.
//!
//! A type that is registered is *implemented*, whatever its row says; so is an option in a registered type's own
//! table. The rows speak for the rest.

mod markdown;
mod performance;
mod protocol;
mod table;

use brickwork_api::options::{OptionSpec, OptionValue, Seconds, Size};

pub use markdown::markdown;
pub use table::{ANY_TYPE, TYPES};

/// What becomes of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It is, or will be, an xlator of our own. Where it is not registered yet, it is refused like one that is not here.
    Own,
    /// It is left out of the graph: what is below it stands in its place.
    WithoutEffect,
    /// A graph with it is not built.
    Refused,
}

/// Which values of an option are accepted without effect; all others are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Every value.
    Anything,
    /// Only a value that means off: the feature is not here.
    Off,
    /// Only a value that means on: it cannot be switched off here.
    On,
    /// Every value, and the reader should stop using it.
    Outdated,
    /// Every value of this kind; another is a mistake in GlusterFS too.
    Kind(Kind),
}

/// What the values of an option are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On or off, in GlusterFS's spellings.
    Switch,
    /// Bytes.
    Size,
    /// A span of time.
    Seconds,
    /// A whole number.
    Number,
}

impl Kind {
    /// The option `key` with values of this kind.
    pub const fn spec(self, key: &'static str) -> OptionSpec {
        let doc = "An option of GlusterFS without effect.";
        match self {
            Kind::Switch => OptionSpec::of::<bool>(key, doc),
            Kind::Size => OptionSpec::of::<Size>(key, doc),
            Kind::Seconds => OptionSpec::of::<Seconds>(key, doc),
            Kind::Number => OptionSpec::of::<i64>(key, doc),
        }
    }
}

/// What becomes of one option.
#[derive(Debug, Clone, Copy)]
pub struct OptionRow {
    /// The key; `*` stands for anything.
    pub key: &'static str,
    /// The values that are accepted.
    pub takes: Takes,
    /// What it means for the user: of an accepted value, or why others are refused.
    pub consequence: &'static str,
}

/// What becomes of one type.
#[derive(Debug, Clone, Copy)]
pub struct TypeRow {
    /// As in a volfile: `features/trash`.
    pub name: &'static str,
    /// What becomes of it.
    pub state: State,
    /// What that means for the user.
    pub consequence: &'static str,
    /// Options of GlusterFS's generated volfiles that are in the type's own table.
    pub implemented: &'static [&'static str],
    /// Options known beyond those of the type's own table.
    pub options: &'static [OptionRow],
}

impl TypeRow {
    /// The row of the type `name`.
    pub fn find(name: &str) -> Option<&'static TypeRow> {
        TYPES.iter().find(|row| row.name == name)
    }

    /// Whether the options of the type are known: nobody lists those of one that is refused.
    pub fn lists_its_options(&self) -> bool {
        self.state != State::Refused
    }

    /// The row of the option `key`, also of those that every type has.
    pub fn option(&self, key: &str) -> Option<&'static OptionRow> {
        self.options.iter().chain(ANY_TYPE).find(|row| row.matches(key))
    }
}

/// The options that the table calls implemented and that a registered type does not have: none, when table and types
/// agree.
pub fn missing(types: &crate::registry::Registry) -> Vec<(&'static str, &'static str)> {
    let rows = TYPES.iter().filter_map(|row| Some((row, types.get(row.name)?)));
    rows.flat_map(|(row, kind)| {
        let lacks = |key: &&str| !kind.options.iter().any(|spec| spec.key == *key || spec.aliases.contains(key));
        row.implemented.iter().copied().filter(lacks).map(|key| (row.name, key))
    })
    .collect()
}

impl OptionRow {
    /// Whether `key` is this option.
    pub fn matches(&self, key: &str) -> bool {
        crate::pattern::matches(self.key, key)
    }

    /// Whether `value` is accepted.
    pub fn accepts(&self, value: &str) -> bool {
        match self.takes {
            Takes::Anything | Takes::Outdated => true,
            Takes::Off => bool::parse(value) == Ok(false),
            Takes::On => bool::parse(value) == Ok(true),
            Takes::Kind(kind) => kind.spec(self.key).check(value).is_ok(),
        }
    }
}

/// The row of an option that a registered type does not have itself.
pub(crate) fn option_of(kind: &str, key: &str) -> Option<&'static OptionRow> {
    match TypeRow::find(kind) {
        Some(row) => row.option(key),
        None => ANY_TYPE.iter().find(|row| row.matches(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_is_accepted_switched_off_and_refused_switched_on() {
        let worm = TypeRow::find("features/worm").unwrap().option("worm").unwrap();
        assert!(worm.accepts("off") && worm.accepts("Disable"));
        assert!(!worm.accepts("on") && !worm.accepts("maybe"));
    }

    #[test]
    fn an_option_of_a_layer_that_is_left_out_takes_values_of_its_kind() {
        let write_behind = TypeRow::find("performance/write-behind").unwrap();
        let takes = |key, value| write_behind.option(key).is_some_and(|row| row.accepts(value));
        assert!(takes("cache-size", "1MB") && takes("cache-size", "1048576") && takes("flush-behind", "enable"));
        assert!(!takes("cache-size", "banana") && !takes("flush-behind", "banana"));
        assert!(!takes("nonsense-option", "yes"));
    }

    #[test]
    fn no_type_lists_an_option_twice() {
        for row in TYPES {
            let mut keys: Vec<_> = row.options.iter().map(|option| option.key).collect();
            keys.sort_unstable();
            assert!(keys.windows(2).all(|pair| pair[0] != pair[1]), "{}", row.name);
        }
    }

    #[test]
    fn every_type_has_one_row() {
        let mut names: Vec<_> = TYPES.iter().map(|row| row.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn every_type_takes_a_log_level() {
        assert!(option_of("storage/posix", "log-level").is_some());
        assert!(option_of("not/known", "log-level").is_some());
    }

    #[test]
    fn consequences_are_said_in_words() {
        for row in TYPES {
            assert!(row.consequence.len() > 5, "{}", row.name);
            for option in row.options {
                assert!(option.consequence.len() > 5, "{} {}", row.name, option.key);
            }
        }
    }
}
