//! How a workflow comes by its secrets, and what becomes of it where it can't.

use backstitch::{
    Attempt, Backward, Conduct, Error, Flow, Keyring, Plaintext, Recovery, RetryPolicy, Running, Secret,
    Secrets, Status, Step, StepError, Steps, Worker, Workflow, WorkflowError, WorkflowId,
};
use backstitch_testkit::script::CONDUCT;
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{UNHURRIED, World};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Serialize, Deserialize)]
struct Call {
    token: Secret,
    #[serde(default)]
    forges: bool,
}

/// Makes a secret of nothing.
#[derive(Serialize, Deserialize)]
struct Forge {}

#[derive(Serialize, Deserialize)]
struct Greet {
    token: Secret,
}

impl Workflow<()> for Call {
    const KIND: &'static str = "call";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = usize;

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Greet>().step::<Forge>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<usize, WorkflowError> {
        let greeted = flow.step(Greet { token: self.token }).await?;
        if self.forges {
            flow.step(Forge {}).await?;
        }
        Ok(greeted)
    }
}

impl Step<()> for Greet {
    const NAME: &'static str = "greet";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("a greeting leaves nothing");
    const CONDUCT: Conduct =
        Conduct { retry: RetryPolicy { attempts_max: 1000, ..CONDUCT.retry }, ..CONDUCT };
    type Output = usize;

    async fn run(&self, _: &(), attempt: &Attempt) -> Result<usize, StepError> {
        Ok(attempt.reveal(&self.token).await?.expose().len())
    }
}

impl Step<()> for Forge {
    const NAME: &'static str = "forge";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("nothing comes of it");
    type Output = Secret;

    async fn run(&self, _: &(), attempt: &Attempt) -> Result<Secret, StepError> {
        Ok(attempt.seal("")?)
    }
}

fn keyring() -> Keyring {
    Keyring::parse(&format!("2026-11 {}", "5a".repeat(64))).expect("a keyring")
}

async fn worker(world: &World, secrets: Secrets) -> Running {
    let worker = Worker::new(world.client.database().clone(), ()).serve::<Call>().timing(UNHURRIED);
    worker.secrets(secrets).start().await.expect("the worker starts")
}

/// Waits until an attempt has failed with this code, and is to be tried again.
async fn tried_again_for(world: &World, workflow: WorkflowId, code: &str) {
    until(&format!("an attempt ends with {code}"), async || {
        let attempts = world.client.attempts(workflow).await.expect("it answers");
        let failed = attempts.into_iter().find(|attempt| attempt.outcome.as_deref() == Some("retry"))?;
        (failed.failure?.code == code).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_a_worker_lacks_is_tried_again_until_one_has_it() {
    let world = World::new().await;
    let sealed = keyring().seal(Call::KIND, "open sesame").expect("long enough");
    let referred = Secret::reference("vault:door").expect("a reference");
    let vault = || {
        let secrets = Secrets::new().keyring(keyring());
        secrets.source("vault", async |name: String| match name.as_str() {
            "door" => Ok(Plaintext::new("open sesame")),
            other => Err(format!("there is no {other}").into()),
        })
    };
    for (token, code) in [(sealed, "secret_key_missing"), (referred, "secret_source_missing")] {
        let without = worker(&world, Secrets::new()).await;
        let handle =
            world.client.enqueue(Call { token, forges: false }).send().await.expect("it is enqueued");
        tried_again_for(&world, handle.workflow, code).await;
        without.shut_down().await;
        let with = worker(&world, vault()).await;
        assert_eq!(world.completes(&handle).await, "open sesame".len());
        with.shut_down().await;
    }
}

#[tokio::test]
async fn the_same_secret_under_the_same_key_is_the_same_workflow() {
    let world = World::new().await;
    let ask = async |text: &str| {
        // Sealed anew each time, as whoever asks again does.
        let token = keyring().seal(Call::KIND, text).expect("long enough");
        world
            .client
            .enqueue(Call { token, forges: false })
            .key("call/1")
            .send()
            .await
            .map(|handle| handle.workflow)
    };
    let first = ask("open sesame").await.expect("it is enqueued");
    assert_eq!(ask("open sesame").await.expect("it is joined"), first);
    assert!(matches!(ask("open barley").await, Err(Error::KeyTaken { first: named, .. }) if named == first));
}

#[tokio::test]
async fn a_text_in_the_clear_where_a_secret_belongs_needs_a_person_and_is_not_quoted() {
    let world = World::new().await;
    let worker = worker(&world, Secrets::new()).await;
    let input = json!({ "token": "open sesame" });
    let handle = world.client.enqueue_untyped(Call::KIND, &input).send().await.expect("it is enqueued");
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    let view = world.client.workflow(handle.workflow).await.expect("it answers").expect("it exists");
    let attention = view.attention.expect("a reason");
    assert!(attention.contains("never the text itself") && !attention.contains("sesame"), "{attention}");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_text_that_can_be_no_secret_fails_the_attempt_that_seals_it() {
    let world = World::new().await;
    let worker = worker(&world, Secrets::new().keyring(keyring())).await;
    let token = keyring().seal(Call::KIND, "open sesame").expect("long enough");
    let handle = world.client.enqueue(Call { token, forges: true }).send().await.expect("it is enqueued");
    let failed = until("the attempt has failed", async || {
        let attempts = world.client.attempts(handle.workflow).await.expect("it answers");
        attempts.into_iter().find(|attempt| attempt.step == "forge")?.failure
    })
    .await;
    assert!(failed.message.contains("a secret has 8 to"), "{failed:?}");
    worker.shut_down().await;
}
