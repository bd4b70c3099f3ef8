//! Whose route does the running nginx serve under a name?
//!
//! A hand-made request on a connection of its own: a pooled connection could still lead to an old worker, and a closed
//! connection without an answer (444, the usual answer to unknown names) must not look like trouble.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::error::NginxError;
use super::vhost::MARKER_PATH;
use crate::identifiers::{Hostname, Owner};

/// The marker is served from memory on this host.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(1);
/// A marker has 37 bytes; of another site's page no more is needed to see that it is none.
const ANSWER_LENGTH_MAX: u64 = 4096;

pub(super) async fn marker(edge: SocketAddr, hostname: &Hostname) -> Result<Option<Owner>, NginxError> {
    let answer = tokio::time::timeout(PROBE_TIMEOUT, ask(edge, hostname))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(|source| NginxError::EdgeSilent { edge, changed: false, source })?;
    Ok(owner_in(&answer))
}

async fn ask(edge: SocketAddr, hostname: &Hostname) -> io::Result<String> {
    let mut connection = TcpStream::connect(edge).await?;
    let request = format!("GET {MARKER_PATH} HTTP/1.0\r\nHost: {hostname}\r\nUser-Agent: backstitch\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    match connection.take(ANSWER_LENGTH_MAX).read_to_end(&mut answer).await {
        // A reset instead of an orderly end: closed without an answer all the same.
        Err(e) if e.kind() != io::ErrorKind::ConnectionReset => return Err(e),
        _ => {}
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// The owner, if this is the answer of a vhost of ours and not some other site's page.
fn owner_in(answer: &str) -> Option<Owner> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?;
    (status == "200").then(|| body.trim().parse().ok()).flatten()
}
