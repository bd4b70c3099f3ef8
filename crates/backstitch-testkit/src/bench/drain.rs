//! How long does a worker in this process take for all that is due, and what does it use?

use std::time::{Duration, Instant};

use backstitch::{Client, Handle, Running};

use super::error::Error;
use super::meter::Meter;
use super::place::BenchDatabase;
use super::proc;
use super::work::{Tally, worker};

/// Between two looks whether the last end is durable, once the last step has run.
const LOOK: Duration = Duration::from_millis(1);

/// A run, all in all.
#[derive(Debug)]
pub(super) struct Drained {
    /// From when the worker was at work until the last end was durable.
    pub(super) seconds: f64,
    /// Committed transactions, heartbeats and looks of the idle kind included.
    pub(super) commits: f64,
    /// Bytes written to the log of the server.
    pub(super) log_bytes: f64,
    /// The processor time of this process, in microseconds.
    pub(super) worker_microseconds: Result<f64, String>,
    /// That of the whole server.
    pub(super) server_microseconds: Result<f64, String>,
}

/// Starts a worker on a database in which so many workflows are due, waits until all have ended, and stops it.
pub(super) async fn drain(
    meter: &mut Meter,
    database: &BenchDatabase,
    workflows: u64,
    in_flight: usize,
) -> Result<Drained, Error> {
    let commits = meter.commits(database).await?;
    let log_end = meter.log_end().await?;
    let (worker_used, server_used) = (proc::own_microseconds(), meter.server_microseconds());
    let engine = database.engine().await?;
    let tally = Tally::new();
    let running = worker(engine.clone(), tally.clone()).concurrency(in_flight).start().await?;
    let begun = Instant::now();
    let end = wait_for_the_end(&tally, workflows, &Client::new(engine.clone()), &running).await?;
    let used = |now: Result<f64, String>, before: Result<f64, String>| Ok(now? - before?);
    let worker_microseconds = used(proc::own_microseconds(), worker_used);
    let server_microseconds = used(meter.server_microseconds(), server_used);
    let log_bytes = meter.log_end().await? - log_end;
    running.shut_down().await;
    engine.close().await;
    Ok(Drained {
        seconds: (end.at - begun).as_secs_f64(),
        commits: meter.commits(database).await? - commits - end.looks,
        log_bytes,
        worker_microseconds,
        server_microseconds,
    })
}

/// When everything had ended, and how often the database was asked about it.
pub(super) struct End {
    pub(super) at: Instant,
    pub(super) looks: f64,
}

/// Waits until so many workflows have ended durably. While they run nobody asks the database: the steps count themselves,
/// and only once the last one has run is its end looked for, closely.
pub(super) async fn wait_for_the_end(
    tally: &Tally,
    workflows: u64,
    client: &Client,
    running: &Running,
) -> Result<End, Error> {
    let mut looks = 0.0;
    if let Some(last) = tally.all(workflows).await? {
        // A look at one row, and so a quick one: what waits for later does not make it slower.
        let last = Handle::<()>::new(last);
        loop {
            looks += 1.0;
            let asked_at = Instant::now();
            if client.poll(&last).await?.is_some() {
                // The others ended before it, as a rule: then that was the end.
                looks += 1.0;
                if running.unsettled().await?.is_settled() {
                    return Ok(End { at: asked_at, looks });
                }
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    let at = wait_until_settled(running, &mut looks).await?;
    Ok(End { at, looks })
}

/// Asks until all is settled, and says when the answer that said so was asked for.
pub(super) async fn wait_until_settled(running: &Running, looks: &mut f64) -> Result<Instant, Error> {
    loop {
        let asked_at = Instant::now();
        *looks += 1.0;
        if running.unsettled().await?.is_settled() {
            return Ok(asked_at);
        }
        tokio::time::sleep(LOOK).await;
    }
}
