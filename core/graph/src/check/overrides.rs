//! The command line's part: a text that findings can point into, and the meaning of its words.

use super::Overrides;
use super::model::{Model, Setting};
use super::suggest::nearest;
use crate::compat::{TypeRow, option_of};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, shown_value};
use crate::pattern;
use crate::volfile::{SourceId, Span, shorten};

/// Overrides of one kind that are looked at; a command line is not longer than 2 MiB either.
const OVERRIDES_MAX: usize = 1024;

/// A word of the command line and its place in [`Arguments::text`].
#[derive(Debug, Clone)]
pub(super) struct Argument {
    pub value: String,
    pub span: Span,
}

impl Argument {
    /// The place of some bytes of the value.
    fn part(&self, start: usize, end: usize) -> Span {
        let base = self.span.start as usize;
        Span::new(self.span.source, base + start..base + end)
    }
}

/// The overrides as a text, one to a line, and as words with places.
#[derive(Debug, Clone)]
pub(super) struct Arguments {
    pub text: String,
    pub options: Vec<Argument>,
    pub volume_name: Option<Argument>,
    pub skip_types: Vec<Argument>,
    /// How many are beyond [`OVERRIDES_MAX`].
    too_many: usize,
}

impl Arguments {
    pub fn new(overrides: &Overrides, source: SourceId) -> Self {
        let mut text = String::new();
        let mut add = |flag: &str, value: &String| {
            text.push_str(flag);
            text.push(' ');
            let start = text.len();
            // A newline would end the masking of a secret; it is as long as a blank.
            text.push_str(&value.replace('\n', " "));
            let span = Span::new(source, start..text.len());
            text.push('\n');
            Argument { value: value.clone(), span }
        };
        let take = |list: &[String]| list.len().min(OVERRIDES_MAX);
        let (options, skips) = (&overrides.xlator_options, &overrides.skip_types);
        let options_kept = &options[..take(options)];
        let skips_kept = &skips[..take(skips)];
        Self {
            too_many: options.len() + skips.len() - options_kept.len() - skips_kept.len(),
            options: options_kept.iter().map(|o| add("--xlator-option", o)).collect(),
            volume_name: overrides.volume_name.as_ref().map(|n| add("--volume-name", n)),
            skip_types: skips_kept.iter().map(|t| add("--skip-type", t)).collect(),
            text,
        }
    }
}

/// Puts the overrides' values into the volumes that they name.
pub(super) fn apply(model: &mut Model<'_>, arguments: &Arguments, findings: &mut Diagnostics) {
    if arguments.too_many > 0 {
        let message = format!("more than {OVERRIDES_MAX} overrides on the command line");
        findings.push(Diagnostic::error(Code::Limit, message));
    }
    for argument in &arguments.options {
        if let Err(finding) = apply_one(model, argument) {
            findings.push(*finding);
        }
    }
    for skip in &arguments.skip_types {
        let used = model.volumes.iter().any(|v| v.kind_name() == skip.value);
        if !used {
            let shown = shorten(&skip.value);
            let finding = Diagnostic::warning(Code::CommandLine, format!("no volume has the type `{shown}`"))
                .at(skip.span, "there is nothing to skip");
            let kinds = model.volumes.iter().map(|v| v.kind_name());
            findings.push(match nearest(&skip.value, kinds) {
                Some(near) => finding.fix("there is a similar one", vec![(skip.span, near.to_owned())]),
                None => finding,
            });
        }
    }
}

