//! Who may do what over HTTP? Every route, asked by everybody.

use reqwest::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, serve};
use crate::http::{Answer, Caller, read};
use crate::world::World;

const ROLES: [&str; 3] = ["read", "produce", "operate"];

/// A route, and what each of these roles is answered.
type Row = (Method, &'static str, Value, [u16; 3]);

/// What is about all kinds together, so for no token of some of them.
const OF_EVERY_KIND: [&str; 2] = ["/v1/workers", "/metrics"];

/// `ID` is a workflow of the kind `toy` that nobody serves.
fn routes() -> Vec<Row> {
    let decision = json!({ "by": "ada", "why": "a test" });
    let one = json!({ "kind": "toy", "input": {} });
    let many = json!({ "kind": "toy", "workflows": [{ "input": {} }] });
    let found = json!({ "by": "ada", "why": "a test", "happened": true, "output": null });
    let nothing = Value::Null;
    vec![
        (Method::POST, "/v1/workflows", one, [403, 201, 403]),
        (Method::POST, "/v1/workflows/batch", many, [403, 200, 403]),
        (Method::GET, "/v1/workflows", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/workflows/ID", nothing.clone(), [200, 200, 200]),
        (Method::GET, "/v1/workflows/ID/journal", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/workflows/ID/events", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/workflows/ID/wait?timeout=0s", nothing.clone(), [202, 202, 202]),
        (Method::GET, "/v1/kinds", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/workers", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/stats", nothing.clone(), [200, 403, 200]),
        (Method::GET, "/v1/errors", nothing.clone(), [200, 403, 200]),
        // They need a daemon that serves workflows, and this one serves none.
        (Method::GET, "/v1/workflows/ID/verify", nothing.clone(), [403, 403, 409]),
        (Method::GET, "/v1/orphans", nothing.clone(), [403, 403, 409]),
        (Method::GET, "/metrics", nothing, [200, 403, 200]),
        (Method::POST, "/v1/kinds/toy/pause", decision.clone(), [403, 403, 200]),
        (Method::POST, "/v1/kinds/toy/resume", decision.clone(), [403, 403, 200]),
        (Method::POST, "/v1/workflows/ID/pause", decision.clone(), [403, 403, 200]),
        (Method::POST, "/v1/workflows/ID/resume", decision.clone(), [403, 403, 200]),
        (Method::POST, "/v1/workflows/ID/abandon", decision.clone(), [403, 403, 409]),
        (Method::POST, "/v1/workflows/ID/steps/0/skip", decision.clone(), [403, 403, 409]),
        (Method::POST, "/v1/workflows/ID/steps/0/resolve", found, [403, 403, 409]),
        (Method::POST, "/v1/workflows/ID/retry", decision.clone(), [403, 403, 200]),
        (Method::POST, "/v1/workflows/ID/cancel", decision, [403, 403, 200]),
    ]
}

async fn ask(caller: &Caller, row: &Row, workflow: &str) -> Answer {
    let request = caller.request(row.0.clone(), &row.1.replace("ID", workflow));
    read(if row.2.is_null() { request } else { request.json(&row.2) }).await
}

async fn a_workflow(world: &World) -> String {
    world.client().await.enqueue_untyped("toy", &json!({})).send().await.unwrap().workflow.to_string()
}

#[tokio::test]
async fn every_route_asks_who_is_there() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let workflow = a_workflow(&world).await;
    let revoked = world.run(&["token", "create", "gone", "--role", "operate", "--json"]).await.json();
    world.run(&["token", "revoke", revoked["token"].as_str().unwrap()]).await.expect(0);
    let unknown = format!("bst_{}", "0".repeat(64));
    for row in &routes() {
        ask(&Caller::nobody(&daemon), row, &workflow).await.refuses(401, "token_missing");
        for bearer in [revoked["bearer"].as_str().unwrap(), &unknown, "", "x' or '1'='1", "bst_"] {
            let answer = ask(&Caller::with(&daemon, bearer), row, &workflow).await;
            assert_eq!(
                (answer.status, &answer.headers["www-authenticate"]),
                (401, &"Bearer".parse().unwrap()),
                "{row:?}"
            );
        }
    }
    for scheme in ["Basic YTpi", "bst_", "Bearer", "\u{e9} x"] {
        let request = Caller::nobody(&daemon).request(Method::GET, "/v1/workflows");
        read(request.header("authorization", scheme)).await.refuses(401, "token_missing");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn every_route_asks_for_the_right_role() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    // Of several roles a token may what any of them may.
    for roles in [&[0][..], &[1], &[2], &[0, 1], &[1, 2], &[2, 0], &[0, 1, 2]] {
        let role = roles.iter().map(|role| ROLES[*role]).collect::<Vec<_>>().join(",");
        for kinds in ["", "toy", "other,toy"] {
            let caller = Caller::of_role(&world, &daemon, &role, kinds).await;
            let workflow = a_workflow(&world).await;
            for row in &routes() {
                let expected =
                    roles.iter().map(|role| row.3[*role]).find(|status| *status != 403).unwrap_or(403);
                let answer = ask(&caller, row, &workflow).await;
                if expected == 403 {
                    answer.refuses(403, "role_insufficient");
                } else if OF_EVERY_KIND.contains(&row.1) && !kinds.is_empty() {
                    answer.refuses(403, "kind_out_of_scope");
                } else {
                    assert_eq!(answer.status, expected, "{role} for {kinds:?}: {row:?}: {answer:#?}");
                }
            }
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn workflows_of_another_scope_do_not_exist() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let workflow = a_workflow(&world).await;
    for (index, role) in ROLES.into_iter().enumerate() {
        let caller = Caller::of_role(&world, &daemon, role, "other,toys,to").await;
        for row in routes().iter().filter(|row| row.3[index] != 403) {
            let answer = ask(&caller, row, &workflow).await;
            if row.1.contains("ID") {
                let refused = answer.refuses(404, "workflow_not_found");
                let none = ask(&caller, row, "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10").await;
                let text = |answer: &Answer, id: &str| answer.body.to_string().replace(id, "ID");
                assert_eq!(
                    text(&refused, &workflow),
                    text(&none, "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"),
                    "it can't be told from one that there never was"
                );
            } else if row.0 == Method::POST || OF_EVERY_KIND.contains(&row.1) {
                answer.refuses(403, "kind_out_of_scope");
            } else if row.1 == "/v1/orphans" {
                answer.refuses(409, "not_served_here");
            } else {
                let body = answer.expect(200).body;
                match row.1 {
                    "/v1/stats" => {
                        let statuses = body["statuses"].as_array().unwrap();
                        assert_eq!(statuses.len(), 4, "only what has not ended is counted by kind: {body}");
                        assert!(statuses.iter().all(|status| status["workflows"] == 0), "{body}");
                    }
                    "/v1/errors" => {
                        assert_eq!((&body["looked_at"], &body["errors"]), (&json!(0), &json!([])), "{body}");
                    }
                    list => assert_eq!(body[list.trim_start_matches("/v1/")], json!([]), "{list}"),
                }
            }
        }
        if role != "produce" {
            let asked_for = caller.get("/v1/workflows?kind=toy").await.expect(200);
            assert_eq!(asked_for.body["workflows"], json!([]));
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn a_scoped_list_has_pages_of_its_own_kinds_only() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let client = world.client().await;
    let mut expected = Vec::new();
    for (number, kind) in ["a", "b", "c", "a", "b", "c", "b"].into_iter().enumerate() {
        let asked = client.enqueue_untyped(kind, &number).send().await.unwrap();
        if kind != "c" {
            expected.insert(0, json!(asked.workflow));
        }
    }
    let reader = Caller::of_role(&world, &daemon, "read", "a,b,a").await;
    let (mut before, mut listed) = (String::new(), Vec::new());
    loop {
        let page = reader.get(&format!("/v1/workflows?limit=2{before}")).await.expect(200).body;
        listed.extend(page["workflows"].as_array().unwrap().iter().map(|one| one["workflow_id"].clone()));
        let Some(last) = page["before"].as_str() else { break };
        before = format!("&before={last}");
    }
    assert_eq!(listed, expected);
    daemon.stop().await;
}

#[tokio::test]
async fn a_revoked_token_opens_nothing_from_the_next_request_on() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let made =
        world.run(&["token", "create", "ops", "--role", "operate", "--kind", "a,b", "--json"]).await.json();
    let (token, bearer) = (made["token"].as_str().unwrap(), made["bearer"].as_str().unwrap());
    let operator = Caller::with(&daemon, bearer);
    operator.get("/v1/workflows").await.expect(200);
    world.run(&["token", "revoke", token]).await.expect(0);
    operator.get("/v1/workflows").await.refuses(401, "token_unknown");
    let listed = world.run(&["token", "list", "--json"]).await.expect(0);
    assert!(!listed.out.contains(&bearer[4..]), "a token is shown once");
    let listed = listed.json();
    assert_eq!((&listed[0]["name"], &listed[0]["kinds"]), (&json!("ops"), &json!(["a", "b"])));
    assert!(listed[0]["revoked_at"].is_string());
    let table = world.run(&["token", "list"]).await.expect(0);
    assert!(table.out.contains("ops") && table.out.contains("a, b"), "{table:?}");
    world
        .run(&["token", "revoke", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"])
        .await
        .complains(5, &["there is no token"]);
    world.run(&["token", "create", "", "--role", "read"]).await.complains(2, &["1 to 100 bytes"]);
    let (code, log) = daemon.stop().await;
    assert!(code == 0 && !log.contains(&bearer[4..]), "{log}");
}

#[tokio::test]
async fn without_tokens_programs_on_this_host_may_do_everything_and_pages_nothing() {
    let world = World::new().await;
    let mut command = serve(&world);
    command.arg("--without-tokens");
    let daemon = Daemon::start(command).await;
    let anybody = Caller::nobody(&daemon);
    assert!(anybody.get("/openapi.json").await.expect(200).body.get("security").is_none(), "and it says so");
    let workflow = a_workflow(&world).await;
    for row in &routes() {
        let answer = ask(&anybody, row, &workflow).await;
        assert!(answer.status < 300 || answer.status == row.3[2], "{row:?}: {answer:#?}");
        for (header, value) in [("origin", "http://evil.example"), ("host", "evil.example")] {
            let request =
                anybody.request(row.0.clone(), &row.1.replace("ID", &workflow)).header(header, value);
            read(request.json(&row.2)).await.refuses(403, "origin_refused");
        }
    }
    daemon.stop().await;
}

#[tokio::test]
async fn whoever_guesses_tokens_waits_and_learns_nothing_meanwhile() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let known = Caller::of_role(&world, &daemon, "read", "").await;
    known.get("/v1/workflows").await.expect(200);
    let mut guessed = 0;
    let mut guess_until_refused = async || loop {
        let guess = Caller::with(&daemon, format!("bst_{guessed:064x}"));
        let answer = guess.get("/v1/workflows").await;
        if answer.status == 429 {
            break answer.refuses(429, "too_many_unknown_tokens");
        }
        answer.refuses(401, "token_unknown");
        guessed += 1;
    };
    assert_eq!(guess_until_refused().await.headers["retry-after"], "1");
    // One that opens is refused as one that does not; unless a second has passed, and one more may be shown.
    loop {
        let good = Caller::of_role(&world, &daemon, "read", "").await;
        guess_until_refused().await;
        match good.get("/v1/workflows").await {
            answer if answer.status == 200 => {}
            answer => break drop(answer.refuses(429, "too_many_unknown_tokens")),
        }
    }
    known.get("/v1/workflows").await.expect(200);
    assert!(guessed >= 100, "{guessed}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_token_that_asks_too_often_is_told_when_to_ask_again() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let busy = Caller::of_role(&world, &daemon, "read", "").await;
    let other = Caller::of_role(&world, &daemon, "read", "").await;
    let asking: Vec<_> = (0..32)
        .map(|_| {
            let busy = busy.clone();
            tokio::spawn(async move {
                loop {
                    let answer = busy.get("/v1/workflows/0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10").await;
                    if answer.status == 429 {
                        return answer.refuses(429, "too_many_requests");
                    }
                    answer.refuses(404, "workflow_not_found");
                }
            })
        })
        .collect();
    for asked in asking {
        assert_eq!(asked.await.unwrap().headers["retry-after"], "1");
    }
    other.get("/v1/workflows").await.expect(200);
    daemon.stop().await;
}
