//! How a workflow's function asks for its steps, and how the engine answers.
//!
//! The function is polled by the engine alone, with a waker of its own. It may await steps and nothing else: whatever
//! else it awaits would not be there again when the function is run from the top after a crash.

use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use backstitch_core::failure::{Failure, StepFailed, WorkflowError};
use backstitch_core::id::Position;
use backstitch_core::json::{Json, JsonError};
use backstitch_core::limits::{INPUT_BYTES_MAX, POSITIONS_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::future::{BoxFuture, panic_message};
use crate::step::{Step, TransactionalStep};

/// Through this a workflow's function asks for steps.
pub struct Flow<S> {
    exchange: Arc<Mutex<Exchange>>,
    services: PhantomData<fn() -> S>,
}

/// Where function and engine meet: one question at a time.
#[derive(Default)]
struct Exchange {
    positions: u32,
    /// Asked, and not yet handed over.
    outstanding: Option<Position>,
    asked: Option<Asked>,
    answer: Option<Result<Json, StepFailed>>,
    misuse: Option<Misuse>,
}

/// The function asks for a step.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) position: Position,
    pub(crate) step: &'static str,
    pub(crate) input: Result<Json, Arc<JsonError>>,
}

/// What the function does that it must not, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Misuse {
    #[error(
        "the function awaits something that is not a step (a sleep, a channel, a request of its own): after a crash it \
         would not be there again; put it into a step"
    )]
    ForeignAwait,
    #[error(
        "step {second} was asked for while step {first} is outstanding: await a step before asking for the next"
    )]
    ConcurrentSteps { first: Position, second: Position },
    #[error("step {0} was dropped before it had ended (select!, timeout): await every step to its end")]
    Dropped(Position),
    #[error("the workflow asked for more than {POSITIONS_MAX} steps: split it into several workflows")]
    TooManySteps,
    #[error("the output of step {position} {message}: give the step a new name, or keep its output readable")]
    UnreadableOutput { position: Position, message: String },
}

impl Misuse {
    /// The word for it in errors.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::ForeignAwait => "foreign_await",
            Self::ConcurrentSteps { .. } => "concurrent_steps",
            Self::Dropped(_) => "dropped_step",
            Self::TooManySteps => "too_many_steps",
            Self::UnreadableOutput { .. } => "unreadable_output",
        }
    }
}

impl<S: Send + Sync + 'static> Flow<S> {
    /// Runs this step once, durably, and hands over what it gave; from the journal, if it has run before.
    ///
    /// Its place among the steps is taken when this is called, not when it is awaited. One step at a time for now: a
    /// second one asked for while the first is outstanding ends the workflow with an error that says so.
    ///
    /// # Errors
    /// When the step finally failed. Then nothing of it is left: it was compensated before this returns.
    pub fn step<T: Step<S>>(
        &self,
        step: T,
    ) -> impl Future<Output = Result<T::Output, StepFailed>> + Send + use<S, T> {
        self.ask(T::NAME, &step)
    }

    /// Runs this transactional step exactly once; otherwise as [`step`](Self::step).
    ///
    /// # Errors
    /// When the step finally failed. Then its transaction was rolled back.
    pub fn transactional<T: TransactionalStep<S>>(
        &self,
        step: T,
    ) -> impl Future<Output = Result<T::Output, StepFailed>> + Send + use<S, T> {
        self.ask(T::NAME, &step)
    }

    fn ask<T: DeserializeOwned + Send>(&self, step: &'static str, input: &impl Serialize) -> Outstanding<T> {
        let mut exchange = lock(&self.exchange);
        let position = Position(exchange.positions);
        exchange.positions += 1;
        if let Some(first) = exchange.outstanding {
            exchange.misuse.get_or_insert(Misuse::ConcurrentSteps { first, second: position });
        } else if position.0 >= POSITIONS_MAX {
            exchange.misuse.get_or_insert(Misuse::TooManySteps);
        } else {
            exchange.outstanding = Some(position);
            exchange.asked =
                Some(Asked { position, step, input: Json::encode(input, INPUT_BYTES_MAX).map_err(Arc::new) });
        }
        Outstanding { exchange: Arc::clone(&self.exchange), position, done: false, output: PhantomData }
    }
}

