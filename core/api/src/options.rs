//! Options: one documented struct per xlator, from which come its table (for `volfile check`, `explain`, the manual)
//! and its parser.
//!
//! ```
//! use brickwork_api::options::{OptionMap, Seconds, options};
//! options! {
//!     /// Options of `example/clock`.
//!     pub struct ClockOptions {
//!         /// How often it ticks.
//!         interval: Seconds = "interval" [default("1s"), live()],
//!         /// What it says.
//!         text: Option<String> = "text" [],
//!     }
//! }
//! let options = ClockOptions::parse(&OptionMap::from_iter([("interval", "2min")])).unwrap();
//! assert_eq!(options.interval.0.as_secs(), 120);
//! assert_eq!(ClockOptions::SPECS[0].default, Some("1s"));
//! ```

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use crate::types::Gfid;

/// The options that a volfile gives to one volume, as text, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OptionMap(BTreeMap<String, String>);

impl OptionMap {
    /// The text under `key`, as it stands in the volfile.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// Puts `value` under `key` and returns what was there.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<String>) -> Option<String> {
        self.0.insert(key.into(), value.into())
    }

    /// All keys and values, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for OptionMap {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> OptionMap {
        OptionMap(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }
}

/// A value that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// The option.
    pub key: String,
    /// What is wrong with the value, or that it is missing; no value of a secret stands in it.
    pub reason: String,
}

impl fmt::Display for OptionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "option `{}`: {}", self.key, self.reason)
    }
}

/// One option of a type, as data.
#[derive(Clone, Copy, Debug)]
pub struct OptionSpec {
    /// The key in a volfile. With a `*` in it, a pattern for several keys (`auth.addr.*.allow`).
    pub key: &'static str,
    /// Other spellings that mean the same.
    pub aliases: &'static [&'static str],
    /// What values look like, for people: "seconds, or with s, min, h".
    pub values: &'static str,
    /// The value when none is given.
    pub default: Option<&'static str>,
    /// Whether a volfile must give it.
    pub required: bool,
    /// Whether a running xlator takes a new value.
    pub live: bool,
    /// Whether the value must never be shown.
    pub secret: bool,
    /// Smallest and largest number.
    pub range: Option<(i64, i64)>,
    /// What it does.
    pub doc: &'static str,
    parse: fn(&str) -> Result<Option<i64>, String>,
}

impl OptionSpec {
    /// An option whose values are those of `T`.
    #[must_use]
    pub const fn of<T: OptionValue>(key: &'static str, doc: &'static str) -> OptionSpec {
        OptionSpec {
            key,
            aliases: &[],
            values: T::VALUES,
            default: None,
            required: false,
            live: false,
            secret: false,
            range: None,
            doc,
            parse: |text| T::parse(text).map(|value| value.number()),
        }
    }

    /// The value when none is given.
    #[must_use]
    pub const fn default(mut self, value: &'static str) -> OptionSpec {
        self.default = Some(value);
        self
    }

    /// A volfile must give it.
    #[must_use]
    pub const fn required(mut self) -> OptionSpec {
        self.required = true;
        self
    }

    /// A running xlator takes a new value.
    #[must_use]
    pub const fn live(mut self) -> OptionSpec {
        self.live = true;
        self
    }

    /// The value is never shown.
    #[must_use]
    pub const fn secret(mut self) -> OptionSpec {
        self.secret = true;
        self
    }

    /// Smallest and largest number.
    #[must_use]
    pub const fn range(mut self, min: i64, max: i64) -> OptionSpec {
        self.range = Some((min, max));
        self
    }

    /// Other spellings that mean the same.
    #[must_use]
    pub const fn aliases(mut self, aliases: &'static [&'static str]) -> OptionSpec {
        self.aliases = aliases;
        self
    }

    /// Whether `key` means this option.
    #[must_use]
    pub fn matches(&self, key: &str) -> bool {
        match self.key.split_once('*') {
            None => self.key == key || self.aliases.contains(&key),
            Some((head, tail)) => key.len() > head.len() + tail.len() && key.starts_with(head) && key.ends_with(tail),
        }
    }

    /// Whether `value` is one of this option.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence that began with the value.
    pub fn check(&self, value: &str) -> Result<(), String> {
        match ((self.parse)(value)?, self.range) {
            (Some(number), Some((min, max))) if number < min || number > max => {
                Err(format!("is out of range {min} to {max}"))
            }
            _ => Ok(()),
        }
    }

    /// The text for this option among `options`, its default, or nothing.
    #[must_use]
    pub fn text<'a>(&self, options: &'a OptionMap) -> Option<&'a str> {
        let spelled = std::iter::once(self.key).chain(self.aliases.iter().copied());
        spelled.filter_map(|key| options.get(key)).next().or(self.default)
    }

    /// The checked value of this option among `options`; used by [`options!`](crate::options!).
    ///
    /// # Errors
    /// What is wrong with the value, or that a required one is missing.
    pub fn value<T: OptionValue>(&self, options: &OptionMap) -> Result<T, OptionError> {
        let refused = |reason: String| OptionError { key: self.key.to_owned(), reason };
        match self.text(options) {
            Some(text) => {
                let shown = if self.secret { "the value" } else { &format!("`{text}`") };
                self.check(text).map_err(|reason| refused(format!("{shown} {reason}")))?;
                T::parse(text).map_err(|reason| refused(format!("{shown} {reason}")))
            }
            None => T::missing().ok_or_else(|| refused("is required".to_owned())),
        }
    }
}

