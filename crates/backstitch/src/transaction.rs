//! How a transactional step happens exactly once: its effect, its outcome and the fence commit together.
//!
//! One transaction: alone at its place (an advisory lock on workflow and position), a look whether the place is taken,
//! the step's own SQL, the fenced record, COMMIT. An error of the COMMIT says nothing, so the place is looked at again
//! before it is believed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use backstitch_core::decide::Ended;
use backstitch_core::failure::StepError;
use backstitch_core::id::{IncarnationId, Seq};
use backstitch_core::json::Json;
use backstitch_core::record::{Intent, Outcome, Stitch, Verdict};
use sqlx::{Connection, PgConnection};
use tokio::time::timeout_at;

use crate::attempt::Attempt;
use crate::database::Database;
use crate::effect::{concealed, ended_as};
use crate::error::is_transient;
use crate::future::{BoxFuture, catch_panic};
use crate::journal::{self, After, Answer, Record, Written};
use crate::life::Life;
use crate::outage::Outage;
use crate::step::Call;
use crate::watchdog::What;

/// How often a COMMIT without an answer is looked after before the attempt is given up for now.
const LOOKS_AFTER_COMMIT: u32 = 3;

/// Before it is tried again to begin a transaction: longer than it takes to find out that a connection is broken, short beside
/// a restart of Postgres.
const BEGIN_AGAIN: Duration = Duration::from_millis(100);

/// What became of a transactional attempt.
pub(crate) enum Transacted {
    /// Effect and outcome stand.
    Committed { stitch: Box<Stitch>, answer: Answer },
    /// Nothing happened, and this is why.
    RolledBack(Ended),
    /// Nothing happened: the record was refused.
    Refused(Answer),
}

/// A step's own part of the transaction. Its last argument: what it handed over, once it succeeded.
pub(crate) trait InTransaction<S>:
    for<'a> Fn(Call<'a, S>, &'a mut PgConnection, Option<&'a Json>) -> BoxFuture<'a, Result<Json, StepError>>
{
}

impl<S, F> InTransaction<S> for F where
    F: for<'a> Fn(
        Call<'a, S>,
        &'a mut PgConnection,
        Option<&'a Json>,
    ) -> BoxFuture<'a, Result<Json, StepError>>
{
}

/// One transactional attempt: what it is given, where its record will stand, and what that says beside its outcome.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) incarnation: IncarnationId,
    pub(crate) seq: Seq,
    pub(crate) intent: Intent,
    pub(crate) input: Json,
    /// What the step handed over, for its compensation. None: it has not succeeded.
    pub(crate) output: Option<Json>,
    pub(crate) after: After,
    pub(crate) attempt: Attempt,
    pub(crate) timeout: Duration,
}

/// Makes the attempt. `effect` is called once per transaction that is tried.
///
/// The caller may be dropped meanwhile, this must not be: run it in a task of its own.
pub(crate) async fn perform<S>(
    database: &Database,
    life: &Life,
    services: &S,
    place: Place,
    effect: impl InTransaction<S>,
) -> Transacted {
    let _watching = life.watchdog.watch(What::Attempt(place.attempt.key()), place.timeout);
    let has_begun = AtomicBool::new(false);
    for _ in 0..LOOKS_AFTER_COMMIT {
        let transaction = transact_once_there(database, services, &place, &effect, &has_begun);
        let tried = tokio::select! {
            biased;
            tried = timeout_at(place.attempt.deadline, transaction) => tried,
            () = life.lease.lost() => return Transacted::RolledBack(Ended::CutShort),
            () = life.abort.cancelled() => return Transacted::RolledBack(Ended::CutShort),
        };
        match tried {
            Ok(Tried::Ended(transacted)) => return transacted,
            Ok(Tried::CommitUnanswered(error)) => {
                tracing::warn!(key = %place.attempt.key(), %error, "the commit got no answer, looking whether it stands");
            }
            // The database was not there: the step's code has not run, and it was no attempt of it.
            Err(_) if !has_begun.load(Ordering::Relaxed) => return Transacted::RolledBack(Ended::CutShort),
            Err(_) => return Transacted::RolledBack(Ended::TimedOut(place.timeout)),
        }
    }
    Transacted::RolledBack(Ended::Error(StepError::retry("commit_unanswered", "the commit got no answer")))
}

