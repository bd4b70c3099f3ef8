//! What can go wrong at a gateway, and what does it mean for the caller?

use std::time::Duration;

use crate::networks::Upstream;
use crate::verdict::Classified;

/// One variant for each thing a caller or an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It did not answer pings in the given time.
    #[error("gateway {upstream} did not answer GET /collab/ping within {}: {last}", seconds(*waited))]
    NeverAnswered {
        /// Which gateway.
        upstream: Upstream,
        /// How long it was asked.
        waited: Duration,
        /// What the last try said.
        last: String,
    },
    /// No connection was made: the call did not reach it.
    #[error("gateway {upstream} cannot be reached")]
    Unreachable {
        /// Which gateway.
        upstream: Upstream,
        /// What the connection attempt said.
        source: reqwest::Error,
    },
    /// The call went out, no answer came in time.
    #[error("gateway {upstream} did not answer in time or broke the connection")]
    NoAnswer {
        /// Which gateway.
        upstream: Upstream,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// A later claim of this workflow has called already: this caller has lost its workflow.
    #[error("gateway {upstream} refused a stale caller: {details}")]
    Stale {
        /// Which gateway.
        upstream: Upstream,
        /// Its own words.
        details: String,
    },
    /// The start was reset before it arrived; its workflow is on its way back.
    #[error("gateway {upstream} refused a start that was reset before: {details}")]
    AlreadyReset {
        /// Which gateway.
        upstream: Upstream,
        /// Its own words.
        details: String,
    },
    /// It serves another organisation, which the pool doesn't know of: it needs a person.
    #[error("gateway {upstream} serves someone else: {details}")]
    ServesAnother {
        /// Which gateway.
        upstream: Upstream,
        /// Its own words.
        details: String,
    },
    /// It understood and said no.
    #[error("gateway {upstream} refused ({status}): {details}")]
    Refused {
        /// Which gateway.
        upstream: Upstream,
        /// Its HTTP status.
        status: u16,
        /// Its own words.
        details: String,
    },
    /// It had trouble of its own (5xx), or answered what it should not.
    #[error("gateway {upstream} failed ({status}): {details}")]
    Failed {
        /// Which gateway.
        upstream: Upstream,
        /// Its HTTP status.
        status: u16,
        /// Its own words.
        details: String,
    },
}

impl Classified for AgentError {
    fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NeverAnswered { .. }
                | Self::Unreachable { .. }
                | Self::NoAnswer { .. }
                | Self::Failed { .. }
        )
    }

    fn may_have_happened(&self) -> bool {
        matches!(self, Self::NoAnswer { .. } | Self::Failed { .. })
    }

    fn may_still_arrive(&self) -> bool {
        matches!(self, Self::NoAnswer { .. })
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NeverAnswered { .. } => "gateway_never_answered",
            Self::Unreachable { .. } => "gateway_unreachable",
            Self::NoAnswer { .. } => "gateway_no_answer",
            Self::Stale { .. } => "gateway_refused_stale_caller",
            Self::AlreadyReset { .. } => "gateway_already_reset",
            Self::ServesAnother { .. } => "gateway_serves_another",
            Self::Refused { .. } => "gateway_refused",
            Self::Failed { .. } => "gateway_failed",
        }
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
