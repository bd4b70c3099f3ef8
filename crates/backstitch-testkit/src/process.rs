//! What a process does that is a worker of scripted workflows, from its start to SIGTERM, or to a death that nobody announces.

use std::env;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use backstitch::{Database, Timing};
use sqlx::postgres::PgConnectOptions;
use tokio::signal::unix::{SignalKind, signal};

use crate::ledger::Ledger;
use crate::perform::Ground;
use crate::recorder::Recorder;
use crate::world::{TIMING, worker_on};

/// Works until SIGTERM, as the environment says: `DATABASE_URL`, and by choice `TRANSACTION_POOLER` (one is on the way there),
/// `LEDGER_URL` (where effects are rows, the journal's own database unless said), `RECORDER` (the socket of the process that
/// hears of effects instead), `STATE_DIRECTORY` (where its lock file is), `CONCURRENCY`, `QUEUE` (the one it works on) and
/// `LEASE_SECONDS`. Says `working` when it does.
///
/// # Panics
/// When it can't start: whoever spawned it sees so.
pub async fn work_until_terminated() {
    let url = env::var("DATABASE_URL").expect("DATABASE_URL says where the journal is");
    let options = PgConnectOptions::from_str(&url).expect("DATABASE_URL is a URL");
    let database = match env::var_os("TRANSACTION_POOLER") {
        Some(_) => Database::behind_transaction_pooler(options),
        None => Database::connect_with(options).await.expect("the database answers"),
    };
    let ledger = match env::var("LEDGER_URL") {
        Ok(url) => sqlx::PgPool::connect(&url).await.expect("the ledger answers"),
        Err(_) => database.pool().clone(),
    };
    let recorder = env::var_os("RECORDER").map(|socket| Recorder::at(PathBuf::from(socket)));
    let mut worker = worker_on(database, Ground { ledger: Ledger::there(ledger), recorder });
    if let Some(directory) = env::var_os("STATE_DIRECTORY") {
        worker = worker.state_directory(directory);
    }
    if let Ok(workflows) = env::var("CONCURRENCY") {
        worker = worker.concurrency(workflows.parse().expect("CONCURRENCY is a number"));
    }
    if let Ok(queue) = env::var("QUEUE") {
        worker = worker.queues([queue]);
    }
    if let Ok(seconds) = env::var("LEASE_SECONDS") {
        let lease = Duration::from_secs(seconds.parse().expect("LEASE_SECONDS is a number"));
        worker = worker.timing(Timing { lease, ..TIMING });
    }
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    let running = worker.start().await.expect("the worker starts");
    println!("working");
    terminate.recv().await;
    running.shut_down().await;
}

/// Where distributions keep the library that sets one process' clock wrong (`LD_PRELOAD`, `FAKETIME`).
#[must_use]
pub fn faketime() -> Option<PathBuf> {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib"].map(Path::new);
    let directories = roots.into_iter().flat_map(|root| {
        let below = std::fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
        below.chain([root.to_owned()]).collect::<Vec<_>>()
    });
    let mut candidates = directories.map(|directory| directory.join("faketime/libfaketime.so.1"));
    candidates.find(|library| library.is_file())
}
