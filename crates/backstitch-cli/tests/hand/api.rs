//! How does it go over HTTP: asking, waiting, looking, deciding?

use backstitch_testkit::wait::until;
use reqwest::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, serve};
use crate::http::{Answer, Caller, read};
use crate::toys;
use crate::world::World;

fn toy(fails: bool, sticks: bool) -> Value {
    json!({ "kind": "toy", "input": { "fails": fails, "sticks": sticks } })
}

fn keyed(key: &str, fails: bool) -> Value {
    json!({ "kind": "toy", "key": key, "input": { "fails": fails, "sticks": false } })
}

async fn decide(caller: &Caller, workflow: &str, verb: &str) -> Answer {
    let decision = json!({ "by": "ada", "why": "a test" });
    caller.post(&format!("/v1/workflows/{workflow}/{verb}"), &decision).await
}

#[tokio::test]
async fn a_workflow_is_asked_for_waited_for_and_looked_at() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let worker = toys::worker(&world).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "toy").await;
    let asked = producer.post("/v1/workflows", &toy(false, false)).await.expect(201);
    let id = asked.workflow();
    assert_eq!(asked.headers["location"], format!("/v1/workflows/{id}").as_str());
    let ended = producer.get(&format!("/v1/workflows/{id}/wait?timeout=60s")).await.expect(200);
    assert_eq!(ended.body, json!({ "workflow_id": id, "status": "completed", "output": "taken" }));
    let seen = producer.get(&format!("/v1/workflows/{id}")).await.expect(200);
    assert_eq!(seen.body["status"], "completed");
    assert_eq!(seen.body["input"], json!({ "fails": false, "sticks": false }));
    let reader = Caller::of_role(&world, &daemon, "read", "").await;
    let journal = reader.get(&format!("/v1/workflows/{id}/journal")).await.expect(200).body;
    let steps: Vec<_> = journal["steps"].as_array().unwrap().iter().map(|step| &step["step"]).collect();
    assert_eq!(steps, ["take", "use"]);
    assert_eq!(journal["attempts"].as_array().unwrap().len(), 2);
    worker.shut_down().await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_workflow_that_failed_answers_with_its_original_error_and_report() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let worker = toys::worker(&world).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    for (sticks, status, ending, fate) in
        [(false, 422, "compensated", "compensated"), (true, 500, "needs_attention", "owed")]
    {
        let id = producer.post("/v1/workflows", &toy(true, sticks)).await.expect(201).workflow();
        let told = producer.get(&format!("/v1/workflows/{id}/wait")).await.refuses(status, "worn_out");
        assert_eq!(told.body["type"], format!("urn:backstitch:problem:{ending}"));
        assert_eq!(told.body["error"]["step"], "use");
        assert_eq!(told.body["report"]["steps"][0]["fate"], fate, "{told:#?}");
        assert_eq!(told.workflow(), id);
    }
    worker.shut_down().await;
    daemon.stop().await;
}

#[tokio::test]
async fn what_has_not_ended_in_time_is_202() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    let id = producer.post("/v1/workflows", &toy(false, false)).await.expect(201).workflow();
    for timeout in ["0s", "20ms"] {
        let told = producer.get(&format!("/v1/workflows/{id}/wait?timeout={timeout}")).await.expect(202);
        assert_eq!(told.body, json!({ "workflow_id": id, "status": "pending" }));
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_same_key_and_input_are_the_same_workflow() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    let first = producer.post("/v1/workflows", &keyed("a/1", false)).await.expect(201).workflow();
    assert_eq!(producer.post("/v1/workflows", &keyed("a/1", false)).await.expect(200).workflow(), first);
    let other = producer.post("/v1/workflows", &keyed("a/1", true)).await.refuses(409, "key_taken");
    assert_eq!(other.workflow(), first, "it names the first");

    let with_header = |key: &str, body: &Value| {
        producer.request(Method::POST, "/v1/workflows").header("idempotency-key", key).json(body)
    };
    assert_eq!(read(with_header("a/1", &toy(false, false))).await.expect(200).workflow(), first);
    assert_eq!(read(with_header("a/1", &keyed("a/1", false))).await.expect(200).workflow(), first);
    read(with_header("a/2", &keyed("a/1", false))).await.refuses(400, "invalid_request");
    read(with_header("a/1", &toy(false, false)).header("idempotency-key", "a/2"))
        .await
        .refuses(400, "invalid_request");
    read(with_header("b/é", &toy(false, false))).await.expect(201);
    daemon.stop().await;
}

#[tokio::test]
async fn of_many_that_ask_at_once_with_one_key_one_is_told_that_it_is_new() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    let asking: Vec<_> = (0..16)
        .map(|_| {
            let producer = producer.clone();
            tokio::spawn(async move { producer.post("/v1/workflows", &keyed("one", false)).await })
        })
        .collect();
    let mut answers = Vec::new();
    for asked in asking {
        answers.push(asked.await.unwrap());
    }
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1);
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 15);
    assert!(answers.iter().all(|answer| answer.workflow() == answers[0].workflow()));
    daemon.stop().await;
}

