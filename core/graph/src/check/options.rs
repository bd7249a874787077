//! Options and their values: V0004, V0005, V0006, V0011, V0014, V0017, V0020, V0021.

use super::model::{Model, Node, Setting};
use super::suggest::{nearest, nearest_value};
use super::types::{Fate, fate};
use crate::compat::{ANY_TYPE, Kind, OptionRow, Takes, TypeRow, option_of};
use crate::diagnostic::{Code, Diagnostic, Diagnostics, MASK, is_secret_key};
use crate::registry::Registry;
use crate::volfile::{COMMAND_LINE, Span, shorten};
use brickwork_api::XlatorType;
use brickwork_api::options::OptionSpec;
use std::collections::{BTreeMap, HashMap};

const IGNORED: &str = "GlusterFS 10.3 accepts this line and ignores it";

/// Reports options that the file gives twice; before the command line's values take their places.
pub(super) fn duplicates(model: &Model<'_>, findings: &mut Diagnostics) {
    for node in &model.volumes {
        let kind = model.types.get(node.kind_name());
        let mut before: HashMap<&str, (Span, Span)> = HashMap::new();
        for (key, _, statement) in node.tree.options() {
            // Two spellings of one option are one option.
            let spec = kind.and_then(|kind| spec_of(kind, &key.text));
            let name = match spec {
                Some(spec) if !spec.key.contains('*') => spec.key,
                _ => key.text.as_str(),
            };
            if let Some((place, line)) = before.insert(name, (key.span, statement)) {
                let message = format!("option `{}` is given twice", shorten(&key.text));
                findings.push(
                    Diagnostic::error(Code::DuplicateOption, message)
                        .at(key.span, "again here")
                        .and(place, "first here")
                        .note("GlusterFS 10.3 takes the last one and does not say so")
                        .fix(
                            "remove one of the lines; without the first it is as under GlusterFS",
                            removal(model, line),
                        ),
                );
            }
        }
    }
}

/// The edit that takes a statement out.
fn removal(model: &Model<'_>, statement: Span) -> Vec<(Span, String)> {
    vec![(statement.whole_lines(model.sources.get(statement.source).text()), String::new())]
}

/// The edit that takes an option's statement out; none for one of the command line.
fn removal_of(model: &Model<'_>, node: &Node<'_>, setting: &Setting) -> Option<Vec<(Span, String)>> {
    let (_, _, statement) = node.tree.options().find(|(key, _, _)| key.span == setting.key_span)?;
    Some(removal(model, statement))
}

/// Checks the options of the volumes that are to be built.
pub(super) fn check(model: &Model<'_>, findings: &mut Diagnostics) {
    let mut quiet = Quiet::default();
    for (_, node) in model.live() {
        if findings.is_full_of_errors() {
            break;
        }
        for setting in &node.settings {
            check_setting(model, node, setting, &mut quiet, findings);
        }
        if let (Some(kind), false) = (model.types.get(node.kind_name()), model.skipped(node.kind_name())) {
            check_required(node, kind, findings);
        }
    }
    quiet.report(findings);
}

fn check_setting<'a>(
    model: &Model<'_>,
    node: &'a Node<'_>,
    setting: &'a Setting,
    quiet: &mut Quiet<'a>,
    findings: &mut Diagnostics,
) {
    let name = node.kind_name();
    let kind = model.types.get(name);
    let spec = kind.and_then(|kind| spec_of(kind, &setting.key));
    if spec.is_some_and(|spec| spec.secret) || is_secret_key(&setting.key) {
        findings.push(secret(model, setting));
    }
    if model.is_suspect(setting.key_span) {
        return;
    }
    let value_is_sound = !model.is_suspect(setting.value_span);
    if setting.value.is_empty() && value_is_sound {
        let is_required = spec.is_some_and(|spec| spec.required);
        let edits = removal_of(model, node, setting).filter(|_| !is_required);
        findings.push(empty_value(setting, edits));
        return;
    }
    // What a layer that is left out by request would do is not done, whatever it is set to.
    if node.kind.is_none() || model.skipped(name) {
        return;
    }
    if let Some(spec) = spec {
        if value_is_sound {
            check_value(spec, setting, findings);
        }
        return;
    }
    let of_dropped = fate(model, name) == Fate::LeftOut;
    match option_of(name, &setting.key) {
        Some(_) if !value_is_sound => {}
        // To let everything pass is what a layer that is left out does.
        Some(row) if of_dropped && row.key == "pass-through" => {
            check_idle_value(model, node, Kind::Switch.spec(row.key), setting, findings);
        }
        Some(OptionRow { key, takes: Takes::Kind(kind), .. }) => {
            check_idle_value(model, node, kind.spec(key), setting, findings);
        }
        Some(row) if !row.accepts(&setting.value) => findings.push(switched_on(name, row, setting)),
        Some(row) if row.takes == Takes::Outdated => {
            findings.push(outdated(row, setting, removal_of(model, node, setting)))
        }
        // The notice about the layer covers its options.
        Some(row) if kind.is_some() => quiet.add(name, row, setting),
        Some(_) => {}
        None if kind.is_some() || of_dropped => findings.push(unknown(model, node, setting)),
        None => {}
    }
}

