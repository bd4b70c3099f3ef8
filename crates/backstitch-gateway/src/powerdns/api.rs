//! How is one request to the PowerDNS API made, and its answer told apart?

use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;

use super::PowerDnsConfig;
use super::error::PowerDnsError;
use super::records::RrSet;
use crate::answer::{self, ANSWER_BYTES_MAX};
use crate::identifiers::{Domain, Hostname};

/// Two record sets of some 500 bytes for each of a hundred thousand organisations.
const ZONE_BYTES_MAX: usize = 128 * 1024 * 1024;
/// How much of an error page is repeated in an error.
const DETAIL_LENGTH_MAX: usize = 300;

/// The zone's resource, and the client that reaches it.
#[derive(Debug)]
pub(super) struct Api {
    http: reqwest::Client,
    zone_url: Url,
    zone: Domain,
    key: backstitch::Plaintext,
}

#[derive(serde::Deserialize)]
struct Zone {
    rrsets: Vec<RrSet>,
}

#[derive(serde::Deserialize)]
struct ApiError {
    error: String,
}

impl Api {
    pub(super) fn new(config: PowerDnsConfig) -> Result<Self, PowerDnsError> {
        let bad_url = || PowerDnsError::BadUrl { url: without_password(&config.url) };
        if config.url.scheme() != "http" {
            return Err(bad_url());
        }
        let mut zone_url = config.url.clone();
        zone_url.path_segments_mut().map_err(|()| bad_url())?.pop_if_empty().extend([
            "api",
            "v1",
            "servers",
            "localhost",
            "zones",
            &format!("{}.", config.zone),
        ]);
        let http = reqwest::Client::builder()
            .timeout(config.request_timeout)
            .connect_timeout(config.request_timeout)
            // The key goes to the configured server and to nobody it points at, nor to a proxy of the environment.
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .build()
            .map_err(|_| bad_url())?;
        Ok(Self { http, zone_url, zone: config.zone, key: config.api_key })
    }

    /// The record sets of one name. `rrset_name` narrows the answer since 4.6; older servers send the whole zone, which is taken
    /// only from a small one.
    pub(super) async fn records(&self, hostname: &Hostname) -> Result<Vec<RrSet>, PowerDnsError> {
        let name = format!("{hostname}.");
        let mut url = self.zone_url.clone();
        url.query_pairs_mut().append_pair("rrset_name", &name);
        let sets = self.sets(url, ANSWER_BYTES_MAX).await?;
        Ok(sets.into_iter().filter(|set| set.name.eq_ignore_ascii_case(&name)).collect())
    }

    /// Every record set of the zone.
    pub(super) async fn zone(&self) -> Result<Vec<RrSet>, PowerDnsError> {
        self.sets(self.zone_url.clone(), ZONE_BYTES_MAX).await
    }

    async fn sets(&self, url: Url, bytes_max: usize) -> Result<Vec<RrSet>, PowerDnsError> {
        let answer = self.send(self.request(Method::GET, url), false).await?;
        let zone: Zone = answer::json(answer, bytes_max)
            .await
            .map_err(|e| PowerDnsError::Unexpected { detail: e.to_string(), change_sent: false })?;
        Ok(zone.rrsets)
    }

    /// One change, all of it or nothing.
    pub(super) async fn change(&self, change: &impl Serialize) -> Result<(), PowerDnsError> {
        let request = self.request(Method::PATCH, self.zone_url.clone()).json(change);
        self.send(request, true).await.map(drop)
    }

    /// The server that is asked, for people.
    fn url(&self) -> String {
        self.zone_url.origin().ascii_serialization()
    }

    fn request(&self, method: Method, url: Url) -> RequestBuilder {
        self.http.request(method, url).header("X-API-Key", self.key.expose())
    }

    async fn send(&self, request: RequestBuilder, changes: bool) -> Result<Response, PowerDnsError> {
        let answer = request.send().await.map_err(|e| {
            let source = e.without_url();
            if source.is_connect() {
                PowerDnsError::Unreachable { url: self.url(), change_sent: false, source }
            } else {
                PowerDnsError::NoAnswer { url: self.url(), change_sent: changes, source }
            }
        })?;
        let status = answer.status();
        match status {
            _ if status.is_success() => Ok(answer),
            StatusCode::UNAUTHORIZED => Err(PowerDnsError::KeyRefused { url: self.url() }),
            StatusCode::NOT_FOUND => {
                Err(PowerDnsError::ZoneMissing { url: self.url(), zone: self.zone.clone() })
            }
            _ if status.is_client_error() => {
                Err(PowerDnsError::Refused { status: status.as_u16(), detail: detail(answer).await })
            }
            _ => Err(PowerDnsError::Failed {
                status: status.as_u16(),
                detail: detail(answer).await,
                change_sent: changes,
            }),
        }
    }
}

/// What the server says of its error: the `error` of its JSON, or the beginning of the page.
async fn detail(answer: Response) -> String {
    let text = answer::text(answer).await;
    let text = serde_json::from_str::<ApiError>(&text).map_or(text, |body| body.error);
    text.chars().take(DETAIL_LENGTH_MAX).collect()
}

fn without_password(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}
