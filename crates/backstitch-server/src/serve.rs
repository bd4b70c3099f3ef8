//! How is HTTP served until the daemon stops?
//!
//! By hand instead of `axum::serve`, which lets a caller take forever to send its request line and headers.

use std::io;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::refusal::Refusal;
use crate::strangers::Peer;
use crate::tls::Tls;

/// How long a caller may take to agree on TLS, and to send its request line and headers, and how long an idle connection is kept.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// How many connections are served at once; the next waits. Callers wait for whole workflows, so there may be many.
const CONNECTIONS_MAX: usize = 1024;

/// How long to wait when no connection can be accepted, for example because the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, with TLS if it is given, and counts what it answers; then takes no new connection, and returns when
/// those at work have their answer.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    metrics: Metrics,
    stop: CancellationToken,
) {
    let tls = tls.map(|tls| tls.acceptor());
    let router = metrics.around(router.fallback(unknown_path).method_not_allowed_fallback(wrong_method));
    let connections = TaskTracker::new();
    let places = std::sync::Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places)).await {
        match accepted {
            Ok((stream, peer, place)) => {
                let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
                connections.spawn(async move {
                    match tls {
                        None => converse(stream, peer, router, stop).await,
                        Some(tls) => converse_by_tls(stream, peer, tls, router, stop).await,
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn unknown_path(uri: Uri) -> Refusal {
    Refusal::new(
        StatusCode::NOT_FOUND,
        "not_found",
        format!("there is nothing at {}: check the path", uri.path()),
    )
}

async fn wrong_method(method: Method, uri: Uri) -> Refusal {
    let why = format!("{method} is not for {}: requests are POST, the rest is GET", uri.path());
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", why)
}

async fn accept(
    listener: &TcpListener,
    places: &std::sync::Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer(address.ip()), place))
}

async fn converse_by_tls(
    stream: TcpStream,
    peer: Peer,
    tls: TlsAcceptor,
    router: Router,
    stop: CancellationToken,
) {
    match stop.run_until_cancelled(timeout(HEAD_TIME, tls.accept(stream))).await {
        Some(Ok(Ok(stream))) => converse(stream, peer, router, stop).await,
        Some(Ok(Err(error))) => tracing::debug!(%error, "a connection did not come to speak TLS"),
        Some(Err(_)) => tracing::debug!("a connection took too long to speak TLS"),
        None => {}
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: Peer,
    router: Router,
    stop: CancellationToken,
) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = stop.cancelled() => {
            // What is being answered is answered; what is idle is closed.
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke");
    }
}
