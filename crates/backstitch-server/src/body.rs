//! What did the caller say, if it said it in time and in bounds?

use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{StatusCode, header};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::refusal::Refusal;

/// The largest body: the longest input of a workflow, and room for what is around it.
pub const BODY_BYTES_MAX: usize = backstitch::limits::INPUT_BYTES_MAX + 4 * 1024;

/// How long a caller may take to send its body. On loopback a second is plenty.
pub const BODY_TIME: Duration = Duration::from_secs(5);

/// Reads a JSON body of a caller that nobody asks who it is.
///
/// # Errors
/// The answer for the caller: a body that comes from a browser, is not JSON, not of this type, too large or too slow.
pub async fn read_json<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    // A page in a browser on this host can reach loopback; it can't leave this header away.
    if request.headers().contains_key(header::ORIGIN) {
        let why = "requests of browsers are not taken (header Origin): call from a program";
        return Err(Refusal::new(StatusCode::FORBIDDEN, "origin_refused", why));
    }
    read_value(request).await
}

/// Reads a JSON body of a caller that is known.
///
/// # Errors
/// The answer for the caller: a body that is not JSON, not of this type, too large or too slow.
pub(crate) async fn read_value<T: DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    let length =
        request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: usize| length > BODY_BYTES_MAX) {
        return Err(too_large());
    }
    let bytes = read(request.into_body()).await?;
    if bytes.is_empty() {
        return Err(Refusal::invalid("the body is empty: send a JSON object"));
    }
    serde_json::from_slice(&bytes).map_err(|error| {
        Refusal::invalid(format!("the body can't be read: {error}: correct it and send it again"))
    })
}

async fn read(body: Body) -> Result<axum::body::Bytes, Refusal> {
    match timeout(BODY_TIME, to_bytes(body, BODY_BYTES_MAX)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error))
            if std::error::Error::source(&error)
                .is_some_and(|source| source.to_string().contains("limit")) =>
        {
            Err(too_large())
        }
        Ok(Err(error)) => Err(Refusal::invalid(format!("the body broke off: {error}: send it again"))),
        Err(_) => {
            let why = format!("the body did not arrive within {} s: send it at once", BODY_TIME.as_secs());
            Err(Refusal::new(StatusCode::REQUEST_TIMEOUT, "body_too_slow", why))
        }
    }
}

fn too_large() -> Refusal {
    let why =
        format!("the body is larger than the {BODY_BYTES_MAX} bytes allowed: send less, a batch in several");
    Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Asked {
        #[expect(dead_code, reason = "only its presence is asked for")]
        name: String,
    }

    async fn refused(request: Request) -> Refusal {
        read_json::<Asked>(request).await.expect_err("it should not be taken")
    }

    fn post(body: impl Into<Body>) -> Request {
        Request::post("/").body(body.into()).unwrap()
    }

    #[tokio::test]
    async fn what_cannot_be_read_says_where() {
        for (body, said) in [
            ("", "empty"),
            ("{", "line 1 column 1"),
            ("{\"name\": 3}", "expected a string at line 1 column 10"),
            ("{\"name\": \"a\", \"size\": 1}", "unknown field `size`"),
            ("{}", "missing field `name`"),
        ] {
            let refusal = refused(post(body)).await;
            assert_eq!(refusal.status, StatusCode::BAD_REQUEST, "{body}");
            assert!(refusal.details.contains(said), "{body}: {}", refusal.details);
        }
        assert!(read_json::<Asked>(post("{\"name\": \"a\"}")).await.is_ok());
    }

    #[tokio::test]
    async fn a_body_too_large_is_refused_with_and_without_its_length() {
        let large = "x".repeat(BODY_BYTES_MAX + 1);
        assert_eq!(refused(post(large.clone())).await.status, StatusCode::PAYLOAD_TOO_LARGE);
        let mut said = post(Body::empty());
        said.headers_mut().insert(header::CONTENT_LENGTH, large.len().into());
        assert_eq!(refused(said).await.status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_browser_is_refused() {
        let mut request = post("{\"name\": \"a\"}");
        request.headers_mut().insert(header::ORIGIN, header::HeaderValue::from_static("http://evil.example"));
        assert_eq!(refused(request).await.status, StatusCode::FORBIDDEN);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_comes_is_given_up() {
        let never = Body::from_stream(NeverAnything);
        assert_eq!(refused(post(never)).await.status, StatusCode::REQUEST_TIMEOUT);
    }

    struct NeverAnything;

    impl futures_core::Stream for NeverAnything {
        type Item = Result<axum::body::Bytes, std::io::Error>;

        fn poll_next(
            self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Pending
        }
    }
}