#[tokio::test]
async fn many_are_asked_for_at_once_or_none() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "toy").await;
    let batch = |workflows: Value| json!({ "kind": "toy", "workflows": workflows, "priority": 0 });
    let two = batch(json!([{ "input": 1, "key": "m/1" }, { "input": 2, "key": "m/2" }]));
    let asked = producer.post("/v1/workflows/batch", &two).await.expect(200);
    let ids = asked.body["workflow_ids"].as_array().unwrap().clone();
    assert_eq!(ids.len(), 2);
    assert_eq!(producer.post("/v1/workflows/batch", &two).await.expect(200).body["workflow_ids"], json!(ids));
    let other = batch(json!([{ "input": 3, "key": "m/3" }, { "input": 9, "key": "m/1" }]));
    let refused = producer.post("/v1/workflows/batch", &other).await.refuses(409, "key_taken");
    assert_eq!(json!(refused.workflow()), ids[0]);
    for wrong in [
        json!([]),
        json!([{ "input": 1, "key": "m/4" }, { "input": 2 }]),
        json!(vec![json!({ "input": 1 }); 1001]),
    ] {
        producer.post("/v1/workflows/batch", &batch(wrong)).await.refuses(400, "invalid_request");
    }
    let operator = Caller::of_role(&world, &daemon, "operate", "").await;
    let page = operator.get("/v1/workflows?key=m/3").await.expect(200);
    assert_eq!(page.body["workflows"], json!([]), "of the batch that was refused there is none");
    daemon.stop().await;
}

#[tokio::test]
async fn a_list_is_read_page_by_page() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let client = world.client().await;
    let mut asked = Vec::new();
    for number in 0..5 {
        let kind = if number == 2 { "other" } else { "toy" };
        asked.push(json!(client.enqueue_untyped(kind, &number).send().await.unwrap().workflow));
    }
    asked.reverse();
    let reader = Caller::of_role(&world, &daemon, "read", "").await;
    let (mut path, mut listed) = ("/v1/workflows?limit=2&status=pending".to_owned(), Vec::new());
    loop {
        let page = reader.get(&path).await.expect(200).body;
        let workflows = page["workflows"].as_array().unwrap();
        assert!(workflows.len() <= 2);
        listed.extend(workflows.iter().map(|workflow| workflow["workflow_id"].clone()));
        let Some(before) = page["before"].as_str() else { break };
        path = format!("/v1/workflows?limit=2&status=pending&before={before}");
    }
    assert_eq!(listed, asked);
    let of_one = reader.get("/v1/workflows?kind=other").await.expect(200).body;
    assert_eq!(of_one["workflows"].as_array().unwrap().len(), 1);
    assert!(of_one["workflows"][0].get("input").is_none(), "a list leaves out what may be long");
    for wrong in ["limit=0", "limit=101", "status=asleep", "before=x", "colour=red"] {
        reader.get(&format!("/v1/workflows?{wrong}")).await.refuses(400, "invalid_request");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn errors_are_told_of_the_kinds_of_the_token_and_of_others_not_even_how_many() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let worker = toys::worker(&world).await;
    let producer = Caller::of_role(&world, &daemon, "produce", "").await;
    for number in 0..3 {
        let other = json!({ "kind": "other", "input": number });
        producer.post("/v1/workflows", &other).await.expect(201);
    }
    for _ in 0..2 {
        let id = producer.post("/v1/workflows", &toy(true, false)).await.expect(201).workflow();
        producer.get(&format!("/v1/workflows/{id}/wait")).await.refuses(422, "worn_out");
    }
    for (kinds, path, looked_at, failed) in [
        ("", "/v1/errors", 5, 2),
        ("toy", "/v1/errors", 2, 2),
        ("other,toy,toy", "/v1/errors", 5, 2),
        ("other", "/v1/errors", 3, 0),
        ("other", "/v1/errors?kind=toy", 3, 0),
        ("none", "/v1/errors", 0, 0),
    ] {
        let reader = Caller::of_role(&world, &daemon, "read", kinds).await;
        let told = reader.get(path).await.expect(200).body;
        assert_eq!((&told["looked_at"], &told["is_bounded"]), (&json!(looked_at), &json!(false)), "{kinds}");
        assert_eq!(told["oldest_at"].is_null(), looked_at == 0, "{told}");
        let counted: i64 =
            told["errors"].as_array().unwrap().iter().map(|one| one["workflows"].as_i64().unwrap()).sum();
        assert_eq!(counted, failed, "{kinds}: {told}");
    }
    let reader = Caller::of_role(&world, &daemon, "read", "").await;
    for wrong in ["limit=0", "limit=10001", "since=yesterday", "status=completed"] {
        reader.get(&format!("/v1/errors?{wrong}")).await.refuses(400, "invalid_request");
    }
    worker.shut_down().await;
    daemon.stop().await;
}

