//! What was probably meant, and applying it.

use crate::diagnostic::Diagnostics;
use crate::volfile::Span;

/// Longer words are not compared: a misspelling in them is not what is wrong.
const COMPARED_BYTES_MAX: usize = 96;

/// The candidate closest to `word`, if it is close enough to be meant: up to a third of the letters differ.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.is_empty() || word.len() > COMPARED_BYTES_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let far = candidate.len().abs_diff(word.len());
        let limit = (lower.chars().count().max(candidate.len()) / 3).max(1);
        if candidate == word || candidate.len() > COMPARED_BYTES_MAX || far > limit {
            continue;
        }
        let distance = strsim::osa_distance(&lower, &candidate.to_lowercase());
        if distance <= limit && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The type that `name` was meant to be: the same last part under another class (`posix`, `features/io-threads`), or
/// close in letters.
pub(super) fn nearest_type<'a>(name: &str, types: &[&'a str]) -> Option<&'a str> {
    let last = |path: &str| path.rsplit('/').next().unwrap_or(path).to_lowercase();
    let own = last(name);
    let same = types.iter().copied().find(|candidate| last(candidate) == own);
    same.or_else(|| nearest(name, types.iter().copied())).or_else(|| {
        let lasts: Vec<String> = types.iter().map(|t| last(t)).collect();
        let near = nearest(&own, lasts.iter().map(String::as_str))?;
        types.iter().copied().find(|t| last(t) == near)
    })
}

/// A value that the option takes and that `value` was probably meant to be. `values` is the option's own description
/// of its values; `fits` decides.
pub(super) fn nearest_value(value: &str, values: &str, fits: impl Fn(&str) -> bool) -> Option<String> {
    let trimmed = value.trim();
    let variants = match trimmed.bytes().next() {
        Some(b'0'..=b'9') => number_variants(trimmed),
        // A path: blanks and case are a part of it.
        _ if trimmed.contains('/') => vec![trimmed.to_owned(), format!("/{trimmed}")],
        _ => vec![trimmed.to_lowercase()],
    };
    variants.into_iter().find(|variant| variant != value && fits(variant)).or_else(|| {
        let words = values.split(|c: char| !c.is_alphanumeric() && c != '-' && c != '_').filter(|word| fits(word));
        nearest(value, words).map(str::to_owned)
    })
}

/// Other spellings of a number with a unit, the closest to what was written first.
fn number_variants(text: &str) -> Vec<String> {
    let compact: String = text.split_whitespace().collect();
    let digits = compact.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(compact.len());
    let (number, unit) = compact.split_at(digits);
    // As other programs take them, and as people write them.
    let short = match unit.to_ascii_lowercase().as_str() {
        "second" | "seconds" | "secs" => "s",
        "minute" | "minutes" | "mins" => "min",
        "hour" | "hours" | "hrs" => "h",
        "day" => "d",
        "week" | "weeks" => "wk",
        "millisecond" | "milliseconds" | "msec" | "msecs" => "ms",
        "percent" => "%",
        "byte" | "bytes" => "B",
        _ => "",
    };
    let mut out = vec![compact.to_lowercase(), compact.clone()];
    match short {
        // A bare `K` or `M`.
        "" => out.push(format!("{compact}B")),
        short => out.push(format!("{number}{short}")),
    }
    out
}

/// Applies to `text` the fixes that correct its spelling, from its end to its beginning, leaving out what overlaps.
pub(super) fn apply(findings: &Diagnostics, text: &str) -> Option<String> {
    let mut edits: Vec<&(Span, String)> = findings
        .applicable()
        .filter_map(|finding| finding.help.as_ref()?.fix.as_ref())
        .flat_map(|fix| &fix.edits)
        .collect();
    edits.sort_by_key(|(span, _)| std::cmp::Reverse((span.start, span.end)));
    let mut out = text.to_owned();
    let mut limit = text.len();
    let mut applied = false;
    for (span, replacement) in edits {
        if span.end as usize <= limit {
            out.replace_range(span.range(), replacement);
            limit = span.start as usize;
            applied = true;
        }
    }
    applied.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_offered_only_when_it_is_near() {
        let words = ["latency-measurement", "threads", "directory"];
        assert_eq!(nearest("latency-mesurement", words), Some("latency-measurement"));
        assert_eq!(nearest("Directory", words), Some("directory"));
        assert_eq!(nearest("xyz", words), None);
        assert_eq!(nearest("", words), None);
    }

    #[test]
    fn a_unit_is_offered_for_a_number_and_nothing_is_hung_onto_other_values() {
        use brickwork_api::options::{AbsolutePath, OptionValue, Seconds, Size};
        let size = |value| nearest_value(value, Size::VALUES, |v| Size::parse(v).is_ok());
        assert_eq!(size("64K").as_deref(), Some("64KB"));
        assert_eq!(size("512 bytes").as_deref(), Some("512B"));
        assert_eq!(size("banana"), None);
        let time = |value| nearest_value(value, Seconds::VALUES, |v| Seconds::parse(v).is_ok());
        assert_eq!(time("5 minutes").as_deref(), Some("5min"));
        assert_eq!(time("5MIN").as_deref(), Some("5min"));
        let path = |value| nearest_value(value, AbsolutePath::VALUES, |v| AbsolutePath::parse(v).is_ok());
        assert_eq!(path("/x/srv/.."), None);
        assert_eq!(path("srv/Brick one").as_deref(), Some("/srv/Brick one"));
        assert_eq!(path("../brick"), None);
    }

    #[test]
    fn a_type_is_found_by_its_last_part() {
        let types = ["storage/posix", "debug/io-stats"];
        let near = |name| nearest_type(name, &types);
        assert_eq!(near("posix"), Some("storage/posix"));
        assert_eq!(near("features/io-stats"), Some("debug/io-stats"));
        assert_eq!(near("storage/posx"), Some("storage/posix"));
        assert_eq!(near("psix"), Some("storage/posix"));
        assert_eq!(near("other/thing"), None);
    }
}
