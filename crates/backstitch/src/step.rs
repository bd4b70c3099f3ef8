//! What a step is: a value with `run`, and its word on how it is taken back.

use std::future::Future;

use backstitch_core::decide::Conduct;
use backstitch_core::failure::{Failure, StepError};
use backstitch_core::json::Json;
use backstitch_core::limits::{INPUT_BYTES_MAX, OUTCOME_BYTES_MAX};
use backstitch_core::record;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::PgConnection;

use crate::attempt::Attempt;
use crate::future::BoxFuture;
use crate::sight::{ProbeFn, ProbeInFn, Probed, TransactionalProbed};

/// One effect on the outside. Its fields are its input: journaled before the effect, and all that it knows.
///
/// `S` is what the worker was given to work with: clients, pools, addresses.
///
/// ```
/// use backstitch::{Attempt, Backward, Compensate, Outcome, Step, StepError};
/// # struct Dns;
/// # impl Dns {
/// #     async fn put(&self, _: &str, _: &str) -> Result<(), std::io::Error> { Ok(()) }
/// #     async fn delete(&self, _: &str) -> Result<(), std::io::Error> { Ok(()) }
/// # }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct RegisterName {
///     name: String,
/// }
///
/// impl Step<Dns> for RegisterName {
///     const NAME: &'static str = "register-name";
///     const BACKWARD: Backward<Self, Dns> = Backward::independent();
///     type Output = ();
///
///     async fn run(&self, dns: &Dns, attempt: &Attempt) -> Result<(), StepError> {
///         let key = attempt.key().to_string();
///         dns.put(&self.name, &key).await.map_err(|error| StepError::retry("dns_unreachable", error))
///     }
/// }
///
/// impl Compensate<Dns> for RegisterName {
///     async fn compensate(&self, dns: &Dns, _: &Attempt, _: Outcome<()>) -> Result<(), StepError> {
///         dns.delete(&self.name).await.map_err(|error| StepError::retry("dns_unreachable", error))
///     }
/// }
/// ```
///
/// A step that does not say how it is taken back does not compile:
///
/// ```compile_fail
/// # use backstitch::{Attempt, Step, StepError};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Silent;
/// impl Step<()> for Silent {
///     const NAME: &'static str = "silent";
///     type Output = ();
///     async fn run(&self, _: &(), _: &Attempt) -> Result<(), StepError> { Ok(()) }
/// }
/// ```
///
/// Nor does one that says it compensates, and can't:
///
/// ```compile_fail
/// # use backstitch::{Attempt, Backward, Step, StepError};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Boaster;
/// impl Step<()> for Boaster {
///     const NAME: &'static str = "boaster";
///     const BACKWARD: Backward<Self, ()> = Backward::after_all_later();
///     type Output = ();
///     async fn run(&self, _: &(), _: &Attempt) -> Result<(), StepError> { Ok(()) }
/// }
/// ```
pub trait Step<S>: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the journal, by which its code is found again. Never change it while a journal names it.
    const NAME: &'static str;
    /// Counts the changes of its meaning; journaled with each attempt.
    const VERSION: u32 = 1;
    /// How it is taken back: it compensates, it has nothing to compensate, or it is the pivot.
    const BACKWARD: Backward<Self, S>;
    /// Whether it can be looked for, see [`Probe`](crate::Probe).
    const PROBED: Probed<Self, S> = Probed::no();
    /// How patiently it is tried.
    const CONDUCT: Conduct = Conduct::DEFAULT;
    /// What it hands to the workflow, through the journal. At most 64 KiB of JSON.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does it. Called again with the same key when nobody knows whether an earlier attempt got through.
    ///
    /// # Errors
    /// [`StepError::Retry`] to be tried again, [`StepError::InDoubt`] likewise where no answer came, [`StepError::Fail`]
    /// to give up, [`StepError::Rejected`] to give up with the promise that this attempt changed nothing.
    fn run(
        &self,
        services: &S,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;
}

