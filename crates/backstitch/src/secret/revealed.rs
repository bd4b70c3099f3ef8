//! What was an attempt told, and how is it kept out of what the attempt leaves behind?

use std::borrow::Cow;
use std::sync::{Arc, Mutex, PoisonError};

use backstitch_core::failure::{Failure, StepError};

use super::panics;
use super::plaintext::Plaintext;
use super::spelling::without;

/// What one attempt was told so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Revealed(Arc<Mutex<Vec<Plaintext>>>);

impl Revealed {
    /// From here on it is kept out, and out of what a panic prints.
    pub(crate) fn note(&self, text: &Plaintext) {
        panics::note(text);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(text.clone());
    }

    /// Whether any of it stands in a text.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        self.each().iter().any(|secret| without(text, secret.expose()).is_some())
    }

    /// The text without any of it.
    pub(crate) fn scrub(&self, text: String) -> String {
        self.each().iter().fold(text, |text, secret| without(&text, secret.expose()).unwrap_or(text))
    }

    /// The error without any of it.
    pub(crate) fn scrub_error(&self, error: StepError) -> StepError {
        match error {
            StepError::Retry(failure) => StepError::Retry(self.scrub_failure(failure)),
            StepError::InDoubt(failure) => StepError::InDoubt(self.scrub_failure(failure)),
            StepError::Fail(failure) => StepError::Fail(self.scrub_failure(failure)),
            StepError::Rejected(failure) => StepError::Rejected(self.scrub_failure(failure)),
        }
    }

    fn scrub_failure(&self, failure: Failure) -> Failure {
        let Failure { code, message } = failure;
        let code = match code {
            Cow::Borrowed(word) => Cow::Borrowed(word),
            Cow::Owned(word) => Cow::Owned(self.scrub(word)),
        };
        Failure { code, message: self.scrub(message) }
    }

    fn each(&self) -> Vec<Plaintext> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
