//! A daemon on loopback that serves in this process, and what it answers.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use backstitch::{Client, Database, Filter, Inputs};
use backstitch_postgres::test::TestDatabase;
use backstitch_server::{Access, ApiSettings, Closing, Gate, Metrics, Outside, Places, api, serve};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub struct Stage {
    pub client: Client,
    _database: TestDatabase,
    address: std::net::SocketAddr,
    pub stop: CancellationToken,
    served: tokio::task::JoinHandle<()>,
}

impl Stage {
    pub async fn new(inputs: Inputs, outside: Option<Arc<dyn Outside>>) -> Self {
        let database = backstitch_postgres::test::database().await;
        let client = Client::new(Database::connect(&database.url).await.unwrap());
        backstitch::migrate(client.database()).await.unwrap();
        let stop = CancellationToken::new();
        let router = api(ApiSettings {
            client: client.clone(),
            gate: Gate::new(Access::EverybodyHere, client.clone()),
            errors: Vec::new(),
            inputs,
            outside,
            origins: Vec::new(),
            places: Places::new(Metrics::new()),
            metrics: Metrics::new(),
            stopped: stop.clone(),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let closing = Closing { stop: stop.clone(), stopped: stop.clone() };
        let served = tokio::spawn(serve(listener, None, router, Metrics::new(), closing));
        Self { client, _database: database, address, stop, served }
    }

    /// The status of an answer, and what it says.
    pub async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.ask("POST", path, &body.to_string()).await
    }

    /// The same.
    pub async fn get(&self, path: &str) -> (u16, Value) {
        self.ask("GET", path, "").await
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), serde_json::from_str(body).unwrap())
    }

    pub async fn enqueued(&self) -> usize {
        self.client.workflows(Filter { limit: 100, ..Filter::default() }).await.unwrap().len()
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.served.await.unwrap();
    }
}
