//! Does what stands outside agree with what the journal of a workflow says?
//!
//! The journal is read, each step that can be looked for is looked for, and the journal is read again: what has changed
//! meanwhile is not judged. Nothing is written and nobody is held up, so a workflow may be verified at any time.

use std::collections::HashMap;

use backstitch_core::failure::StepError;
use backstitch_core::id::{Direction, IdempotencyKey, Position, WorkflowId};
use backstitch_core::json::Json;
use serde::{Deserialize, Serialize};
use sqlx::Connection;
use tokio::time::timeout;

use crate::client::Client;
use crate::error::Error;
use crate::future::catch_panic;
use crate::sight::{Looked, Sighting};
use crate::step::{Effect, StepCode};
use crate::view::{Status, StepView};
use crate::workflow::{Kind, Workflow};

/// The code of kinds, and what their steps look with. Nothing is ever run by it, nor compensated.
///
/// ```no_run
/// # use backstitch::*;
/// # #[derive(serde::Serialize, serde::Deserialize)] struct StartGateway;
/// # impl Workflow<Edge> for StartGateway {
/// #     const KIND: &'static str = "gateway.start";
/// #     const RECOVERY: Recovery = Recovery::Compensate;
/// #     type Output = ();
/// #     fn steps(_: &mut Steps<Edge>) {}
/// #     async fn run(self, _: &Flow<Edge>) -> Result<(), WorkflowError> { Ok(()) }
/// # }
/// # struct Edge;
/// # async fn verify(client: Client, workflow: WorkflowId) -> Result<(), Error> {
/// let verified = Probes::new(client, Edge).of::<StartGateway>().verify(workflow).await?;
/// for step in verified.steps.iter().filter(|step| step.verdict == Verdict::Differs) {
///     println!("{}: {:?} by the journal, {:?} outside", step.step, step.expected, step.sighting);
/// }
/// # Ok(())
/// # }
/// ```
#[must_use = "nothing is looked at before `verify`"]
pub struct Probes<S> {
    client: Client,
    services: S,
    kinds: HashMap<&'static str, Kind<S>>,
}

/// What a workflow's steps left outside, beside what its journal says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Verified {
    /// Which workflow.
    pub workflow: WorkflowId,
    /// Its kind.
    pub kind: String,
    /// How it stood when it was looked at.
    pub status: Status,
    /// Its steps, in order.
    pub steps: Vec<VerifiedStep>,
}

/// One step, by its journal and by what was seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct VerifiedStep {
    /// Its place.
    pub position: u32,
    /// Its name.
    pub step: String,
    /// How it stands in the journal, as in [`StepView::status`].
    pub status: String,
    /// What should be outside.
    pub expected: Expected,
    /// What was seen: stands, partly, gone or unknown. None: nothing was.
    pub sighting: Option<String>,
    /// What there is to say about it. None: nothing beyond the words.
    pub says: Option<String>,
    /// What comes of both.
    pub verdict: Verdict,
}

/// What should be outside of a step, by the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expected {
    /// Its effect.
    Stands,
    /// Nothing of it.
    Gone,
    /// The journal does not tell: it is under way or in doubt, has nothing to take back, or an operator let it be.
    Either,
}

impl Expected {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stands => "stands",
            Self::Gone => "gone",
            Self::Either => "either",
        }
    }
}

/// Whether journal and outside agree on a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// They do.
    Agrees,
    /// They don't.
    Differs,
    /// One of them does not tell.
    Undecided,
    /// The step can't be looked for.
    NotProbed,
    /// It could not be looked for now.
    NotSeen,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agrees => "agrees",
            Self::Differs => "differs",
            Self::Undecided => "undecided",
            Self::NotProbed => "not_probed",
            Self::NotSeen => "not_seen",
        }
    }
}

