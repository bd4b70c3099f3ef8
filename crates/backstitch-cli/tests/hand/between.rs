//! What does a command make of a daemon that does not answer well?

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tokio::net::TcpListener;

use crate::daemon::{Daemon, serve};
use crate::plain::plain;
use crate::toys;
use crate::world::{Ran, World, bare, end};

/// What somebody asks.
struct Question {
    method: Method,
    path: String,
    last_event: Option<String>,
    body: Bytes,
}

impl Question {
    fn is(&self, method: &Method, end: &str) -> bool {
        self.method == *method && self.path.ends_with(end)
    }
}

/// None: the daemon is asked.
type Says = Arc<dyn Fn(&Question) -> Option<Response> + Send + Sync>;

/// A daemon, and a stand-in for what is between it and its callers.
struct Between {
    world: World,
    daemon: Daemon,
    token: String,
    url: String,
}

impl Between {
    async fn new(says: impl Fn(&Question) -> Option<Response> + Send + Sync + 'static) -> Self {
        let world = World::new().await;
        let roles = ["token", "create", "all", "--role", "produce", "--role", "operate"];
        let token = world.run(&roles).await.expect(0).out.trim().to_owned();
        let daemon = Daemon::start(serve(&world)).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let says: Says = Arc::new(says);
        let router = Router::new().fallback(pass).with_state((says, daemon.url.clone()));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { world, daemon, token, url }
    }

    async fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = bare(self.world.directory.path(), arguments);
        command.env("BACKSTITCH_SERVER", &self.url).env("BACKSTITCH_TOKEN", &self.token);
        end(command).await
    }
}