#[tokio::test]
async fn an_operator_decides_and_is_told_why_not() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let operator = Caller::of_role(&world, &daemon, "operate", "toy").await;
    let producer = Caller::of_role(&world, &daemon, "produce", "toy").await;
    let id = producer.post("/v1/workflows", &toy(false, false)).await.expect(201).workflow();
    let accepted = json!({ "workflow_id": id, "answer": "accepted" });
    assert_eq!(decide(&operator, &id, "retry").await.expect(200).body, accepted);
    for _ in 0..2 {
        // Said again: its answer may have been lost.
        assert_eq!(decide(&operator, &id, "cancel").await.expect(200).body, accepted);
    }
    let worker = toys::worker(&world).await;
    let told = producer.get(&format!("/v1/workflows/{id}/wait")).await.expect(422);
    assert_eq!(told.body["report"]["cause"]["by"], "ada", "{told:#?}");
    for verb in ["cancel", "retry"] {
        let late = json!({ "by": "bob", "why": "too late" });
        let refused = operator.post(&format!("/v1/workflows/{id}/{verb}"), &late).await;
        assert_eq!(refused.refuses(409, "has_ended").workflow(), id);
        decide(&operator, "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", verb)
            .await
            .refuses(404, "workflow_not_found");
        for wrong in
            [json!({ "by": "ada" }), json!({ "by": "", "why": "x" }), json!({ "by": "a", "why": " " })]
        {
            let refused = operator.post(&format!("/v1/workflows/{id}/{verb}"), &wrong).await;
            refused.refuses(400, "invalid_request");
        }
    }
    let stuck = producer.post("/v1/workflows", &toy(true, true)).await.expect(201).workflow();
    producer.get(&format!("/v1/workflows/{stuck}/wait")).await.refuses(500, "worn_out");
    decide(&operator, &stuck, "cancel").await.refuses(409, "is_compensating");
    decide(&operator, &stuck, "steps/7/skip").await.refuses(409, "no_such_step");
    decide(&operator, &stuck, "steps/one/skip").await.refuses(400, "invalid_request");
    let token = json!({ "by": "ada", "why": "seen", "token": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10" });
    for _ in 0..2 {
        operator.post(&format!("/v1/workflows/{stuck}/steps/0/skip"), &token).await.expect(200);
        until("the rest is taken back", async || {
            let seen = operator.get(&format!("/v1/workflows/{stuck}")).await.expect(200);
            (seen.body["status"] == "compensated").then_some(())
        })
        .await;
        let told = producer.get(&format!("/v1/workflows/{stuck}/wait")).await.refuses(422, "worn_out");
        assert_eq!(told.body["report"]["steps"][0]["fate"], "skipped", "{told:#?}");
        assert_eq!(told.body["report"]["steps"][0]["by"], "ada");
    }
    let abandoned = producer.post("/v1/workflows", &toy(true, true)).await.expect(201).workflow();
    producer.get(&format!("/v1/workflows/{abandoned}/wait")).await.refuses(500, "worn_out");
    decide(&operator, &abandoned, "abandon").await.expect(200);
    let told = producer.get(&format!("/v1/workflows/{abandoned}/wait")).await.refuses(500, "worn_out");
    assert_eq!(told.body["type"], "urn:backstitch:problem:abandoned");
    assert_eq!(
        operator.get(&format!("/v1/workflows/{abandoned}")).await.expect(200).body["status"],
        "abandoned"
    );
    decide(&operator, &abandoned, "resume").await.refuses(409, "has_ended");
    worker.shut_down().await;
    daemon.stop().await;
}

#[tokio::test]
async fn a_daemon_lets_a_thousand_wait_or_follow_and_tells_them_when_it_stops() {
    let world = World::new().await;
    let mut command = serve(&world);
    command.arg("--without-tokens");
    let daemon = Daemon::start(command).await;
    let anybody = Caller::nobody(&daemon);
    let id = anybody.post("/v1/workflows", &toy(false, false)).await.expect(201).workflow();
    let path = format!("/v1/workflows/{id}/wait?timeout=");
    let mut streams = Vec::new();
    for _ in 0..200 {
        let stream =
            anybody.request(Method::GET, &format!("/v1/workflows/{id}/events")).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        streams.push(stream);
    }
    let waiting: Vec<_> = (0..800)
        .map(|_| {
            let (anybody, path) = (anybody.clone(), format!("{path}60s"));
            // One may meet the probe below in the last place.
            tokio::spawn(async move {
                loop {
                    let answer = anybody.get(&path).await;
                    let code = answer.body["code"].as_str().unwrap_or_default();
                    if !["too_many_waits", "too_many_requests"].contains(&code) {
                        return answer;
                    }
                }
            })
        })
        .collect();
    // Until all of them wait there is a place.
    let refused = loop {
        let answer = anybody.get(&format!("{path}10ms")).await;
        if ![202, 429].contains(&answer.status) {
            break answer;
        }
    };
    assert_eq!(refused.refuses(503, "too_many_waits").headers["retry-after"], "1");
    assert_eq!(daemon.stop().await.0, 0);
    for waiting in waiting {
        assert_eq!(waiting.await.unwrap().refuses(503, "stopping").workflow(), id);
    }
    for stream in streams {
        assert_eq!(stream.text().await.unwrap(), "", "nothing happened, and it ends in order");
    }
}