/// How a [`Step`] takes itself back.
pub trait Compensate<S>: Step<S> {
    /// Takes it back. Must succeed when there is nothing to take back, and when called again.
    ///
    /// # Errors
    /// Every error is tried again: a compensation is never given up.
    fn compensate(
        &self,
        services: &S,
        attempt: &Attempt,
        outcome: Outcome<Self::Output>,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// One effect on the journal's own database, in one transaction with its outcome: exactly once, never in doubt.
///
/// Take care to touch the database only through `transaction`, and not to end it.
pub trait TransactionalStep<S>: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in the journal, by which its code is found again. Never change it while a journal names it.
    const NAME: &'static str;
    /// Counts the changes of its meaning; journaled with each attempt.
    const VERSION: u32 = 1;
    /// How it is taken back.
    const BACKWARD: TransactionalBackward<Self, S>;
    /// Whether it can be looked for, see [`ProbeTransactionally`](crate::ProbeTransactionally).
    const PROBED: TransactionalProbed<Self, S> = TransactionalProbed::no();
    /// How patiently it is tried. Its timeout is also set as the transaction's `statement_timeout`.
    const CONDUCT: Conduct = Conduct::DEFAULT;
    /// What it hands to the workflow, through the journal. At most 64 KiB of JSON.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Does it, in `transaction`. An error rolls it back: then nothing happened.
    ///
    /// # Errors
    /// [`StepError::Retry`] to be tried again, [`StepError::Fail`] or [`StepError::Rejected`] to give up.
    fn run(
        &self,
        transaction: &mut PgConnection,
        services: &S,
        attempt: &Attempt,
    ) -> impl Future<Output = Result<Self::Output, StepError>> + Send;
}

/// How a [`TransactionalStep`] takes itself back, in a transaction as well.
pub trait CompensateTransactionally<S>: TransactionalStep<S> {
    /// Takes it back. It did happen: this is its output.
    ///
    /// # Errors
    /// Every error is tried again: a compensation is never given up.
    fn compensate(
        &self,
        transaction: &mut PgConnection,
        services: &S,
        attempt: &Attempt,
        output: Self::Output,
    ) -> impl Future<Output = Result<(), StepError>> + Send;
}

/// What the journal knows of a step that is to be taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<T> {
    /// It succeeded with this output.
    Succeeded(T),
    /// It failed, or nobody knows: it may have happened, wholly or in part, or not at all.
    Unknown,
}

/// How a [`Step`] is taken back. Every step says exactly one of these.
pub struct Backward<T, S>(Declared<CompensateFn<S>>, std::marker::PhantomData<fn() -> T>);

/// How a [`TransactionalStep`] is taken back.
pub struct TransactionalBackward<T, S>(Declared<CompensateInFn<S>>, std::marker::PhantomData<fn() -> T>);

/// A declaration, with the code behind it where there is some.
pub(crate) struct Declared<F> {
    pub(crate) backward: record::Backward,
    pub(crate) compensate: Option<F>,
}

macro_rules! declarations {
    ($backward:ident, $step:ident, $compensate:ident, $erased:ident) => {
        impl<S: Send + Sync + 'static, T: $compensate<S>> $backward<T, S> {
            /// It compensates, once every later step is settled.
            #[must_use]
            pub const fn after_all_later() -> Self {
                Self::compensates(record::Backward::AfterAllLater)
            }

            /// It compensates in its turn, but may pass a later step that is stuck.
            #[must_use]
            pub const fn independent() -> Self {
                Self::compensates(record::Backward::Independent)
            }

            const fn compensates(backward: record::Backward) -> Self {
                Self(Declared { backward, compensate: Some($erased::<S, T>) }, std::marker::PhantomData)
            }
        }

        impl<S, T: $step<S>> $backward<T, S> {
            /// It leaves nothing to take back. Say why: the next reader will ask.
            #[must_use]
            pub const fn nothing_because(because: &'static str) -> Self {
                assert!(!because.is_empty(), "say why there is nothing to take back");
                Self(
                    Declared { backward: record::Backward::Nothing, compensate: None },
                    std::marker::PhantomData,
                )
            }

            /// Once it has begun there is no way back: neither it nor what follows is ever compensated.
            #[must_use]
            pub const fn pivot() -> Self {
                Self(
                    Declared { backward: record::Backward::Pivot, compensate: None },
                    std::marker::PhantomData,
                )
            }
        }
    };
}

declarations!(Backward, Step, Compensate, compensate_erased);
declarations!(TransactionalBackward, TransactionalStep, CompensateTransactionally, compensate_in_erased);

/// The code of a step, found by its name, fed from the journal.
pub(crate) struct StepCode<S> {
    pub(crate) name: &'static str,
    pub(crate) version: u32,
    pub(crate) backward: record::Backward,
    pub(crate) conduct: Conduct,
    /// A journaled input as this version would write it. None: it can't read it.
    pub(crate) reread: fn(&Json) -> Option<Json>,
    pub(crate) effect: Effect<S>,
}

/// Where the effect is.
pub(crate) enum Effect<S> {
    Outside { run: RunFn<S>, compensate: Option<CompensateFn<S>>, probe: Option<ProbeFn<S>>, settles: bool },
    InTransaction { run: RunInFn<S>, compensate: Option<CompensateInFn<S>>, probe: Option<ProbeInFn<S>> },
}