async fn pass(State((says, daemon)): State<(Says, String)>, request: Request) -> Response {
    let (head, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
    let last_event = head.headers.get("last-event-id").map(|last| last.to_str().unwrap().to_owned());
    let question = Question { method: head.method, path: head.uri.path().to_owned(), last_event, body };
    if let Some(answer) = says(&question) {
        return answer;
    }
    let mut asked = reqwest::Client::new()
        .request(question.method, format!("{daemon}{}", head.uri.path_and_query().unwrap()))
        .body(question.body);
    for name in ["authorization", "content-type", "last-event-id"] {
        if let Some(value) = head.headers.get(name) {
            asked = asked.header(name, value);
        }
    }
    let answer = asked.send().await.unwrap();
    (answer.status(), Body::from(answer.bytes().await.unwrap())).into_response()
}

fn problem(status: StatusCode, code: &str) -> Response {
    let body = json!({ "type": format!("urn:backstitch:{code}"), "status": status.as_u16(), "detail": code, "code": code });
    let mut headers = HeaderMap::new();
    headers.insert(header::RETRY_AFTER, 0.into());
    (status, headers, axum::Json(body)).into_response()
}

/// True so many times.
fn times(times: usize) -> impl Fn() -> bool {
    let left = Mutex::new(times);
    move || {
        let mut left = left.lock().unwrap();
        let is_left = *left > 0;
        *left = left.saturating_sub(1);
        is_left
    }
}

const TOY: &str = r#"{"fails": false, "sticks": false}"#;

#[tokio::test]
async fn the_id_of_what_was_asked_for_is_told_though_nothing_more_is_answered() {
    let between = Between::new(|question| {
        (question.method == Method::GET).then(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"))
    })
    .await;
    let listed = async || between.world.run(&["list", "--json"]).await.expect(0).json();
    let asked = between.run(&["enqueue", "toy", TOY]).await.expect(0);
    assert_eq!(asked.out.trim(), listed().await[0]["workflow"]);
    assert!(asked.err.contains("how it stands can't be told: internal"), "{asked:?}");
    let again = between.run(&["enqueue", "toy", TOY, "--key", "k"]).await.expect(0);
    assert_eq!(again.out.trim(), listed().await[0]["workflow"]);
    let asked = between.run(&["enqueue", "toy", TOY, "--json"]).await.expect(0);
    assert_eq!(asked.json()["workflow"], listed().await[0]["workflow"]);
    let waited = between.run(&["enqueue", "toy", TOY, "--wait", "--json"]).await.expect(1);
    assert_eq!(waited.json()["workflow"], listed().await[0]["workflow"]);
    between.daemon.stop().await;
}

#[tokio::test]
async fn how_it_ended_is_told_though_it_can_not_be_looked_at_again() {
    let first = times(1);
    let between = Between::new(move |question| {
        let is_look = question.method == Method::GET && !question.path.ends_with("/wait");
        (is_look && !first()).then(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"))
    })
    .await;
    let worker = toys::worker(&between.world).await;
    let asked = between.world.run(&["enqueue", "toy", r#"{"fails": true, "sticks": false}"#]).await.expect(0);
    let waited = between.run(&["wait", asked.out.trim(), "--json"]).await.expect(3);
    let told = waited.json();
    assert_eq!((&told["workflow"], &told["status"]), (&json!(asked.out.trim()), &json!("compensated")));
    assert_eq!(told["error"]["failure"]["code"], "worn_out", "{told}");
    worker.shut_down().await;
    between.daemon.stop().await;
}

#[tokio::test]
async fn whoever_waits_or_has_looked_goes_on_when_it_was_too_often() {
    let (waits, looks) = (times(2), times(1));
    let between = Between::new(move |question| {
        if question.path.ends_with("/wait") && waits() {
            // As after a restart, where many wait from one address and none of their tokens is known yet.
            return Some(problem(StatusCode::TOO_MANY_REQUESTS, "too_many_unknown_tokens"));
        }
        (question.path.ends_with("/verify") && looks())
            .then(|| problem(StatusCode::TOO_MANY_REQUESTS, "too_many_requests"))
    })
    .await;
    let worker = toys::worker(&between.world).await;
    let waited = between.run(&["enqueue", "toy", TOY, "--wait"]).await.expect(0);
    assert!(waited.out.contains("completed: \"taken\""), "{waited:?}");
    let id = waited.out.lines().next().unwrap();
    between.run(&["verify", id]).await.complains(1, &["serves no workflows"]);
    worker.shut_down().await;
    between.daemon.stop().await;
}

#[tokio::test]
async fn whoever_follows_hears_each_thing_once_however_often_the_way_breaks() {
    let (refuses, cuts, looks, fails) = (times(1), times(1), times(1), times(1));
    let lasts = Arc::new(Mutex::new(Vec::new()));
    let hears = lasts.clone();
    let between = Between::new(move |question| {
        if question.path.ends_with("/events") {
            hears.lock().unwrap().push(question.last_event.clone());
            if refuses() {
                return Some(problem(StatusCode::SERVICE_UNAVAILABLE, "stopping"));
            }
            // The first row as it is told, and half of the second.
            return cuts().then(|| {
                let began = json!({ "position": 0, "step": "take", "direction": "run", "attempt": 1 });
                let event = json!({
                    "workflow_id": uuid::Uuid::nil(), "seq": 0, "at": "2027-01-31T12:10:00Z", "incarnation": 3,
                    "ended": null, "turned": null, "began": began,
                });
                ([(header::CONTENT_TYPE, "text/event-stream")], format!("id: 0\ndata: {event}\n\nid: 1\ndata: {{"))
                    .into_response()
            });
        }
        // The first look finds it; at its end it is not found at once.
        (question.method == Method::GET && !looks() && fails())
            .then(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"))
    })
    .await;
    let worker = toys::worker(&between.world).await;
    let toy = r#"{"fails": true, "sticks": false}"#;
    let id = between.world.run(&["enqueue", "toy", toy, "--wait"]).await.expect(3).out;
    let id = id.lines().next().unwrap();
    let followed = between.run(&["show", id, "--follow"]).await.expect(3);
    assert_eq!(
        plain(&followed.out),
        plain(&between.world.run(&["show", id, "--follow"]).await.expect(3).out)
    );
    assert!(followed.err.contains("internal; looking on"), "{followed:?}");
    assert_eq!(*lasts.lock().unwrap(), [None, None, Some("0".to_owned())], "from where it broke on");
    worker.shut_down().await;
    between.daemon.stop().await;
}

#[tokio::test]
async fn what_was_decided_about_many_is_told_whatever_became_of_some() {
    let decided = Mutex::new(0);
    let between = Between::new(move |question| {
        if !question.is(&Method::POST, "/cancel") {
            return None;
        }
        let mut decided = decided.lock().unwrap();
        *decided += 1;
        // One of the first three, and all from the fifth on.
        matches!(*decided, 2 | 5..).then(|| problem(StatusCode::INTERNAL_SERVER_ERROR, "internal"))
    })
    .await;
    let ask = async |kind: &str| between.world.run(&["enqueue", kind]).await.expect(0);
    for _ in 0..3 {
        ask("a").await;
    }
    for _ in 0..6 {
        ask("b").await;
    }
    let many =
        between.run(&["cancel", "--kind", "a", "--why", "all", "--yes", "--json"]).await.expect(1).json();
    let answers: Vec<_> =
        many.as_array().unwrap().iter().map(|one| (&one["answer"], &one["error"])).collect();
    let (accepted, none) = (json!("accepted"), json!(null));
    assert_eq!(answers, [(&accepted, &none), (&none, &json!("internal")), (&accepted, &none)]);
    let many = between.run(&["cancel", "--kind", "b", "--why", "all", "--yes"]).await.expect(1);
    assert_eq!(many.out, "cancel: 1 accepted, 0 refused, 3 failed, 2 not asked about; say the same again\n");
    assert_eq!(many.err.matches(": internal").count(), 3, "{many:?}");
    between.daemon.stop().await;
}

#[tokio::test]
async fn what_is_said_to_have_come_of_a_step_goes_to_the_daemon_as_it_was_said() {
    let heard = Arc::new(Mutex::new(Bytes::new()));
    let hears = heard.clone();
    let between = Between::new(move |question| {
        if question.is(&Method::POST, "/resolve") {
            *hears.lock().unwrap() = question.body.clone();
        }
        None
    })
    .await;
    let id = between.world.run(&["enqueue", "a"]).await.expect(0).out;
    let output = r#"{"price":7.10,"number":12345678901234567890.10}"#;
    let resolve = ["resolve", id.trim(), "0", "--happened", "--output", output, "--why", "seen"];
    between.run(&resolve).await.expect(5);
    let heard = heard.lock().unwrap().clone();
    let said = std::str::from_utf8(&heard).unwrap();
    assert!(said.contains(&format!("\"output\":{output}")) && said.contains("\"happened\":true"), "{said}");
    between.daemon.stop().await;
}
