//! What is seen of a step's effect, and whether it can be looked for at all?

use std::marker::PhantomData;

use backstitch_core::failure::StepError;
use backstitch_core::id::IdempotencyKey;
use backstitch_core::json::Json;
use sqlx::PgConnection;

use crate::future::BoxFuture;

/// What a probe saw of a step's effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sighting<T> {
    /// It is there as a success leaves it, and this is what that hands over.
    Stands(T),
    /// Something of it is there, but not as a success leaves it: what is missing or different.
    Partly(String),
    /// Nothing of it is there.
    Gone,
    /// The look does not tell: why.
    Unknown(String),
}

impl<T> Sighting<T> {
    /// The word for it.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stands(_) => "stands",
            Self::Partly(_) => "partly",
            Self::Gone => "gone",
            Self::Unknown(_) => "unknown",
        }
    }

    pub(crate) fn try_map<U, E>(self, map: impl FnOnce(T) -> Result<U, E>) -> Result<Sighting<U>, E> {
        Ok(match self {
            Self::Stands(output) => Sighting::Stands(map(output)?),
            Self::Partly(what) => Sighting::Partly(what),
            Self::Gone => Sighting::Gone,
            Self::Unknown(why) => Sighting::Unknown(why),
        })
    }
}

/// Whether a [`Step`](crate::Step) can be looked for.
pub struct Probed<T, S> {
    pub(crate) probe: Option<ProbeFn<S>>,
    /// Whether the engine goes by it.
    pub(crate) settles: bool,
    pub(crate) step: PhantomData<fn() -> T>,
}

/// Whether a [`TransactionalStep`](crate::TransactionalStep) can be looked for.
pub struct TransactionalProbed<T, S>(pub(crate) Option<ProbeInFn<S>>, pub(crate) PhantomData<fn() -> T>);

impl<T, S> Probed<T, S> {
    /// It can't.
    #[must_use]
    pub const fn no() -> Self {
        Self { probe: None, settles: false, step: PhantomData }
    }
}

impl<T, S> TransactionalProbed<T, S> {
    /// It can't.
    #[must_use]
    pub const fn no() -> Self {
        Self(None, PhantomData)
    }
}

pub(crate) type ProbeFn<S> = for<'a> fn(Looked<'a, S>) -> BoxFuture<'a, Result<Sighting<Json>, StepError>>;
pub(crate) type ProbeInFn<S> =
    for<'a> fn(Looked<'a, S>, &'a mut PgConnection) -> BoxFuture<'a, Result<Sighting<Json>, StepError>>;

/// What every probe is given.
pub(crate) struct Looked<'a, S> {
    pub(crate) services: &'a S,
    pub(crate) key: IdempotencyKey,
    pub(crate) input: &'a Json,
    /// What it handed over. None: it did not, or nobody knows.
    pub(crate) output: Option<&'a Json>,
}