/// One table of the options in `tables`, in this order: what an xlator gives that shares options with others.
///
/// ```
/// use brickwork_api::options::{OptionSpec, joined};
/// const A: &[OptionSpec] = &[OptionSpec::of::<u32>("a", "")];
/// const B: &[OptionSpec] = &[OptionSpec::of::<u32>("b", "")];
/// const BOTH: [OptionSpec; 2] = joined(&[A, B]);
/// assert_eq!(BOTH.map(|spec| spec.key), ["a", "b"]);
/// ```
///
/// # Panics
/// When there are not `N` options in all; in a constant that is an error of the compiler.
#[must_use]
pub const fn joined<const N: usize>(tables: &[&[OptionSpec]]) -> [OptionSpec; N] {
    let mut all = [OptionSpec::of::<String>("", ""); N];
    let (mut filled, mut table) = (0, 0);
    while table < tables.len() {
        let mut index = 0;
        while index < tables[table].len() {
            all[filled] = tables[table][index];
            filled += 1;
            index += 1;
        }
        table += 1;
    }
    assert!(filled == N, "there are fewer options than were announced");
    all
}

/// A type that an option's text can be read as.
pub trait OptionValue: Sized {
    /// What values look like, for people.
    const VALUES: &'static str;

    /// Reads the text.
    ///
    /// # Errors
    /// What is wrong, as the end of a sentence that began with the value: "is not a number".
    fn parse(text: &str) -> Result<Self, String>;

    /// The number that a range applies to.
    fn number(&self) -> Option<i64> {
        None
    }

    /// What stands for an option that is not given; only [`Option`] has it.
    fn missing() -> Option<Self> {
        None
    }
}

impl<T: OptionValue> OptionValue for Option<T> {
    const VALUES: &'static str = T::VALUES;

    fn parse(text: &str) -> Result<Option<T>, String> {
        T::parse(text).map(Some)
    }

    fn number(&self) -> Option<i64> {
        self.as_ref().and_then(OptionValue::number)
    }

    fn missing() -> Option<Option<T>> {
        Some(None)
    }
}

impl OptionValue for String {
    const VALUES: &'static str = "text";

    fn parse(text: &str) -> Result<String, String> {
        Ok(text.to_owned())
    }
}

impl OptionValue for bool {
    const VALUES: &'static str = "on or off";

    /// GlusterFS's spellings: on, yes, true, enable, 1 and their opposites, in any case.
    fn parse(text: &str) -> Result<bool, String> {
        match text.to_ascii_lowercase().as_str() {
            "on" | "yes" | "true" | "enable" | "1" => Ok(true),
            "off" | "no" | "false" | "disable" | "0" => Ok(false),
            _ => Err("is neither `on` nor `off`".to_owned()),
        }
    }
}

macro_rules! integers {
    ($($type:ty)*) => {
        $(impl OptionValue for $type {
            const VALUES: &'static str = "a whole number";

            fn parse(text: &str) -> Result<$type, String> {
                let wide = match text.strip_prefix("0x") {
                    Some(hex) => i128::from_str_radix(hex, 16),
                    None => text.parse::<i128>(),
                };
                let wide = wide.map_err(|_| "is not a whole number".to_owned())?;
                <$type>::try_from(wide)
                    .map_err(|_| format!("is out of range {} to {}", <$type>::MIN, <$type>::MAX))
            }

            fn number(&self) -> Option<i64> {
                i64::try_from(*self).ok()
            }
        })*
    };
}

integers! { u8 u16 u32 u64 i64 usize }

impl OptionValue for Gfid {
    const VALUES: &'static str = "a UUID";

    fn parse(text: &str) -> Result<Gfid, String> {
        text.parse().map_err(|_| "is not a UUID (8-4-4-4-12 hexadecimal digits)".to_owned())
    }
}

/// An absolute path without `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsolutePath(pub PathBuf);

impl OptionValue for AbsolutePath {
    const VALUES: &'static str = "an absolute path";

