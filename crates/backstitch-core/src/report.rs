//! What became of each step of a workflow that was taken back.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::history::{History, Slot};
use crate::id::Position;
use crate::record::{Backward, Cause, Operator};

/// What became of each step, beside the original error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackReport {
    /// Why the workflow was taken back.
    pub cause: Cause,
    /// Every step that began, from the first to the last.
    pub steps: Vec<StepReport>,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepReport {
    /// Where it stands.
    pub position: Position,
    /// Its name.
    pub step: String,
    /// What became of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// What became of one step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "fate", rename_all = "snake_case")]
pub enum Fate {
    /// Taken back.
    Compensated {
        /// In how many attempts.
        attempts: u32,
    },
    /// Its code declared that there is nothing to take back.
    NothingToCompensate,
    /// It said, believably, that it did nothing; or its transaction did not commit.
    DidNotHappen,
    /// An operator said that it need not be taken back.
    Skipped(Operator),
    /// It still stands outside, or may.
    Owed {
        /// How many attempts to take it back have begun.
        attempts: u32,
        /// The last error of those, if there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<Failure>,
    },
}

impl RollbackReport {
    /// What the journal says. None while the workflow goes forward.
    #[must_use]
    pub fn of(history: &History) -> Option<Self> {
        let cause = history.unwinding()?.clone();
        let steps = history
            .slots()
            .map(|(position, slot)| StepReport { position, step: slot.step.clone(), fate: fate(slot) })
            .collect();
        Some(Self { cause, steps })
    }

    /// The steps that still stand outside, or may.
    pub fn owed(&self) -> impl Iterator<Item = &StepReport> {
        self.steps.iter().filter(|step| matches!(step.fate, Fate::Owed { .. }))
    }
}

fn fate(slot: &Slot) -> Fate {
    if slot.is_compensated() {
        Fate::Compensated { attempts: slot.compensate.begun }
    } else if !slot.may_have_happened() {
        Fate::DidNotHappen
    } else if slot.backward == Backward::Nothing {
        Fate::NothingToCompensate
    } else if let Some(operator) = &slot.skipped {
        Fate::Skipped(operator.clone())
    } else {
        Fate::Owed { attempts: slot.compensate.begun, error: slot.compensate.failure.clone() }
    }
}

impl fmt::Display for RollbackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, step) in self.steps.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{} {}", step.step, step.fate)?;
        }
        if self.steps.is_empty() { f.write_str("no step had begun") } else { Ok(()) }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Compensated { attempts: 1 } => f.write_str("compensated"),
            Self::Compensated { attempts } => write!(f, "compensated in {attempts} attempts"),
            Self::NothingToCompensate => f.write_str("had nothing to compensate"),
            Self::DidNotHappen => f.write_str("did not happen"),
            Self::Skipped(Operator { by, why }) => write!(f, "skipped by {by}: {why}"),
            Self::Owed { attempts, error: None } => write!(f, "still owed after {attempts} attempts"),
            Self::Owed { attempts, error: Some(error) } => {
                write!(f, "still owed after {attempts} attempts: {error}")
            }
        }
    }
}
