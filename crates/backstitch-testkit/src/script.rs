//! Workflows whose steps do as they are told.
//!
//! A [`Script`] is a workflow's input: for each step what each attempt does, forward and back. An attempt for which
//! nothing is said makes its effect and succeeds.

use std::path::PathBuf;
use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, CompensateTransactionally, Conduct, Flow, IdempotencyKey, LateEffects,
    Outcome, Patience, Probe, Probed, Recovery, RetryPolicy, Sighting, Step, StepError, StepFailed, Steps,
    TransactionalBackward, TransactionalStep, Workflow, WorkflowError,
};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

pub use crate::perform::{Do, Ground};
use crate::perform::{Told, burn, perform};
use crate::stuck;

/// How a scripted step is taken back, and where its effect is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Manner {
    /// Compensates once every later step is settled.
    #[default]
    Dependent,
    /// May pass a later one that is stuck.
    Independent,
    /// Has nothing to take back.
    Nothing,
    /// No way back from here.
    Pivot,
    /// Compensates once every later step is settled, and is looked for where it is in doubt.
    Probed,
    /// No way back from here; looked for where it is in doubt.
    ProbedPivot,
    /// Compensates once every later step is settled, and may take a minute.
    Long,
    /// Compensates once every later step is settled, and waits for an operator when its patience is over.
    Halting,
    /// Compensates once every later step is settled; its target takes whatever arrives, so what may come late is waited out.
    WaitedOut,
    /// In a transaction of the journal's database; compensates there.
    Transactional,
    /// In a transaction of the journal's database; no way back from here.
    TransactionalPivot,
}

/// What the probe of a step does that has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Eye {
    /// Looks at the target: the recorder or the ledger.
    #[default]
    Looks,
    /// Sees something that does not tell.
    Wonders,
    /// Sees a part of it.
    SeesPart,
    /// Can't look.
    Fails,
    /// Panics.
    Panics,
    /// Never ends.
    Hangs,
}

impl Eye {
    fn looks(&self) -> bool {
        *self == Self::Looks
    }
}

/// What one step does.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Act {
    /// How it is taken back.
    pub manner: Manner,
    /// What each attempt to run does, the first one first.
    pub run: Vec<Vec<Do>>,
    /// What each attempt to compensate does.
    pub compensate: Vec<Vec<Do>>,
    /// What its probe does. Not written unless said: the version before does not know it, and would ask for another input.
    #[serde(skip_serializing_if = "Eye::looks")]
    pub eye: Eye,
    /// The function goes on after its failure.
    pub caught: bool,
    /// Before it is asked for, the function kills its process if this file is there, and removes it first.
    pub fuse: Option<PathBuf>,
    /// Before it is asked for, the function blocks its thread for ever if this file is there. Not written unless said, as above.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trap: Option<PathBuf>,
}

impl Act {
    /// A step that makes its effect.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// This step, whose next attempt to run does this.
    #[must_use]
    pub fn run(mut self, attempt: impl Into<Vec<Do>>) -> Self {
        self.run.push(attempt.into());
        self
    }

    /// This step, whose next attempt to compensate does this.
    #[must_use]
    pub fn compensate(mut self, attempt: impl Into<Vec<Do>>) -> Self {
        self.compensate.push(attempt.into());
        self
    }

    /// This step, whose every attempt to compensate needs this gate open before it makes its effect.
    #[must_use]
    pub fn compensates_once_open(self, gate: &str) -> Self {
        (0..MANY).fold(self, |act, _| act.compensate([Do::Need(gate.to_owned()), Do::Effect]))
    }

    /// This step, taken back in this manner.
    #[must_use]
    pub fn manner(self, manner: Manner) -> Self {
        Self { manner, ..self }
    }

    /// This step, whose probe does this.
    #[must_use]
    pub fn eye(self, eye: Eye) -> Self {
        Self { eye, ..self }
    }

    /// This step, whose failure the function catches.
    #[must_use]
    pub fn caught(self) -> Self {
        Self { caught: true, ..self }
    }

    /// This step, before which the function kills its process while this file is there.
    #[must_use]
    pub fn fuse(self, fuse: impl Into<PathBuf>) -> Self {
        Self { fuse: Some(fuse.into()), ..self }
    }

    /// This step, before which the function blocks its thread if this file is there.
    #[must_use]
    pub fn trap(self, trap: impl Into<PathBuf>) -> Self {
        Self { trap: Some(trap.into()), ..self }
    }
}

/// The input of a scripted workflow. `RESUME`: what its kind wants after a crash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script<const RESUME: bool> {
    /// Its steps.
    pub steps: Vec<Act>,
    /// At its end the function kills its process if this file is there, and removes it first.
    #[serde(default)]
    pub fuse_at_end: Option<PathBuf>,
    /// At its end the function gives up with this code. None: it succeeds.
    #[serde(default)]
    pub gives_up: Option<String>,
}

