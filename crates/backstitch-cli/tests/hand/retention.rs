//! Are finished workflows removed by hand and by the daemon, and is it said what was removed?

use backstitch::{Client, Filter, WorkflowView};
use serde_json::json;
use sqlx::Executor;

use crate::daemon::Daemon;
use crate::toys::{self, Toy};
use crate::world::World;

/// So many workflows that have ended, and one that waits for a worker; then it is 31 days later.
async fn a_month_ago(world: &World, ended: u32) -> Client {
    let client = world.client().await;
    let worker = toys::worker(world).await;
    for number in 0..ended {
        let ask = client.enqueue(Toy { fails: false, sticks: false }).key(number.to_string());
        client.wait(&ask.send().await.unwrap()).await.unwrap();
    }
    worker.shut_down().await;
    client.enqueue_untyped("nobody's", &json!({})).send().await.unwrap();
    let later = "create or replace function backstitch.clock() returns timestamptz language sql volatile \
        return clock_timestamp() + interval '31 days'";
    world.database.pool().await.execute(later).await.unwrap();
    client
}

async fn workflows(client: &Client) -> Vec<WorkflowView> {
    client.workflows(Filter { limit: 10, whole: true, ..Filter::default() }).await.unwrap()
}

#[tokio::test]
async fn prune_removes_what_ended_long_enough_ago_and_says_how_much() {
    let world = World::new().await;
    let client = a_month_ago(&world, 2).await;
    let first = workflows(&client).await.pop().unwrap();
    let ran = world.run(&["prune", "--older-than", "32d"]).await.expect(0);
    assert_eq!(ran.out, "removed 0 workflows\n");
    let ran = world.run(&["prune", "--older-than", "30d"]).await.expect(0);
    assert_eq!(ran.out, "removed 2 workflows; 1 workflow as old is live, or ended later, and stayed\n");
    let ran = world.run(&["prune", "--older-than", "30d", "--json"]).await.expect(0);
    assert_eq!(ran.json(), json!({ "removed": 0, "stayed": 1, "left_to_another": false }));
    assert_eq!(world.run(&["list", "--json"]).await.json().as_array().unwrap().len(), 1);

    let input = first.input.as_ref().unwrap().as_str();
    let again = world.run(&["enqueue", "toy", input, "--key", "0"]).await.expect(0);
    assert_eq!(again.out.trim(), first.workflow.to_string(), "its key stays");
    world.run(&["show", again.out.trim()]).await.complains(5, &["there is no workflow"]);
    let said = ["the key \"0\"", "ended and was removed", "a key outlives its workflow: give another key"];
    assert!(said.iter().all(|part| again.err.contains(part)), "{again:?}");
    let ask = ["enqueue", "toy", input, "--key", "0"];
    world.run(&[&ask[..], &["--wait"]].concat()).await.complains(5, &said);
    world.run(&[&ask[..], &["--json"]].concat()).await.complains(5, &said);
    let mut daemon =
        world.command(&["serve", "--without-gateway", "--without-tokens", "--listen", "127.0.0.1:0"]);
    daemon.env("BACKSTITCH_LOG", "info");
    let daemon = Daemon::start(daemon).await;
    world.run(&[&ask[..], &["--wait", "--server", &daemon.url]].concat()).await.complains(5, &said);
    daemon.stop().await;
}

#[tokio::test]
async fn prune_is_refused_while_another_run_is_at_work() {
    let world = World::new().await;
    a_month_ago(&world, 2).await;
    let begins = "select backstitch.remove_finished(gen_random_uuid(), '30 days', 1, 1)";
    world.database.pool().await.execute(begins).await.unwrap();
    let said = ["removed 0 workflows", "another run is at work", "try again"];
    world.run(&["prune", "--older-than", "30d"]).await.complains(5, &said);
    let ran = world.run(&["prune", "--older-than", "30d", "--json"]).await.expect(5);
    assert_eq!(ran.json()["left_to_another"], true);
}

#[tokio::test]
async fn an_age_that_cannot_be_read_is_refused_with_what_to_say() {
    let world = World::new().await;
    for age in ["30", "a month", "-1d", ""] {
        let ran = world.run(&["prune", &format!("--older-than={age}")]).await.expect(2);
        assert!(ran.err.contains("a number and a unit: 30s, 10m, 2h, 1d"), "{ran:?}");
    }
    let serve = ["serve", "--without-gateway", "--keep-finished"];
    world
        .run(&[&serve[..], &["30"]].concat())
        .await
        .complains(2, &["--keep-finished \"30\"", "30s, 10m, 2h, 1d"]);
    world
        .run(&[&serve[..], &["59m"]].concat())
        .await
        .complains(2, &["--keep-finished \"59m\"", "1h or more"]);
    std::fs::write(world.path("backstitch.toml"), "keep_finished = \"soon\"\n").unwrap();
    world.run(&serve[..2]).await.complains(2, &["--keep-finished \"soon\"", "30s, 10m, 2h, 1d"]);
}

#[tokio::test]
async fn a_daemon_removes_only_if_told_how_long_to_keep_what_ended() {
    let world = World::new().await;
    let client = a_month_ago(&world, 3).await;
    let serve = || world.command(&["serve", "--without-gateway", "--listen", "127.0.0.1:0"]);
    let daemon = Daemon::start(serve()).await;
    let (_, log) = daemon.stop().await;
    assert!(!log.contains("removed"), "{log}");
    assert_eq!(workflows(&client).await.len(), 4);

    let mut keeping = serve();
    keeping.env("BACKSTITCH_KEEP_FINISHED", "30d");
    let mut daemon = Daemon::start(keeping).await;
    daemon.says("removed finished workflows removed=3 stayed=1").await;
    assert_eq!(workflows(&client).await.len(), 1);
    let (code, _) = daemon.stop().await;
    assert_eq!(code, 0);
}
