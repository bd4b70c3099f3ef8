//! Does the daemon answer, and stop in order?

use std::process::Stdio;

use serde_json::{Value, json};
use sqlx::Executor;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::world::World;

/// `serve`, listening.
pub struct Daemon {
    pub url: String,
    address: String,
    child: Child,
    log: UnboundedReceiver<String>,
}

impl Daemon {
    pub async fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = lines(child.stderr.take().unwrap());
        let mut said = String::new();
        while let Some(line) = log.recv().await {
            if let Some((_, address)) = line.split_once("http.address=") {
                let address = address.trim().to_owned();
                return Self { url: format!("http://{address}"), address, child, log };
            }
            said.push_str(&line);
            said.push('\n');
        }
        panic!("the daemon ended before it listened: {said}");
    }

    pub async fn get(&self, path: &str) -> (u16, Value) {
        read(reqwest::get(format!("{}{path}", self.url)).await.unwrap()).await
    }

    pub async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let request = reqwest::Client::new().post(format!("{}{path}", self.url)).body(body.to_owned());
        read(request.send().await.unwrap()).await
    }

    /// SIGTERM, and the rest of its log.
    pub async fn stop(mut self) -> (i32, String) {
        self.terminate();
        let mut rest = String::new();
        while let Some(line) = self.log.recv().await {
            rest.push_str(&line);
            rest.push('\n');
        }
        (self.ended().await, rest)
    }

    /// SIGTERM, and no more.
    pub fn terminate(&self) {
        let pid = self.child.id().unwrap().to_string();
        let sent = std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
        assert!(sent.success());
    }

    /// How it ended.
    pub async fn ended(&mut self) -> i32 {
        self.child.wait().await.unwrap().code().unwrap_or(-1)
    }

    /// Waits until its log says this.
    pub async fn says(&mut self, part: &str) {
        while let Some(line) = self.log.recv().await {
            if line.contains(part) {
                return;
            }
        }
        panic!("the daemon ended without saying {part:?}");
    }
}

/// Read as they come: a daemon that nobody listens to would wait for somebody once the pipe is full.
fn lines(log: ChildStderr) -> UnboundedReceiver<String> {
    let (told, heard) = unbounded_channel();
    tokio::spawn(async move {
        let mut lines = BufReader::new(log).lines();
        while let Some(line) = lines.next_line().await.unwrap() {
            // A test that is over listens no more.
            let _ = told.send(line);
        }
    });
    heard
}

async fn read(answer: reqwest::Response) -> (u16, Value) {
    (answer.status().as_u16(), answer.json().await.unwrap())
}

/// `serve`, to be started.
pub fn serve(world: &World) -> Command {
    world.command(&["serve", "--without-gateway", "--listen", "127.0.0.1:0"])
}

/// Asks until the daemon says so. Bounded by the lease, and then by the test's own patience.
async fn until_ready_is(daemon: &Daemon, expected: u16) {
    tokio::time::timeout(std::time::Duration::from_secs(60), async {
        while daemon.get("/health/ready").await.0 != expected {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("the daemon never answered {expected}"));
}

#[tokio::test]
async fn the_daemon_is_live_and_ready_until_it_is_told_to_stop() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    assert_eq!(daemon.get("/health/live").await, (200, json!({ "status": "live" })));
    assert_eq!(daemon.get("/health/ready").await, (200, json!({ "status": "ready" })));
    assert_eq!(daemon.get("/health").await.0, 200);
    assert_eq!(daemon.get("/wealth").await.1["error"], "not_found");
    assert_eq!(daemon.post("/health", "{}").await.0, 405);
    assert_eq!(daemon.post("/gateway/start", "{}").await.0, 404, "it serves no gateways");
    let pool = world.database.pool().await;
    // Nobody can renew a lease while this transaction is open.
    let mut transaction = pool.begin().await.unwrap();
    transaction.execute("lock table backstitch.incarnation in access exclusive mode").await.unwrap();
    until_ready_is(&daemon, 503).await;
    assert_eq!(daemon.get("/health/ready").await.1["error"], "no_lease");
    assert_eq!(daemon.get("/health/live").await.0, 200, "restarting it would not help");
    transaction.rollback().await.unwrap();
    until_ready_is(&daemon, 200).await;
    let (code, log) = daemon.stop().await;
    assert_eq!(code, 0, "{log}");
}

#[tokio::test]
async fn a_second_daemon_on_the_same_port_says_so() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let second = ["serve", "--without-gateway", "--listen", &daemon.address.clone()];
    let ran = world.run(&second).await.expect(1);
    assert!(ran.err.contains(&daemon.address) && ran.err.contains("choose another address"), "{ran:?}");
    daemon.stop().await;
}

#[tokio::test]
async fn a_caller_that_never_ends_its_request_is_hung_up_on() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let mut slow = TcpStream::connect(&daemon.address).await.unwrap();
    slow.write_all(b"GET /health HTTP/1.1\r\nHost: a").await.unwrap();
    let mut answer = Vec::new();
    // Ends when the daemon hangs up; without its bound, never.
    slow.read_to_end(&mut answer).await.unwrap();
    daemon.stop().await;
}
