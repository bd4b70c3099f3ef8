//! `backstitch gateway`: the pool, and who has a gateway of it.

use std::time::Duration;

use backstitch::{Client, Unfinished};
use backstitch_gateway::pool::{self, Listed, PoolError};
use backstitch_gateway::request::{self, Requested};
use serde_json::{Value, json};
use sqlx::PgConnection;
use tokio::time::Instant;

use crate::arguments::{GatewayCommand, GatewayVerb, OnOrganization};
use crate::exit::{Exit, Failed};
use crate::gateway_http::Way;
use crate::output::{cell, clean, lines, note, say, say_json, table};
use crate::progress::waiting;
use crate::settings::Settings;
use crate::time::moment;
use crate::{connect, edge};

/// How long the pool may take to answer.
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// Does what the verb says.
pub async fn run(settings: &Settings, command: GatewayCommand) -> Result<Exit, Failed> {
    match command.verb {
        GatewayVerb::Add { name, upstream, allowed_networks, json } => {
            let networks = edge::networks(allowed_networks, settings.gateway_config())?;
            let upstream = networks.upstream(&upstream).map_err(|error| Failed::usage(error.to_string()))?;
            let gateway = with_pool(settings, async |connection| {
                let gateway = pool::add(connection, &name, upstream).await?;
                pool::set_ready(connection, gateway).await.map(|()| gateway)
            });
            let gateway = gateway.await?;
            match json {
                true => say_json(&json!({ "gateway": gateway, "name": name, "upstream": upstream }))?,
                false => say(&format!("gateway {gateway} is ready to be handed out"))?,
            }
        }
        GatewayVerb::List { json } => {
            let listed = with_pool(settings, async |connection| pool::list(connection).await).await?;
            match json {
                true => say_json(&listed)?,
                false if listed.is_empty() => note("no gateways; add one with `backstitch gateway add`"),
                false => say(&as_table(&listed))?,
            }
        }
        GatewayVerb::Stats { json } => {
            let stats = with_pool(settings, async |connection| pool::stats(connection).await).await?;
            if json {
                say_json(&stats)?;
            } else {
                let mut table = table(&["TOTAL", "NEW", "READY", "ALLOCATED", "STOPPING", "QUARANTINED"]);
                let states =
                    [stats.total, stats.new, stats.ready, stats.allocated, stats.stopping, stats.quarantined];
                table.add_row(states);
                say(&lines(table))?;
            }
        }
        GatewayVerb::Quarantine { gateway, why } => {
            if why.trim().is_empty() {
                return Err(Failed::usage("--why: say why, so that whoever finds it quarantined knows"));
            }
            with_pool(settings, async |connection| pool::quarantine(connection, gateway, &why).await).await?;
            say(&format!("gateway {gateway} is quarantined: it is not handed out again"))?;
        }
        GatewayVerb::Release { gateway } => {
            with_pool(settings, async |connection| pool::release_quarantine(connection, gateway).await)
                .await?;
            say(&format!("gateway {gateway} is out of quarantine"))?;
        }
        GatewayVerb::Start(arguments) => return ask(settings, Way::Start, arguments).await,
        GatewayVerb::Stop(arguments) => return ask(settings, Way::Stop, arguments).await,
    }
    Ok(Exit::Done)
}

/// Whether the pool's schema is there.
pub async fn check_migrated(client: &Client) -> Result<(), Failed> {
    on_pool(client, async |connection| pool::stats(connection).await).await.map(|_| ())
}

async fn ask(settings: &Settings, way: Way, arguments: OnOrganization) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    check_migrated(&client).await?;
    let organization = arguments.organization;
    let deadline = Instant::now() + Duration::from_secs(arguments.wait);
    let asked = async {
        match way {
            Way::Start => request::start(&client, organization, deadline).await,
            Way::Stop => request::stop(&client, organization, deadline).await,
        }
    };
    let requested = waiting("waiting; it goes on without us too …", asked).await;
    let requested = requested.map_err(|error| Failed::because(&error, ""))?;
    let (answer, text, exit) = told(requested);
    match arguments.json {
        true => say_json(&answer)?,
        false => say(&clean(&text))?,
    }
    Ok(exit)
}

