//! How does a step say what stands outside of what it did, without touching it?

use std::future::Future;
use std::marker::PhantomData;

use backstitch_core::failure::StepError;
use backstitch_core::id::IdempotencyKey;
use backstitch_core::json::Json;
use sqlx::PgConnection;

use crate::future::BoxFuture;
use crate::sight::{Looked, Probed, Sighting, TransactionalProbed};
use crate::step::{Outcome, Step, TransactionalStep, decode, encode};

/// How a [`Step`] looks for its effect. It only looks: whatever it asks, the outside is afterwards as before.
///
/// ```
/// use backstitch::{Attempt, Backward, IdempotencyKey, Outcome, Probe, Probed, Sighting, Step, StepError};
/// # struct Dns;
/// # impl Dns {
/// #     async fn put(&self, _: &str, _: &str) -> Result<(), std::io::Error> { Ok(()) }
/// #     async fn get(&self, _: &str) -> Result<Option<String>, std::io::Error> { Ok(None) }
/// # }
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct RegisterName {
///     name: String,
/// }
///
/// impl Step<Dns> for RegisterName {
///     const NAME: &'static str = "register-name";
///     const BACKWARD: Backward<Self, Dns> = Backward::pivot();
///     const PROBED: Probed<Self, Dns> = Probed::to_verify();
///     type Output = ();
///
///     async fn run(&self, dns: &Dns, attempt: &Attempt) -> Result<(), StepError> {
///         let owner = attempt.workflow().to_string();
///         dns.put(&self.name, &owner).await.map_err(|error| StepError::retry("dns_unreachable", error))
///     }
/// }
///
/// impl Probe<Dns> for RegisterName {
///     async fn probe(&self, dns: &Dns, key: IdempotencyKey, _: Outcome<()>) -> Result<Sighting<()>, StepError> {
///         let found = dns.get(&self.name).await.map_err(|error| StepError::retry("dns_unreachable", error))?;
///         Ok(match found {
///             Some(owner) if owner == key.workflow.to_string() => Sighting::Stands(()),
///             _ => Sighting::Gone,
///         })
///     }
/// }
/// ```
///
/// A step that says it can be looked for, and doesn't say how, does not compile:
///
/// ```compile_fail
/// # use backstitch::{Attempt, Backward, Probed, Step, StepError};
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct Boaster;
/// impl Step<()> for Boaster {
///     const NAME: &'static str = "boaster";
///     const BACKWARD: Backward<Self, ()> = Backward::pivot();
///     const PROBED: Probed<Self, ()> = Probed::to_verify();
///     type Output = ();
///     async fn run(&self, _: &(), _: &Attempt) -> Result<(), StepError> { Ok(()) }
/// }
/// ```
pub trait Probe<S>: Step<S> {
    /// Looks whether its effect stands: the effect under this key, the one of `run`. It has the time of an attempt.
    ///
    /// What somebody else has put in its place is not its effect: that is gone.
    ///
    /// # Errors
    /// When it can't look. What is seen and does not tell is [`Sighting::Unknown`].
    fn probe(
        &self,
        services: &S,
        key: IdempotencyKey,
        outcome: Outcome<Self::Output>,
    ) -> impl Future<Output = Result<Sighting<Self::Output>, StepError>> + Send;
}

/// How a [`TransactionalStep`] looks for its effect: in a transaction that can't write.
pub trait ProbeTransactionally<S>: TransactionalStep<S> {
    /// As [`Probe::probe`].
    ///
    /// # Errors
    /// As [`Probe::probe`].
    fn probe(
        &self,
        transaction: &mut PgConnection,
        services: &S,
        key: IdempotencyKey,
        outcome: Outcome<Self::Output>,
    ) -> impl Future<Output = Result<Sighting<Self::Output>, StepError>> + Send;
}

impl<S: Send + Sync + 'static, T: Probe<S>> Probed<T, S> {
    /// Whoever verifies a workflow looks for it. The engine doesn't: it goes by the journal alone.
    #[must_use]
    pub const fn to_verify() -> Self {
        Self { probe: Some(probe_erased::<S, T>), settles: false, step: PhantomData }
    }

    /// The engine looks for it too: where an attempt is in doubt, the next one looks first, and where the effect
    /// [`Stands`](Sighting::Stands) it has succeeded, without a second call. Whatever else is seen, it runs as ever.
    ///
    /// Say so only where to see it is to know that it will stay: not of what one of several servers tells.
    #[must_use]
    pub const fn to_settle() -> Self {
        Self { probe: Some(probe_erased::<S, T>), settles: true, step: PhantomData }
    }
}

impl<S: Send + Sync + 'static, T: ProbeTransactionally<S>> TransactionalProbed<T, S> {
    /// Whoever verifies a workflow looks for it. There is nothing for it to settle: a transaction is never in doubt.
    #[must_use]
    pub const fn to_verify() -> Self {
        Self(Some(probe_in_erased::<S, T>), PhantomData)
    }
}

fn probe_erased<S: Send + Sync, T: Probe<S>>(
    looked: Looked<'_, S>,
) -> BoxFuture<'_, Result<Sighting<Json>, StepError>> {
    Box::pin(async move {
        let (step, outcome) = told::<T, T::Output>(looked.input, looked.output)?;
        step.probe(looked.services, looked.key, outcome).await?.try_map(|output| encode(&output))
    })
}

fn probe_in_erased<'a, S: Send + Sync, T: ProbeTransactionally<S>>(
    looked: Looked<'a, S>,
    transaction: &'a mut PgConnection,
) -> BoxFuture<'a, Result<Sighting<Json>, StepError>> {
    Box::pin(async move {
        let (step, outcome) = told::<T, T::Output>(looked.input, looked.output)?;
        step.probe(transaction, looked.services, looked.key, outcome).await?.try_map(|output| encode(&output))
    })
}

fn told<T: serde::de::DeserializeOwned, O: serde::de::DeserializeOwned>(
    input: &Json,
    output: Option<&Json>,
) -> Result<(T, Outcome<O>), StepError> {
    let outcome = match output {
        Some(output) => Outcome::Succeeded(decode(output, "output")?),
        None => Outcome::Unknown,
    };
    Ok((decode(input, "input")?, outcome))
}