/// A step asked for, whose outcome is awaited.
struct Outstanding<T> {
    exchange: Arc<Mutex<Exchange>>,
    position: Position,
    done: bool,
    output: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Future for Outstanding<T> {
    type Output = Result<T, StepFailed>;

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut exchange = lock(&this.exchange);
        // The waker is not kept: the engine polls again when it has the answer, and only then.
        if exchange.misuse.is_some() || exchange.outstanding != Some(this.position) {
            return Poll::Pending;
        }
        let Some(answer) = exchange.answer.take() else {
            return Poll::Pending;
        };
        let output = match answer {
            Ok(json) => match json.decode() {
                Ok(output) => Ok(output),
                Err(error) => {
                    let (position, message) = (this.position, error.to_string());
                    exchange.misuse = Some(Misuse::UnreadableOutput { position, message });
                    return Poll::Pending;
                }
            },
            Err(failed) => Err(failed),
        };
        exchange.outstanding = None;
        this.done = true;
        Poll::Ready(output)
    }
}

impl<T> Drop for Outstanding<T> {
    fn drop(&mut self) {
        if !self.done {
            lock(&self.exchange).misuse.get_or_insert(Misuse::Dropped(self.position));
        }
    }
}

/// What a workflow's function comes to.
pub(crate) type FunctionEnd = Result<Json, WorkflowError>;

/// A workflow's function in the middle of its run.
pub(crate) struct Function {
    exchange: Arc<Mutex<Exchange>>,
    future: BoxFuture<'static, FunctionEnd>,
    woken: Arc<Woken>,
}

/// What the function came to when it was polled.
#[derive(Debug)]
pub(crate) enum Polled {
    /// It needs this step.
    Asks(Asked),
    /// It returned, having asked for so many steps.
    Returned { end: FunctionEnd, steps: u32 },
    /// It does what it must not.
    Misuses(Misuse),
}

impl Function {
    /// The function that `start` makes over a fresh flow.
    pub(crate) fn start<S, E>(
        start: impl FnOnce(Arc<Flow<S>>) -> Result<BoxFuture<'static, FunctionEnd>, E>,
    ) -> Result<Self, E> {
        let exchange = Arc::new(Mutex::new(Exchange::default()));
        let flow = Flow { exchange: Arc::clone(&exchange), services: PhantomData };
        Ok(Self { exchange, future: start(Arc::new(flow))?, woken: Arc::default() })
    }

    /// Answers the step it asked for last.
    pub(crate) fn answer(&mut self, answer: Result<Json, StepFailed>) {
        lock(&self.exchange).answer = Some(answer);
    }

    /// Lets it go on until it needs the next step, or returns.
    pub(crate) fn poll(&mut self) -> Polled {
        let waker = Waker::from(Arc::clone(&self.woken));
        let future = &mut self.future;
        let polled =
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        let mut exchange = lock(&self.exchange);
        if let Some(misuse) = exchange.misuse.take() {
            return Polled::Misuses(misuse);
        }
        let steps = exchange.positions;
        match polled {
            // The steps' futures never wake: whoever did is foreign.
            Ok(_) if self.woken.0.load(Ordering::Acquire) => Polled::Misuses(Misuse::ForeignAwait),
            Ok(Poll::Ready(end)) => Polled::Returned { end, steps },
            Ok(Poll::Pending) => match exchange.asked.take() {
                Some(asked) => Polled::Asks(asked),
                None => Polled::Misuses(Misuse::ForeignAwait),
            },
            Err(panic) => {
                let failure =
                    Failure::new("panicked", format!("the workflow panicked: {}", panic_message(&*panic)));
                Polled::Returned { end: Err(WorkflowError { failure, step: None }), steps }
            }
        }
    }
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Release);
    }
}

fn lock(exchange: &Mutex<Exchange>) -> MutexGuard<'_, Exchange> {
    // A panic of the function while it held the lock leaves nothing half changed that matters: its run is over.
    exchange.lock().unwrap_or_else(PoisonError::into_inner)
}