fn check_value(spec: &OptionSpec, setting: &Setting, findings: &mut Diagnostics) {
    if let Err(reason) = spec.check(&setting.value) {
        findings.push(bad_value(spec, setting, &reason));
    }
}

/// Checks a value that nothing is done with: where the right one is not known, the line may go.
fn check_idle_value(
    model: &Model<'_>,
    node: &Node<'_>,
    spec: OptionSpec,
    setting: &Setting,
    findings: &mut Diagnostics,
) {
    let Err(reason) = spec.check(&setting.value) else { return };
    let finding = bad_value(&spec, setting, &reason);
    let removal = removal_of(model, node, setting).filter(|_| finding.help.is_none());
    findings.push(match removal {
        Some(edits) => finding.fix("remove the line; the option is without effect here", edits),
        None => finding,
    });
}

fn spec_of<'k>(kind: &'k XlatorType, key: &str) -> Option<&'k OptionSpec> {
    kind.options.iter().find(|spec| spec.matches(key))
}

/// The names of all options that a volume of the type may have.
pub(super) fn names_of(types: &Registry, kind: &str) -> Vec<&'static str> {
    let own = types.get(kind).into_iter().flat_map(|kind| kind.options);
    let own = own.flat_map(|spec| std::iter::once(spec.key).chain(spec.aliases.iter().copied()));
    let rows = TypeRow::find(kind).into_iter().flat_map(|row| row.options).chain(ANY_TYPE);
    own.chain(rows.map(|row| row.key)).filter(|key| !key.contains('*')).collect()
}

fn unknown(model: &Model<'_>, node: &Node<'_>, setting: &Setting) -> Diagnostic {
    let kind = node.kind_name();
    let key = shorten(&setting.key);
    let finding = Diagnostic::error(Code::UnknownOption, format!("unknown option `{key}` for `{kind}`"))
        .at(setting.key_span, "not an option of this xlator")
        .note(IGNORED);
    let names = names_of(model.types, kind);
    if let Some(near) = nearest(&setting.key, names.iter().copied()) {
        return finding.fix("there is an option with a similar name", vec![(setting.key_span, near.to_owned())]);
    }
    // `performance.cache-size` is the name that `gluster volume set` has for it.
    let short = setting.key.split_once('.').map(|(_, short)| short);
    if let Some(short) = short.and_then(|short| names.iter().find(|name| **name == short)) {
        let words = "GlusterFS's command line has a longer name for it";
        return finding.fix(words, vec![(setting.key_span, (*short).to_owned())]);
    }
    let other = model.types.iter().find(|other| spec_of(other, &setting.key).is_some());
    let words = match other {
        Some(other) => format!("it is an option of `{}`; here the line does nothing", other.name),
        None if model.types.get(kind).is_some() => {
            format!("remove the line; `brickwork xlator info {kind}` lists the options")
        }
        None => format!("remove the line; the options are {}", names.join(", ")),
    };
    match removal_of(model, node, setting) {
        Some(edits) => finding.fix(words, edits),
        None => finding.help(words),
    }
}

fn bad_value(spec: &OptionSpec, setting: &Setting, reason: &str) -> Diagnostic {
    let secret = spec.secret || is_secret_key(&setting.key);
    let shown = if secret { MASK.into() } else { shorten(&setting.value) };
    // A reason may quote the value.
    let reason = if secret { "is not one that the option takes" } else { reason };
    let finding = Diagnostic::error(Code::BadValue, format!("`{shown}` {reason} in option `{}`", setting.key))
        .at(setting.value_span, format!("expected {}", spec.values));
    let finding = match spec.default {
        Some(default) => finding.note(format!("without this line it is `{default}`")),
        None => finding,
    };
    let near = nearest_value(&setting.value, spec.values, |value| spec.check(value).is_ok());
    match near.filter(|_| !secret) {
        Some(near) => finding.fix(
            "a value that the option takes",
            vec![(setting.value_span, crate::volfile::printed_word(&near).into_owned())],
        ),
        None => match spec.range {
            Some((least, most)) => match setting.value.parse::<i64>() {
                Ok(number) if !secret => {
                    let edit = (setting.value_span, number.clamp(least, most).to_string());
                    finding.fix(format!("give a number from {least} to {most}; this is the nearest"), vec![edit])
                }
                _ => finding.help(format!("give a number from {least} to {most}")),
            },
            None => finding,
        },
    }
}

