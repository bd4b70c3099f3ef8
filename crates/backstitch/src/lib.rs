//! Durable workflows on Postgres whose steps can be taken back.
//!
//! A workflow is an async function over steps. Each step is journaled before and after its effect, and says how it is
//! taken back. When a step fails, a deadline passes, somebody cancels, or a worker dies, the journal alone is enough to
//! drive the compensations to completion. See `docs/ARCHITECTURE.md` for how.
//!
//! - [`Step`], [`Compensate`], [`TransactionalStep`] and [`Workflow`] are what a user writes.
//! - [`Worker`] runs them, and recovers what dead workers left.
//! - [`Client`] asks for workflows, waits for them, follows and shows them; [`Probes`] look whether the outside agrees.

mod alerts;
mod appender;
mod attempt;
mod census;
mod checkup;
mod claim;
mod claims;
mod client;
mod clock;
mod course;
mod database;
mod drive;
mod effect;
mod enqueue;
mod error;
mod events;
mod failures;
mod fleet;
mod flow;
mod follows;
mod future;
mod heartbeat;
mod incarnation;
mod inputs;
mod journal;
mod known;
mod lease;
mod life;
mod listen;
mod listing;
mod lives;
mod lock_file;
mod looks;
mod migrate;
mod one_by_one;
mod operate;
mod outage;
mod pages;
mod park;
mod places;
mod probe;
mod recovery;
mod replay;
mod retention;
mod secret;
mod session;
mod settle;
mod sight;
mod step;
mod strays;
mod timing;
mod tokens;
mod transaction;
mod verify;
mod view;
mod waits;
mod watchdog;
mod way;
mod worker;
mod workflow;

pub use backstitch_core::decide::{Conduct, LateEffects, Patience, Recovery};
pub use backstitch_core::failure::{Failure, StepError, StepFailed, WorkflowError};
pub use backstitch_core::id::{Direction, Epoch, IdempotencyKey, IncarnationId, Position, WorkflowId};
pub use backstitch_core::json::{Json, JsonError};
pub use backstitch_core::limits;
pub use backstitch_core::record::{Cause, Operator};
pub use backstitch_core::report::{Fate, RollbackReport, StepReport};
pub use backstitch_core::retry::RetryPolicy;

pub use crate::attempt::Attempt;
pub use crate::census::{CENSUS_KINDS_MAX, Census, KindCensus};
pub use crate::checkup::Checkup;
pub use crate::client::{Client, Ending, Unfinished};
pub use crate::database::Database;
pub use crate::enqueue::{Enqueue, EnqueueMany, Handle, Told};
pub use crate::error::Error;
pub use crate::events::{Began, Ended, Event, Turned};
pub use crate::failures::{FailureGroup, Failures};
pub use crate::fleet::{KindView, StatusCount, WorkerView};
pub use crate::flow::Flow;
pub use crate::follows::Events;
pub use crate::inputs::Inputs;
pub use crate::known::Known;
pub use crate::lives::Pulse;
pub use crate::migrate::{apply_migrations, check_migrated, migrate};
pub use crate::operate::{Answered, Operate};
pub use crate::probe::{Probe, ProbeTransactionally};
pub use crate::retention::Removed;
pub use crate::secret::{
    Keyring, Plaintext, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret, SecretError, Secrets, redacted,
};
pub use crate::settle::Unsettled;
pub use crate::sight::{Probed, Sighting, TransactionalProbed};
pub use crate::step::{
    Backward, Compensate, CompensateTransactionally, Outcome, Step, TransactionalBackward, TransactionalStep,
};
pub use crate::timing::Timing;
pub use crate::tokens::{Role, Token, TokenHash};
pub use crate::verify::{Expected, Probes, Verdict, Verified, VerifiedStep};
pub use crate::view::{AlertView, AttemptView, Filter, Status, StepView, WorkflowView};
pub use crate::worker::{Running, Worker};
pub use crate::workflow::{OnMismatch, Steps, Workflow};

/// What the page on secrets shows compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/secrets.md")]
struct SecretsPage;