    fn parse(text: &str) -> Result<AbsolutePath, String> {
        if !text.starts_with('/') {
            return Err("is not an absolute path".to_owned());
        }
        if text.split('/').any(|part| part == "..") {
            return Err("goes through `..`".to_owned());
        }
        Ok(AbsolutePath(PathBuf::from(text)))
    }
}

/// A span of time. Text without a unit is in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seconds(pub Duration);

impl OptionValue for Seconds {
    const VALUES: &'static str = "seconds, or a number with ms, s, min, h, d, wk";

    fn parse(text: &str) -> Result<Seconds, String> {
        let split = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let amount: u64 = digits.parse().map_err(|_| "is not a span of time".to_owned())?;
        let unit_ms = match unit.trim() {
            "ms" => 1,
            "" | "s" | "sec" => 1_000,
            "m" | "min" => 60_000,
            "h" | "hr" => 3_600_000,
            "d" | "days" => 86_400_000,
            "w" | "wk" => 604_800_000,
            other => return Err(format!("has the unknown unit `{other}`")),
        };
        let ms = amount.checked_mul(unit_ms).ok_or("is too long")?;
        Ok(Seconds(Duration::from_millis(ms)))
    }

    fn number(&self) -> Option<i64> {
        i64::try_from(self.0.as_secs()).ok()
    }
}

/// A number of bytes, with GlusterFS's units (powers of 1024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl OptionValue for Size {
    const VALUES: &'static str = "bytes, or a number with KB, MB, GB, TB, PB";

    fn parse(text: &str) -> Result<Size, String> {
        let split = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (digits, unit) = text.split_at(split);
        let amount: f64 = digits.parse().map_err(|_| "is not a size".to_owned())?;
        let shift = match unit.trim().to_ascii_uppercase().as_str() {
            "" | "B" => 0,
            "KB" | "KIB" => 10,
            "MB" | "MIB" => 20,
            "GB" | "GIB" => 30,
            "TB" | "TIB" => 40,
            "PB" | "PIB" => 50,
            other => return Err(format!("has the unknown unit `{other}`")),
        };
        let bytes = amount * f64::from(1_u32 << 10).powi(shift / 10);
        if bytes >= u64::MAX as f64 {
            return Err("is too large".to_owned());
        }
        Ok(Size(bytes as u64))
    }

    fn number(&self) -> Option<i64> {
        i64::try_from(self.0).ok()
    }
}

/// A share of a whole, 0 to 100.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Percent(pub f64);

impl OptionValue for Percent {
    const VALUES: &'static str = "a percentage";

    fn parse(text: &str) -> Result<Percent, String> {
        let number: f64 = text.trim_end_matches('%').parse().map_err(|_| "is not a percentage".to_owned())?;
        if !(0.0..=100.0).contains(&number) {
            return Err("is out of range 0% to 100%".to_owned());
        }
        Ok(Percent(number))
    }
}

/// A share of a whole, or a number of bytes. A bare number up to 100 is a percentage, as in GlusterFS.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum PercentOrSize {
    /// A share.
    Percent(Percent),
    /// Bytes.
    Size(Size),
}

impl OptionValue for PercentOrSize {
    const VALUES: &'static str = "a percentage, or a size with a unit";

    fn parse(text: &str) -> Result<PercentOrSize, String> {
        if let Ok(percent) = Percent::parse(text) {
            return Ok(PercentOrSize::Percent(percent));
        }
        if text.ends_with('%') {
            return Err("is out of range 0% to 100%".to_owned());
        }
        Size::parse(text).map(PercentOrSize::Size)
    }
}

