//! How is HTTP served until the daemon stops?
//!
//! By hand instead of `axum::serve`, which lets a caller take forever to send its request line and headers.

use std::io;
use std::sync::Arc;
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::bucket::{Allowance, Bucket};
use crate::metrics::Metrics;
use crate::patient::Patient;
use crate::refusal::Refusal;
use crate::shares::{Share, Shares};
use crate::strangers::Peer;
use crate::tls::Tls;

/// How long a caller may take to agree on TLS, and to send its request line and headers, and how long an idle connection is kept.
pub const HEAD_TIME: Duration = Duration::from_secs(10);

/// How many connections are served at once; the next waits. Callers wait for whole workflows, so there may be many.
const CONNECTIONS_MAX: usize = 1024;

/// How many of them one address may have, beyond this host: so none has all of them. A proxy is one address.
const OF_ONE_ADDRESS_MAX: usize = CONNECTIONS_MAX / 2;

/// How often it is told that an address has all that it may have: whoever tries on fills no log.
const TOLD: Allowance = Allowance { per_second: 0.1, at_once: 1.0 };

/// How long to wait when no connection can be accepted, for example because the process has too many files open.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long those who are told that the daemon stops may take to hear it: whoever reads does within a second.
const FAREWELL_TIME: Duration = Duration::from_secs(5);

/// When to stop: in two steps, as whoever waits for a workflow waits for what may still end meanwhile.
#[derive(Debug, Clone)]
pub struct Closing {
    /// No new connection is taken; what is being answered is answered.
    pub stop: CancellationToken,
    /// Nothing ends any more, and every handler knows it. Who has not heard his answer within five seconds is hung up on.
    pub stopped: CancellationToken,
}

/// Serves until it is told to stop, with TLS if it is given, and counts what it answers; then takes no new connection, and
/// returns when those at work have their answer, or do not take it.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    metrics: Metrics,
    Closing { stop, stopped }: Closing,
) {
    let tls = tls.map(|tls| tls.acceptor());
    let router = metrics.around(router.fallback(unknown_path).method_not_allowed_fallback(wrong_method));
    let (connections, hung_up) = (TaskTracker::new(), CancellationToken::new());
    let (places, shares) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), Shares::new(OF_ONE_ADDRESS_MAX));
    let mut told = Bucket::full(TOLD, Instant::now());
    while let Some(accepted) = stop.run_until_cancelled(accept(&listener, &places)).await {
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(share) = shares.take(peer) else {
            if told.take(Instant::now()) {
                tracing::warn!(peer.address = %peer.0, "an address has all the connections that one may have");
            }
            continue;
        };
        let (tls, router, stop) = (tls.clone(), router.clone(), stop.clone());
        connections.spawn(hung_up.clone().run_until_cancelled_owned(async move {
            let _held: (OwnedSemaphorePermit, Share) = (place, share);
            match tls {
                None => converse(Patient::new(stream), peer, router, stop).await,
                Some(tls) => converse_by_tls(Patient::new(stream), peer, tls, router, stop).await,
            }
        }));
    }
    drop(listener);
    connections.close();
    let too_late = async {
        stopped.cancelled().await;
        sleep(FAREWELL_TIME).await;
    };
    tokio::select! {
        () = connections.wait() => return,
        () = too_late => {}
    }
    tracing::info!(connections = connections.len(), "hanging up on those who do not take their answer");
    hung_up.cancel();
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
    places: &Arc<Semaphore>,
) -> io::Result<(TcpStream, Peer, OwnedSemaphorePermit)> {
    let place = places.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, address) = listener.accept().await?;
    Ok((stream, Peer(address.ip()), place))
}

async fn converse_by_tls(
    stream: Patient<TcpStream>,
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