/// For programs, for people, and the number.
fn told(requested: Requested) -> (Value, String, Exit) {
    let unfinished = |word: &str, exit, unfinished: Box<Unfinished>| {
        let workflow = unfinished.workflow;
        let text = format!(
            "{}: {}\n{}\nsee `backstitch show {workflow}`",
            word.replace('_', " "),
            unfinished.error,
            unfinished.report
        );
        (json!({ "answer": word, "unfinished": unfinished }), text, exit)
    };
    match requested {
        Requested::Started { hostname, allocation } | Requested::Active { hostname, allocation } => {
            let answer =
                json!({ "answer": "active", "gateway_hostname": hostname, "allocation": allocation });
            (answer, hostname.to_string(), Exit::Done)
        }
        Requested::Stopped => {
            let answer = json!({ "answer": "stopped", "was_served": true });
            (answer, "the organisation's gateway is stopped".to_owned(), Exit::Done)
        }
        Requested::NothingToStop => {
            let answer = json!({ "answer": "stopped", "was_served": false });
            (answer, "no gateway served the organisation: there was nothing to stop".to_owned(), Exit::Done)
        }
        Requested::NoGatewayAvailable(why) => unfinished("no_gateway_available", Exit::Compensated, why),
        Requested::Failed(why) => unfinished("compensated", Exit::Compensated, why),
        Requested::NeedsAttention(why) => unfinished("needs_attention", Exit::NeedsAttention, why),
        Requested::Conflict { workflow, message } => {
            let answer = json!({ "answer": "conflict", "workflow": workflow, "message": message });
            (answer, format!("{message}; see `backstitch show {workflow}`"), Exit::Refused)
        }
        Requested::StillRunning(workflow) => {
            let text = format!("it is still under way, and goes on; see `backstitch show {workflow}`");
            (json!({ "answer": "still_under_way", "workflow": workflow }), text, Exit::StillUnderWay)
        }
    }
}

async fn with_pool<T>(
    settings: &Settings,
    call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, PoolError>,
) -> Result<T, Failed> {
    let database = connect::connect(settings).await?;
    on_pool(&Client::new(database), call).await
}

async fn on_pool<T>(
    client: &Client,
    call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, PoolError>,
) -> Result<T, Failed> {
    match tokio::time::timeout(ANSWER_TIME, client.database().call(call)).await {
        Ok(answer) => answer.map_err(explain),
        Err(_) => {
            let message = format!(
                "the pool does not answer within {} s; look whether Postgres is well",
                ANSWER_TIME.as_secs()
            );
            Err(Failed::new(Exit::Error, message))
        }
    }
}

fn explain(error: PoolError) -> Failed {
    let exit = match &error {
        PoolError::Database(source) => {
            // No such schema, function or table.
            let code = source.as_database_error().and_then(|error| error.code());
            if matches!(code.as_deref(), Some("3F000" | "42883" | "42P01")) {
                return Failed::new(
                    Exit::Error,
                    "the schema gateway is not there or too old: run `backstitch migrate`",
                );
            }
            Exit::Error
        }
        PoolError::Migration(_) | PoolError::Undecodable(_) | PoolError::UnknownStatus { .. } => Exit::Error,
        PoolError::Invalid(_) => Exit::Usage,
        _ => Exit::Refused,
    };
    Failed { exit, ..Failed::because(&error, "") }
}

fn as_table(listed: &[Listed]) -> String {
    let mut table = table(&["ID", "NAME", "UPSTREAM", "STATE", "ORGANIZATION", "SINCE", "REASON"]);
    for gateway in listed {
        let dash = || "-".to_owned();
        let since = gateway.allocated_at.or(gateway.free_since);
        table.add_row([
            cell(gateway.gateway),
            cell(&gateway.name),
            cell(gateway.upstream),
            cell(&gateway.state),
            cell(gateway.organization.map_or_else(dash, |organization| organization.to_string())),
            cell(since.map_or_else(dash, moment)),
            cell(gateway.reason.as_deref().unwrap_or_default()),
        ]);
    }
    lines(table)
}
