//! The pages of which places may ask, in somebody's browser? Of none, unless said.

use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use tower_http::cors::CorsLayer;

/// How long a browser need not ask again whether it may ask.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Where a page may come from, such as `https://console.example.com`: exactly that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin(HeaderValue);

/// Why a text is no origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no origin: give a scheme, a host and, unless it is the usual one, a port, such as https://console.example.com, \
     in lower case and without a path; there is no way to allow all"
)]
pub struct NoOrigin(String);

impl std::str::FromStr for Origin {
    type Err = NoOrigin;

    fn from_str(text: &str) -> Result<Self, NoOrigin> {
        let wrong = || NoOrigin(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| wrong())?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().ok_or_else(wrong)?);
        // As a browser writes it: what is not the same to the byte never matches.
        let is_exact = format!("{scheme}://{authority}") == text && text == text.to_ascii_lowercase();
        let usual_port = if scheme == "https" { 443 } else { 80 };
        let names_more = authority.as_str().contains(['@', '*']) || authority.port_u16() == Some(usual_port);
        if !is_exact || names_more || !["http", "https"].contains(&scheme) {
            return Err(wrong());
        }
        text.parse().map(Self).map_err(|_| wrong())
    }
}

/// Lets pages of these places ask, with the token that somebody gave them: cookies mean nothing here.
pub(crate) fn allowed(router: Router, origins: Vec<Origin>) -> Router {
    if origins.is_empty() {
        return router;
    }
    let layer = CorsLayer::new()
        .allow_origin(origins.into_iter().map(|origin| origin.0).collect::<Vec<_>>())
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            HeaderName::from_static("idempotency-key"),
            HeaderName::from_static("last-event-id"),
        ])
        .expose_headers([header::LOCATION, header::RETRY_AFTER])
        .max_age(REMEMBERED);
    router.layer(layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_exact() {
        for good in [
            "https://console.example.com",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://a.test:8443",
        ] {
            assert!(good.parse::<Origin>().is_ok(), "{good}");
        }
        for wrong in [
            "*",
            "null",
            "",
            "console.example.com",
            "https://",
            "https://*.example.com",
            "https://console.example.com/",
            "https://console.example.com/a",
            "https://console.example.com?a",
            "https://Console.example.com",
            "https://console.example.com:443",
            "http://console.example.com:80",
            "https://ada@console.example.com",
            "ftp://console.example.com",
            "https://a.test, https://b.test",
            "https://a.test\r\nX: y",
        ] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
    }
}
