//! Is what there is to watch over told as Prometheus reads it, and nothing that is a secret?

use backstitch_testkit::wait::until;
use reqwest::Method;
use serde_json::json;

use crate::daemon::{Daemon, serve};
use crate::http::Caller;
use crate::toys::{self, Toy};
use crate::world::World;

/// The value of a series.
#[track_caller]
fn value(text: &str, series: &str) -> f64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {series}: {text}")).parse().unwrap()
}

async fn scraped(caller: &Caller) -> String {
    let answer = caller.get("/metrics").await.expect(200);
    let media_type = answer.headers["content-type"].to_str().unwrap();
    assert!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
    let text = answer.body.as_str().unwrap().to_owned();
    assert!(text.ends_with("# EOF\n"), "{text}");
    text
}

#[tokio::test]
async fn what_is_live_and_what_was_asked_is_counted() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let reader = Caller::of_role(&world, &daemon, "read", "").await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    for (fails, sticks) in [(false, false), (true, false), (true, true)] {
        let handle = client.enqueue(Toy { fails, sticks }).send().await.unwrap();
        client.wait(&handle).await.unwrap();
    }
    let odd = "a \"b\\\nc";
    let canary = "canary-4711";
    let ask = client.enqueue_untyped(odd, &json!({ "password": canary })).key(canary);
    let waiting = ask.send().await.unwrap().workflow.to_string();
    reader.get(&format!("/v1/workflows/{waiting}")).await.expect(200);
    reader.get(&format!("/v1/workflows/{waiting}?{canary}")).await.expect(200);
    reader.get(&format!("/{canary}")).await.expect(404);
    let odd_method = Method::from_bytes(canary.as_bytes()).unwrap();
    reader.request(odd_method, "/v1/workflows").send().await.unwrap();
    let stream =
        reader.request(Method::GET, &format!("/v1/workflows/{waiting}/events")).send().await.unwrap();

    let text = scraped(&reader).await;
    for (series, expected) in [
        ("backstitch_database_up", 1.0),
        ("backstitch_workflows{kind=\"toy\",status=\"needs_attention\"}", 1.0),
        ("backstitch_workflows{kind=\"toy\",status=\"running\"}", 0.0),
        ("backstitch_workflows{kind=\"a \\\"b\\\\\\nc\",status=\"pending\"}", 1.0),
        ("backstitch_due{kind=\"a \\\"b\\\\\\nc\"}", 1.0),
        ("backstitch_due{kind=\"toy\"}", 0.0),
        ("backstitch_kind_workers{kind=\"toy\"}", 1.0),
        ("backstitch_kind_workers{kind=\"a \\\"b\\\\\\nc\"}", 0.0),
        // That of the daemon, which serves no kind here, is one.
        ("backstitch_workers", 2.0),
        ("backstitch_unserved_kinds", 1.0),
        ("backstitch_open_alerts", 1.0),
        ("backstitch_http_open_streams", 1.0),
        ("backstitch_http_open_waits", 0.0),
        ("backstitch_http_rate_limited_total", 0.0),
        ("backstitch_http_requests_total{method=\"GET\",route=\"/v1/workflows/{id}\",status=\"200\"}", 2.0),
        ("backstitch_http_requests_total{method=\"GET\",route=\"none\",status=\"404\"}", 1.0),
        ("backstitch_http_requests_total{method=\"other\",route=\"/v1/workflows\",status=\"405\"}", 1.0),
        ("backstitch_http_request_duration_seconds_count{route=\"/v1/workflows/{id}\"}", 2.0),
    ] {
        assert!((value(&text, series) - expected).abs() < f64::EPSILON, "{series} is not {expected}: {text}");
    }
    let oldest = value(&text, "backstitch_oldest_unfinished_seconds");
    assert!((0.0..60.0).contains(&oldest), "{oldest}");
    for secret in [canary, &waiting, "bst_"] {
        assert!(!text.contains(secret), "{secret} is nobody's business: {text}");
    }

    drop(stream);
    worker.shut_down().await;
    until("the stream's end is noticed", async || {
        (value(&scraped(&reader).await, "backstitch_http_open_streams") < 1.0).then_some(())
    })
    .await;
    daemon.stop().await;
}

#[tokio::test]
async fn while_the_database_does_not_answer_what_this_process_counted_is_told() {
    let world = World::new().await;
    let mut command = serve(&world);
    command.arg("--without-tokens");
    let daemon = Daemon::start(command).await;
    let anybody = Caller::nobody(&daemon);
    assert!((value(&scraped(&anybody).await, "backstitch_database_up") - 1.0).abs() < f64::EPSILON);
    let pool = world.database.pool().await;
    let mut transaction = pool.begin().await.unwrap();
    sqlx::query("lock table backstitch.ready in access exclusive mode")
        .execute(&mut *transaction)
        .await
        .unwrap();
    let text = scraped(&anybody).await;
    assert!(value(&text, "backstitch_database_up").abs() < f64::EPSILON);
    assert!(
        value(&text, "backstitch_http_requests_total{method=\"GET\",route=\"/metrics\",status=\"200\"}")
            >= 1.0
    );
    transaction.rollback().await.unwrap();
    daemon.stop().await;
}