pub(crate) type RunFn<S> = for<'a> fn(Call<'a, S>) -> BoxFuture<'a, Result<Json, StepError>>;
pub(crate) type CompensateFn<S> =
    for<'a> fn(Call<'a, S>, Option<&'a Json>) -> BoxFuture<'a, Result<Json, StepError>>;
pub(crate) type RunInFn<S> =
    for<'a> fn(Call<'a, S>, &'a mut PgConnection) -> BoxFuture<'a, Result<Json, StepError>>;
pub(crate) type CompensateInFn<S> =
    for<'a> fn(Call<'a, S>, &'a mut PgConnection, Option<&'a Json>) -> BoxFuture<'a, Result<Json, StepError>>;

/// What every attempt is given.
pub(crate) struct Call<'a, S> {
    pub(crate) services: &'a S,
    pub(crate) input: &'a Json,
    pub(crate) attempt: &'a Attempt,
}

impl<S: Send + Sync + 'static> StepCode<S> {
    pub(crate) fn outside<T: Step<S>>() -> Self {
        let Backward(Declared { backward, compensate }, _) = T::BACKWARD;
        let Probed { probe, settles, .. } = T::PROBED;
        Self {
            name: T::NAME,
            version: T::VERSION,
            backward,
            conduct: T::CONDUCT,
            reread: reread::<T>,
            effect: Effect::Outside { run: run_erased::<S, T>, compensate, probe, settles },
        }
    }

    pub(crate) fn in_transaction<T: TransactionalStep<S>>() -> Self {
        let TransactionalBackward(Declared { backward, compensate }, _) = T::BACKWARD;
        Self {
            name: T::NAME,
            version: T::VERSION,
            backward,
            conduct: T::CONDUCT,
            reread: reread::<T>,
            effect: Effect::InTransaction { run: run_in_erased::<S, T>, compensate, probe: T::PROBED.0 },
        }
    }
}

fn reread<T: DeserializeOwned + Serialize>(journaled: &Json) -> Option<Json> {
    Json::encode(&journaled.decode::<T>().ok()?, INPUT_BYTES_MAX).ok()
}

fn run_erased<S: Send + Sync, T: Step<S>>(call: Call<'_, S>) -> BoxFuture<'_, Result<Json, StepError>> {
    Box::pin(async move {
        let step: T = decode(call.input, "input")?;
        encode(&step.run(call.services, call.attempt).await?)
    })
}

fn compensate_erased<'a, S: Send + Sync, T: Compensate<S>>(
    call: Call<'a, S>,
    output: Option<&'a Json>,
) -> BoxFuture<'a, Result<Json, StepError>> {
    Box::pin(async move {
        let step: T = decode(call.input, "input")?;
        let outcome = match output {
            Some(output) => Outcome::Succeeded(decode(output, "output")?),
            None => Outcome::Unknown,
        };
        step.compensate(call.services, call.attempt, outcome).await?;
        Ok(Json::from_journal("null"))
    })
}

fn run_in_erased<'a, S: Send + Sync, T: TransactionalStep<S>>(
    call: Call<'a, S>,
    transaction: &'a mut PgConnection,
) -> BoxFuture<'a, Result<Json, StepError>> {
    Box::pin(async move {
        let step: T = decode(call.input, "input")?;
        encode(&step.run(transaction, call.services, call.attempt).await?)
    })
}

fn compensate_in_erased<'a, S: Send + Sync, T: CompensateTransactionally<S>>(
    call: Call<'a, S>,
    transaction: &'a mut PgConnection,
    output: Option<&'a Json>,
) -> BoxFuture<'a, Result<Json, StepError>> {
    Box::pin(async move {
        let step: T = decode(call.input, "input")?;
        let output = output.expect("only a transactional step that succeeded owes a compensation");
        let output = decode(output, "output")?;
        step.compensate(transaction, call.services, call.attempt, output).await?;
        Ok(Json::from_journal("null"))
    })
}

pub(crate) fn decode<T: DeserializeOwned>(json: &Json, what: &str) -> Result<T, StepError> {
    json.decode().map_err(|error| {
        // No attempt of this code can read it; one of another version may.
        StepError::fail("undecodable", format!("the journaled {what} of the step {error}"))
    })
}

pub(crate) fn encode<T: Serialize>(output: &T) -> Result<Json, StepError> {
    Json::encode(output, OUTCOME_BYTES_MAX).map_err(|error| {
        StepError::Fail(Failure::new("invalid_output", format!("the output of the step {error}")))
    })
}
