//! How a command ends: with an exit code, and when it failed with what, where, why and what to do next.

use std::fmt;
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::codes::Code;

/// What the process exits with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done, healthy.
    Done,
    /// 1: the operation failed.
    Failed,
    /// 2: the command line is wrong.
    Usage,
    /// 3: degraded, where `--exit-code` asks for it.
    Degraded,
    /// 69: the process asked for is not there.
    Unavailable,
    /// 75: try again.
    TryAgain,
    /// 77: permission.
    Permission,
    /// 78: the configuration is invalid.
    Config,
    /// 124: timed out.
    TimedOut,
    /// 130: interrupted.
    Interrupted,
    /// What a command run by `--exec` exited with.
    Of(u8),
}

impl From<Exit> for u8 {
    fn from(exit: Exit) -> u8 {
        match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Degraded => 3,
            Exit::Unavailable => 69,
            Exit::TryAgain => 75,
            Exit::Permission => 77,
            Exit::Config => 78,
            Exit::TimedOut => 124,
            Exit::Interrupted => 130,
            Exit::Of(code) => code,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(u8::from(exit))
    }
}

/// Why a command failed. Travels from the process that failed to the one that tells the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure(Box<Parts>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Parts {
    #[serde(with = "code_as_text")]
    code: Code,
    message: String,
    #[serde(rename = "where", skip_serializing_if = "Option::is_none")]
    place: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
    /// Findings in a volfile, drawn; they are shown in place of everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<String>,
}

/// What every verb answers.
pub type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Begins with what happened: lower case, no full stop, values in it, names in backticks.
    #[must_use]
    pub fn new(code: Code, what: impl Into<String>) -> Failure {
        let message = what.into();
        Failure(Box::new(Parts { code, message, place: None, why: None, hint: None, findings: None }))
    }

    /// Says at which object it happened, where the first line does not.
    #[must_use]
    pub fn at(mut self, place: impl fmt::Display) -> Failure {
        self.0.place = Some(place.to_string());
        self
    }

    /// Says what caused it.
    #[must_use]
    pub fn because(mut self, why: impl fmt::Display) -> Failure {
        self.0.why = Some(why.to_string());
        self
    }

    /// Says what to do next.
    #[must_use]
    pub fn next(mut self, hint: impl fmt::Display) -> Failure {
        self.0.hint = Some(hint.to_string());
        self
    }

    /// Shows `findings`, a drawn report of `volfile check`, to people.
    #[must_use]
    pub fn with_findings(mut self, findings: String) -> Failure {
        self.0.findings = Some(findings);
        self
    }

    /// The failure as helpers of other programs tell it: `PREFIX: reason [CODE]`, details on lines below.
    #[must_use]
    pub fn after(&self, prefix: &str) -> String {
        let parts = &self.0;
        let mut reasons = parts.message.lines();
        let first = reasons.next().unwrap_or_default();
        let mut text = format!("{prefix}: {first} [{}]", parts.code.as_str());
        for reason in reasons {
            text.push_str(&format!("\n  {reason}"));
        }
        match &parts.findings {
            Some(findings) => text.push_str(&format!("\n{}", findings.trim_end())),
            None => parts.details(&mut text).expect("writing to a string"),
        }
        text
    }

    /// Which kind.
    #[must_use]
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// What happened, in one line.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The reason, where there is one beside the message.
    #[must_use]
    pub fn why(&self) -> Option<&str> {
        self.0.why.as_deref()
    }

    /// As one JSON object.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let parts = &self.0;
        json!({"error": {
            "code": parts.code.as_str(),
            "message": parts.message,
            "where": parts.place,
            "why": parts.why,
            "hint": parts.hint,
            "docs": format!("brickwork explain {}", parts.code.as_str()),
            "exit": u8::from(parts.code.exit()),
        }})
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0;
        if let Some(findings) = &parts.findings {
            return f.write_str(findings.trim_end());
        }
        write!(f, "error[{}]: {}", parts.code.as_str(), parts.message)?;
        parts.details(f)?;
        write!(f, "\nFor more about this error: brickwork explain {}", parts.code.as_str())
    }
}

impl Parts {
    /// Where, why and what to do next, each on lines of its own.
    fn details(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        for (label, text) in [("where", &self.place), ("why", &self.why), ("next", &self.hint)] {
            if let Some(text) = text {
                write!(out, "\n  {label:<6}{}", text.trim_end().replace('\n', "\n        "))?;
            }
        }
        Ok(())
    }
}

impl std::error::Error for Failure {}

mod code_as_text {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Code;

    pub fn serialize<S: Serializer>(code: &Code, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(code.as_str())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Code, D::Error> {
        let text = String::deserialize(deserializer)?;
        Code::parse(&text).ok_or_else(|| D::Error::custom(format!("unknown code `{text}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure() -> Failure {
        Failure::new(Code::MountBusy, "`/mnt/g1` is in use").because("EBUSY").next("stop it\nor use `--lazy`")
    }

    #[test]
    fn the_first_line_is_the_reason_with_its_code_and_the_rest_follows_indented() {
        assert_eq!(
            failure().to_string(),
            "error[E0131]: `/mnt/g1` is in use\n  why   EBUSY\n  next  stop it\n        or use `--lazy`\n\
             For more about this error: brickwork explain E0131"
        );
    }

    #[test]
    fn a_helper_tells_the_reason_with_its_code_behind_its_name() {
        assert_eq!(
            failure().after("mount.brickwork: vm:/gd1"),
            "mount.brickwork: vm:/gd1: `/mnt/g1` is in use [E0131]\n  why   EBUSY\n  next  stop it\n        or use `--lazy`"
        );
    }

    #[test]
    fn a_failure_survives_the_way_from_process_to_process() {
        let text = serde_json::to_string(&failure()).unwrap();
        assert_eq!(serde_json::from_str::<Failure>(&text).unwrap(), failure());
    }

    #[test]
    fn findings_stand_in_place_of_the_failure_they_explain() {
        let shown = failure().with_findings("error[V0004]: unknown option\n\n".to_owned()).to_string();
        assert_eq!(shown, "error[V0004]: unknown option");
    }
}
