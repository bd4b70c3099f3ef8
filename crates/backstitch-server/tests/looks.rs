//! How does a daemon that can look at the outside let others look? The outside is a stand-in; a real one is looked at by the
//! tests of the command.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod stage;

use std::sync::Arc;

use backstitch::{Error, Inputs, Verified, WorkflowId};
use backstitch_server::{Looking, Orphans, Outside, Unseen};
use serde_json::json;
use stage::Stage;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Stands in for the outside: each look takes until it is let go.
struct StandIn {
    /// How many look.
    looking: Semaphore,
    /// How many are let go.
    let_go: Semaphore,
}

impl StandIn {
    fn new() -> Arc<Self> {
        Arc::new(Self { looking: Semaphore::new(0), let_go: Semaphore::new(0) })
    }

    async fn look(&self) {
        self.looking.add_permits(1);
        self.let_go.acquire().await.unwrap().forget();
    }

    /// Waits until so many more look.
    async fn is_asked_by(&self, looks: u32) {
        self.looking.acquire_many(looks).await.unwrap().forget();
    }
}

impl Outside for StandIn {
    fn kinds(&self) -> &[&str] {
        &["toy"]
    }

    fn verify(&self, workflow: WorkflowId) -> Looking<'_, Result<Verified, Error>> {
        Box::pin(async move {
            self.look().await;
            Err(Error::NotFound(workflow))
        })
    }

    fn orphans(&self) -> Looking<'_, Result<Orphans, Unseen>> {
        Box::pin(async {
            self.look().await;
            Err(Unseen::Outside("the zone does not answer: look whether it is well".to_owned()))
        })
    }
}

#[tokio::test]
async fn so_many_look_at_once_and_the_next_is_told_to_ask_again() {
    let outside = StandIn::new();
    let stage = Arc::new(Stage::new(Inputs::new(), Some(outside.clone())).await);
    let id = stage.client.enqueue_untyped("toy", &json!({})).send().await.unwrap().workflow;
    let mut looks = JoinSet::new();
    let paths = [format!("/v1/workflows/{id}/verify"), "/v1/orphans".to_owned()];
    for path in [&paths[..], &paths[..]].concat() {
        let stage = stage.clone();
        looks.spawn(async move { stage.get(&path).await });
    }
    outside.is_asked_by(4).await;
    for path in &paths {
        let (status, said) = stage.get(path).await;
        assert_eq!((status, &said["code"]), (503, &json!("too_many_looks")), "{said}");
    }
    outside.let_go.add_permits(4);
    let answers = looks.join_all().await;
    let unseen: Vec<_> = answers.iter().filter(|(_, said)| said["code"] == "not_seen").collect();
    assert_eq!(unseen.len(), 2, "{answers:?}");
    assert!(unseen.iter().all(|(status, said)| *status == 503
        && said["detail"] == "the zone does not answer: look whether it is well"));
    // There is a place again.
    outside.let_go.add_permits(1);
    assert_eq!(stage.get("/v1/orphans").await.1["code"], "not_seen");
    Arc::into_inner(stage).unwrap().end().await;
}

#[tokio::test]
async fn a_daemon_that_stops_waits_for_no_look() {
    let outside = StandIn::new();
    let stage = Arc::new(Stage::new(Inputs::new(), Some(outside.clone())).await);
    let look = tokio::spawn({
        let stage = stage.clone();
        async move { stage.get("/v1/orphans").await }
    });
    outside.is_asked_by(1).await;
    stage.stop.cancel();
    let (status, said) = look.await.unwrap();
    assert_eq!((status, &said["code"]), (503, &json!("stopping")), "{said}");
    Arc::into_inner(stage).unwrap().end().await;
}
