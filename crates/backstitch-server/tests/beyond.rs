//! What does somebody on another machine find? TLS, and behind it nothing without a token.

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use backstitch::{Client, Database, Inputs, Role};
use backstitch_postgres::test::TestDatabase;
use backstitch_server::{
    Access, ApiSettings, BearerToken, Closing, Gate, Metrics, Place, Places, Tls, api, serve,
};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_util::sync::CancellationToken;

/// A daemon as it is beyond loopback, with a route of a particular workflow.
struct Stage {
    client: Client,
    _database: TestDatabase,
    address: std::net::SocketAddr,
    connector: TlsConnector,
    stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Stage {
    async fn new() -> Self {
        let database = backstitch_postgres::test::database().await;
        let client = Client::new(Database::connect(&database.url).await.unwrap());
        backstitch::migrate(client.database()).await.unwrap();
        let (tls, certificate) = certified();
        assert!(Place::new("0.0.0.0:0", Some(tls.clone()), Access::EverybodyHere).is_err());
        let place = Place::new("0.0.0.0:0", Some(tls), Access::Tokens).unwrap();
        let gate = Gate::new(Access::Tokens, client.clone());
        let stop = CancellationToken::new();
        let api = api(ApiSettings {
            client: client.clone(),
            gate: gate.clone(),
            errors: Vec::new(),
            inputs: Inputs::new(),
            outside: None,
            origins: Vec::new(),
            places: Places::new(Metrics::new()),
            metrics: Metrics::new(),
            stopped: stop.clone(),
        });
        let particular = Router::new().route("/gateway/start", post(async || "started"));
        let router = gate.before(particular, &["gateway.start", "gateway.stop"]).merge(api);
        let listener = TcpListener::bind(place.address()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = Closing { stop: stop.clone(), stopped: stop.clone() };
        let served = tokio::spawn(serve(listener, place.tls().cloned(), router, Metrics::new(), closing));
        let mut roots = RootCertStore::empty();
        roots.add(certificate).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Self { client, _database: database, address, connector, stop, served }
    }

    async fn token(&self, role: Role, kinds: &[&str]) -> String {
        let kinds: Vec<_> = kinds.iter().map(|kind| (*kind).to_owned()).collect();
        let token = BearerToken::mint().unwrap();
        self.client.create_token("a test", token.hash(), &[role], Some(&kinds)).await.unwrap();
        token.reveal().to_owned()
    }

    /// The status of an answer over TLS.
    async fn ask(&self, method: &str, path: &str, bearer: Option<&str>) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.address.port())).await.unwrap();
        let name = ServerName::try_from("backstitch.test").unwrap();
        let mut stream = self.connector.connect(name, stream).await.unwrap();
        let bearer = bearer.map(|bearer| format!("Authorization: Bearer {bearer}\r\n")).unwrap_or_default();
        let request =
            format!("{method} {path} HTTP/1.1\r\nHost: backstitch.test\r\n{bearer}Connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        // Some hang up without a farewell; what was said counts.
        let _ = stream.read_to_string(&mut answer).await;
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    }

    async fn end(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }
}

fn certified() -> (Tls, CertificateDer<'static>) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["backstitch.test".to_owned()]).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (certificate, key) = (directory.path().join("tls.pem"), directory.path().join("tls.key"));
    std::fs::write(&certificate, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    (Tls::read(&certificate, &key).unwrap(), cert.der().clone())
}

#[tokio::test]
async fn nothing_is_answered_without_a_token() {
    let stage = Stage::new().await;
    let producer = stage.token(Role::Produce, &["gateway.start", "gateway.stop"]).await;
    let of_one_kind = stage.token(Role::Produce, &["gateway.start"]).await;
    let operator = stage.token(Role::Operate, &["gateway.start", "gateway.stop"]).await;
    for (bearer, start, list) in [
        (None, "401", "401"),
        (Some("bst_"), "401", "401"),
        (Some(&*producer), "200", "403"),
        (Some(&*of_one_kind), "403", "403"),
        (Some(&*operator), "403", "200"),
    ] {
        assert_eq!(stage.ask("POST", "/gateway/start", bearer).await, start);
        assert_eq!(stage.ask("GET", "/v1/workflows", bearer).await, list);
    }
    assert_eq!(stage.ask("GET", "/elsewhere", None).await, "404");
    stage.end().await;
}

#[tokio::test]
async fn plain_http_is_hung_up_on() {
    let stage = Stage::new().await;
    let mut stream = TcpStream::connect(("127.0.0.1", stage.address.port())).await.unwrap();
    stream.write_all(b"GET /v1/workflows HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    stage.end().await;
}
