//! Whoever verifies a workflow sees what its probes see, whatever the probes do.

use backstitch::{
    Attempt, Backward, Database, Flow, IdempotencyKey, Outcome, Probe, ProbeTransactionally, Probed, Probes,
    Recovery, Sighting, Step, StepError, Steps, TransactionalBackward, TransactionalProbed,
    TransactionalStep, Verdict, Worker, Workflow, WorkflowError,
};
use backstitch_testkit::world::World;
use serde::{Deserialize, Serialize};
use sqlx::PgConnection;

/// What a probe does.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum Eye {
    Sees,
    Misses,
    Cannot,
    Panics,
}

#[derive(Serialize, Deserialize)]
struct Paint {
    eye: Eye,
}

impl Step<()> for Paint {
    const NAME: &'static str = "paint";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("it is only looked at");
    const PROBED: Probed<Self, ()> = Probed::to_verify();
    type Output = String;

    async fn run(&self, (): &(), attempt: &Attempt) -> Result<String, StepError> {
        Ok(attempt.key().to_string())
    }
}

impl Probe<()> for Paint {
    async fn probe(
        &self,
        (): &(),
        key: IdempotencyKey,
        outcome: Outcome<String>,
    ) -> Result<Sighting<String>, StepError> {
        // It is told what the step handed over, and under which key.
        assert_eq!(outcome, Outcome::Succeeded(key.to_string()));
        match self.eye {
            Eye::Sees => Ok(Sighting::Stands(key.to_string())),
            Eye::Misses => Ok(Sighting::Gone),
            Eye::Cannot => Err(StepError::retry("dark", "it is night")),
            Eye::Panics => panic!("a ghost"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Frame {
    writes: bool,
}

impl TransactionalStep<()> for Frame {
    const NAME: &'static str = "frame";
    const BACKWARD: TransactionalBackward<Self, ()> = TransactionalBackward::nothing_because("as above");
    const PROBED: TransactionalProbed<Self, ()> = TransactionalProbed::to_verify();
    type Output = ();

    async fn run(&self, _: &mut PgConnection, (): &(), _: &Attempt) -> Result<(), StepError> {
        Ok(())
    }
}

impl ProbeTransactionally<()> for Frame {
    async fn probe(
        &self,
        transaction: &mut PgConnection,
        (): &(),
        _: IdempotencyKey,
        _: Outcome<()>,
    ) -> Result<Sighting<()>, StepError> {
        let sql = if self.writes { "create table frame ()" } else { "select 1" };
        let asked = sqlx::query(sql).execute(transaction).await;
        asked.map_err(|error| StepError::retry("frame", error)).map(|_| Sighting::Stands(()))
    }
}

/// A step that says no way to look for it.
#[derive(Serialize, Deserialize)]
struct Varnish;

impl Step<()> for Varnish {
    const NAME: &'static str = "varnish";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("as above");
    type Output = ();

    async fn run(&self, (): &(), _: &Attempt) -> Result<(), StepError> {
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Picture;

impl Workflow<()> for Picture {
    const KIND: &'static str = "picture";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = ();

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Paint>().transactional::<Frame>().step::<Varnish>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<(), WorkflowError> {
        for eye in [Eye::Sees, Eye::Misses, Eye::Cannot, Eye::Panics] {
            flow.step(Paint { eye }).await?;
        }
        for writes in [false, true] {
            flow.transactional(Frame { writes }).await?;
        }
        flow.step(Varnish).await?;
        Ok(())
    }
}

#[tokio::test]
async fn each_step_is_seen_as_its_probe_sees_it() {
    let world = World::new().await;
    let database = Database::connect(&world.database.url).await.expect("it is there");
    let worker = Worker::new(database, ()).serve::<Picture>().start().await.expect("it starts");
    let handle = world.client.enqueue(Picture).send().await.expect("it is taken");
    world.client.wait(&handle).await.expect("it ends");
    worker.shut_down().await;

    let probes = Probes::new(world.client.clone(), ()).of::<Picture>();
    let verified = probes.verify(handle.workflow).await.expect("it is looked at");
    let seen: Vec<_> = verified
        .steps
        .iter()
        .map(|step| (step.sighting.as_deref(), step.verdict, step.says.as_deref()))
        .collect();
    assert_eq!(seen[0], (Some("stands"), Verdict::Agrees, None));
    assert_eq!(seen[1], (Some("gone"), Verdict::Differs, None));
    assert_eq!(seen[2], (None, Verdict::NotSeen, Some("it is night (dark)")));
    assert_eq!(seen[3], (None, Verdict::NotSeen, Some("its probe panicked: a ghost")));
    assert_eq!(seen[4], (Some("stands"), Verdict::Agrees, None));
    assert_eq!((seen[5].0, seen[5].1), (None, Verdict::NotSeen));
    assert!(seen[5].2.is_some_and(|says| says.contains("read-only transaction")), "{:?}", seen[5]);
    assert_eq!(seen[6], (None, Verdict::NotProbed, Some("it says no way to look for it")));

    // A kind that is not known here is shown all the same.
    let nobody = Probes::new(world.client.clone(), ());
    let verified = nobody.verify(handle.workflow).await.expect("it is looked at");
    assert!(verified.steps.iter().all(|step| step.verdict == Verdict::NotProbed), "{verified:?}");
}
