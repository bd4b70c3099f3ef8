//! What does whoever means ill get over HTTP and from the hand? A clear refusal, never a 5xx or a panic, and nothing that
//! anybody else wrote.

use std::collections::BTreeSet;

use backstitch_testkit::hostile::texts;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::daemon::{Daemon, serve};
use crate::edge::Edge;
use crate::http::{Answer, Caller, read};
use crate::world::World;

async fn everybody(world: &World, daemon: &Daemon) -> [Caller; 2] {
    [Caller::of_role(world, daemon, "produce", "").await, Caller::of_role(world, daemon, "operate", "").await]
}

/// Whether a text may be a name of so many bytes at most.
fn fits(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && !text.contains('\0')
}

/// A 4xx that says what is wrong, in the shape of every other.
#[track_caller]
fn is_refused(answer: &Answer, of: &str) {
    assert!((400..500).contains(&answer.status), "{of}: {answer:#?}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{of}: {answer:#?}");
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn any_text_is_a_kind_a_key_or_a_reason_and_comes_back_as_it_was() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [producer, operator] = everybody(&world, &daemon).await;
    // More of them, as a token may not ask too often.
    let [_, finder] = everybody(&world, &daemon).await;
    let [_, holder] = everybody(&world, &daemon).await;
    let mut taken = 0;
    for text in texts() {
        let body = json!({ "kind": text, "key": text, "queue": text, "input": { &text: text } });
        let asked = producer.post("/v1/workflows", &body).await;
        if !fits(&text, 100) {
            asked.refuses(400, "invalid_request");
            continue;
        }
        taken += 1;
        let id = asked.expect(201).workflow();
        let seen = operator.get(&format!("/v1/workflows/{id}")).await.expect(200).body;
        for (member, expected) in [
            ("kind", json!(text)),
            ("key", json!(text)),
            ("queue", json!(text)),
            ("input", json!({ &text: text })),
        ] {
            assert_eq!(seen[member], expected, "{text:?}");
        }
        let text_encoded = encoded(&text);
        let path = format!("/v1/workflows?key={text_encoded}&kind={text_encoded}");
        let found = finder.get(&path).await.expect(200).body;
        assert_eq!(found["workflows"].as_array().unwrap().len(), 1, "only the one of that name: {text:?}");
        let answer =
            operator.post(&format!("/v1/workflows/{id}/cancel"), &json!({ "by": text, "why": text })).await;
        assert_eq!(answer.status, if text.trim().is_empty() { 400 } else { 200 }, "{text:?}");
        // A client takes these out of a path: what it asks for is another.
        if !["", ".", ".."].contains(&&*text) {
            let decision = json!({ "by": "ada", "why": "a test" });
            for verb in ["pause", "resume"] {
                let said =
                    holder.post(&format!("/v1/kinds/{text_encoded}/{verb}"), &decision).await.expect(200);
                assert_eq!(said.body, json!({ "kind": text, "answer": "accepted" }), "{text:?}");
            }
        }
    }
    assert!(taken >= 300, "{taken}");
    for text in texts() {
        let body = json!({ "kind": "toy", "input": [text, { &text: null }] });
        let asked = finder.post("/v1/workflows", &body).await;
        asked.refuses(403, "role_insufficient");
        let asked = producer.post("/v1/workflows", &body).await;
        if text.contains('\0') {
            asked.refuses(400, "invalid_request");
        } else {
            let id = asked.expect(201).workflow();
            let seen = world.client().await.workflow(id.parse().unwrap()).await.unwrap().unwrap();
            assert_eq!(seen.input.unwrap().decode::<Value>().unwrap(), body["input"], "however long it is");
        }
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
    const OF_ONE: &str = "/v1/workflows/0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
    type Path = fn(&str) -> String;
    type Fine = fn(&str) -> bool;
    // A number and an id have more spellings than one, and some of the texts are such.
    let never: Fine = |_| false;
    let is_limit: Fine = |text| text.parse::<u32>().is_ok_and(|limit| (1..=100).contains(&limit));
    let is_id: Fine = |text| Uuid::parse_str(text).is_ok();
    let paths: [(Path, Fine); 10] = [
        (|text| format!("/v1/workflows/{text}"), never),
        (|text| format!("/v1/workflows/{text}/wait"), never),
        (|text| format!("/v1/workflows/{text}/journal"), never),
        (|text| format!("/v1/{text}"), never),
        (|text| format!("/v1/workflows?limit={text}"), is_limit),
        (|text| format!("/v1/workflows?before={text}"), is_id),
        (|text| format!("/v1/workflows?status={text}"), never),
        (|text| format!("/v1/workflows?{text}={text}"), never),
        (|text| format!("{OF_ONE}/wait?timeout={text}"), never),
        (|text| format!("{OF_ONE}/{text}"), never),
    ];
    for (path, is_fine) in paths {
        // A token for each, as none may ask too often.
        let [_, operator] = everybody(&world, &daemon).await;
        for text in texts() {
            let path = path(&encoded(&text));
            match operator.get(&path).await {
                answer if is_fine(&text) => drop(answer.expect(200)),
                // A client takes these out of a path: what it asks for is another.
                answer if ["", ".", ".."].contains(&&*text) => assert!((400..500).contains(&answer.status)),
                answer => is_refused(&answer, &path),
            }
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
    operator.get("/v1/").await.refuses(404, "not_found");
    operator.get("/v1/nothing").await.refuses(404, "not_found");
    daemon.stop().await;
}

#[tokio::test]
async fn a_header_of_any_text_is_taken_as_it_is_or_4xx() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let [producer, operator] = everybody(&world, &daemon).await;
    let body: Value = json!({ "kind": "toy", "input": 1 });
    let mut taken = BTreeSet::new();
    for text in texts() {
        let authorization = format!("Bearer {text}");
        if HeaderValue::from_bytes(text.as_bytes()).is_err() {
            // No client would send it; whoever writes it himself may have sent another header with it, and no more.
            for header in [format!("Idempotency-Key: {text}"), format!("Authorization: {authorization}")] {
                let answer = raw(&daemon, &header).await;
                assert!(answer.starts_with("HTTP/1.1 4"), "{header:?}: {answer}");
                assert!(
                    !answer.to_lowercase().contains("\nset-cookie") && !answer.contains("evil"),
                    "{answer}"
                );
            }
            continue;
        }
        let request =
            producer.request(Method::POST, "/v1/workflows").header("idempotency-key", text.as_bytes());
        let answer = read(request.json(&body)).await;
        // Blanks around a header's value are no part of it.
        let key = text.trim_matches([' ', '\t']);
        if fits(key, 500) {
            let is_new = taken.insert(key.to_owned());
            let id = answer.expect(if is_new { 201 } else { 200 }).workflow();
            let seen = operator.get(&format!("/v1/workflows/{id}")).await.expect(200).body;
            assert_eq!(seen["key"], key);
        } else {
            answer.refuses(400, "invalid_request");
        }
        let stranger = Caller::nobody(&daemon).request(Method::GET, "/v1/workflows");
        let answer = read(stranger.header("authorization", authorization.as_bytes())).await;
        assert_eq!(answer.status, 401, "{text:?}: {answer:#?}");
        is_refused(&answer, &text);
    }
    assert!(taken.len() >= 300, "{}", taken.len());
    daemon.stop().await;
}

/// What the daemon says to a request with this among its headers.
async fn raw(daemon: &Daemon, header: &str) -> String {
    let mut connection = TcpStream::connect(daemon.url.strip_prefix("http://").unwrap()).await.unwrap();
    let request = format!("GET /v1/workflows HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{header}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // It may hang up on what is still on its way.
    let _ = connection.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The platform's own door, before real servers: of all the texts none is an organisation, and nothing comes of any.
#[tokio::test]
async fn no_text_gets_through_the_platforms_door_into_a_file_or_a_zone() {
    let edge = Edge::over(World::new().await).await;
    let daemon = Daemon::start(edge.serve()).await;
    let before = edge.outside().await;
    for text in texts() {
        for body in [json!({ "organization_id": text }), json!({ &text: text }), json!(text)] {
            for path in ["/gateway/start", "/gateway/stop"] {
                let (status, answer) = daemon.post(path, &body.to_string()).await;
                assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{body}: {answer}");
            }
        }
    }
    assert_eq!(edge.outside().await, before);
    assert_eq!(edge.world.run(&["list", "--json"]).await.expect(0).json(), json!([]));
    let (_, log) = daemon.stop().await;
    assert!(!log.contains("panicked") && !log.contains("ERROR"), "{log}");
}

/// The hand: what is given to it as an argument is one, whatever it looks like.
#[tokio::test]
async fn any_text_is_an_argument_and_comes_back_as_it_was() {
    let world = World::new().await;
    let client = world.client().await;
    let mut taken = 0;
    // No argument of any program has a null character in it.
    for text in texts().into_iter().filter(|text| !text.contains('\0')) {
        let (key, queue) = (format!("--key={text}"), format!("--queue={text}"));
        let input = json!({ &text: text }).to_string();
        let ran = world.run(&["enqueue", &key, &queue, "--", &text, &input]).await;
        if !fits(&text, 100) {
            ran.complains(2, &["1 to "]);
            continue;
        }
        let view = client.workflow(ran.expect(0).out.trim().parse().unwrap()).await.unwrap().unwrap();
        assert_eq!((&view.kind, &view.key, &view.queue), (&text, &Some(text.clone()), &text));
        assert_eq!(view.input.unwrap().decode::<Value>().unwrap(), json!({ &text: text }));
        taken += 1;
    }
    assert!(taken >= 300, "{taken}");
}

#[tokio::test]
async fn a_text_that_is_no_id_no_input_and_no_time_is_refused_in_one_line() {
    let world = World::new().await;
    for text in texts().into_iter().filter(|text| !text.contains('\0')) {
        let ran = world.run(&["show", "--", &text]).await;
        assert_eq!(ran.out, "", "{ran:?}");
        // An id has more spellings than one; of none of them there is a workflow.
        assert_eq!(ran.code, if Uuid::parse_str(&text).is_ok() { 5 } else { 2 }, "{ran:?}");
        assert!(!ran.err.contains("panicked"), "{ran:?}");
        assert!(!ran.err.chars().any(|c| c.is_control() && c != '\n'), "it moves no cursor: {ran:?}");
    }
    assert_eq!(world.run(&["list", "--json"]).await.expect(0).json(), json!([]));
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
