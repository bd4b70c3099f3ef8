//! Can many workflows be decided about at once, and never by mistake?

use serde_json::json;

use crate::toys::{self, Toy};
use crate::world::World;

#[tokio::test]
async fn many_are_cancelled_after_a_yes_and_only_those_that_are_meant() {
    let world = World::new().await;
    for kind in ["a", "a", "b"] {
        world.run(&["enqueue", kind]).await.expect(0);
    }
    let cancel = ["cancel", "--kind", "a", "--why", "wrong month"];
    world.run(&cancel).await.complains(2, &["cancel 2 workflows of a?", "--yes"]);
    let ran = world.run(&[&cancel[..], &["--yes"]].concat()).await.expect(0);
    assert_eq!(ran.out, "cancel: 2 accepted, 0 refused\n");
    let listed = world.run(&["list", "--json"]).await.expect(0).json();
    let whys: Vec<_> = listed.as_array().unwrap().iter().map(|view| &view["cause"]["why"]).collect();
    assert_eq!(whys, [&json!(null), &json!("wrong month"), &json!("wrong month")]);
    let none = world.run(&["cancel", "--kind", "c", "--why", "none"]).await.expect(0);
    assert_eq!(none.out, "cancel: 0 accepted, 0 refused\n");
}

#[tokio::test]
async fn nothing_chosen_is_not_everything() {
    let world = World::new().await;
    for verb in ["cancel", "retry"] {
        world.run(&[verb, "--why", "all", "--yes"]).await.complains(2, &["say which workflow", "--kind"]);
    }
}

#[tokio::test]
async fn those_that_need_attention_are_retried_and_those_that_have_ended_are_refused() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    for sticks in [true, false] {
        let handle = client.enqueue(Toy { fails: true, sticks }).send().await.unwrap();
        client.wait(&handle).await.unwrap();
    }
    worker.shut_down().await;
    let retry = ["retry", "--error-code", "worn_out", "--why", "mended", "--yes", "--json"];
    let answers = world.run(&retry).await.expect(0).json();
    assert_eq!((answers.as_array().unwrap().len(), &answers[0]["answer"]), (1, &json!("accepted")));
    let refused = world.run(&[&retry[..], &["--status", "compensated"]].concat()).await.expect(5).json();
    assert_eq!(refused[0]["answer"], "has_ended");
}
