//! What is checked: which two steps, how much may go wrong, and which part of the protocol is left out.

use std::time::Duration;

use backstitch_core::decide::{Conduct, LateEffects, Patience, Recovery};
use backstitch_core::limits::{HALT, LATE_EFFECT_GRACE};
use backstitch_core::record::Backward;
use backstitch_core::retry::RetryPolicy;

/// How much time passes at once: a lease. Nothing in the protocol is told apart below that.
pub const TICK: Duration = Duration::from_secs(10);

/// After how many ticks nothing of an attempt is on its way any more: its timeout and the grace.
pub const LATE_TICKS: u8 = 2;

/// One workflow of two steps, and what the world may do to it.
#[derive(Debug, Clone)]
pub struct Protocol {
    /// What the workflow's function asks for, one after the other.
    pub steps: [Plan; 2],
    /// What the kind wants after a crash.
    pub recovery: Recovery,
    /// Whether the function goes on when a step fails. Otherwise it gives up.
    pub tolerant: bool,
    /// How many things may go wrong: crashes, freezes, lost answers, failed attempts, jumps of the clock, moments of idleness.
    pub faults: u8,
    /// How often a person may step in.
    pub verbs: u8,
    /// How many deaths are charged to the workflow from the start.
    pub charges: u8,
    /// What is left out of the protocol. None: nothing.
    pub defect: Option<Defect>,
}

/// One step, and what it acts upon.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How it is taken back.
    pub backward: Backward,
    /// What it acts upon.
    pub target: Target,
    /// Whether a stuck compensation waits for a person.
    pub halts: bool,
}

/// What a step acts upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Knows keys: the same one acts once, and none acts after its compensation.
    KeepsTombstones,
    /// Takes whatever arrives, like a name server: what is on its way is waited out.
    TakesAnything,
}

/// One part of the protocol left out, so that the checker can show what it is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Whoever writes is not asked whether he lives and holds the workflow.
    FenceOff,
    /// A burial does not wait for the writes in flight.
    BurialWithoutLock,
    /// A burial believes the clock, without having seen the beat stand still.
    BurialByClockAlone,
    /// A burial does not let go of what the dead one held.
    BurialKeepsHolder,
    /// The effect does not wait for the answer to its intent.
    IntentAfterEffect,
    /// An append without an answer is taken for written.
    UnansweredIsWritten,
    /// The target acts on what arrives after its compensation.
    TombstoneOff,
    /// A target that takes anything is not waited out.
    NotWaitedOut,
    /// An attempt's time counts from when its worker heard that its intent stands.
    TimeFromAnswer,
    /// Each attempt has a key of its own.
    KeyNotStable,
    /// A worker whose lease is over goes on with its effects.
    SelfStopMissing,
    /// The error of a compensation is swallowed.
    CompensationSwallowed,
    /// A stuck compensation is given up, and nobody is told.
    StuckSilently,
    /// Whoever recovers a workflow on its way back runs it forward.
    ForwardAfterUnwinding,
    /// Compensations follow the order of the steps.
    OrderNotReversed,
    /// A cancel that was accepted does not keep the pivot from beginning.
    CancelLosesToPivot,
}

impl Protocol {
    /// These steps, taken back after a crash, with so many things going wrong and no person near.
    #[must_use]
    pub fn new(steps: [Plan; 2], faults: u8) -> Self {
        Self {
            steps,
            recovery: Recovery::Compensate,
            tolerant: false,
            faults,
            verbs: 0,
            charges: 0,
            defect: None,
        }
    }

    /// The same without this part.
    #[must_use]
    pub fn without(self, defect: Defect) -> Self {
        Self { defect: Some(defect), ..self }
    }

    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defect == Some(defect)
    }

    pub(crate) fn conduct(&self, position: usize) -> Conduct {
        let plan = self.steps[position];
        let patience = Patience { attempts: 1, slow_retry: TICK, ..Patience::DEFAULT };
        Conduct {
            timeout: TICK * u32::from(LATE_TICKS) - LATE_EFFECT_GRACE,
            // Two attempts: so few faults use up every patience.
            retry: RetryPolicy::DEFAULT.attempts(2).delays(TICK, TICK),
            patience: if plan.halts { Patience { slow_retry: HALT, ..patience } } else { patience },
            late_effects: match plan.target {
                Target::TakesAnything if !self.has(Defect::NotWaitedOut) => LateEffects::WaitOut,
                _ => LateEffects::Refused,
            },
        }
    }
}

impl Plan {
    /// A step that acts upon a target which keeps tombstones.
    #[must_use]
    pub const fn new(backward: Backward) -> Self {
        Self { backward, target: Target::KeepsTombstones, halts: false }
    }

    /// The same upon another target.
    #[must_use]
    pub const fn on(self, target: Target) -> Self {
        Self { target, ..self }
    }

    /// The same, but a stuck compensation waits for a person.
    #[must_use]
    pub const fn halting(self) -> Self {
        Self { halts: true, ..self }
    }
}
