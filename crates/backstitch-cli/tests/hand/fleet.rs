//! Is it seen who works, at what, and how much there is?

use serde_json::json;
use sqlx::Executor;

use crate::plain::plain;
use crate::toys::{self, Toy};
use crate::world::World;

#[tokio::test]
async fn workers_kinds_and_stats_tell_what_there_is() {
    let world = World::new().await;
    let nobody = world.run(&["workers"]).await.expect(0);
    assert_eq!((&*nobody.out, &*nobody.err), ("", "no workers; start one with `backstitch serve`\n"));
    let nothing = world.run(&["kinds"]).await.expect(0);
    assert_eq!((&*nothing.out, nothing.err.starts_with("no kinds")), ("", true));

    let client = world.client().await;
    let worker = toys::worker(&world).await;
    for (fails, sticks) in [(false, false), (true, false), (true, true)] {
        let handle = client.enqueue(Toy { fails, sticks }).send().await.unwrap();
        client.wait(&handle).await.unwrap();
    }
    world.run(&["enqueue", "report.build"]).await.expect(0);

    let workers = world.run(&["workers", "--json"]).await.expect(0).json();
    assert_eq!((&workers[0]["kinds"], &workers[0]["alive"]), (&json!(["toy"]), &json!(true)));
    assert_eq!(workers[0]["pid"], std::process::id());
    assert!(workers[0]["lease_left_milliseconds"].as_i64().is_some_and(|left| (0..=10_000).contains(&left)));
    assert!(workers[0]["beat_age_milliseconds"].as_i64().is_some_and(|age| (0..=10_000).contains(&age)));
    let told = plain(&world.run(&["workers"]).await.expect(0).out);
    assert!(told.contains(" alive SPAN ago SPAN left 0 toy"), "{told}");

    for kind in ["toy", "nothing.yet"] {
        world.run(&["pause", "--kind", kind, "--by", "ada", "--why", "it wears out"]).await.expect(0);
    }
    let kinds = plain(&world.run(&["kinds"]).await.expect(0).out);
    let expected = "\
KIND SERVED BY PENDING RUNNING COMPENSATING NEEDS ATTENTION HELD OLDEST DUE PAUSED
nothing.yet nobody 0 0 0 0 0 - by ada: it wears out
report.build nobody 1 0 0 0 0 for SPAN -
toy 1 0 0 0 1 0 - by ada: it wears out";
    assert_eq!(kinds, expected);
    let kinds = world.run(&["kinds", "--json"]).await.expect(0).json();
    assert_eq!((&kinds[2]["served_by"], &kinds[2]["oldest_due_at"]), (&json!(1), &json!(null)));
    assert_eq!(kinds[2]["paused"], json!({ "by": "ada", "why": "it wears out" }));
    assert_eq!(kinds[1]["paused"], json!(null));

    let stats = plain(&world.run(&["stats"]).await.expect(0).out);
    let expected = "\
STATUS WORKFLOWS
pending 1
running 0
compensating 0
needs_attention 1
completed 1
compensated 1
abandoned 0";
    assert_eq!(stats, expected);
    let stats = world.run(&["stats", "--json"]).await.expect(0).json();
    assert_eq!(stats[4], json!({ "status": "completed", "workflows": 1, "is_exact": true }));

    worker.shut_down().await;
    assert_eq!(world.run(&["workers", "--json"]).await.expect(0).json(), json!([]));
    let dead = world.run(&["workers", "--dead", "5", "--json"]).await.expect(0).json();
    assert_eq!((&dead[0]["death"], &dead[0]["held"]), (&json!("shutdown"), &json!(0)));
    assert_eq!(dead[0]["lease_left_milliseconds"], json!(null));
}

#[tokio::test]
async fn what_has_ended_is_estimated_once_there_is_much_of_it() {
    let world = World::new().await;
    let many = "insert into backstitch.workflow \
            (workflow_id, kind, version, queue, input, enqueued_at, status, output, finished_at) \
        select backstitch.uuid_v7(), 'a', 1, 'default', '{}', now(), 'completed', '0', now() \
        from generate_series(1, 150000)";
    world.database.pool().await.execute(many).await.unwrap();
    let stats = world.run(&["stats", "--json"]).await.expect(0).json();
    assert_eq!((&stats[4]["status"], &stats[4]["is_exact"]), (&json!("completed"), &json!(false)));
    let estimate = stats[4]["workflows"].as_i64().unwrap();
    assert!((120_000..180_000).contains(&estimate), "{estimate}");
    assert_eq!(stats[0], json!({ "status": "pending", "workflows": 0, "is_exact": true }));
    assert!(world.run(&["stats"]).await.expect(0).out.contains("estimated"));
}
