//! What does a problem that a daemon answers with mean to a command? The same as the database's own word for it.

use backstitch::{Answered, Ending, Error, RollbackReport, Unfinished, WorkflowError, WorkflowId};
use serde::Deserialize;

use crate::exit::{Exit, Failed};

/// A problem as RFC 9457 has it, with the members that the daemon adds.
#[derive(Debug, Deserialize)]
pub struct Problem {
    r#type: String,
    status: u16,
    detail: String,
    code: String,
    workflow_id: Option<WorkflowId>,
    error: Option<WorkflowError>,
    report: Option<RollbackReport>,
}

impl Problem {
    /// Something between us and the daemon spoke.
    pub fn of_somebody_else(status: u16, text: &str) -> Self {
        let line = text.lines().next().unwrap_or_default();
        Self {
            r#type: String::new(),
            status,
            detail: format!("the server answers {status}, and not as a backstitch does: {line:.200}"),
            code: String::new(),
            workflow_id: None,
            error: None,
            report: None,
        }
    }

    /// How the workflow ended that was waited for. Err: it is another problem.
    pub fn ending<T>(self: Box<Self>) -> Result<Ending<T>, Box<Self>> {
        let (Some(workflow), Some(error), Some(report)) = (self.workflow_id, &self.error, &self.report)
        else {
            return Err(self);
        };
        let unfinished = Box::new(Unfinished { workflow, error: error.clone(), report: report.clone() });
        match self.r#type.rsplit(':').next() {
            Some("compensated") => Ok(Ending::Compensated(unfinished)),
            Some("needs_attention") => Ok(Ending::NeedsAttention(unfinished)),
            Some("abandoned") => Ok(Ending::Abandoned(unfinished)),
            _ => Err(self),
        }
    }

    /// What was said to a decision. Err: it is another problem.
    pub fn answered(self: Box<Self>) -> Result<Answered, Box<Self>> {
        if self.is_not_found() {
            return Ok(Answered::NotFound);
        }
        let known = Answered::ALL.into_iter().find(|answered| answered.as_str() == self.code);
        known.filter(|_| self.status == 409).ok_or(self)
    }

    /// There is no such workflow, as far as the token reaches.
    pub fn is_not_found(&self) -> bool {
        self.code == "workflow_not_found"
    }

    /// We ask too often, or with too many others. Not that nobody knows our token: that gets no better by asking again.
    pub fn is_too_soon(&self) -> bool {
        matches!(self.code.as_str(), "too_many_requests" | "too_many_looks")
    }

    /// It is worth asking again by itself, where the token was good before: a daemon that has just been started knows none of those
    /// that wait for it, and lets in so many a second.
    pub fn is_transient(&self) -> bool {
        matches!(self.status, 429 | 502..=504)
    }
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        let Problem { status, detail, code, workflow_id, .. } = problem;
        match (code.as_str(), workflow_id) {
            ("workflow_not_found", Some(workflow)) => Error::NotFound(workflow).into(),
            ("key_taken", Some(first)) => Error::KeyTaken { first, message: detail }.into(),
            ("invalid_request", _) => Error::Refused(detail).into(),
            ("invalid_input", _) => Self::usage(detail),
            _ if status == 401 => Self::new(
                Exit::Error,
                format!(
                    "{detail}; give one in BACKSTITCH_TOKEN, --server-token-file or server_token_file in backstitch.toml (`backstitch token create`)"
                ),
            ),
            _ if status == 403 => Self::refused(detail),
            _ => Self::new(Exit::Error, detail),
        }
    }
}
