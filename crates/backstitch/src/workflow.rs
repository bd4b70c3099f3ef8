//! What a workflow is: an async function over steps, and the code of every step it may need on the way back.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::decide::Recovery;
use backstitch_core::failure::{Failure, WorkflowError};
use backstitch_core::json::{Json, JsonError};
use backstitch_core::limits::{NAME_BYTES_MAX, OUTCOME_BYTES_MAX};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::flow::{Flow, FunctionEnd};
use crate::future::BoxFuture;
use crate::step::{Step, StepCode, TransactionalStep};

/// A definition of workflows. Its fields are a workflow's input.
///
/// `run` is plain async Rust. It is run again from the top after a crash, and its steps then answer from the journal: so
/// whatever it decides by must come from its input and from its steps, and it must await nothing else.
pub trait Workflow<S>: Serialize + DeserializeOwned + Send + 'static {
    /// Its name, such as `gateway.start`.
    const KIND: &'static str;
    /// Counts the changes of its meaning.
    const VERSION: u32 = 1;
    /// What to do with a workflow whose worker died in the middle.
    const RECOVERY: Recovery;
    /// What to do with one whose journal this code does not fit: another step at a position, or the same one with another
    /// input, after the journaled input was read by this code. So a field that was added with `#[serde(default)]` fits.
    const ON_MISMATCH: OnMismatch = OnMismatch::Compensate;
    /// What it ends with. At most 64 KiB of JSON.
    type Output: Serialize + DeserializeOwned + Send + 'static;

    /// Every step that it uses, and every one that a journal of an earlier version may still name.
    fn steps(steps: &mut Steps<S>);

    /// Does it.
    ///
    /// # Errors
    /// Any error takes the workflow back; the caller gets that error, beside the report of what was taken back.
    fn run(self, flow: &Flow<S>) -> impl Future<Output = Result<Self::Output, WorkflowError>> + Send;
}

/// The longest timeout of an attempt. What takes longer is several steps: a crash would begin it all over.
const ATTEMPT_TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What to do with a workflow whose journal the code does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnMismatch {
    /// Take it back: the journal alone is enough for that.
    Compensate,
    /// Raise an alert, and wait for code that fits.
    Park,
}

/// The code of the steps of one kind, found by name.
pub struct Steps<S> {
    by_name: HashMap<&'static str, StepCode<S>>,
}

impl<S: Send + Sync + 'static> Steps<S> {
    /// Adds a step.
    ///
    /// # Panics
    /// When its name is taken or has not 1 to 100 bytes (two steps of one name could not be told apart in a journal), or
    /// when its timeout is longer than a day.
    pub fn step<T: Step<S>>(&mut self) -> &mut Self {
        self.add(StepCode::outside::<T>())
    }

    /// Adds a transactional step.
    ///
    /// # Panics
    /// As [`step`](Self::step).
    pub fn transactional<T: TransactionalStep<S>>(&mut self) -> &mut Self {
        self.add(StepCode::in_transaction::<T>())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&StepCode<S>> {
        self.by_name.get(name)
    }

    fn add(&mut self, code: StepCode<S>) -> &mut Self {
        let name = code.name;
        assert!(is_a_name(name), "a step's name has 1 to {NAME_BYTES_MAX} bytes: {name:?}");
        let timeout = code.conduct.timeout;
        assert!(timeout <= ATTEMPT_TIMEOUT_MAX, "step {name:?}: a timeout is at most a day, not {timeout:?}");
        assert!(self.by_name.insert(name, code).is_none(), "two steps are called {name:?}");
        self
    }
}

/// The code of one kind.
pub(crate) struct Kind<S> {
    pub(crate) name: &'static str,
    pub(crate) recovery: Recovery,
    pub(crate) on_mismatch: OnMismatch,
    pub(crate) steps: Steps<S>,
    start: StartFn<S>,
}

type StartFn<S> = fn(&Json, Arc<Flow<S>>) -> Result<BoxFuture<'static, FunctionEnd>, JsonError>;

impl<S: Send + Sync + 'static> Kind<S> {
    pub(crate) fn of<W: Workflow<S>>() -> Self {
        assert!(is_a_name(W::KIND), "a kind's name has 1 to {NAME_BYTES_MAX} bytes: {:?}", W::KIND);
        let mut steps = Steps { by_name: HashMap::new() };
        W::steps(&mut steps);
        Self {
            name: W::KIND,
            recovery: W::RECOVERY,
            on_mismatch: W::ON_MISMATCH,
            steps,
            start: start_erased::<S, W>,
        }
    }

    /// The function, not yet polled, over this input.
    pub(crate) fn start(
        &self,
        input: &Json,
        flow: Arc<Flow<S>>,
    ) -> Result<BoxFuture<'static, FunctionEnd>, JsonError> {
        (self.start)(input, flow)
    }
}

fn start_erased<S: Send + Sync + 'static, W: Workflow<S>>(
    input: &Json,
    flow: Arc<Flow<S>>,
) -> Result<BoxFuture<'static, FunctionEnd>, JsonError> {
    let workflow: W = input.decode()?;
    Ok(Box::pin(async move {
        let output = workflow.run(&flow).await?;
        Json::encode(&output, OUTCOME_BYTES_MAX).map_err(|error| WorkflowError {
            failure: Failure::new("invalid_output", format!("the output of the workflow {error}")),
            step: None,
        })
    }))
}

fn is_a_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len())
}
