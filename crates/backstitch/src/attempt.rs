//! What a step is told about the attempt it is making.

use std::sync::Arc;
use std::time::Duration;

use backstitch_core::id::{Epoch, IdempotencyKey, WorkflowId};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::secret::{self, Plaintext, Revealed, Secret, SecretError, Secrets};

/// One try of a step's `run` or `compensate`.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub(crate) key: IdempotencyKey,
    pub(crate) number: u32,
    pub(crate) epoch: Epoch,
    pub(crate) deadline: Instant,
    pub(crate) cancelled: CancellationToken,
    /// Of the workflow: what is sealed is bound to it.
    pub(crate) kind: &'static str,
    pub(crate) secrets: Arc<Secrets>,
    pub(crate) revealed: Revealed,
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

    /// The text behind a secret: only here, and only for this attempt. If it stands in the attempt's error or panic, it is taken
    /// out before that is journaled or logged; if it stands in the output, the attempt fails.
    ///
    /// # Errors
    /// When the worker has not the key or the source of it: a step's `?` makes that an error to be tried again.
    pub async fn reveal(&self, secret: &Secret) -> Result<Plaintext, SecretError> {
        let text = self.secrets.reveal(self.kind, secret).await?;
        self.revealed.note(&text);
        Ok(text)
    }

    /// A secret of this text, to be handed over as a part of the output: it can be revealed in later steps, and by
    /// whoever has the keyring. From here on the text is kept out of error, panic and output like one that was revealed.
    ///
    /// # Errors
    /// When the worker has no keyring, or the text can't be a secret.
    pub fn seal(&self, text: &str) -> Result<Secret, SecretError> {
        // Not noted: what is no secret does not stand in the way of its own error.
        secret::check(text)?;
        self.revealed.note(&Plaintext::new(text));
        self.secrets.seal(self.kind, text)
    }
}
