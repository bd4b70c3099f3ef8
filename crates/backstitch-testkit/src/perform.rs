//! How a scripted attempt does as it is told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use backstitch::{Attempt, IdempotencyKey, Outcome, StepError};
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

use crate::ledger::{self, Ledger};
use crate::recorder::{Answered, Recorder};
use crate::stuck;

/// The services of scripted steps.
#[derive(Debug, Clone)]
pub struct Ground {
    /// Where effects are written down, and by which steps and tests talk to each other.
    pub ledger: Ledger,
    /// Where effects are made instead. None: they are rows of the ledger.
    pub recorder: Option<Recorder>,
}

impl Ground {
    /// Which attempt of this step's run stands outside.
    pub(crate) async fn standing(&self, run: IdempotencyKey) -> Result<Option<u32>, StepError> {
        if let Some(recorder) = &self.recorder {
            let unreachable = |error| StepError::retry("recorder_unreachable", error);
            return recorder.look(run).await.map_err(unreachable);
        }
        let entries = self.ledger.entries(run.workflow).await;
        let ours = entries
            .into_iter()
            .find(|entry| entry.position == run.position.0 && entry.direction == run.direction.as_str());
        Ok(ours.map(|entry| entry.attempt))
    }

    /// Makes an attempt's effect outside. Refused, it ends the attempt with `Rejected`.
    async fn effect(&self, attempt: &Attempt) -> Result<(), StepError> {
        let Some(recorder) = &self.recorder else {
            return taken(self.ledger.write(attempt).await);
        };
        match recorder.call(attempt).await {
            Ok(Answered::Done) => Ok(()),
            Ok(Answered::Failed) => Err(StepError::retry("not_now", "the recorder says so")),
            Ok(Answered::Rejected) => Err(StepError::rejected("never", "the recorder says so")),
            Ok(Answered::Tombstone) => Err(compensated_already()),
            Ok(_) => Err(StepError::rejected("stale_epoch", "somebody with a later epoch has called")),
            Err(error) => Err(StepError::in_doubt("recorder_unreachable", error)),
        }
    }
}

fn taken(written: sqlx::Result<bool>) -> Result<(), StepError> {
    match written {
        Ok(true) => Ok(()),
        Ok(false) => Err(compensated_already()),
        Err(error) => Err(unreachable(error)),
    }
}

fn compensated_already() -> StepError {
    StepError::rejected("tombstone", "this step was compensated already")
}

fn unreachable(error: sqlx::Error) -> StepError {
    StepError::retry("ledger_unreachable", error)
}

/// One thing that an attempt does. The first that ends the attempt ends it; at the end of the list it succeeds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Do {
    /// Makes its effect. Refused by a tombstone, it ends the attempt with `Rejected`.
    Effect,
    /// Makes its effect in one statement to the ledger: once that is on its way it happens, whatever becomes of this process.
    Send,
    /// Writes to the ledger once the step has been compensated there; the attempt does not wait for it.
    EffectAfterCompensation,
    /// Leaves a mark.
    Mark(String),
    /// Waits until this gate is open.
    Wait(String),
    /// Waits until the workflow is cancelled.
    AwaitCancel,
    /// Kills its own process, with SIGKILL.
    Kill,
    /// Kills its own process if this file is there, and removes it first: once, though the journal counts no attempt.
    Burn(PathBuf),
    /// Leaves a mark: this, and what a compensation was told of its step's outcome.
    MarkOutcome(String),
    /// Ends the attempt, to be tried again, unless this gate is open: a target that is broken until then.
    Need(String),
    /// Panics.
    Panic,
    /// Never ends.
    Hang,
    /// Blocks its thread forever.
    Block,
    /// The same, and the other threads of its runtime go on.
    BlockAlone,
    /// Blocks its thread until this file is there: nothing else of the attempt runs in between.
    BlockUntil(PathBuf),
    /// Makes this file, without waiting for anything: an effect of the first moment.
    Touch(PathBuf),
    /// Leaves a beat every few milliseconds, and never ends.
    Beat(String),
    /// Leaves as a mark whether its process' clock is ahead of the ledger's, behind, or right within a minute.
    MarkClock,
    /// Ends the attempt: try again.
    Retry(String),
    /// Ends the attempt for good, effect unknown.
    Fail(String),
    /// Ends the attempt for good: nothing happened.
    Reject(String),
}

