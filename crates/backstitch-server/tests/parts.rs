//! Is what may be long told in parts, and each of it once?

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod stage;

use backstitch::{
    Attempt, Backward, Flow, Inputs, Recovery, Step, StepError, Steps, Worker, Workflow, WorkflowError,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage::Stage;

/// More than two parts of a journal, and not a whole number of them.
const STEPS: u32 = 250;

/// Many steps.
#[derive(Serialize, Deserialize)]
struct Long {
    steps: u32,
}

#[derive(Serialize, Deserialize)]
struct Count(u32);

impl Workflow<()> for Long {
    const KIND: &'static str = "long";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = u32;

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Count>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<u32, WorkflowError> {
        for number in 0..self.steps {
            flow.step(Count(number)).await?;
        }
        Ok(self.steps)
    }
}

impl Step<()> for Count {
    const NAME: &'static str = "count";
    const BACKWARD: Backward<Self, ()> = Backward::nothing_because("counting leaves nothing");
    type Output = u32;

    async fn run(&self, (): &(), _: &Attempt) -> Result<u32, StepError> {
        Ok(self.0)
    }
}

#[tokio::test]
async fn a_long_journal_is_told_in_parts_and_each_step_and_try_once() {
    let stage = Stage::new(Inputs::new(), None).await;
    let worker = Worker::new(stage.client.database().clone(), ()).serve::<Long>().start().await.unwrap();
    let handle = stage.client.enqueue(Long { steps: STEPS }).send().await.unwrap();
    stage.client.wait(&handle).await.unwrap();
    worker.shut_down().await;
    let path = format!("/v1/workflows/{}/journal", handle.workflow);
    let (mut steps, mut attempts, mut parts, mut after) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    loop {
        let (status, mut part) = stage.get(&format!("{path}{after}")).await;
        assert_eq!(status, 200, "{part}");
        let mut take = |member: &str| match part[member].take() {
            Value::Array(told) => told,
            other => panic!("{member}: {other}"),
        };
        let told = (take("steps"), take("attempts"));
        parts.push((told.0.len(), told.1.len()));
        steps.extend(told.0);
        attempts.extend(told.1);
        let Some(next) = part["next"].as_str() else { break };
        after = format!("?after={next}");
    }
    assert_eq!(parts, [(100, 250), (100, 0), (50, 0)]);
    for told in [&steps, &attempts] {
        let positions: Vec<_> = told.iter().map(|one| one["position"].as_u64().unwrap()).collect();
        assert_eq!(positions, (0..u64::from(STEPS)).collect::<Vec<_>>());
    }
    assert!(steps.iter().enumerate().all(|(at, step)| step["output"] == json!(at)), "none is another's");
    for wrong in ["", "x", "1", "1-", "-1", "1-2-3", "99999999999-0"] {
        let (status, said) = stage.get(&format!("{path}?after={wrong}")).await;
        assert_eq!((status, &said["code"]), (400, &json!("invalid_request")), "{wrong}");
        assert!(said["detail"].as_str().unwrap().contains("such as 100-250"), "{said}");
    }
    let (_, beyond) = stage.get(&format!("{path}?after=4294967295-4294967295")).await;
    assert_eq!((&beyond["steps"], &beyond["next"]), (&json!([]), &Value::Null));
    stage.end().await;
}

#[tokio::test]
async fn a_list_tells_inputs_and_outputs_where_they_are_asked_for() {
    let stage = Stage::new(Inputs::new(), None).await;
    stage.client.enqueue_untyped("toy", &json!({ "city": "Lisbon" })).send().await.unwrap();
    let (_, line) = stage.get("/v1/workflows").await;
    assert!(line["workflows"][0].get("input").is_none(), "{line}");
    let (_, whole) = stage.get("/v1/workflows?whole=true").await;
    assert_eq!(whole["workflows"][0]["input"], json!({ "city": "Lisbon" }));
    stage.end().await;
}
