//! What becomes of a connection whose caller takes nothing of its answer?

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

use std::time::Duration;

use axum::Router;
use axum::routing::get;
use backstitch_server::{Closing, Metrics, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Far more than the kernel keeps between two programs.
const MUCH: usize = 64 * 1024 * 1024;

/// Whoever reads has it by then, and whoever does not is given up later.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, and a connection on which much was asked for of which only the beginning was taken.
async fn stage() -> (TcpStream, Closing, JoinHandle<()>) {
    let router = Router::new().route("/much", get(async || vec![b'x'; MUCH]));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let closing = Closing { stop: CancellationToken::new(), stopped: CancellationToken::new() };
    let served = tokio::spawn(serve(listener, None, router, Metrics::new(), closing.clone()));
    stream.write_all(b"GET /much HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    stream.read_exact(&mut [0; 1024]).await.unwrap();
    (stream, closing, served)
}

/// How much more comes, until the other end hangs up.
async fn rest(mut stream: TcpStream) -> usize {
    let mut rest = Vec::new();
    // Whoever is hung up on may be told so in the middle.
    let _ = stream.read_to_end(&mut rest).await;
    rest.len()
}

/// Time passes where everybody waits for it.
#[tokio::test(start_paused = true)]
async fn whoever_takes_nothing_for_half_a_minute_is_hung_up_on() {
    let (stream, closing, served) = stage().await;
    sleep(Duration::from_secs(60)).await;
    assert!(rest(stream).await < MUCH / 2, "it was given up");
    closing.stop.cancel();
    served.await.unwrap();
}

#[tokio::test]
async fn a_stop_does_not_wait_for_whoever_takes_nothing() {
    let (stream, closing, served) = stage().await;
    closing.stop.cancel();
    closing.stopped.cancel();
    timeout(PATIENCE, served).await.expect("it ends").unwrap();
    assert!(rest(stream).await < MUCH / 2);
}

#[tokio::test]
async fn whoever_reads_is_answered_in_full_though_it_stops() {
    let (stream, closing, served) = stage().await;
    closing.stop.cancel();
    assert!(timeout(PATIENCE, rest(stream)).await.expect("it ends") > MUCH - 1024);
    // Nothing has stopped yet that anybody waits for.
    timeout(PATIENCE, served).await.expect("it ends").unwrap();
}
