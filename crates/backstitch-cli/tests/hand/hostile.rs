//! What does whoever means ill get over HTTP? A 4xx, never a 5xx, and nothing that anybody else wrote.

use reqwest::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, serve};
use crate::http::{Caller, read};
use crate::world::World;

/// Texts that somebody once got somewhere with.
const TEXTS: [&str; 24] = [
    "'",
    "''",
    "' or '1'='1",
    "'; drop table backstitch.workflow; --",
    "\\'; select pg_sleep(10); --",
    "$1",
    "$$; drop schema backstitch cascade; $$",
    "%",
    "_%",
    "../../etc/passwd",
    "..%2f..%2f",
    "<script>alert(1)</script>",
    "{{7*7}}",
    "${jndi:ldap://127.0.0.1/a}",
    "a\r\nSet-Cookie: a=b",
    "\u{202e}drow",
    "\u{feff}",
    "💥",
    "null",
    "NaN",
    "-1",
    "99999999999999999999999999",
    "\u{7f}",
    " ",
];

async fn everybody(world: &World, daemon: &Daemon) -> [Caller; 2] {
    [Caller::of_role(world, daemon, "produce", "").await, Caller::of_role(world, daemon, "operate", "").await]
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn any_text_is_a_kind_a_key_or_a_reason_and_comes_back_as_it_was() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [producer, operator] = everybody(&world, &daemon).await;
    for text in TEXTS {
        let body = json!({ "kind": text, "key": text, "queue": text, "input": { text: text } });
        let id = producer.post("/v1/workflows", &body).await.expect(201).workflow();
        let seen = operator.get(&format!("/v1/workflows/{id}")).await.expect(200).body;
        for (member, expected) in
            [("kind", json!(text)), ("key", json!(text)), ("input", json!({ text: text }))]
        {
            assert_eq!(seen[member], expected, "{text:?}");
        }
        let text_encoded = encoded(text);
        let path = format!("/v1/workflows?key={text_encoded}&kind={text_encoded}");
        let found = operator.get(&path).await.expect(200).body;
        assert_eq!(found["workflows"].as_array().unwrap().len(), 1, "only the one of that name: {text:?}");
        let answer =
            operator.post(&format!("/v1/workflows/{id}/cancel"), &json!({ "by": text, "why": text })).await;
        assert_eq!(answer.status, if text.trim().is_empty() { 400 } else { 200 }, "{text:?}");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_body_that_cannot_be_taken_is_400() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [producer, _] = everybody(&world, &daemon).await;
    let deep = format!("{{\"kind\":\"toy\",\"input\":{}{}}}", "[".repeat(65), "]".repeat(65));
    let deeper = format!("{{\"kind\":\"toy\",\"input\":{}{}}}", "[".repeat(50_000), "]".repeat(50_000));
    let long = |bytes: usize| "x".repeat(bytes);
    let (kind, key) = (long(101), long(501));
    let bodies = [
        String::new(),
        "null".into(),
        "[]".into(),
        "[\"toy\", {}, null, \"default\", 1, null, null]".into(),
        "[\"toy\", [{}], \"default\", 1, null, null]".into(),
        "\"toy\"".into(),
        "{".into(),
        "{\"kind\": \"toy\"}".into(),
        "{\"input\": 1}".into(),
        "{\"kind\": 1, \"input\": 1}".into(),
        "{\"kind\": \"\", \"input\": 1}".into(),
        format!("{{\"kind\": \"{kind}\", \"input\": 1}}"),
        format!("{{\"kind\": \"toy\", \"input\": 1, \"key\": \"{key}\"}}"),
        "{\"kind\": \"toy\", \"input\": 1, \"key\": \"\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"colour\": \"red\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"kind\": \"toy\"}".into(),
        "{\"kind\": \"a\\u0000b\", \"input\": 1}".into(),
        "{\"kind\": \"toy\", \"key\": \"\\u0000\", \"input\": 1}".into(),
        "{\"kind\": \"toy\", \"input\": \"a\\u0000b\"}".into(),
        "{\"kind\": \"toy\", \"input\": {\"a\\u0000\": 1}}".into(),
        "{\"kind\": \"toy\", \"input\": \"\\ud800\"}".into(),
        "{\"kind\": \"\\ud800\", \"input\": 1}".into(),
        "{\"kind\": \"toy\", \"input\": 1e400000}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"priority\": 4}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"priority\": -1}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"priority\": 256}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"queue\": \"\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"run_at\": \"tomorrow\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"run_at\": \"infinity\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"run_at\": \"+200000-01-01T00:00:00Z\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"run_at\": \"+262142-12-31T23:59:59Z\"}".into(),
        "{\"kind\": \"toy\", \"input\": 1, \"deadline_at\": \"-200000-01-01T00:00:00Z\"}".into(),
        deep,
        deeper,
    ];
    for body in &bodies {
        let start = &body[..body.len().min(80)];
        for path in ["/v1/workflows", "/v1/workflows/batch"] {
            let body = match path.ends_with("batch") {
                true => body.replacen("\"input\":", "\"workflows\": [{\"input\":", 1).replacen("}", "}]}", 1),
                false => body.clone(),
            };
            let answer = read(producer.request(Method::POST, path).body(body)).await;
            assert_eq!(answer.status, 400, "{path} {start}: {answer:#?}");
            assert_eq!(answer.body["code"], "invalid_request", "{start}");
        }
    }
    let unnamed = json!({ "kind": "toy", "workflows": [[1, null]] });
    producer.post("/v1/workflows/batch", &unnamed).await.refuses(400, "invalid_request");
    let raw = |bytes: &'static [u8]| producer.request(Method::POST, "/v1/workflows").body(bytes);
    read(raw(b"\xff\xfe{}")).await.refuses(400, "invalid_request");
    read(raw(b"{\"kind\": \"\xc3\x28\", \"input\": 1}")).await.refuses(400, "invalid_request");
    let large = json!({ "kind": "toy", "input": long(300 * 1024) });
    producer.post("/v1/workflows", &large).await.refuses(413, "body_too_large");
    let too_long = json!({ "kind": "toy", "input": long(256 * 1024) });
    producer.post("/v1/workflows", &too_long).await.refuses(400, "invalid_request");
    daemon.stop().await;
}

#[tokio::test]
async fn a_path_or_a_query_that_makes_no_sense_is_4xx() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [_, operator] = everybody(&world, &daemon).await;
    for text in TEXTS.into_iter().chain(["\0", "a\0b"]) {
        let text = encoded(text);
        for path in [
            format!("/v1/workflows/{text}"),
            format!("/v1/workflows/{text}/wait"),
            format!("/v1/workflows/{text}/journal"),
            format!("/v1/{text}"),
            format!("/v1/workflows?limit={text}"),
            format!("/v1/workflows?before={text}"),
            format!("/v1/workflows?status={text}"),
            format!("/v1/workflows?{text}={text}"),
            format!("/v1/workflows/0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10/wait?timeout={text}"),
            format!("/v1/workflows/0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10/{text}"),
        ] {
            let answer = operator.get(&path).await;
            assert!((400..500).contains(&answer.status), "{path}: {answer:#?}");
            assert_eq!(answer.headers["content-type"], "application/problem+json", "{path}: {answer:#?}");
        }
    }
    for path in [
        "/v1/workflows?kind=%00",
        "/v1/workflows?key=a%00b",
        "/v1/workflows/%ff",
        "/v1/workflows?kind=%ff%00",
    ] {
        operator.get(path).await.refuses(400, "invalid_request");
    }
    let elsewhere = read(operator.request(Method::DELETE, "/v1/workflows")).await;
    elsewhere.refuses(405, "method_not_allowed");
    operator.get("/v1").await.refuses(404, "not_found");
    operator.get("/v1/nothing").await.refuses(404, "not_found");
    daemon.stop().await;
}

#[tokio::test]
async fn a_header_that_makes_no_sense_is_4xx() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [producer, operator] = everybody(&world, &daemon).await;
    let body: Value = json!({ "kind": "toy", "input": 1 });
    for key in [&b"\xff\xfe"[..], b"", &[b'x'; 501]] {
        let request = producer.request(Method::POST, "/v1/workflows").header("idempotency-key", key);
        read(request.json(&body)).await.refuses(400, "invalid_request");
    }
    let twice = operator.request(Method::GET, "/v1/workflows").header("authorization", "Bearer x");
    read(twice).await.refuses(401, "token_missing");
    daemon.stop().await;
}