enum Tried {
    Ended(Transacted),
    CommitUnanswered(sqlx::Error),
}

/// What is left to do with a transaction.
enum Made {
    Commit(Box<Stitch>, Answer),
    RollBack(Transacted),
}

/// Tries until the step's code runs: a restart of Postgres leaves every connection of the pool broken, and what meets one of
/// them has had no attempt.
async fn transact_once_there<S>(
    database: &Database,
    services: &S,
    place: &Place,
    effect: &impl InTransaction<S>,
    has_begun: &AtomicBool,
) -> Tried {
    let mut outage = Outage::default();
    loop {
        match transact(database, services, place, effect, has_begun).await {
            Ok(tried) => return tried,
            Err(error) => {
                if outage.is_news() {
                    tracing::warn!(key = %place.attempt.key(), %error, "a transaction can't begin, trying on");
                }
                tokio::time::sleep(BEGIN_AGAIN).await;
            }
        }
    }
}

/// Error: the database was not there before the step's code ran.
async fn transact<S>(
    database: &Database,
    services: &S,
    place: &Place,
    effect: &impl InTransaction<S>,
    has_begun: &AtomicBool,
) -> sqlx::Result<Tried> {
    // Dropped on any way out but the good ones, it takes its connection with it: and so the transaction.
    let mut lent = match database.lend().await {
        Ok(lent) => lent,
        Err(error) => return not_begun(error),
    };
    // How long it waits for what is the step's to say: by its timeout, which is the transaction's.
    let mut transaction = match lent.connection().begin_with("begin; set local lock_timeout = 0").await {
        Ok(transaction) => transaction,
        Err(error) => return not_begun(error),
    };
    let made = match enter(&mut transaction, place).await {
        Ok(Some(transacted)) => Ok(Made::RollBack(transacted)),
        Ok(None) => {
            has_begun.store(true, Ordering::Relaxed);
            make(&mut transaction, services, place, effect).await
        }
        Err(error) => return not_begun(error),
    };
    let left = database.leave(&mut transaction).await;
    Ok(match (made, left) {
        (Ok(Made::Commit(stitch, answer)), Ok(())) => match transaction.commit().await {
            Ok(()) => {
                lent.give_back();
                Tried::Ended(Transacted::Committed { stitch, answer })
            }
            Err(error) if is_refusal(&error) => {
                Tried::Ended(rolled_back(StepError::retry("commit_refused", error)))
            }
            Err(error) => Tried::CommitUnanswered(error),
        },
        // A panic may have left anything on its way.
        (Ok(Made::RollBack(ended @ Transacted::RolledBack(Ended::Panicked(_)))), _) => Tried::Ended(ended),
        (Ok(Made::RollBack(ended)), left) => {
            if left.is_ok() {
                // Rolled back on its way into the pool: the outcome need not wait for that.
                drop(transaction);
                lent.give_back();
            }
            Tried::Ended(ended)
        }
        (Err(error), _) | (_, Err(error)) => Tried::Ended(failed(error)),
    })
}

async fn make<S>(
    transaction: &mut PgConnection,
    services: &S,
    place: &Place,
    effect: &impl InTransaction<S>,
) -> sqlx::Result<Made> {
    let call = Call { services, input: &place.input, attempt: &place.attempt };
    let made = catch_panic(async { effect(call, transaction, place.output.as_ref()).await }).await;
    let output = match concealed(ended_as(made), &place.attempt) {
        Ended::Succeeded(output) => output,
        other => return Ok(Made::RollBack(Transacted::RolledBack(other))),
    };
    let record = place.record(output);
    let mut answers = journal::append(transaction, place.incarnation, std::slice::from_ref(&record)).await?;
    let answer = answers.remove(0);
    Ok(match answer.verdict {
        Written::Whole => Made::Commit(Box::new(record.stitch), answer),
        _ => Made::RollBack(Transacted::Refused(answer)),
    })
}

