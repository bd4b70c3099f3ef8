//! `backstitch pg`: the Postgres of this user's own.

use std::time::Duration;

use backstitch_postgres::{Error, Status, Stop};
use serde_json::{Value, json};

use crate::arguments::{PgCommand, PgVerb};
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::progress::waiting;
use crate::settings::Settings;

/// The database of ours in it.
const DATABASE: &str = "backstitch";

/// Does what the verb says.
pub async fn run(settings: &Settings, command: PgCommand) -> Result<Exit, Failed> {
    let cluster = settings.cluster();
    let directory = cluster.directory().display().to_string();
    match command.verb {
        PgVerb::Status { json } => {
            let status = cluster.status().await.map_err(explain)?;
            let url = cluster.url(DATABASE).map_err(explain)?;
            if json {
                say_json(&as_json(&directory, &url, &status))?;
            } else {
                say(&told(&directory, &url, &status))?;
            }
            return Ok(match status {
                Status::Running { .. } => Exit::Done,
                Status::NotInitialised | Status::Stopped { .. } => Exit::Refused,
            });
        }
        PgVerb::Start => {
            let server = waiting("starting Postgres …", cluster.start()).await.map_err(explain)?;
            server.ensure_database(DATABASE).await.map_err(explain)?;
            say(&server.url(DATABASE))?;
        }
        PgVerb::Stop => {
            waiting("stopping Postgres …", cluster.stop(Stop::Fast)).await.map_err(explain)?;
            say(&format!("no Postgres runs in {directory}"))?;
        }
    }
    Ok(Exit::Done)
}

fn told(directory: &str, url: &str, status: &Status) -> String {
    match status {
        Status::NotInitialised => {
            format!("there is no Postgres in {directory} yet; `backstitch pg start` makes one")
        }
        Status::Stopped { version } => {
            format!("Postgres {version} in {directory} is stopped; `backstitch pg start` starts it")
        }
        Status::Running { pid, version, uptime, .. } => {
            let uptime = whole(*uptime);
            format!("Postgres {version} in {directory} runs as process {pid}, for {uptime}\n{url}")
        }
    }
}

fn as_json(directory: &str, url: &str, status: &Status) -> Value {
    match status {
        Status::NotInitialised => json!({ "status": "not_initialised", "directory": directory }),
        Status::Stopped { version } => {
            json!({ "status": "stopped", "directory": directory, "version": version })
        }
        Status::Running { pid, version, socket_directory, data_directory, uptime } => json!({
            "status": "running",
            "directory": directory,
            "url": url,
            "version": version,
            "pid": pid,
            "socket_directory": socket_directory,
            "data_directory": data_directory,
            "uptime_seconds": uptime.as_secs(),
        }),
    }
}

fn whole(uptime: Duration) -> String {
    let from = chrono::DateTime::UNIX_EPOCH;
    crate::time::span(from, from + chrono::Duration::from_std(uptime).unwrap_or_default())
}

fn explain(error: Error) -> Failed {
    Failed::because(&error, "")
}
