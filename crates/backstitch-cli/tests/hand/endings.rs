//! Do exit codes tell the endings apart, and do people and programs see each step forward and back?

use serde_json::{Value, json};

use crate::toys;
use crate::world::{Ran, World};

async fn enqueue(world: &World, input: Value) -> Ran {
    world.run(&["enqueue", "toy", &input.to_string(), "--wait"]).await
}

fn id(ran: &Ran) -> &str {
    ran.out.lines().next().unwrap()
}

#[tokio::test]
async fn a_completed_workflow_ends_with_0() {
    let world = World::new().await;
    let worker = toys::worker(&world).await;
    let ran = enqueue(&world, json!({ "fails": false, "sticks": false })).await.expect(0);
    assert!(ran.out.contains("completed: \"taken\"") && ran.err.is_empty(), "{ran:?}");
    let said = [id(&ran), "has ended"];
    world.run(&["cancel", id(&ran), "--why", "too late"]).await.complains(5, &said);
    world.run(&["retry", id(&ran), "--why", "too late"]).await.complains(5, &said);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_compensated_workflow_ends_with_3_and_shows_its_ladder() {
    let world = World::new().await;
    let worker = toys::worker(&world).await;
    let ran = enqueue(&world, json!({ "fails": true, "sticks": false })).await.expect(3);
    assert!(ran.out.contains("compensated: it broke"), "{ran:?}");
    assert!(!ran.out.contains('\u{1b}'), "what comes from outside does not move the cursor: {ran:?}");
    let id = id(&ran);

    let shown = world.run(&["show", id]).await.expect(0).out;
    for part in
        ["toy (version 1)", "↓ run", "↑ compensate", "worn_out", "in step use", "nothing to take back"]
    {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains(&format!("key {id}/0/compensate")), "{shown}");
    assert!(!shown.contains('\u{1b}'), "no colours but on a terminal: {shown}");

    let shown = world.run(&["show", id, "--json"]).await.expect(0).json();
    assert_eq!(shown["workflow"]["status"], "compensated");
    assert_eq!(shown["workflow"]["error"]["failure"]["code"], "worn_out");
    assert_eq!(shown["workflow"]["report"]["steps"][0]["fate"], "compensated");
    assert_eq!(shown["steps"][0]["step"], "take");
    assert_eq!(shown["steps"][0]["output"], "taken");
    let attempts: Vec<_> =
        shown["attempts"].as_array().unwrap().iter().map(|attempt| &attempt["key"]).collect();
    let key = |place: &str| json!(format!("{id}/{place}"));
    assert_eq!(attempts, [&key("0/run"), &key("1/run"), &key("0/compensate")]);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_workflow_that_needs_attention_ends_with_4_and_can_be_retried() {
    let world = World::new().await;
    let worker = toys::worker(&world).await;
    let ran = enqueue(&world, json!({ "fails": true, "sticks": true })).await.expect(4);
    assert!(ran.out.contains("needs attention: it broke") && ran.out.contains("still owed"), "{ran:?}");
    let listed = world.run(&["list", "--status", "needs_attention", "--json"]).await.expect(0).json();
    assert_eq!(listed[0]["workflow"], id(&ran));
    let said = ["is being taken back already"];
    world.run(&["cancel", id(&ran), "--why", "hurry"]).await.complains(5, &said);
    let answer = world.run(&["retry", id(&ran), "--why", "it was mended", "--by", "me", "--json"]).await;
    assert_eq!(answer.expect(0).json()["answer"], "accepted");
    let recovered = world.run(&["recover", "--without-gateway", "--json"]).await.expect(0).json();
    assert_eq!(recovered["settled"], json!([]), "another worker's kind");
    worker.shut_down().await;
}

#[tokio::test]
async fn recovery_says_what_it_did_not_look_at() {
    let world = World::new().await;
    let recover = async || world.run(&["recover", "--without-gateway"]).await.expect(0).out;
    assert_eq!(recover().await, "nothing was left to settle\nleft: nothing\n");
    let said = |due: &str, kinds: &str, them: &str| {
        format!(
            "nothing was settled\nleft: nothing\nnot looked at: {due} due of kinds that this program does not serve \
             ({kinds}); their own workers settle {them}\n"
        )
    };
    world.run(&["enqueue", "trip"]).await.expect(0);
    assert_eq!(recover().await, said("1 is", "trip", "it"));
    world.run(&["enqueue", "toy"]).await.expect(0);
    assert_eq!(recover().await, said("2 are", "toy, trip", "them"));
    let recovered = world.run(&["recover", "--without-gateway", "--json"]).await.expect(0).json();
    assert_eq!(recovered["passed_over"], json!({ "due": 2, "kinds": ["toy", "trip"] }));
}

#[tokio::test]
async fn of_those_that_were_unfinished_the_ones_that_have_ended_are_told() {
    let world = World::new().await;
    let client = world.client().await;
    let mut asked = Vec::new();
    for kind in ["toy", "toy", "trip"] {
        let input = json!({ "fails": asked.is_empty(), "sticks": false });
        asked.push(client.enqueue_untyped(kind, &input).send().await.unwrap().workflow);
    }
    let found = client.unfinished(&["toy"]).await.unwrap();
    assert_eq!(found, [asked[1], asked[0]], "of the kinds that were asked about, the newest first");
    assert_eq!(client.ended(&found).await.unwrap().len(), 0);
    let worker = toys::worker(&world).await;
    assert!(worker.settle().await.unwrap().is_settled());
    worker.shut_down().await;
    assert_eq!(client.unfinished(&["toy"]).await.unwrap(), []);
    let ended = client.ended(&[asked[0], asked[2], asked[1]]).await.unwrap();
    let told: Vec<_> = ended.iter().map(|view| (view.workflow, view.status.as_str())).collect();
    assert_eq!(told, [(asked[0], "compensated"), (asked[1], "completed")]);
}

#[tokio::test]
async fn a_workflow_that_is_cancelled_before_it_began_has_ended_whoever_serves_it() {
    let world = World::new().await;
    let toy = json!({ "fails": false, "sticks": false }).to_string();
    let asked = world.run(&["enqueue", "toy", &toy]).await.expect(0);
    for _ in 0..2 {
        world.run(&["cancel", id(&asked), "--why", "asked for by mistake"]).await.expect(0);
    }
    let shown = world.run(&["show", id(&asked), "--json"]).await.expect(0).json();
    assert_eq!(shown["workflow"]["status"], "compensated");
    assert_eq!(shown["workflow"]["cause"]["why"], "asked for by mistake");
    let worker = toys::worker(&world).await;
    let ran = world.run(&["enqueue", "toy", &toy, "--key", "k"]).await.expect(0);
    assert_eq!(ran.err, "", "a worker serves it");
    assert!(worker.settle().await.unwrap().is_settled());
    worker.shut_down().await;
}

#[tokio::test]
async fn a_listing_is_filtered_and_bounded() {
    let world = World::new().await;
    for number in 0..3 {
        world.run(&["enqueue", "demo.a", "{}", "--key", &number.to_string()]).await.expect(0);
    }
    world.run(&["enqueue", "demo.b"]).await.expect(0);
    let keys = async |arguments: &[&str]| {
        let listed = world.run(&[&["list", "--json"], arguments].concat()).await.expect(0).json();
        listed.as_array().unwrap().iter().map(|view| view["key"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&["--kind", "demo.a", "--limit", "2"]).await, ["2", "1"]);
    assert_eq!(keys(&["--key", "1"]).await, ["1"]);
    assert_eq!(keys(&["--status", "completed"]).await, [""; 0]);
    assert_eq!(keys(&[]).await.len(), 4);
    let mut fields: Vec<_> =
        world.run(&["list", "--json"]).await.json()[0].as_object().unwrap().keys().cloned().collect();
    fields.sort();
    let promised = [
        "attention",
        "cancel",
        "cause",
        "deadline_at",
        "due_at",
        "enqueued_at",
        "error",
        "finished_at",
        "holder",
        "input",
        "key",
        "kind",
        "output",
        "paused",
        "queue",
        "report",
        "status",
        "unserved",
        "version",
        "workflow",
    ];
    assert_eq!(fields, promised);
}
