//! How does it go to follow a workflow over HTTP?

use reqwest::{Method, Response};
use serde_json::{Value, json};

use crate::daemon::{Daemon, serve};
use crate::http::{Caller, read};
use crate::toys;
use crate::world::World;

/// A stream as it comes.
struct Stream {
    answer: Response,
    heard: String,
}

impl Stream {
    async fn of(caller: &Caller, workflow: &str, last: Option<&str>) -> Self {
        let mut request = caller.request(Method::GET, &format!("/v1/workflows/{workflow}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
        assert_eq!(answer.headers()["x-accel-buffering"], "no", "or nginx keeps events until it has many");
        Self { answer, heard: String::new() }
    }

    /// The next block of lines. None: it has ended.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.heard.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.heard = rest;
                return Some(block);
            }
            let chunk = self.answer.chunk().await.unwrap()?;
            self.heard.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// Each event with its id, to the end.
    async fn events(mut self) -> Vec<(String, Value)> {
        let mut events = Vec::new();
        while let Some(block) = self.next().await {
            let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name));
            if let (Some(id), Some(data)) = (line("id: "), line("data: ")) {
                events.push((id.to_owned(), serde_json::from_str(data).unwrap()));
            }
        }
        events
    }
}

fn told(events: &[(String, Value)]) -> Vec<String> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut told = Vec::new();
    for (_, event) in events {
        let (ended, turned, began) = (&event["ended"], &event["turned"], &event["began"]);
        if ended.is_object() {
            told.push(format!(
                "{} {} {}",
                word(&ended["step"]),
                word(&ended["direction"]),
                word(&ended["outcome"])
            ));
        }
        if turned.is_object() {
            told.push(word(&turned["turn"]));
        }
        if began.is_object() {
            told.push(format!("{} {}", word(&began["step"]), word(&began["direction"])));
        }
    }
    told
}

#[tokio::test]
async fn what_happens_is_told_as_it_happens_and_from_anywhere_on() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "toy").await;
    let reader = Caller::of_role(&world, &daemon, "read", "toy").await;
    let toy = json!({ "kind": "toy", "input": { "fails": true, "sticks": false } });
    let id = producer.post("/v1/workflows", &toy).await.expect(201).workflow();
    let stream = Stream::of(&reader, &id, None).await;
    let worker = toys::worker(&world).await;
    let events = stream.events().await;
    let expected = [
        "take run",
        "take run succeeded",
        "use run",
        "use run failed",
        "unwinding",
        "take compensate",
        "take compensate succeeded",
        "compensated",
    ];
    assert_eq!(told(&events), expected);
    for (index, (seq, event)) in events.iter().enumerate() {
        assert_eq!(
            (seq, &event["seq"], &event["workflow_id"]),
            (&index.to_string(), &json!(index), &json!(id))
        );
    }
    let failed = events.iter().map(|(_, event)| &event["ended"]).find(|ended| ended["outcome"] == "failed");
    assert_eq!(failed.unwrap()["failure"]["code"], "worn_out");

    let whole = Stream::of(&reader, &id, None).await.events().await;
    assert_eq!(whole, events, "after the end it is told at once");
    for last in 0..events.len() - 1 {
        let rest = Stream::of(&reader, &id, Some(&last.to_string())).await.events().await;
        assert_eq!(rest, events[last + 1..], "after {last}");
    }
    let with = |last: &str| {
        let request = reader.request(Method::GET, &format!("/v1/workflows/{id}/events"));
        request.header("last-event-id", last)
    };
    for last in [events.len() - 1, events.len(), 4_000_000_000] {
        assert_eq!(read(with(&last.to_string())).await.expect(204).body, json!(""), "do not ask again");
    }
    for wrong in ["x", "-1", "", "1.5", "99999999999999999999", "0 or 1=1"] {
        read(with(wrong)).await.refuses(400, "invalid_request");
    }
    read(with("1").header("last-event-id", "2")).await.refuses(400, "invalid_request");
    worker.shut_down().await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_quiet_stream_is_kept_alive_and_ends_with_the_daemon() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let operator = Caller::of_role(&world, &daemon, "operate", "").await;
    let client = world.client().await;
    let id = client.enqueue_untyped("toy", &json!({})).send().await.unwrap().workflow.to_string();
    let mut stream = Stream::of(&operator, &id, None).await;
    assert_eq!(stream.next().await.as_deref(), Some(":"), "a comment");
    assert_eq!(daemon.stop().await.0, 0);
    assert_eq!(stream.next().await, None);
}
