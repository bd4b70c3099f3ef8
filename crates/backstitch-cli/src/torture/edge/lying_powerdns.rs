//! A stand-in before PowerDNS that says of names that they are gone, and lets them stand: is that noticed?

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

/// What PowerDNS is told who asks.
const KEY: &str = "x-api-key";

/// Passes everything on, but for removals.
#[derive(Debug)]
pub struct LyingPowerDns {
    address: SocketAddr,
    server: JoinHandle<()>,
}

#[derive(Clone)]
struct Before {
    /// The real one, without a path.
    root: String,
    http: reqwest::Client,
    /// Of these it says that nothing stands there.
    said_gone: Arc<Mutex<BTreeSet<String>>>,
}

impl LyingPowerDns {
    /// Before the one that listens there.
    pub async fn before(root: &str) -> io::Result<Self> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let http = reqwest::Client::builder().no_proxy().build().map_err(io::Error::other)?;
        let root = root.trim_end_matches('/').to_owned();
        let before = Before { root, http, said_gone: Arc::default() };
        let router = Router::new().fallback(answer).with_state(before);
        // Its end is that of this process, or of whoever holds it.
        let server = tokio::spawn(async move { _ = axum::serve(listener, router).await });
        Ok(Self { address, server })
    }

    /// Where it is asked.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Drop for LyingPowerDns {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn answer(
    State(before): State<Before>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(removed) = removal(&method, &body) {
        before.said_gone.lock().unwrap_or_else(PoisonError::into_inner).extend(removed);
        return StatusCode::NO_CONTENT.into_response();
    }
    let asked = uri.query().and_then(|query| query.strip_prefix("rrset_name="));
    if asked
        .is_some_and(|name| before.said_gone.lock().unwrap_or_else(PoisonError::into_inner).contains(name))
    {
        return Json(json!({ "rrsets": [] })).into_response();
    }
    match before.pass_on(method, &uri, &headers, body).await {
        Ok(answer) => answer,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

/// The names that a change only removes. None: it is something else.
fn removal(method: &Method, body: &[u8]) -> Option<BTreeSet<String>> {
    let change: Value = (method == Method::PATCH).then(|| serde_json::from_slice(body).ok()).flatten()?;
    let sets = change["rrsets"].as_array()?;
    let name =
        |set: &Value| (set["changetype"] == "DELETE").then(|| set["name"].as_str().map(str::to_owned))?;
    sets.iter().map(name).collect()
}

impl Before {
    async fn pass_on(
        &self,
        method: Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> reqwest::Result<Response> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = self.http.request(method, format!("{}{path}", self.root)).body(body);
        for name in [KEY, CONTENT_TYPE.as_str()] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await?;
        let status = answer.status();
        Ok((status, [(CONTENT_TYPE, "application/json")], answer.bytes().await?).into_response())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_change_that_does_nothing_but_remove_is_kept_back() {
        let change = |kinds: &[&str]| {
            let sets = kinds.iter().map(|kind| json!({ "name": "org-a.collab.test.", "changetype": kind }));
            json!({ "rrsets": sets.collect::<Vec<_>>() }).to_string()
        };
        let removed = removal(&Method::PATCH, change(&["DELETE", "DELETE"]).as_bytes());
        assert_eq!(removed, Some(BTreeSet::from(["org-a.collab.test.".to_owned()])));
        assert_eq!(removal(&Method::PATCH, change(&["REPLACE", "DELETE"]).as_bytes()), None);
        assert_eq!(removal(&Method::GET, b""), None);
    }
}
