//! Ways to PowerDNS on which something happens to a change before it gets there.

use std::io;
use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// More than any request or answer of these tests has.
const BYTES_MAX: usize = 64 * 1024;

/// What becomes of the answer to a change.
pub enum Answer {
    /// The client gets it.
    Passed,
    /// Lost in silence: the client must wait for its timeout. Told: when it came, so that the change has landed.
    Lost(oneshot::Sender<()>),
}

/// A way on which this is done before each change is passed on. A client that goes away does not take its change with it.
pub async fn way<F>(to: SocketAddr, before_change: impl Fn() -> F + Clone + Send + 'static) -> SocketAddr
where
    F: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            // Ends with its server.
            tokio::spawn(carry(client, to, before_change.clone()));
        }
    });
    address
}

async fn carry<F>(client: TcpStream, to: SocketAddr, before_change: impl Fn() -> F) -> io::Result<()>
where
    F: Future<Output = Answer>,
{
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = TcpStream::connect(to).await?.into_split();
    let (lose, lost) = oneshot::channel::<oneshot::Sender<()>>();
    tokio::spawn(async move {
        tokio::select! {
            _ = tokio::io::copy(&mut from_server, &mut to_client) => return,
            Ok(tell) = lost => {
                let _ = from_server.read(&mut vec![0; BYTES_MAX]).await;
                let _ = tell.send(());
            }
        }
        std::future::pending::<()>().await;
    });
    let (mut bytes, mut lose) = (vec![0; BYTES_MAX], Some(lose));
    loop {
        let length = from_client.read(&mut bytes).await?;
        if length == 0 {
            // A connection that was cut would take the change with it; this one is only slow.
            std::future::pending::<()>().await;
        }
        if bytes.starts_with(b"PATCH ")
            && let Answer::Lost(tell) = before_change().await
            && let Some(lose) = lose.take()
        {
            let _ = lose.send(tell);
        }
        to_server.write_all(&bytes[..length]).await?;
    }
}