/// What an attempt was told of its step's outcome.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Told {
    /// It runs forward.
    Nothing,
    /// It is not known.
    Unknown,
    /// It succeeded with this.
    Output(u32),
}

impl From<Outcome<u32>> for Told {
    fn from(outcome: Outcome<u32>) -> Self {
        match outcome {
            Outcome::Succeeded(output) => Self::Output(output),
            Outcome::Unknown => Self::Unknown,
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("nothing"),
            Self::Unknown => f.write_str("unknown"),
            Self::Output(output) => output.fmt(f),
        }
    }
}

/// Does what the script says of this attempt; in its transaction, if it has one.
pub(crate) async fn perform(
    attempts: &[Vec<Do>],
    ground: &Ground,
    attempt: &Attempt,
    told: Told,
    mut transaction: Option<&mut PgConnection>,
) -> Result<(), StepError> {
    let default = vec![Do::Effect];
    let index = usize::try_from(attempt.number() - 1).expect("few");
    for what in attempts.get(index).unwrap_or(&default) {
        match what {
            Do::Effect => match &mut transaction {
                Some(transaction) => taken(ledger::write_in(transaction, attempt).await)?,
                None => ground.effect(attempt).await?,
            },
            Do::Send => taken(ground.ledger.send(attempt).await)?,
            Do::EffectAfterCompensation => {
                let (ledger, attempt) = (ground.ledger.clone(), attempt.clone());
                tokio::spawn(async move {
                    let is_compensated = |entries: Vec<ledger::Entry>| {
                        entries.iter().any(|entry| entry.direction == "compensate")
                    };
                    while !is_compensated(ledger.entries(attempt.workflow()).await) {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    ledger.write(&attempt).await.expect("the ledger answers");
                });
            }
            Do::Mark(mark) => ground.ledger.mark(mark).await.map_err(unreachable)?,
            Do::Wait(gate) => {
                while !ground.ledger.is_open(gate).await.map_err(unreachable)? {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Do::AwaitCancel => attempt.cancelled().await,
            Do::Kill => kill(),
            Do::Burn(fuse) => burn(Some(fuse)),
            Do::MarkOutcome(mark) => {
                ground.ledger.mark(&format!("{mark} {told}")).await.map_err(unreachable)?;
            }
            Do::Need(gate) => {
                if !ground.ledger.is_open(gate).await.map_err(unreachable)? {
                    return Err(StepError::retry("target_broken", "the script says so"));
                }
            }
            // Without the hook: twenty backtraces of a debug build would hold up a test's runtime for a second.
            Do::Panic => std::panic::resume_unwind(Box::new("the script says so")),
            Do::Hang => std::future::pending().await,
            Do::Block => loop {
                std::thread::park();
            },
            Do::BlockAlone => stuck::block(),
            Do::BlockUntil(file) => {
                while !file.exists() {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
            Do::Touch(file) => std::fs::write(file, "").expect("the script names a file that can be made"),
            Do::Beat(name) => loop {
                ground.ledger.beat(name).await.map_err(unreachable)?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            },
            Do::MarkClock => {
                let ahead = chrono::Utc::now() - ground.ledger.now().await.map_err(unreachable)?;
                let mark = match ahead.num_minutes() {
                    0 => "the clock is right",
                    1.. => "the clock is ahead",
                    _ => "the clock is behind",
                };
                ground.ledger.mark(mark).await.map_err(unreachable)?;
            }
            Do::Retry(code) => return Err(StepError::retry(code.clone(), "the script says so")),
            Do::Fail(code) => return Err(StepError::fail(code.clone(), "the script says so")),
            Do::Reject(code) => return Err(StepError::rejected(code.clone(), "the script says so")),
        }
    }
    Ok(())
}

/// Ends this process as nothing in it can notice.
fn kill() -> ! {
    let own = rustix::process::getpid();
    rustix::process::kill_process(own, rustix::process::Signal::KILL).expect("a process may kill itself");
    loop {
        std::thread::park();
    }
}

/// Ends this process if the fuse is there, and removes it first.
pub(crate) fn burn(fuse: Option<&PathBuf>) {
    // Removed first: of a thousand processes that find it, one dies.
    if fuse.is_some_and(|fuse| std::fs::remove_file(fuse).is_ok()) {
        kill();
    }
}
