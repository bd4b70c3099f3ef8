//! What may a step conclude from an adapter's error?
//!
//! Two questions decide everything: is it worth trying again, and may the effect have happened? An adapter answers both
//! for each of its errors; [`Verdict`] is their sum, in the words of the engine.

/// What a step should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Transient, or nobody knows: back off and try again.
    Retry,
    /// Permanent, and the effect may be there: give up and take it back.
    Fail,
    /// Permanent, and surely nothing happened.
    Rejected,
}

/// An error that knows what it means.
pub trait Classified {
    /// Trying again later can succeed without anybody changing the request.
    fn is_transient(&self) -> bool;

    /// The outside world may have been changed by the call that gave this error.
    fn may_have_happened(&self) -> bool;

    /// Both answers in one word.
    fn verdict(&self) -> Verdict {
        match (self.is_transient(), self.may_have_happened()) {
            (true, _) => Verdict::Retry,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Rejected,
        }
    }
}