/// Defines an enum whose variants are the words that an option takes.
///
/// ```
/// brickwork_api::options::option_enum! {
///     /// How hard it tries.
///     pub enum Effort { Low = "low", High = "high" }
/// }
/// ```
#[macro_export]
macro_rules! option_enum {
    ($(#[$meta:meta])* $vis:vis enum $name:ident { $($(#[$vmeta:meta])* $variant:ident = $text:literal),* $(,)? }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $vis enum $name {
            $(#[doc = concat!("`", $text, "`")] $(#[$vmeta])* $variant,)*
        }

        impl $crate::options::OptionValue for $name {
            const VALUES: &'static str = concat!("one of" $(, " `", $text, "`")*);

            fn parse(text: &str) -> Result<$name, String> {
                match text {
                    $($text => Ok($name::$variant),)*
                    _ => Err(concat!("is not one of" $(, " `", $text, "`")*).to_owned()),
                }
            }
        }
    };
}

/// Defines the options of an xlator: `field: Type = "key" [attributes]`, each with its documentation.
///
/// Attributes are the methods of [`OptionSpec`]: `default("…")`, `required()`, `live()`, `secret()`,
/// `range(min, max)`, `aliases(&["…"])`. An option with neither default nor `required()` has the type `Option<_>`.
/// Made from it: the struct, `SPECS` (the table for [`XlatorType`](crate::XlatorType)) and `parse`.
#[macro_export]
macro_rules! options {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $key:literal [$($attr:ident($($arg:expr),*)),* $(,)?],)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq)]
        $vis struct $name {
            $($(#[doc = $doc])* pub $field: $type,)*
        }

        impl $name {
            /// The options as a table.
            pub const SPECS: &'static [$crate::options::OptionSpec] = &[
                $($crate::options::OptionSpec::of::<$type>($key, concat!($($doc, "\n"),*))
                    $(.$attr($($arg),*))*,)*
            ];

            /// Reads the options of a volume.
            ///
            /// # Errors
            /// Every value that is refused, all at once.
            pub fn parse(options: &$crate::options::OptionMap) -> Result<$name, Vec<$crate::options::OptionError>> {
                let mut errors = Vec::new();
                let mut specs = $name::SPECS.iter();
                $(let $field = match specs.next().expect("one spec per field").value::<$type>(options) {
                    Ok(value) => Some(value),
                    Err(error) => {
                        errors.push(error);
                        None
                    }
                };)*
                match ($($field,)*) {
                    ($(Some($field),)*) => Ok($name { $($field,)* }),
                    #[allow(unreachable_patterns, reason = "a struct without fields")]
                    _ => Err(errors),
                }
            }
        }
    };
}

pub use crate::{option_enum, options};

#[cfg(test)]
mod tests {
    use super::*;

    option_enum! {
        /// A choice.
        enum Mode { Off = "off", Forced = "forced" }
    }

    options! {
        /// Options of the tests.
        struct Example {
            /// Where.
            directory: AbsolutePath = "directory" [required()],
            /// How many.
            threads: u32 = "threads" [default("4"), range(1, 64), live(), aliases(&["thread-count"])],
            /// Which way.
            mode: Mode = "mode" [default("off")],
            /// A word nobody may see.
            password: Option<u32> = "password" [secret()],
        }
    }

    fn parse(entries: &[(&str, &str)]) -> Result<Example, Vec<OptionError>> {
        Example::parse(&entries.iter().copied().collect())
    }

    #[test]
    fn defaults_stand_in_for_what_is_not_given() {
        let options = parse(&[("directory", "/b")]).unwrap();
        assert_eq!(options.threads, 4);
        assert_eq!(options.mode, Mode::Off);
        assert_eq!(options.password, None);
    }

    #[test]
    fn an_alias_is_as_good_as_the_key() {
        assert_eq!(parse(&[("directory", "/b"), ("thread-count", "7")]).unwrap().threads, 7);
    }

    #[test]
    fn all_refused_values_are_named_at_once() {
        let errors = parse(&[("threads", "65"), ("mode", "on")]).unwrap_err();
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "option `directory`: is required",
                "option `threads`: `65` is out of range 1 to 64",
                "option `mode`: `on` is not one of `off` `forced`",
            ]
        );
    }

    #[test]
    fn a_secret_is_not_shown_in_the_error_about_it() {
        let errors = parse(&[("directory", "/b"), ("password", "hunter2")]).unwrap_err();
        assert_eq!(errors[0].to_string(), "option `password`: the value is not a whole number");
    }

    #[test]
    fn sizes_and_times_have_the_units_of_glusterfs() {
        assert_eq!(Size::parse("1.5KB"), Ok(Size(1536)));
        assert!(Size::parse("1K").is_err());
        assert_eq!(Seconds::parse("2min"), Ok(Seconds(Duration::from_secs(120))));
        assert_eq!(Seconds::parse("30"), Ok(Seconds(Duration::from_secs(30))));
        assert!(Seconds::parse("5 fortnights").is_err());
        assert_eq!(PercentOrSize::parse("1"), Ok(PercentOrSize::Percent(Percent(1.0))));
        assert_eq!(PercentOrSize::parse("10GB"), Ok(PercentOrSize::Size(Size(10 << 30))));
        assert!(PercentOrSize::parse("101%").is_err());
    }

    #[test]
    fn a_pattern_matches_what_stands_for_the_star_and_not_nothing() {
        let spec = OptionSpec::of::<String>("auth.addr.*.allow", "");
        assert!(spec.matches("auth.addr./b1.allow"));
        assert!(!spec.matches("auth.addr..allow"));
        assert!(!spec.matches("auth.login./b1.allow"));
    }

    #[test]
    fn relative_paths_and_ways_out_are_refused() {
        assert!(AbsolutePath::parse("b1").is_err());
        assert!(AbsolutePath::parse("/bricks/../etc").is_err());
    }
}
