//! `backstitch serve`: the daemon, from its first check to its last answer.

use backstitch::{Client, Inputs};
use backstitch_server::{ApiSettings, Closing, Gate, Metrics, Place, Places, api, health, serve};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arguments::Serve;
use crate::connect;
use crate::edge;
use crate::exit::{Exit, Failed};
use crate::gateway_http::{self, GatewayRoutes};
use crate::settings::Settings;
use crate::signals::Signals;
use crate::{alerts, crew, gateway, outside, prune, token};

/// Serves until told to stop.
pub async fn run(settings: &Settings, arguments: Box<Serve>) -> Result<Exit, Failed> {
    let daemon = settings.serve(&arguments.daemon)?;
    let without_gateway = arguments.without_gateway;
    let worker = settings.worker(arguments.worker);
    let edge = match without_gateway {
        true => None,
        false => Some(settings.edge(arguments.edge, &worker)?),
    };
    let mut signals = Signals::listen()?;
    let client = connect::client(settings).await?;
    if let Some(edge) = &edge {
        gateway::check_migrated(&client).await?;
        edge::check(edge).await?;
    }
    if daemon.listen.is_beyond_loopback() {
        somebody_has_a_token(&client).await?;
    }
    // Before the worker: a second daemon on the same port takes up no work that it would have to hand back.
    let listener = listen(&daemon.listen).await?;
    let domain = edge.as_ref().map(|edge| edge.powerdns.zone.clone());
    let asked = of_its_own(&client);
    let inputs = edge.as_ref().map_or_else(Inputs::new, |_| backstitch_gateway::inputs());
    let outside = edge.clone().map(|edge| outside::of_gateways(asked.clone(), edge)).transpose()?;
    let running = crew::start(&client, edge, &worker).await?;

    let (closing, stopped) = (CancellationToken::new(), CancellationToken::new());
    let beside = TaskTracker::new();
    let gate = Gate::new(daemon.access, asked.clone());
    let metrics = Metrics::new();
    let places = Places::new(metrics.clone());
    let gateway = domain.map_or_else(axum::Router::new, |domain| {
        gateway_http::routes(GatewayRoutes {
            client: asked.clone(),
            places: places.clone(),
            domain,
            answer_within: daemon.answer_within,
            stopped: stopped.clone(),
        })
    });
    let gateway = match daemon.listen.is_beyond_loopback() {
        true => gate.before(gateway, &gateway_http::KINDS),
        false => gateway,
    };
    let errors = gateway_http::declared_errors();
    let api = api(ApiSettings {
        client: asked,
        gate,
        errors,
        inputs,
        outside,
        origins: daemon.allowed_origins,
        places,
        metrics: metrics.clone(),
        stopped: stopped.clone(),
    });
    let routes = health(running.pulse()).merge(gateway).merge(api);
    let ends = Closing { stop: closing.clone(), stopped: stopped.clone() };
    beside.spawn(serve(listener, daemon.listen.tls().cloned(), routes, metrics, ends));
    if let Some(keep) = daemon.keep_finished {
        beside.spawn(prune::keep_removing(client.clone(), keep, closing.clone()));
    }
    beside.spawn(alerts::tell(client, daemon.alert_webhook, closing.clone()));

    let signal = signals.next().await;
    tracing::info!(
        signal,
        "stopping: running attempts may end, the rest is handed back; once more ends at once"
    );
    signals.exit_on_the_next();
    closing.cancel();
    running.shut_down().await;
    // Whoever still waits for a workflow is told so now.
    stopped.cancel();
    beside.close();
    beside.wait().await;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// With connections of its own: whoever asks much over HTTP takes none that the worker needs.
fn of_its_own(client: &Client) -> Client {
    Client::new(client.database().apart())
}

/// A daemon that others can reach and that answers nobody was not meant.
async fn somebody_has_a_token(client: &Client) -> Result<(), Failed> {
    match token::is_any_good(client).await? {
        true => Ok(()),
        false => Err(Failed::refused(format!("{}: {}", token::NONE_BEYOND_LOOPBACK, token::MAKE_ONE))),
    }
}

async fn listen(place: &Place) -> Result<TcpListener, Failed> {
    let wrong = |error: std::io::Error| {
        let what_to_do = "stop whoever listens there, or choose another address with --listen";
        Failed::new(Exit::Error, format!("listening on {place}: {error}; {what_to_do}"))
    };
    let listener = TcpListener::bind(place.address()).await.map_err(wrong)?;
    let address = listener.local_addr().map_err(wrong)?;
    tracing::info!(http.tls = place.tls().is_some(), http.address = %address, "listening");
    Ok(listener)
}