fn empty_value(setting: &Setting, removal: Option<Vec<(Span, String)>>) -> Diagnostic {
    let finding = Diagnostic::error(Code::BadValue, format!("option `{}` has an empty value", shorten(&setting.key)))
        .at(setting.value_span, "")
        .note("GlusterFS 10.3 logs the option as invalid and ignores it");
    match removal {
        Some(edits) => finding.fix("give it a value, or remove the line to get the default", edits),
        None => finding.help("give it a value"),
    }
}

fn switched_on(kind: &str, row: &OptionRow, setting: &Setting) -> Diagnostic {
    let (what, right) = match row.takes {
        Takes::On => ("cannot be switched off here", "on"),
        _ => ("cannot be switched on here", "off"),
    };
    Diagnostic::error(Code::SwitchedOn, format!("option `{}` of `{kind}` {what}", setting.key))
        .at(setting.value_span, row.consequence)
        .fix("if you can do without, say so", vec![(setting.value_span, right.to_owned())])
}

fn outdated(row: &OptionRow, setting: &Setting, removal: Option<Vec<(Span, String)>>) -> Diagnostic {
    let finding = Diagnostic::warning(Code::Deprecated, format!("option `{}` is outdated", setting.key))
        .at(setting.key_span, row.consequence);
    match removal {
        Some(edits) => finding.fix("remove the line", edits),
        None => finding.help("leave it out"),
    }
}

fn secret(model: &Model<'_>, setting: &Setting) -> Diagnostic {
    let on_command_line = model.sources.get(setting.value_span.source).name() == COMMAND_LINE;
    let finding = Diagnostic::warning(Code::Secret, "secret in plain text")
        .at(setting.value_span, format!("the value of `{}`", shorten(&setting.key)));
    if on_command_line {
        finding.help("put it into the volfile: a command line is seen by every user of the machine")
    } else {
        finding.help("let only the daemon's user read this file: `chmod 600`")
    }
}

fn check_required(node: &Node<'_>, kind: &XlatorType, findings: &mut Diagnostics) {
    if node.broken {
        return;
    }
    for spec in kind.options.iter().filter(|spec| spec.required) {
        if node.settings.iter().any(|setting| spec.matches(&setting.key)) {
            continue;
        }
        let finding =
            Diagnostic::error(Code::MissingOption, format!("`{}` needs the option `{}`", kind.name, spec.key))
                .at(node.kind_span(), format!("volume `{}` does not give it", shorten(&node.name.text)));
        let words = format!("add `option {} VALUE`, where VALUE is {}", spec.key, spec.values);
        let finding = match node.kind {
            Some(kind) => {
                let behind = Span { start: kind.span.end, ..kind.span };
                finding.fix(words, vec![(behind, format!("\n    option {} VALUE", spec.key))])
            }
            None => finding.help(words),
        };
        let near = node
            .settings
            .iter()
            .find(|setting| spec_of(kind, &setting.key).is_none() && nearest(&setting.key, [spec.key]).is_some());
        // A mistyped name of this very option is reported already, with the right one.
        if near.is_none() {
            findings.push(finding);
        }
    }
}

/// Options that are accepted without effect on types of our own: collected to one notice for each type.
#[derive(Default)]
struct Quiet<'a>(BTreeMap<String, Vec<(&'static OptionRow, &'a Setting)>>);

impl<'a> Quiet<'a> {
    fn add(&mut self, kind: &str, row: &'static OptionRow, setting: &'a Setting) {
        let list = self.0.entry(kind.to_owned()).or_default();
        if !list.iter().any(|(known, _)| known.key == row.key) {
            list.push((row, setting));
        }
    }

    fn report(self, findings: &mut Diagnostics) {
        for (kind, list) in self.0 {
            let names: Vec<String> = list.iter().map(|(_, s)| format!("`{}`", shorten(&s.key))).collect();
            let mut finding = Diagnostic::notice(
                Code::WithoutEffect,
                format!("options of `{kind}` without effect here: {}", names.join(", ")),
            )
            .at(list[0].1.key_span, list[0].0.consequence);
            for ((row, _), name) in list.iter().zip(&names).skip(1) {
                finding = finding.note(format!("{name}: {}", row.consequence));
            }
            findings.push(finding);
        }
    }
}
