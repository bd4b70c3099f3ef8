//! What a step is told about the attempt it is making.

use std::time::Duration;

use backstitch_core::id::{Epoch, IdempotencyKey, WorkflowId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// One try of a step's `run` or `compensate`.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub(crate) key: IdempotencyKey,
    pub(crate) number: u32,
    pub(crate) epoch: Epoch,
    pub(crate) deadline: Instant,
    pub(crate) cancelled: CancellationToken,
}

impl Attempt {
    /// The name of the effect, the same on every try, by every worker. Hand it to the target, so that it can refuse a
    /// repeated call.
    #[must_use]
    pub fn key(&self) -> IdempotencyKey {
        self.key
    }

    /// The workflow.
    #[must_use]
    pub fn workflow(&self) -> WorkflowId {
        self.key.workflow
    }

    /// Which try this is, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Counts the claims of the workflow. Hand it to the target, so that it can refuse a stale caller.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// How much of the attempt's time is left.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether somebody cancelled the workflow since. A long attempt may then stop early with an error; its outcome is
    /// awaited either way.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.is_cancelled()
    }

    /// Waits until somebody cancels the workflow.
    pub async fn cancelled(&self) {
        self.cancelled.cancelled().await;
    }
}
