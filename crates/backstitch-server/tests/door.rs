//! What is refused at the door, by a daemon that has the code of a kind?

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod stage;

use backstitch::{Flow, Inputs, Keyring, Recovery, Secret, Steps, Workflow, WorkflowError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stage::Stage;

/// Its input has a secret.
#[derive(Serialize, Deserialize)]
struct Publish {
    report: String,
    token: Secret,
}

impl Workflow<()> for Publish {
    const KIND: &'static str = "report.publish";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = ();

    fn steps(_: &mut Steps<()>) {}

    async fn run(self, _: &Flow<()>) -> Result<(), WorkflowError> {
        Ok(())
    }
}

#[tokio::test]
async fn a_text_in_the_clear_where_a_secret_belongs_is_refused_and_not_quoted() {
    let stage = Stage::new(Inputs::new().of::<(), Publish>(), None).await;
    let publish = |token: Value| json!({ "report": "2026-11", "token": token });
    let one = |input: Value| json!({ "kind": Publish::KIND, "input": input });
    for clear in [json!("open sesame"), json!({ "$secret": "open sesame" }), json!(["open sesame"])] {
        let (status, said) = stage.post("/v1/workflows", &one(publish(clear.clone()))).await;
        assert_eq!((status, &said["code"]), (422, &json!("invalid_input")), "{said}");
        let detail = said["detail"].as_str().unwrap();
        for part in [Publish::KIND, "never the text itself", "`backstitch seal`", "$secret"] {
            assert!(detail.contains(part), "{part}: {detail}");
        }
        let many = json!([{ "input": publish(json!({ "$secret": { "reference": "env:A" } })) }, { "input": publish(clear) }]);
        let (status, many) =
            stage.post("/v1/workflows/batch", &json!({ "kind": Publish::KIND, "workflows": many })).await;
        assert_eq!(status, 422);
        assert!(many["detail"].as_str().unwrap().contains("workflow 1 "), "it says which: {many}");
        assert!(!said.to_string().contains("sesame") && !many.to_string().contains("sesame"), "{said}");
    }
    assert_eq!(stage.enqueued().await, 0, "nor does it stand anywhere");

    let keyring = Keyring::parse(&format!("2026-11 {}", "0f".repeat(64))).unwrap();
    let sealed = keyring.seal(Publish::KIND, "open sesame").unwrap();
    for token in [json!(sealed), json!({ "$secret": { "reference": "file:publisher-token" } })] {
        let (status, said) = stage.post("/v1/workflows", &one(publish(token))).await;
        assert_eq!(status, 201, "{said}");
    }
    stage.end().await;
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_a_kind_that_is_not_known_may_take_anything() {
    let stage = Stage::new(Inputs::new().of::<(), Publish>(), None).await;
    let one = |kind: &str| json!({ "kind": kind, "input": { "report": 7 } });
    let (status, said) = stage.post("/v1/workflows", &one(Publish::KIND)).await;
    assert_eq!((status, &said["code"]), (422, &json!("invalid_input")), "{said}");
    assert!(said["detail"].as_str().unwrap().ends_with("correct it and ask again"), "{said}");
    assert_eq!(stage.post("/v1/workflows", &one("somebody.elses")).await.0, 201);
    assert_eq!(stage.enqueued().await, 1);
    stage.end().await;
}
