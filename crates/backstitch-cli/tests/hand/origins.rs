//! May a page of another place ask, in somebody's browser? Only if the configuration says so.

use reqwest::Method;
use serde_json::json;

use crate::daemon::{Daemon, serve};
use crate::http::{Answer, Caller, read};
use crate::world::World;

const OURS: &str = "https://console.example.com";

/// What a browser asks before a page may.
async fn preflight(caller: &Caller, origin: &str) -> Answer {
    let request = caller.request(Method::OPTIONS, "/v1/workflows").header("origin", origin);
    let request = request.header("access-control-request-method", "POST");
    read(request.header("access-control-request-headers", "authorization,content-type,idempotency-key")).await
}

#[tokio::test]
async fn unless_said_no_page_may_ask() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let answer = preflight(&Caller::nobody(&daemon), OURS).await.expect(405);
    assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control")), "{answer:#?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_page_of_an_origin_that_was_said_may_ask_and_no_other() {
    let world = World::new().await;
    let said = format!("allowed_origins = [\"{OURS}\", \"http://127.0.0.1:8080\"]\n");
    std::fs::write(world.path("backstitch.toml"), said).unwrap();
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    let answer = preflight(&Caller::nobody(&daemon), OURS).await.expect(200);
    assert_eq!(answer.headers["access-control-allow-origin"], OURS);
    assert_eq!(answer.headers["access-control-allow-methods"], "GET,POST");
    let headers = answer.headers["access-control-allow-headers"].to_str().unwrap();
    assert_eq!(headers, "authorization,content-type,idempotency-key,last-event-id");
    assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    for foreign in
        ["https://evil.example", "https://console.example.com:8443", "http://console.example.com", "null"]
    {
        let answer = preflight(&producer, foreign).await;
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{foreign}: {answer:#?}");
    }
    let request = producer.request(Method::POST, "/v1/workflows").header("origin", OURS);
    let asked = read(request.json(&json!({ "kind": "toy", "input": {} }))).await.expect(201);
    assert_eq!(asked.headers["access-control-allow-origin"], OURS);
    assert_eq!(asked.headers["access-control-expose-headers"], "location,retry-after");
    // Also what goes wrong is for the page to read.
    let request = Caller::nobody(&daemon).request(Method::GET, "/v1/workflows").header("origin", OURS);
    let refused = read(request).await.refuses(401, "token_missing");
    assert_eq!(refused.headers["access-control-allow-origin"], OURS);
    daemon.stop().await;
}

#[tokio::test]
async fn an_origin_is_exact_and_needs_tokens() {
    let world = World::new().await;
    let configure = |text: &str| std::fs::write(world.path("backstitch.toml"), text).unwrap();
    let serve = ["serve", "--without-gateway", "--listen", "127.0.0.1:0"];
    configure("allowed_origins = [\"*\"]\n");
    world.run(&serve).await.complains(2, &["allowed_origins", "\"*\" is no origin", "no way to allow all"]);
    configure(&format!("allowed_origins = [\"{OURS}\"]\n"));
    let without = [&serve[..], &["--without-tokens"]].concat();
    world.run(&without).await.complains(2, &["allowed_origins", "use tokens"]);
}
