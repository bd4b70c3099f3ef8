//! What does asking for workflows cost, and waiting for them?

use std::time::{Duration, Instant};

use backstitch::{Client, Database};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnection, PgPoolOptions};

use super::Bench;
use super::ask::AT_ONCE;
use super::baseline::commits_per_second;
use super::error::Error;
use super::figure::Figure;
use super::meter::Meter;
use super::place::BenchDatabase;
use super::sample::each;
use super::throughput::CLIENTS;
use super::waiting::kib_each;
use super::work::{Completing, Made, worker_of_nothing};

/// Measures. Keys:
///
/// - `enqueue.per_s_1`, `enqueue.per_s_64`: workflows asked for one by one, each in a transaction of its own, by 1 and by 64
///   clients that hold a connection each, as those of the baseline do (`send_in`). `enqueue.ratio_1`, `enqueue.ratio_64`:
///   those over the single-row insert commits of as many clients in the same round.
/// - `enqueue.pooled_ratio_1`, `enqueue.pooled_ratio_64`: the same for clients that use `send`, each with a pool of one
///   connection: the driver asks a connection whether it is well whenever it comes back to its pool.
/// - `enqueue.per_s_64_heard`: the same by 64 clients while a worker listens, which every wake-up wakes, and which finds no
///   kind that it serves. `enqueue.heard_ratio_64`: that over `enqueue.per_s_64`.
/// - `enqueue.many_per_s`: 10,000 asked for in one statement.
/// - `enqueue.log_bytes`: WAL of one enqueue in a transaction of its own, by 1 client.
/// - `enqueue.kib_per_waiting`: resident memory of one of a thousand callers in `Client::wait`.
///
/// # Errors
/// When the database does not answer.
pub async fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    // First: memory that was used once is not given back.
    let database = bench.place.database().await?;
    let kib_per_waiting = kib_each(&database).await?;
    bench.place.forget(database).await?;
    let mut meter = Meter::at(&bench.place).await?;
    let mut rounds = Vec::new();
    for round in 1..=bench.pace.rounds {
        bench.tell(format!("enqueue: round {round} of {}", bench.pace.rounds));
        rounds.push(round_of(bench, &mut meter).await?);
    }
    let runs = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let pooled = "the same through a pool, which pings a connection that comes back";
    let over = "enqueues a second over single-row insert commits of as many clients";
    Ok(vec![
        Figure::of(
            "enqueue.per_s_1",
            "/s",
            "workflows asked for one by one, 1 client",
            runs(|round| round.one),
        ),
        Figure::of("enqueue.ratio_1", "ratio", over, runs(|round| round.one / round.commits_1)),
        Figure::of("enqueue.per_s_64", "/s", "the same by 64 clients", runs(|round| round.many)),
        Figure::of("enqueue.ratio_64", "ratio", over, runs(|round| round.many / round.commits_64)),
        Figure::of("enqueue.pooled_ratio_1", "ratio", pooled, runs(|round| round.pooled_1 / round.commits_1)),
        Figure::of(
            "enqueue.pooled_ratio_64",
            "ratio",
            pooled,
            runs(|round| round.pooled_64 / round.commits_64),
        ),
        Figure::of(
            "enqueue.per_s_64_heard",
            "/s",
            "the same while a worker listens",
            runs(|round| round.heard),
        ),
        Figure::of(
            "enqueue.heard_ratio_64",
            "ratio",
            "with a listener over without",
            runs(|round| round.heard / round.many),
        ),
        Figure::of("enqueue.many_per_s", "/s", "10,000 in one statement", runs(|round| round.at_once)),
        Figure::of(
            "enqueue.log_bytes",
            "bytes",
            "WAL of one, in a transaction of its own",
            runs(|round| round.log_bytes),
        ),
        Figure::once(
            "enqueue.kib_per_waiting",
            "KiB",
            "resident memory of one of 1,000 callers that wait",
            kib_per_waiting,
        ),
    ])
}

struct Round {
    commits_1: f64,
    commits_64: f64,
    one: f64,
    many: f64,
    pooled_1: f64,
    pooled_64: f64,
    heard: f64,
    at_once: f64,
    log_bytes: f64,
}