fn apply_one(model: &mut Model<'_>, argument: &Argument) -> Result<(), Box<Diagnostic>> {
    let text = argument.value.as_str();
    let shape = || {
        Box::new(
            Diagnostic::error(Code::CommandLine, "an override without the shape `PATTERN.KEY=VALUE`")
                .at(argument.span, "")
                .help("for example `--xlator-option '*-posix.directory=/bricks/b1'`"),
        )
    };
    let (left, value) = text.split_once('=').ok_or_else(shape)?;
    if !left.contains('.') {
        return Err(shape());
    }
    let cuts = left.match_indices('.').map(|(dot, _)| (dot, &left[..dot], &left[dot + 1..]));
    let mut first: Option<(usize, Vec<usize>)> = None;
    for (dot, pattern, key) in cuts {
        if key.is_empty() {
            continue;
        }
        let matched = model.matching(pattern);
        let having: Vec<usize> = matched.iter().copied().filter(|i| model.volume_has_option(*i, key)).collect();
        if !having.is_empty() {
            let setting = Setting {
                key: key.to_owned(),
                key_span: argument.part(dot + 1, left.len()),
                value: value.to_owned(),
                value_span: argument.part(left.len() + 1, text.len()),
            };
            having.into_iter().for_each(|i| model.volumes[i].set(setting.clone()));
            return Ok(());
        }
        if !matched.is_empty() && first.is_none() {
            first = Some((dot, matched));
        }
    }
    match first {
        Some((dot, matched)) => unknown_option(model, argument, left, value, dot, &matched),
        None => Err(Box::new(no_volume(model, argument, left))),
    }
}

/// The pattern matches volumes, and none of them has the option. One alone may be of a type that is not here; then
/// the type is the finding.
fn unknown_option(
    model: &Model<'_>,
    argument: &Argument,
    left: &str,
    value: &str,
    dot: usize,
    matched: &[usize],
) -> Result<(), Box<Diagnostic>> {
    let key = &left[dot + 1..];
    if matched.iter().any(|i| !model.volume_is_known(*i)) {
        return Ok(());
    }
    let span = argument.part(dot + 1, left.len());
    let one = &model.volumes[matched[0]];
    let message = match matched {
        [_] => format!("unknown option `{}` for `{}`", shorten(key), one.kind_name()),
        _ => format!("no volume that `{}` matches has an option `{}`", shorten(&left[..dot]), shorten(key)),
    };
    let finding = Diagnostic::error(Code::UnknownOption, message)
        .at(span, format!("would be set to `{}`", shown_value(key, value)))
        .note("GlusterFS 10.3 accepts this and ignores it");
    let known = matched.iter().flat_map(|i| model.option_names(*i));
    Err(Box::new(match nearest(key, known) {
        Some(near) => finding.fix("there is an option with a similar name", vec![(span, near.to_owned())]),
        None => finding,
    }))
}

fn no_volume(model: &Model<'_>, argument: &Argument, left: &str) -> Diagnostic {
    let dot = left.find('.').unwrap_or(left.len());
    let pattern = &left[..dot];
    let span = argument.part(0, dot);
    let finding = Diagnostic::warning(Code::CommandLine, format!("no volume matches `{}`", shorten(pattern)))
        .at(span, "the override changes nothing");
    let names = model.volumes.iter().map(|v| v.name.text.as_str());
    match nearest(pattern, names) {
        Some(near) => finding.fix("there is a volume with a similar name", vec![(span, near.to_owned())]),
        None => finding.help("the pattern is compared with whole names: `*dht` matches `gd1-dht`, `dht` does not"),
    }
}

impl Model<'_> {
    /// The volumes whose names fit.
    fn matching(&self, pattern: &str) -> Vec<usize> {
        (0..self.volumes.len()).filter(|i| pattern::matches(pattern, &self.volumes[*i].name.text)).collect()
    }

    /// Whether what the volume's type takes is known.
    fn volume_is_known(&self, index: usize) -> bool {
        let kind = self.volumes[index].kind_name();
        self.types.get(kind).is_some() || TypeRow::find(kind).is_some_and(TypeRow::lists_its_options)
    }

    fn volume_has_option(&self, index: usize, key: &str) -> bool {
        let kind = self.volumes[index].kind_name();
        let own = self.types.get(kind).is_some_and(|t| t.options.iter().any(|o| o.matches(key)));
        own || option_of(kind, key).is_some()
    }

    fn option_names(&self, index: usize) -> Vec<&'static str> {
        super::options::names_of(self.types, self.volumes[index].kind_name())
    }
}
