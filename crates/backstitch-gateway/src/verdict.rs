//! What may a step conclude from an adapter's error?
//!
//! Three questions decide everything: is it worth trying again, may the effect have happened, and may it still come? An
//! adapter answers them for each of its errors; [`Verdict`] is their sum, in the words of the engine.

use backstitch::{Failure, StepError};

/// What a step should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Transient, and answered: back off and try again.
    Retry,
    /// No answer: try again, and know that it may still arrive.
    InDoubt,
    /// Permanent, and the effect may be there: give up and take it back.
    Fail,
    /// Permanent, and surely nothing happened.
    Rejected,
}

/// An error that knows what it means.
pub trait Classified: std::error::Error {
    /// A short stable word for programs.
    fn code(&self) -> &'static str;

    /// Trying again later can succeed without anybody changing the request.
    fn is_transient(&self) -> bool;

    /// The outside world may have been changed by the call that gave this error.
    fn may_have_happened(&self) -> bool;

    /// The call got no answer, so that its effect may even come later.
    fn may_still_arrive(&self) -> bool {
        false
    }

    /// All answers in one word.
    fn verdict(&self) -> Verdict {
        match (self.is_transient(), self.may_have_happened()) {
            (true, _) if self.may_still_arrive() => Verdict::InDoubt,
            (true, _) => Verdict::Retry,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Rejected,
        }
    }
}

/// What a step says about an adapter's error.
pub(crate) fn step_error(error: impl Classified) -> StepError {
    let failure = Failure::from_error(error.code(), &error);
    match error.verdict() {
        Verdict::Retry => StepError::Retry(failure),
        Verdict::InDoubt => StepError::InDoubt(failure),
        Verdict::Fail => StepError::Fail(failure),
        Verdict::Rejected => StepError::Rejected(failure),
    }
}
