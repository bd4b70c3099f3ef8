//! What can be violated, and how is it said?

use std::fmt;

/// What does not hold that always must. I1 to I18 are the invariants of `docs/ARCHITECTURE.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Violated {
    /// I1: a journal is dense.
    Dense,
    /// I2: no effect without its durable intent.
    IntentFirst,
    /// I3: one outcome for each attempt, one end for each workflow.
    OneOutcome,
    /// I3: attempts are counted, and none is left out.
    AttemptsCounted,
    /// Steps run one after the other, each once the one before has ended.
    InTheirTurn,
    /// I4: after it has turned back nothing runs forward.
    NeverForwardAgain,
    /// The course turns once.
    TurnsOnce,
    /// I5: of a compensated workflow nothing stands.
    CompensatedLeavesNothing,
    /// I5: of a completed workflow what succeeded stands, once.
    CompletedStands,
    /// I5: of a completed workflow what failed does not stand.
    FailedLeavesNothing,
    /// A completed workflow has done all that it was asked for, and its output is what came of it.
    SaysWhatItDid,
    /// Whoever was told that a workflow is cancelled sees it taken back.
    CancelHolds,
    /// I5: what has ended owes nothing any more.
    NothingOwed,
    /// Only what may have happened is taken back, once, and not while it may go on.
    OnlyWhatIsOwed,
    /// There is no way back past the pivot.
    PivotHolds,
    /// I12: neither a compensation nor a step past the pivot fails for good.
    NeverGivenUp,
    /// I6: what was done later is taken back earlier.
    Reverse,
    /// I7: nothing follows the end.
    EndIsLast,
    /// I8: epochs only grow.
    EpochsGrow,
    /// I8: nothing is appended under a claim that is not the workflow's last.
    EpochIsTheLast,
    /// I13: one workflow of a kind for each key.
    EnqueuedOnce,
    /// I9: an effect happens once.
    AppliedOnce,
    /// I9: it is taken back once.
    CompensatedOnce,
    /// I16: what has ended holds nothing.
    EndedHoldsNothing,
    /// Whatever was acknowledged, or has had an effect, is there.
    NothingLost,
    /// Nothing stands outside that nobody answers for.
    NothingLeaked,
    /// Everything comes to its end.
    NothingStranded,
    /// Whoever was declared dead writes nothing any more.
    DeadAreSilent,
    /// So much happened that something was shown.
    EnoughShown,
}

/// One thing that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// What was violated.
    pub what: Violated,
    /// Where, and by what.
    pub how: String,
}

impl Violated {
    /// How a violation of it begins.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Dense => "I1",
            Self::IntentFirst => "I2",
            Self::OneOutcome => "I3",
            Self::AttemptsCounted => "I3: attempts",
            Self::InTheirTurn => "out of turn",
            Self::NeverForwardAgain => "I4",
            Self::TurnsOnce => "turned twice",
            Self::CompensatedLeavesNothing => "I5: compensated",
            Self::CompletedStands => "I5: completed",
            Self::FailedLeavesNothing => "I5: failed and stands",
            Self::SaysWhatItDid => "its output",
            Self::CancelHolds => "cancelled, and not taken back",
            Self::NothingOwed => "I5: owed",
            Self::OnlyWhatIsOwed => "taken back without owing",
            Self::PivotHolds => "back past the pivot",
            Self::NeverGivenUp => "I12",
            Self::Reverse => "I6",
            Self::EndIsLast => "I7",
            Self::EpochsGrow => "I8",
            Self::EpochIsTheLast => "I8: a stale claim",
            Self::EnqueuedOnce => "I13",
            Self::AppliedOnce => "I9: applied twice",
            Self::CompensatedOnce => "I9: compensated twice",
            Self::EndedHoldsNothing => "I16",
            Self::NothingLost => "lost",
            Self::NothingLeaked => "leaked",
            Self::NothingStranded => "stranded",
            Self::DeadAreSilent => "written by the dead",
            Self::EnoughShown => "too little shown",
        }
    }

    /// It was violated: where, and by what.
    #[must_use]
    pub fn by(self, how: impl Into<String>) -> Violation {
        Violation { what: self, how: how.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.what.words(), self.how)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_violation_says_what_was_violated_and_how() {
        let said = Violated::AppliedOnce.by("run of position 1 happened 2 times").to_string();
        assert_eq!(said, "I9: applied twice: run of position 1 happened 2 times");
    }
}
