//! Who calls the daemon in the tests of its API, and what does it answer?

use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;

use crate::daemon::Daemon;
use crate::world::World;

/// Somebody with a token, or without.
#[derive(Clone)]
pub struct Caller {
    url: String,
    bearer: Option<String>,
}

/// What the daemon said.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Caller {
    /// Without a token.
    pub fn nobody(daemon: &Daemon) -> Self {
        Self { url: daemon.url.clone(), bearer: None }
    }

    /// With this one.
    pub fn with(daemon: &Daemon, bearer: impl Into<String>) -> Self {
        Self { bearer: Some(bearer.into()), ..Self::nobody(daemon) }
    }

    /// With a new one of this role, for these kinds; none: for all.
    pub async fn of_role(world: &World, daemon: &Daemon, role: &str, kinds: &str) -> Self {
        let mut arguments = vec!["token", "create", "a test", "--role", role, "--json"];
        if !kinds.is_empty() {
            arguments.extend(["--kind", kinds]);
        }
        let made = world.run(&arguments).await.expect(0).json();
        Self::with(daemon, made["bearer"].as_str().unwrap())
    }

    /// A request, to be changed.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = reqwest::Client::new().request(method, format!("{}{path}", self.url));
        match &self.bearer {
            Some(bearer) => request.bearer_auth(bearer),
            None => request,
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        read(self.request(Method::GET, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        read(self.request(Method::POST, path).json(body)).await
    }
}

/// What the daemon says to it. Of a stream, that it is one: it may never end.
pub async fn read(request: RequestBuilder) -> Answer {
    let answer = request.send().await.unwrap();
    let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
    if headers.get("content-type").is_some_and(|said| said == "text/event-stream") {
        return Answer { status, headers, body: Value::Null };
    }
    let text = answer.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Answer { status, headers, body }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        self
    }

    /// It is a problem as RFC 9457 has them, with this code.
    #[track_caller]
    pub fn refuses(self, status: u16, code: &str) -> Self {
        assert_eq!(self.status, status, "{self:#?}");
        assert_eq!(self.headers["content-type"], "application/problem+json", "{self:#?}");
        assert_eq!(self.body["code"], code, "{self:#?}");
        assert_eq!(self.body["status"], status, "{self:#?}");
        assert!(self.body["type"].as_str().unwrap().starts_with("urn:backstitch:problem:"), "{self:#?}");
        assert!(self.body["title"].is_string() && self.body["detail"].is_string(), "{self:#?}");
        self
    }

    /// The id of the workflow that it is about.
    #[track_caller]
    pub fn workflow(&self) -> String {
        self.body["workflow_id"].as_str().unwrap_or_else(|| panic!("{self:#?}")).to_owned()
    }
}