/// Taken back after a crash.
pub type Compensating = Script<false>;
/// Continued after a crash.
pub type Resuming = Script<true>;

impl<const RESUME: bool> Script<RESUME> {
    /// A workflow of these steps.
    #[must_use]
    pub fn of(steps: impl Into<Vec<Act>>) -> Self {
        Self { steps: steps.into(), fuse_at_end: None, gives_up: None }
    }
}

/// More attempts than a test makes.
const MANY: u32 = 100;

/// Fast, so that tests are: 3 attempts within some 30 ms, an alert after 3, a slow retry every 300 ms.
pub const CONDUCT: Conduct = Conduct {
    timeout: Duration::from_millis(800),
    retry: RetryPolicy {
        attempts_max: 3,
        delay_first: Duration::from_millis(10),
        delay_max: Duration::from_millis(20),
    },
    patience: Patience {
        attempts: 3,
        time: Duration::from_secs(600),
        slow_retry: Duration::from_millis(300),
    },
    late_effects: LateEffects::Refused,
};

/// As fast, but an attempt may outlast every lease.
const LONG_CONDUCT: Conduct = Conduct { timeout: Duration::from_secs(60), ..CONDUCT };

/// As fast, and then not again.
pub const HALTING_CONDUCT: Conduct = Conduct { patience: CONDUCT.patience.halt(), ..CONDUCT };

/// As fast, and what may come late is waited for.
pub const WAITED_OUT_CONDUCT: Conduct = Conduct { late_effects: LateEffects::WaitOut, ..CONDUCT };

/// A step outside the journal's database. `MANNER`: the number of its [`Manner`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scripted<const MANNER: u8> {
    act: Act,
}

const DEPENDENT: u8 = 0;
const INDEPENDENT: u8 = 1;
const NOTHING: u8 = 2;
const PIVOT: u8 = 3;
const LONG: u8 = 4;
const HALTING: u8 = 5;
const PROBED: u8 = 6;
const PROBED_PIVOT: u8 = 7;
const WAITED_OUT: u8 = 8;

macro_rules! scripted {
    ($manner:ident, $name:literal, $backward:expr) => {
        scripted!($manner, $name, $backward, CONDUCT);
    };
    ($manner:ident, $name:literal, $backward:expr, $conduct:expr) => {
        scripted!($manner, $name, $backward, $conduct, Probed::no());
    };
    ($manner:ident, $name:literal, $backward:expr, $conduct:expr, compensates) => {
        scripted!($manner, $name, $backward, $conduct, Probed::no(), compensates);
    };
    ($manner:ident, $name:literal, $backward:expr, $conduct:expr, $probed:expr) => {
        impl Step<Ground> for Scripted<$manner> {
            const NAME: &'static str = $name;
            const BACKWARD: Backward<Self, Ground> = $backward;
            const CONDUCT: Conduct = $conduct;
            const PROBED: Probed<Self, Ground> = $probed;
            type Output = u32;

            async fn run(&self, ground: &Ground, attempt: &Attempt) -> Result<u32, StepError> {
                perform(&self.act.run, ground, attempt, Told::Nothing, None).await?;
                Ok(attempt.number())
            }
        }
    };
    ($manner:ident, $name:literal, $backward:expr, $conduct:expr, $probed:expr, compensates) => {
        scripted!($manner, $name, $backward, $conduct, $probed);
        impl Compensate<Ground> for Scripted<$manner> {
            async fn compensate(
                &self,
                ground: &Ground,
                attempt: &Attempt,
                outcome: Outcome<u32>,
            ) -> Result<(), StepError> {
                perform(&self.act.compensate, ground, attempt, outcome.into(), None).await
            }
        }
    };
}

scripted!(DEPENDENT, "dependent", Backward::after_all_later(), CONDUCT, compensates);
scripted!(INDEPENDENT, "independent", Backward::independent(), CONDUCT, compensates);
scripted!(NOTHING, "nothing", Backward::nothing_because("the test wants it so"));
scripted!(PIVOT, "pivot", Backward::pivot());
scripted!(LONG, "long", Backward::after_all_later(), LONG_CONDUCT, compensates);
scripted!(PROBED, "probed", Backward::after_all_later(), CONDUCT, Probed::to_settle(), compensates);
scripted!(PROBED_PIVOT, "probed-pivot", Backward::pivot(), CONDUCT, Probed::to_settle());
scripted!(HALTING, "halting", Backward::after_all_later(), HALTING_CONDUCT, compensates);
scripted!(WAITED_OUT, "waited-out", Backward::after_all_later(), WAITED_OUT_CONDUCT, compensates);

