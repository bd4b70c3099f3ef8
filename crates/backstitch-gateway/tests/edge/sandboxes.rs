//! What does each test of the edge begin with?

use std::net::SocketAddr;

use backstitch_gateway::identifiers::{Hostname, Owner};
use backstitch_gateway::nginx::Vhost;
use backstitch_gateway::sandbox::{Sandbox, SandboxOptions};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// A sandbox with as many gateways as the test needs; in a directory that goes with it.
pub async fn sandbox(gateways: usize) -> Edge {
    let directory = tempfile::tempdir().unwrap();
    let options = SandboxOptions { gateways, ..options(&directory) };
    let sandbox = Sandbox::start(options).await.unwrap_or_else(|e| panic!("{e}"));
    Edge { sandbox, directory }
}

pub fn options(directory: &TempDir) -> SandboxOptions {
    SandboxOptions {
        gateway_binary: env!("CARGO_BIN_EXE_collab-gateway").into(),
        ..SandboxOptions::new(directory.path())
    }
}

/// The servers end before their directory is removed: fields are dropped in this order.
pub struct Edge {
    pub sandbox: Sandbox,
    pub directory: TempDir,
}

impl Edge {
    pub fn hostname(&self) -> Hostname {
        Hostname::new(Uuid::new_v4().into(), self.sandbox.domain.clone())
    }

    /// A route of a new organisation to an address nobody needs to listen on.
    pub fn vhost(&self) -> Vhost {
        Vhost { hostname: self.hostname(), upstream: "127.0.0.1:9".parse().unwrap(), owner: owner() }
    }

    /// Writes a record set as somebody would who knows nothing of us.
    pub async fn somebody_writes(&self, hostname: &Hostname, kind: &str, content: &str) {
        let set = serde_json::json!({
            "name": format!("{hostname}."), "type": kind, "ttl": 60, "changetype": "REPLACE",
            "records": [{ "content": content, "disabled": false }],
        });
        let config = self.sandbox.powerdns_config();
        let url = format!("{}api/v1/servers/localhost/zones/{}.", config.url, self.sandbox.domain);
        let change = serde_json::json!({ "rrsets": [set] });
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer =
            http.patch(url).header("X-API-Key", self.powerdns_key()).json(&change).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }

    /// As it stands in the server's own configuration: the client's shows it to nobody.
    pub fn powerdns_key(&self) -> String {
        let text = std::fs::read_to_string(self.directory.path().join("powerdns/pdns.conf")).unwrap();
        text.lines().find_map(|line| line.strip_prefix("api-key=")).unwrap().to_owned()
    }

    pub fn site(&self, name: &str) -> std::path::PathBuf {
        self.sandbox.nginx_config().sites.join(name)
    }

    pub fn sites(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.sandbox.nginx_config().sites).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// A stand-in for a server that has lost its measure: whatever it is asked, it says this, and so many spaces.
pub async fn stand_in_that_goes_on(says: &'static str, spaces: usize) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = client.read(&mut asked).await;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n\r\n";
            let answer = format!("{head}{says}{}", " ".repeat(spaces));
            // Whoever has read enough hangs up.
            let _ = client.write_all(answer.as_bytes()).await;
        }
    });
    address
}

/// A request or an answer, up to its body.
pub async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

pub fn owner() -> Owner {
    Uuid::new_v4().into()
}