/// Nothing of the step's own has happened.
fn not_begun(error: sqlx::Error) -> sqlx::Result<Tried> {
    if is_transient(&error) { Err(error) } else { Ok(Tried::Ended(failed(error))) }
}

fn rolled_back(error: StepError) -> Transacted {
    Transacted::RolledBack(Ended::Error(error))
}

/// Nothing was committed, for the database was not there, or said no: to the engine, or to a step that went on after it had.
fn failed(error: sqlx::Error) -> Transacted {
    let code = if is_transient(&error) { "database_unreachable" } else { "database_refused" };
    rolled_back(StepError::retry(code, error))
}

/// Whether a COMMIT was answered with a no: a constraint that is looked at only then, or another transaction in its way.
/// After any other error nobody knows whether it stands.
fn is_refusal(error: &sqlx::Error) -> bool {
    const COMPLETION_UNKNOWN: &str = "40003";
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| {
        // Data, constraints, triggers, rolled back, rights, raised by a function.
        ["22", "23", "27", "40", "42", "P0"].iter().any(|class| code.starts_with(class))
            && code != COMPLETION_UNKNOWN
    })
}

/// Waits to be alone at the place, and looks whether it is taken. Some: it is, by this very attempt or by another claim.
async fn enter(transaction: &mut PgConnection, place: &Place) -> sqlx::Result<Option<Transacted>> {
    let milliseconds = i32::try_from(place.timeout.as_millis()).unwrap_or(i32::MAX);
    let taken = sqlx::query!(
        r#"
        select epoch as "epoch!", incarnation, outcome, outcome_position, outcome_direction, outcome_attempt,
            outcome_value, backstitch.clock() as "now!"
        from backstitch.enter_slot($1, $2, $3, $4, $5)
        "#,
        place.incarnation.0,
        place.attempt.workflow().0,
        i32::try_from(place.attempt.key().position.0).expect("a position is below POSITIONS_MAX"),
        i32::try_from(place.seq.0).expect("a journal counts below 2^31"),
        milliseconds,
    )
    .fetch_optional(transaction)
    .await?;
    Ok(taken.map(|row| {
        // By what it says, too: a commit that was given up for lost may have landed here since, of another step.
        let id = place.intent.attempt;
        let ours = row.epoch == place.attempt.epoch().0
            && row.incarnation == Some(place.incarnation.0)
            && row.outcome.as_deref() == Some("succeeded")
            && row.outcome_position.map(i32::unsigned_abs) == Some(id.position.0)
            && row.outcome_direction.as_deref() == Some(id.direction.as_str())
            && row.outcome_attempt.map(i32::unsigned_abs) == Some(id.attempt);
        match row.outcome_value {
            Some(output) if ours => Transacted::Committed {
                stitch: Box::new(place.record(Json::from_journal(output)).stitch),
                answer: Answer { verdict: Written::Whole, leased: true, cancel: None, at: row.now },
            },
            _ => Transacted::Refused(Answer {
                verdict: Written::Nothing,
                leased: false,
                cancel: None,
                at: row.now,
            }),
        }
    }))
}

impl Place {
    /// Intent and outcome of one attempt in one row.
    fn record(&self, output: Json) -> Record {
        Record {
            workflow: self.attempt.workflow(),
            seq: self.seq,
            epoch: self.attempt.epoch(),
            stitch: self.stitch(Verdict::Succeeded(output)),
            after: self.after.clone(),
        }
    }

    /// The row that tells of this attempt with this end.
    pub(crate) fn stitch(&self, verdict: Verdict) -> Stitch {
        Stitch {
            outcome: Some(Outcome { attempt: self.intent.attempt, verdict }),
            turn: None,
            intent: Some(self.intent.clone()),
        }
    }
}
