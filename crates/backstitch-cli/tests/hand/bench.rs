//! Does the benchmark measure what it says, tell it in a shape that stays, and leave nothing behind? Never how fast.

use serde_json::Value;

use crate::world::{World, end};

/// They share a server, and each looks whether a benchmark left anything there: one at a time.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn databases_of_the_benchmark(world: &World) -> Vec<String> {
    sqlx::query_scalar("select datname from pg_database where datname like 'backstitch_bench_%'")
        .fetch_all(&world.database.pool().await)
        .await
        .unwrap()
}

#[tokio::test]
async fn a_quick_look_tells_every_figure_of_throughput_and_leaves_nothing() {
    let _alone = ALONE.lock().await;
    let world = World::empty().await;
    let looked =
        world.run(&["bench", "throughput", "--quick", "--workflows", "200", "--json"]).await.expect(0);
    let report = looked.json();
    assert_eq!(report["command"], "throughput");
    assert_eq!(report["quick"], true);
    for said in ["postgres", "fsync", "synchronous_commit", "shared_buffers"] {
        assert!(report["environment"][said].is_string(), "{said}: {report:#}");
    }
    assert_eq!(report["environment"]["private_server"], false);
    for key in [
        "baseline.commits_per_s_1",
        "baseline.commits_per_s_64",
        "throughput.workflows_per_s_512",
        "throughput.ratio_512",
        "throughput.ratio_64",
        "throughput.ratio_512_slow_disk",
        "throughput.two_workers_of_one",
        "throughput.commits_per_workflow",
        "throughput.log_bytes_per_workflow",
        "throughput.log_bytes_per_enqueue",
        "throughput.bytes_left_per_workflow",
        "throughput.worker_cpu_us_per_workflow",
        "throughput.postgres_cpu_us_per_workflow",
    ] {
        let figure = &report["figures"][key];
        assert!(figure["unit"].is_string() && figure["means"].is_string(), "{key}: {report:#}");
        let measured = figure["value"].as_f64().is_some_and(f64::is_finite);
        let runs = figure["runs"].as_array().map_or(0, Vec::len);
        match &figure["not_measured"] {
            Value::Null => assert!(measured && runs == 1, "{key}: {figure}"),
            because => assert!(because.is_string() && figure["value"].is_null(), "{key}: {figure}"),
        }
    }
    // Postgres counted these, so they are the same on every machine.
    let rows = &report["figures"]["throughput.rows_inserted_per_workflow"]["value"];
    assert!(rows.as_f64().is_some_and(|rows| (8.0..9.0).contains(&rows)), "two and six: {report:#}");
    assert!(looked.err.contains("round 1 of 1"), "{}", looked.err);
    assert_eq!(databases_of_the_benchmark(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_quick_look_tells_what_http_costs_and_leaves_nothing() {
    let _alone = ALONE.lock().await;
    let world = World::empty().await;
    let looked = world.run(&["bench", "http", "--quick", "--json"]).await.expect(0);
    let report = looked.json();
    let value = |key: &str| {
        let figure = &report["figures"][key];
        assert!(figure["unit"].is_string() && figure["means"].is_string(), "{key}: {report:#}");
        figure["value"].as_f64().unwrap_or_else(|| panic!("{key}: {report:#}"))
    };
    for key in [
        "http.per_s_1",
        "http.sql_per_s_1",
        "http.ratio_1",
        "http.per_s_64",
        "http.sql_per_s_64",
        "http.ratio_64",
        "http.request_ms.p50",
        "http.request_ms.p99",
        "http.sql_ms.p50",
        "http.sql_ms.p99",
        "http.answer_ms.p50",
        "http.answer_ms.p99",
        "http.kib_per_waiting",
    ] {
        assert!(value(key) > 0.0, "{key}: {report:#}");
    }
    let added = value("http.request_ms.p50") - value("http.sql_ms.p50");
    assert!((value("http.added_ms.p50") - added).abs() < 1e-9, "{report:#}");
    assert!((value("http.ratio_1") - value("http.per_s_1") / value("http.sql_per_s_1")).abs() < 1e-9);
    assert_eq!(databases_of_the_benchmark(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn a_place_that_can_t_be_measured_on_is_said_in_one_line() {
    let world = World::empty().await;
    let mut elsewhere = world.command(&["bench", "latency", "--quick"]);
    elsewhere.env("DATABASE_URL", "postgres:///none?host=/nowhere/at/all&user=nobody");
    end(elsewhere).await.complains(1, &["No such file", "--database-url ''"]);
}