async fn round_of(bench: &Bench, meter: &mut Meter) -> Result<Round, Error> {
    let database = bench.place.database().await?;
    let run = bench.pace.baseline_run;
    let commits_1 = commits_per_second(&database, 1, run).await?;
    let log_end = meter.log_end().await?;
    let first = enqueues(&database, 1, run, By::Connection).await?;
    let log_bytes = (meter.log_end().await? - log_end) / (first.enqueued + 1.0);
    let pooled_1 = enqueues(&database, 1, run, By::Pool).await?.per_second;
    let commits_64 = commits_per_second(&database, CLIENTS, run).await?;
    let many = enqueues(&database, CLIENTS, run, By::Connection).await?.per_second;
    let pooled_64 = enqueues(&database, CLIENTS, run, By::Pool).await?.per_second;
    let engine = database.engine().await?;
    let listening = worker_of_nothing(engine.clone()).start().await?;
    let heard = enqueues(&database, CLIENTS, run, By::Connection).await?.per_second;
    listening.shut_down().await;
    let begun = Instant::now();
    Client::new(engine.clone()).enqueue_many((0..AT_ONCE).map(|_| Completing::make())).send().await?;
    let at_once = each(AT_ONCE) / begun.elapsed().as_secs_f64();
    engine.close().await;
    bench.place.forget(database).await?;
    let one = first.per_second;
    bench.tell(format!(
        "  {one:.0}/s by 1 client, {many:.0}/s by {CLIENTS}, {heard:.0}/s heard, {at_once:.0}/s at once"
    ));
    Ok(Round { commits_1, commits_64, one, many, pooled_1, pooled_64, heard, at_once, log_bytes })
}

/// How many workflows a second so many clients ask for one by one, on connections that they hold.
pub(super) async fn directly(database: &BenchDatabase, clients: usize, run: Duration) -> Result<f64, Error> {
    Ok(enqueues(database, clients, run, By::Connection).await?.per_second)
}

/// How a client asks.
#[derive(Clone, Copy)]
enum By {
    /// `send`: through a pool of one connection.
    Pool,
    /// `send_in`: on a connection that it holds, as the baseline does.
    Connection,
}

struct Asker {
    client: Client,
    connection: Option<PgConnection>,
}

impl Asker {
    async fn on(database: &BenchDatabase, by: By) -> Result<Self, Error> {
        let connecting = || Error::database("connecting a client");
        let options = database.options.clone();
        let pool =
            PgPoolOptions::new().max_connections(1).test_before_acquire(false).connect_lazy_with(options);
        let connection = match by {
            By::Pool => None,
            By::Connection => Some(database.options.connect().await.map_err(connecting())?),
        };
        Ok(Self { client: Client::new(Database::from_pool(pool)), connection })
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let enqueue = self.client.enqueue(Completing::make());
        match &mut self.connection {
            None => enqueue.send().await?,
            Some(connection) => enqueue.send_in(connection).await?,
        };
        Ok(())
    }

    /// How many it asked for.
    async fn ask_until(mut self, end: Instant) -> Result<f64, Error> {
        let mut enqueued = 0.0;
        while Instant::now() < end {
            self.ask().await?;
            enqueued += 1.0;
        }
        self.client.database().close().await;
        Ok(enqueued)
    }
}

struct Enqueued {
    enqueued: f64,
    per_second: f64,
}

/// So many clients ask one by one.
async fn enqueues(
    database: &BenchDatabase,
    clients: usize,
    run: Duration,
    by: By,
) -> Result<Enqueued, Error> {
    let mut askers = Vec::with_capacity(clients);
    for _ in 0..clients {
        let mut asker = Asker::on(database, by).await?;
        // The first call of a session prepares the statement and reads the function.
        asker.ask().await?;
        askers.push(asker);
    }
    let begun = Instant::now();
    let asking: Vec<_> = askers.into_iter().map(|asker| tokio::spawn(asker.ask_until(begun + run))).collect();
    let mut enqueued = 0.0;
    for client in asking {
        enqueued += client.await.map_err(|error| Error::Run(format!("a client ended: {error}")))??;
    }
    Ok(Enqueued { enqueued, per_second: enqueued / begun.elapsed().as_secs_f64() })
}
