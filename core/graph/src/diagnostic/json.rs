//! Findings as JSON, for `--json`. The shape is stable: within `v1` fields are only added.

use super::mask::Masked;
use super::{Diagnostic, Diagnostics, Fix, Label, Summary};
use crate::volfile::{Sources, Span};
use serde_json::{Map, Value, json};

impl Diagnostics {
    /// The findings and the summary of one volfile.
    ///
    /// Places are lines and columns from 1, columns in characters; `endColumn` is the column after the last one.
    /// An edit that would show a secret is left out.
    pub fn to_json(&self, sources: &Sources, summary: Summary) -> Value {
        let masked: Vec<Masked> = sources.iter().map(|(_, source)| Masked::new(source)).collect();
        let items: Vec<Value> = self.iter().map(|d| item(d, sources, &masked)).collect();
        json!({
            "apiVersion": "brickwork/v1",
            "kind": "VolfileFindingList",
            "file": sources.iter().next().map(|(_, source)| source.name()),
            "items": items,
            "errors": self.error_count(),
            "warnings": self.warning_count(),
            "notShown": self.dropped(),
            "xlators": summary.xlators,
            "lines": summary.lines,
            "elapsedSeconds": summary.elapsed.map(|elapsed| elapsed.as_secs_f64()),
        })
    }
}

fn item(diagnostic: &Diagnostic, sources: &Sources, masked: &[Masked]) -> Value {
    let mut out = match &diagnostic.primary {
        Some(label) => place(label.span, sources),
        None => Map::new(),
    };
    let help = diagnostic.help.as_ref();
    let fix = help.and_then(|help| edits(help.fix.as_ref()?, sources, masked));
    let labels: Vec<Value> = diagnostic.labels.iter().map(|l| label(l, sources)).collect();
    out.insert("code".into(), diagnostic.code.as_str().into());
    out.insert("severity".into(), diagnostic.severity.as_str().into());
    out.insert("message".into(), diagnostic.message.as_str().into());
    out.insert("label".into(), diagnostic.primary.as_ref().map_or(Value::Null, |l| l.text.as_str().into()));
    out.insert("labels".into(), labels.into());
    out.insert("notes".into(), diagnostic.notes.clone().into());
    out.insert("hint".into(), help.map_or(Value::Null, |h| h.message.as_str().into()));
    let applicable = fix.is_some() && diagnostic.code.fixes_only_spelling();
    out.insert("fix".into(), fix.unwrap_or(Value::Null));
    out.insert("fixOnlySpelling".into(), applicable.into());
    out.insert("docs".into(), format!("brickwork explain {}", diagnostic.code).into());
    Value::Object(out)
}

fn place(span: Span, sources: &Sources) -> Map<String, Value> {
    let source = sources.get(span.source);
    let (start, end) = (source.position(span.start), source.position(span.end));
    let mut out = Map::new();
    out.insert("file".into(), source.name().into());
    out.insert("line".into(), start.line.into());
    out.insert("column".into(), start.column.into());
    out.insert("endLine".into(), end.line.into());
    out.insert("endColumn".into(), end.column.into());
    out
}

fn label(label: &Label, sources: &Sources) -> Value {
    let mut out = place(label.span, sources);
    out.insert("label".into(), label.text.as_str().into());
    Value::Object(out)
}

fn edits(fix: &Fix, sources: &Sources, masked: &[Masked]) -> Option<Value> {
    if fix.edits.iter().any(|(span, _)| masked[span.source.0 as usize].hides(*span)) {
        return None;
    }
    let list: Vec<Value> = fix
        .edits
        .iter()
        .map(|(span, text)| {
            let mut out = place(*span, sources);
            out.insert("text".into(), text.as_str().into());
            Value::Object(out)
        })
        .collect();
    Some(list.into())
}