impl<const MANNER: u8> Probe<Ground> for Scripted<MANNER>
where
    Self: Step<Ground, Output = u32>,
{
    /// Looks at the target, unless it is to come to nothing.
    async fn probe(
        &self,
        ground: &Ground,
        key: IdempotencyKey,
        _: Outcome<u32>,
    ) -> Result<Sighting<u32>, StepError> {
        match self.act.eye {
            Eye::Looks => {}
            Eye::Wonders => return Ok(Sighting::Unknown("it is foggy".to_owned())),
            Eye::SeesPart => return Ok(Sighting::Partly("only its shadow is there".to_owned())),
            Eye::Fails => return Err(StepError::retry("dark", "it is night")),
            Eye::Panics => panic!("a ghost"),
            Eye::Hangs => std::future::pending().await,
        }
        Ok(ground.standing(key).await?.map_or(Sighting::Gone, Sighting::Stands))
    }
}

/// A step in the journal's database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transacted<const IS_PIVOT: bool> {
    act: Act,
}

macro_rules! transacted {
    ($pivot:literal, $name:literal, $backward:expr) => {
        impl TransactionalStep<Ground> for Transacted<$pivot> {
            const NAME: &'static str = $name;
            const BACKWARD: TransactionalBackward<Self, Ground> = $backward;
            const CONDUCT: Conduct = CONDUCT;
            type Output = u32;

            async fn run(
                &self,
                transaction: &mut PgConnection,
                ground: &Ground,
                attempt: &Attempt,
            ) -> Result<u32, StepError> {
                perform(&self.act.run, ground, attempt, Told::Nothing, Some(transaction)).await?;
                Ok(attempt.number())
            }
        }
    };
}

transacted!(false, "transactional", TransactionalBackward::after_all_later());
transacted!(true, "transactional-pivot", TransactionalBackward::pivot());

impl CompensateTransactionally<Ground> for Transacted<false> {
    async fn compensate(
        &self,
        transaction: &mut PgConnection,
        ground: &Ground,
        attempt: &Attempt,
        output: u32,
    ) -> Result<(), StepError> {
        perform(&self.act.compensate, ground, attempt, Told::Output(output), Some(transaction)).await
    }
}

macro_rules! workflow {
    ($resume:literal, $kind:literal, $recovery:expr) => {
        impl Workflow<Ground> for Script<$resume> {
            const KIND: &'static str = $kind;
            const RECOVERY: Recovery = $recovery;
            type Output = Vec<Option<u32>>;

            fn steps(steps: &mut Steps<Ground>) {
                steps
                    .step::<Scripted<DEPENDENT>>()
                    .step::<Scripted<INDEPENDENT>>()
                    .step::<Scripted<NOTHING>>()
                    .step::<Scripted<PIVOT>>()
                    .step::<Scripted<LONG>>()
                    .step::<Scripted<HALTING>>()
                    .step::<Scripted<WAITED_OUT>>()
                    .step::<Scripted<PROBED>>()
                    .step::<Scripted<PROBED_PIVOT>>()
                    .transactional::<Transacted<false>>()
                    .transactional::<Transacted<true>>();
            }

            async fn run(self, flow: &Flow<Ground>) -> Result<Vec<Option<u32>>, WorkflowError> {
                let mut outputs = Vec::new();
                for act in self.steps {
                    burn(act.fuse.as_ref());
                    if act.trap.as_ref().is_some_and(|trap| trap.exists()) {
                        stuck::block();
                    }
                    let caught = act.caught;
                    match ask(flow, act).await {
                        Ok(output) => outputs.push(Some(output)),
                        Err(_) if caught => outputs.push(None),
                        Err(failed) => return Err(failed.into()),
                    }
                }
                burn(self.fuse_at_end.as_ref());
                match self.gives_up {
                    Some(code) => Err(WorkflowError::new(code, "the script says so")),
                    None => Ok(outputs),
                }
            }
        }
    };
}

workflow!(false, "script.compensate", Recovery::Compensate);
workflow!(true, "script.resume", Recovery::Resume);

async fn ask(flow: &Flow<Ground>, act: Act) -> Result<u32, StepFailed> {
    match act.manner {
        Manner::Dependent => flow.step(Scripted::<DEPENDENT> { act }).await,
        Manner::Independent => flow.step(Scripted::<INDEPENDENT> { act }).await,
        Manner::Nothing => flow.step(Scripted::<NOTHING> { act }).await,
        Manner::Pivot => flow.step(Scripted::<PIVOT> { act }).await,
        Manner::Long => flow.step(Scripted::<LONG> { act }).await,
        Manner::Halting => flow.step(Scripted::<HALTING> { act }).await,
        Manner::WaitedOut => flow.step(Scripted::<WAITED_OUT> { act }).await,
        Manner::Probed => flow.step(Scripted::<PROBED> { act }).await,
        Manner::ProbedPivot => flow.step(Scripted::<PROBED_PIVOT> { act }).await,
        Manner::Transactional => flow.transactional(Transacted::<false> { act }).await,
        Manner::TransactionalPivot => flow.transactional(Transacted::<true> { act }).await,
    }
}