impl<S: Send + Sync + 'static> Probes<S> {
    /// Looks with these services at what workflows of this client's database left.
    pub fn new(client: Client, services: S) -> Self {
        Self { client, services, kinds: HashMap::new() }
    }

    /// Knows the steps of this kind.
    ///
    /// # Panics
    /// As [`Worker::serve`](crate::Worker::serve).
    pub fn of<W: Workflow<S>>(mut self) -> Self {
        self.kinds.insert(W::KIND, Kind::of::<W>());
        self
    }

    /// What it looks with.
    pub fn services(&self) -> &S {
        &self.services
    }

    /// Looks for each step that the workflow began. The steps of a kind that is not known here are not looked for.
    ///
    /// # Errors
    /// When the database does not answer, or there is no such workflow.
    pub async fn verify(&self, workflow: WorkflowId) -> Result<Verified, Error> {
        let view = self.client.workflow(workflow).await?.ok_or(Error::NotFound(workflow))?;
        let has_turned = view.cause.is_some();
        let before = self.client.steps(workflow).await?;
        let mut seen = Vec::new();
        for step in &before {
            seen.push(self.look(workflow, &view.kind, step).await);
        }
        let after = self.client.steps(workflow).await?;
        let steps = before
            .iter()
            .zip(seen)
            .map(|(step, seen)| {
                let has_changed =
                    after.iter().all(|now| now.position != step.position || now.status != step.status);
                judged(step, has_turned, has_changed, seen)
            })
            .collect();
        Ok(Verified { workflow, kind: view.kind, status: view.status, steps })
    }

    async fn look(&self, workflow: WorkflowId, kind: &str, step: &StepView) -> Seen {
        let Some(kind) = self.kinds.get(kind) else {
            return Seen::NoProbe("its kind is not known here");
        };
        let Some(code) = kind.steps.get(&step.step) else {
            return Seen::NoProbe("its kind has no step of that name any more");
        };
        let Some(input) = &step.input else {
            return Seen::NoProbe("its input is not in the journal");
        };
        let key = IdempotencyKey { workflow, position: Position(step.position), direction: Direction::Run };
        let looked = Looked { services: &self.services, key, input, output: step.output.as_ref() };
        match timeout(code.conduct.timeout, catch_panic(self.probe(code, looked))).await {
            Ok(Ok(Some(Ok(sighting)))) => Seen::Effect(sighting),
            Ok(Ok(Some(Err(error)))) => Seen::Failed(error.failure().to_string()),
            Ok(Ok(None)) => Seen::NoProbe("it says no way to look for it"),
            Ok(Err(panic)) => Seen::Failed(format!("its probe panicked: {panic}")),
            Err(_) => Seen::Failed(format!("no answer within {:?}", code.conduct.timeout)),
        }
    }

    /// None: it can't be looked for.
    async fn probe(
        &self,
        code: &StepCode<S>,
        looked: Looked<'_, S>,
    ) -> Option<Result<Sighting<Json>, StepError>> {
        match code.effect {
            Effect::Outside { probe, .. } => Some(probe?(looked).await),
            Effect::InTransaction { probe, .. } => {
                let probe = probe?;
                let asked = async {
                    // Dropped halfway, it takes its connection with it: and so the transaction.
                    let mut lent = self.client.database.lend().await?;
                    let mut transaction = lent.connection().begin_with("begin read only").await?;
                    let sighting = probe(looked, &mut transaction).await;
                    self.client.database.leave(&mut transaction).await?;
                    transaction.rollback().await?;
                    lent.give_back();
                    Ok(sighting)
                };
                let unreachable = |error: sqlx::Error| Err(StepError::retry("database_unreachable", error));
                Some(asked.await.unwrap_or_else(unreachable))
            }
        }
    }
}

/// What came of looking.
enum Seen {
    Effect(Sighting<Json>),
    NoProbe(&'static str),
    Failed(String),
}

fn judged(step: &StepView, has_turned: bool, has_changed: bool, seen: Seen) -> VerifiedStep {
    let expected = expected(&step.status, &step.backward, has_turned);
    let (verdict, sighting, says) = match seen {
        Seen::NoProbe(why) => (Verdict::NotProbed, None, Some(why.to_owned())),
        Seen::Failed(why) => (Verdict::NotSeen, None, Some(why)),
        Seen::Effect(sighting) if has_changed => {
            let why = "it went on while it was looked for: look again";
            (Verdict::Undecided, Some(sighting.as_str()), Some(why.to_owned()))
        }
        Seen::Effect(sighting) => {
            let verdict = verdict(expected, &sighting);
            let word = sighting.as_str();
            let says = match sighting {
                Sighting::Partly(says) | Sighting::Unknown(says) => Some(says),
                Sighting::Stands(_) | Sighting::Gone => None,
            };
            (verdict, Some(word), says)
        }
    };
    VerifiedStep {
        position: step.position,
        step: step.step.clone(),
        status: step.status.clone(),
        expected,
        sighting: sighting.map(str::to_owned),
        says,
        verdict,
    }
}

/// `has_turned`: the workflow is, or was, on its way back.
fn expected(status: &str, backward: &str, has_turned: bool) -> Expected {
    match status {
        // What has nothing to take back goes with the other steps, or stays where it harms nobody.
        "completed" if has_turned && backward == "nothing" => Expected::Either,
        "completed" => Expected::Stands,
        "compensated" | "rejected" => Expected::Gone,
        _ => Expected::Either,
    }
}

fn verdict<T>(expected: Expected, sighting: &Sighting<T>) -> Verdict {
    match (expected, sighting) {
        (Expected::Either, _) | (_, Sighting::Unknown(_)) => Verdict::Undecided,
        (Expected::Stands, Sighting::Stands(_)) | (Expected::Gone, Sighting::Gone) => Verdict::Agrees,
        _ => Verdict::Differs,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_says_what_should_be_outside() {
        for (status, backward, has_turned, should) in [
            ("completed", "independent", false, Expected::Stands),
            ("completed", "independent", true, Expected::Stands),
            ("completed", "nothing", false, Expected::Stands),
            ("completed", "nothing", true, Expected::Either),
            ("completed", "pivot", false, Expected::Stands),
            ("compensated", "after_all_later", true, Expected::Gone),
            ("rejected", "after_all_later", true, Expected::Gone),
            ("failed", "nothing", true, Expected::Either),
            ("in_progress", "independent", false, Expected::Either),
            ("waiting", "independent", false, Expected::Either),
            ("compensating", "independent", true, Expected::Either),
            ("skipped", "independent", true, Expected::Either),
        ] {
            assert_eq!(expected(status, backward, has_turned), should, "{status} {backward} {has_turned}");
        }
    }

    #[test]
    fn half_an_effect_never_agrees() {
        let partly = Sighting::<()>::Partly("the address is another".to_owned());
        assert_eq!(verdict(Expected::Stands, &partly), Verdict::Differs);
        assert_eq!(verdict(Expected::Gone, &partly), Verdict::Differs);
        assert_eq!(verdict(Expected::Either, &partly), Verdict::Undecided);
        assert_eq!(verdict(Expected::Gone, &Sighting::Stands(())), Verdict::Differs);
        assert_eq!(verdict(Expected::Stands, &Sighting::<()>::Gone), Verdict::Differs);
        assert_eq!(verdict(Expected::Gone, &Sighting::<()>::Unknown(String::new())), Verdict::Undecided);
    }
}
