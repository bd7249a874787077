//! `brickwork xlator`: the types of this build and their options.

use brickwork_api::XlatorType;
use brickwork_api::options::OptionSpec;
use serde_json::{Value, json};

use crate::codes::Code;
use crate::failure::{Exit, Failure, Outcome};
use crate::output::{Output, table};
use crate::registry;

/// Show the types of xlators and their options.
#[derive(clap::Subcommand, Debug)]
pub enum Xlator {
    /// List the types
    List,
    /// Show one type with all its options
    Info {
        /// As in a volfile: `storage/posix`
        #[arg(value_name = "TYPE")]
        kind: String,
    },
}

impl Xlator {
    /// Prints what was asked for.
    pub fn run(&self, output: Output) -> Outcome {
        let registry = registry::built_in();
        match self {
            Xlator::List => list(output, &registry.iter().collect::<Vec<_>>())?,
            Xlator::Info { kind } => match registry.get(kind) {
                Some(kind) if output.is_json() => output.document("XlatorType", &[to_json(kind)])?,
                Some(kind) => output.text(&info(kind))?,
                None => return Err(unknown(kind, &registry.iter().map(|kind| kind.name).collect::<Vec<_>>())),
            },
        }
        Ok(Exit::Done)
    }
}

fn list(output: Output, types: &[&XlatorType]) -> Result<(), Failure> {
    if output.is_json() {
        let items: Vec<Value> = types.iter().map(|kind| to_json(kind)).collect();
        return output.document("XlatorTypeList", &items);
    }
    let rows: Vec<[String; 3]> = types
        .iter()
        .map(|kind| [kind.name.to_owned(), kind.subvolumes.words().to_owned(), kind.about.to_owned()])
        .collect();
    output.text(&table(["TYPE", "TAKES", "WHAT IT DOES"], &rows))
}

fn info(kind: &XlatorType) -> String {
    let mut text = format!("{}\n  {}\n  takes {}\n", kind.name, kind.about, kind.subvolumes.words());
    if kind.options.is_empty() {
        text.push_str("\nIt has no options.\n");
    }
    for spec in kind.options {
        text.push_str(&format!("\noption {}\n", spec.key));
        for line in spec.doc.trim().lines() {
            text.push_str(&format!("    {}\n", line.trim()));
        }
        text.push_str(&format!("    {}\n", facts(spec).join("; ")));
    }
    text
}

fn facts(spec: &OptionSpec) -> Vec<String> {
    let mut facts = vec![spec.values.to_owned()];
    facts.extend(spec.range.map(|(min, max)| format!("{min} to {max}")));
    facts.push(match (spec.default, spec.required) {
        (Some(default), _) => format!("default `{default}`"),
        (None, true) => "required".to_owned(),
        (None, false) => "no default".to_owned(),
    });
    if spec.live {
        facts.push("can change while it runs".to_owned());
    }
    if spec.secret {
        facts.push("secret".to_owned());
    }
    if !spec.aliases.is_empty() {
        facts.push(format!("also spelled {}", spec.aliases.join(", ")));
    }
    facts
}

fn to_json(kind: &XlatorType) -> Value {
    let options: Vec<Value> = kind
        .options
        .iter()
        .map(|spec| {
            json!({
                "key": spec.key, "aliases": spec.aliases, "values": spec.values, "default": spec.default,
                "required": spec.required, "live": spec.live, "secret": spec.secret,
                "min": spec.range.map(|range| range.0), "max": spec.range.map(|range| range.1),
                "doc": spec.doc.split_whitespace().collect::<Vec<_>>().join(" "),
            })
        })
        .collect();
    json!({"type": kind.name, "about": kind.about, "subvolumes": kind.subvolumes.words(), "options": options})
}

fn unknown(wanted: &str, names: &[&str]) -> Failure {
    let last = |name: &str| name.rsplit('/').next() == Some(wanted);
    let near = names.iter().find(|name| last(name) || strsim::damerau_levenshtein(name, wanted) <= 3);
    let failure = Failure::new(Code::NoSuchType, format!("there is no xlator `{wanted}`"));
    match near {
        Some(name) => failure.next(format!("did you mean `{name}`?")),
        None => failure.next("brickwork xlator list"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_or_shortened_type_is_answered_with_the_near_one() {
        let names = ["debug/io-stats", "storage/posix"];
        for wanted in ["posix", "storage/posx", "storag/posix"] {
            assert!(unknown(wanted, &names).to_string().contains("did you mean `storage/posix`?"), "{wanted}");
        }
        assert!(unknown("cluster/dht", &names).to_string().contains("brickwork xlator list"));
    }

    #[test]
    fn every_option_of_every_type_is_explained() {
        for kind in registry::built_in().iter() {
            assert!(!kind.about.is_empty(), "{}", kind.name);
            for spec in kind.options {
                assert!(spec.doc.trim().len() > 10, "{} {}", kind.name, spec.key);
            }
        }
    }
}
