//! What went wrong, in words for a person and a code for a program.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::Position;
use crate::limits::MESSAGE_BYTES_MAX;

/// A failure as the journal keeps it. The code is for programs, the message for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// A short stable word, such as `no_gateway_available`.
    pub code: Cow<'static, str>,
    /// What happened, in lower case, with the chain of its sources.
    pub message: String,
}

impl Failure {
    /// A failure of this code. Null characters are replaced and an overlong message is cut, so that an error can
    /// always be journaled.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        let message = journaled(message.into());
        let mut code = code.into();
        if code.contains('\0') {
            code = code.replace('\0', "\u{FFFD}").into();
        }
        Self { code, message }
    }

    /// A failure of this code whose message is `error` and the chain of its sources.
    #[must_use]
    pub fn from_error(code: impl Into<Cow<'static, str>>, error: &dyn Error) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            // Many errors repeat their source in their own text.
            if !message.contains(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            source = cause.source();
        }
        Self::new(code, message)
    }
}

/// A text as it can be journaled: null characters, which Postgres can't hold, are replaced, and an overlong one is cut.
#[must_use]
pub fn journaled(mut text: String) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{FFFD}");
    }
    if text.len() > MESSAGE_BYTES_MAX {
        text.truncate(text.floor_char_boundary(MESSAGE_BYTES_MAX));
        text.push_str(" … (cut)");
    }
    text
}

impl Failure {
    /// This failure as it can be journaled: its fields are open, and may have been filled with anything.
    #[must_use]
    pub fn journaled(self) -> Self {
        Self::new(self.code, self.message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Error for Failure {}

/// What an attempt of a step says when it did not succeed. The variant is what the engine can do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StepError {
    /// Transient, and answered: back off and try again with the same key.
    #[error("{0}, to be tried again")]
    Retry(#[source] Failure),
    /// No answer: it may have happened, and may still arrive. Tried again with the same key; before it is compensated,
    /// what is still on its way is waited out.
    #[error("{0}, outcome unknown, to be tried again")]
    InDoubt(#[source] Failure),
    /// Permanent, and something may have happened: the step is compensated.
    #[error("{0}")]
    Fail(#[source] Failure),
    /// Permanent, and nothing happened: there is nothing to take back of this step.
    #[error("{0}")]
    Rejected(#[source] Failure),
}

impl StepError {
    /// No answer.
    #[must_use]
    pub fn in_doubt(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::InDoubt(Failure::new(code, message.to_string()))
    }

    /// Transient, and answered.
    #[must_use]
    pub fn retry(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::Retry(Failure::new(code, message.to_string()))
    }

    /// Permanent, effect unknown.
    #[must_use]
    pub fn fail(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::Fail(Failure::new(code, message.to_string()))
    }

    /// Permanent, nothing happened.
    #[must_use]
    pub fn rejected(code: impl Into<Cow<'static, str>>, message: impl fmt::Display) -> Self {
        Self::Rejected(Failure::new(code, message.to_string()))
    }

    /// This error as it can be journaled.
    #[must_use]
    pub fn journaled(self) -> Self {
        match self {
            Self::Retry(failure) => Self::Retry(failure.journaled()),
            Self::InDoubt(failure) => Self::InDoubt(failure.journaled()),
            Self::Fail(failure) => Self::Fail(failure.journaled()),
            Self::Rejected(failure) => Self::Rejected(failure.journaled()),
        }
    }

    /// What went wrong.
    #[must_use]
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Retry(failure) | Self::InDoubt(failure) | Self::Fail(failure) | Self::Rejected(failure) => {
                failure
            }
        }
    }
}

/// What a workflow's function sees of a step that finally failed. No residue of that step is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("step {step} (position {position}) failed: {failure}")]
pub struct StepFailed {
    /// The step's name.
    pub step: String,
    /// Where it stood.
    pub position: Position,
    /// Its error.
    pub failure: Failure,
}

/// How a workflow's function gives up. A `?` on a step makes one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{failure}")]
pub struct WorkflowError {
    /// The error that the caller gets.
    pub failure: Failure,
    /// The step it came from; none when the function itself gave up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<String>,
}

impl WorkflowError {
    /// The function gives up for a reason of its own.
    #[must_use]
    pub fn new(code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { failure: Failure::new(code, message), step: None }
    }

    /// This error as it can be journaled: its fields are open, and may have been filled with anything.
    #[must_use]
    pub fn journaled(self) -> Self {
        Self { failure: self.failure.journaled(), step: self.step.map(journaled) }
    }
}

impl From<StepFailed> for WorkflowError {
    fn from(failed: StepFailed) -> Self {
        Self { failure: failed.failure, step: Some(failed.step) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_message_can_be_journaled() {
        let failure = Failure::new("c\0", format!("a\0b{}", "é".repeat(MESSAGE_BYTES_MAX)));
        assert!(!failure.message.contains('\0') && !failure.code.contains('\0'));
        assert!(failure.message.len() < MESSAGE_BYTES_MAX + 20);
        assert!(failure.message.ends_with("(cut)"));
    }

    #[test]
    fn any_step_that_a_function_names_can_be_journaled() {
        let failure = Failure { code: "c\0".into(), message: "m\0".into() };
        let error = WorkflowError { failure, step: Some("register\0dns".into()) }.journaled();
        assert!(!error.failure.message.contains('\0') && !error.failure.code.contains('\0'));
        assert_eq!(error.step.as_deref(), Some("register\u{FFFD}dns"));
    }
}
