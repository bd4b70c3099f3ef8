//! A worker of scripted workflows in a process of its own, for tests to kill.

use std::env;

use backstitch::Database;
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::world::worker;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let var = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} says where"));
    let database = Database::connect(&var("DATABASE_URL")).await.expect("the database answers");
    let ledger = sqlx::PgPool::connect(&var("LEDGER_URL")).await.expect("the ledger answers");
    let mut worker = worker(database, Ledger::in_database(ledger).await);
    if let Ok(directory) = env::var("STATE_DIRECTORY") {
        worker = worker.state_directory(directory);
    }
    if let Ok(workflows) = env::var("CONCURRENCY") {
        worker = worker.concurrency(workflows.parse().expect("CONCURRENCY is a number"));
    }
    let mut terminate = signal(SignalKind::terminate()).expect("signals can be listened for");
    let running = worker.start().await.expect("the worker starts");
    println!("working");
    terminate.recv().await;
    running.shut_down().await;
}
