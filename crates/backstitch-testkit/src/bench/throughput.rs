//! How many workflows does a worker complete in a second, and what does each cost?

use super::baseline::{commits_per_second, rows_per_second};
use super::drain::{Drained, drain};
use super::error::Error;
use super::figure::Figure;
use super::meter::{self, Meter, Rows};
use super::place::BenchDatabase;
use super::sample::each;
use super::work::Completing;
use super::{Bench, ask, processes};

/// How many clients the baseline has that a ratio is taken of.
pub(super) const CLIENTS: usize = 64;

/// In flight where little is: a worker of its own for a small service.
const FEW: usize = 64;

/// How much longer a flush takes on a slow disk: a network volume, or a synchronous standby nearby.
const SLOW_FLUSH_MICROSECONDS: u32 = 2_500;

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Throughput {
    /// How many are enqueued before a worker starts.
    pub workflows: u64,
    /// How many a worker drives at once.
    pub in_flight: usize,
}

/// Measures. Keys, where `N` is what is in flight (512 unless said):
///
/// - `baseline.commits_per_s_1`, `baseline.commits_per_s_64`, `baseline.rows_per_s`: single-row inserts that commit, by 1
///   and by 64 clients of the same driver, and rows in commits of 100 by one client.
/// - `throughput.workflows_per_s_N`: from when the worker is at work, everything being enqueued, until the last end is
///   durable. `throughput.ratio_N`: that over the baseline of 64 clients of the same round.
/// - `throughput.workflows_per_s_64`, `throughput.ratio_64`: the same with 64 in flight.
/// - `throughput.workflows_per_s_N_slow_disk`, `throughput.ratio_N_slow_disk`: the same with 2.5 ms more for each flush of
///   the log, for the baseline too.
/// - `throughput.two_workers_of_one`: two processes with N in flight each, over one. `throughput.two_that_share_of_one`: two
///   with half of N each.
/// - `throughput.commits_per_workflow`, `throughput.log_bytes_per_workflow`, `throughput.log_bytes_per_enqueue`,
///   `throughput.rows_inserted_per_workflow`, `…updated…`, `…deleted…` (with those of the enqueue),
///   `throughput.bytes_left_per_workflow` (tables and indexes, after a vacuum),
///   `throughput.worker_cpu_us_per_workflow`, `throughput.postgres_cpu_us_per_workflow`: with N in flight.
///
/// # Errors
/// When the database does not answer, or workflows end otherwise than they should.
pub async fn measure(bench: &Bench, wanted: Throughput) -> Result<Vec<Figure>, Error> {
    let mut meter = Meter::at(&bench.place).await?;
    let mut rounds = Vec::new();
    for round in 1..=bench.pace.rounds {
        bench.tell(format!("throughput: round {round} of {}", bench.pace.rounds));
        rounds.push(round_of(bench, &mut meter, wanted).await?);
    }
    let mut figures = told(&rounds, wanted);
    figures.extend(slow_disk(bench, &mut meter, wanted).await?);
    figures.extend(processes::two_of_one(bench, wanted.workflows, wanted.in_flight).await?);
    Ok(figures)
}

/// The baseline and the engine, one after the other: what else the machine does meets both.
struct Round {
    commits_1: f64,
    commits_64: f64,
    rows: f64,
    many: Run,
    few: Run,
}

struct Run {
    per_second: f64,
    drained: Drained,
    enqueue_log_bytes: f64,
    rows: Rows,
    bytes_left: f64,
}

async fn round_of(bench: &Bench, meter: &mut Meter, wanted: Throughput) -> Result<Round, Error> {
    let database = bench.place.database().await?;
    let run = bench.pace.baseline_run;
    let commits_1 = commits_per_second(&database, 1, run).await?;
    let commits_64 = commits_per_second(&database, CLIENTS, run).await?;
    let rows = rows_per_second(&database, run).await?;
    bench.place.forget(database).await?;
    bench.tell(format!("  baseline: {commits_1:.0} commits/s by 1 client, {commits_64:.0} by {CLIENTS}"));
    let many = run_in_fresh_database(bench, meter, wanted, wanted.in_flight).await?;
    let few = run_in_fresh_database(bench, meter, wanted, FEW).await?;
    Ok(Round { commits_1, commits_64, rows, many, few })
}

async fn run_in_fresh_database(
    bench: &Bench,
    meter: &mut Meter,
    wanted: Throughput,
    in_flight: usize,
) -> Result<Run, Error> {
    let database = bench.place.database().await?;
    let run = run(bench, meter, &database, wanted.workflows, in_flight).await?;
    bench.place.forget(database).await?;
    Ok(run)
}

async fn run(
    bench: &Bench,
    meter: &mut Meter,
    database: &BenchDatabase,
    workflows: u64,
    in_flight: usize,
) -> Result<Run, Error> {
    let (bytes, log_end) = (meter::engine_bytes(database).await?, meter.log_end().await?);
    ask::many::<Completing>(database, workflows, None).await?;
    let enqueue_log_bytes = meter.log_end().await? - log_end;
    let drained = drain(meter, database, workflows, in_flight).await?;
    let completed = meter::ended(database, "completed").await?;
    if completed.unsigned_abs() != workflows {
        return Err(Error::Run(format!("{completed} of {workflows} workflows completed")));
    }
    let per_second = each(workflows) / drained.seconds;
    bench.tell(format!("  {in_flight} in flight: {per_second:.0} workflows/s"));
    Ok(Run {
        per_second,
        drained,
        enqueue_log_bytes,
        rows: meter::engine_rows(database).await?,
        bytes_left: meter::engine_bytes(database).await? - bytes,
    })
}

fn told(rounds: &[Round], wanted: Throughput) -> Vec<Figure> {
    let (n, in_flight) = (each(wanted.workflows), wanted.in_flight);
    let runs = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let of_each = |of: fn(&Run) -> f64| rounds.iter().map(|round| of(&round.many) / n).collect::<Vec<_>>();
    let used = |of: fn(&Drained) -> &Result<f64, String>| {
        let runs = rounds.iter().map(|round| of(&round.many.drained).clone().map(|used| used / n));
        runs.collect::<Result<Vec<_>, _>>()
    };
    let of_commits = "workflows a second over single-row insert commits a second of 64 clients";
    vec![
        Figure::of(
            "baseline.commits_per_s_1",
            "/s",
            "single-row insert commits, 1 client",
            runs(|round| round.commits_1),
        ),
        Figure::of(
            "baseline.commits_per_s_64",
            "/s",
            "single-row insert commits, 64 clients",
            runs(|round| round.commits_64),
        ),
        Figure::of(
            "baseline.rows_per_s",
            "/s",
            "rows inserted, 100 a commit, 1 client",
            runs(|round| round.rows),
        ),
        Figure::of(
            format!("throughput.workflows_per_s_{in_flight}"),
            "/s",
            "workflows of five steps completed",
            runs(|round| round.many.per_second),
        ),
        Figure::of(
            format!("throughput.ratio_{in_flight}"),
            "ratio",
            of_commits,
            runs(|round| round.many.per_second / round.commits_64),
        ),
        Figure::of(
            "throughput.workflows_per_s_64",
            "/s",
            "the same with 64 in flight",
            runs(|round| round.few.per_second),
        ),
        Figure::of(
            "throughput.ratio_64",
            "ratio",
            of_commits,
            runs(|round| round.few.per_second / round.commits_64),
        ),
        Figure::of(
            "throughput.commits_per_workflow",
            "commits",
            "claims and appends, which workflows share",
            of_each(|run| run.drained.commits),
        ),
        Figure::of(
            "throughput.log_bytes_per_workflow",
            "bytes",
            "WAL of a workflow, without its enqueue",
            of_each(|run| run.drained.log_bytes),
        ),
        Figure::of(
            "throughput.log_bytes_per_enqueue",
            "bytes",
            "WAL of an enqueue, one of many in a transaction",
            of_each(|run| run.enqueue_log_bytes),
        ),
        Figure::of(
            "throughput.rows_inserted_per_workflow",
            "rows",
            "by its enqueue and its work",
            of_each(|run| run.rows.inserted),
        ),
        Figure::of(
            "throughput.rows_updated_per_workflow",
            "rows",
            "by its work",
            of_each(|run| run.rows.updated),
        ),
        Figure::of(
            "throughput.rows_deleted_per_workflow",
            "rows",
            "at its end",
            of_each(|run| run.rows.deleted),
        ),
        Figure::of(
            "throughput.bytes_left_per_workflow",
            "bytes",
            "tables and indexes after it has ended",
            of_each(|run| run.bytes_left),
        ),
        Figure::new(
            "throughput.worker_cpu_us_per_workflow",
            "µs",
            "processor time of the worker",
            used(|drained| &drained.worker_microseconds),
        ),
        Figure::new(
            "throughput.postgres_cpu_us_per_workflow",
            "µs",
            "processor time of Postgres",
            used(|drained| &drained.server_microseconds),
        ),
    ]
}

#[derive(Clone)]
struct SlowRun {
    commits_1: f64,
    commits_64: f64,
    per_second: f64,
}

async fn slow_disk(bench: &Bench, meter: &mut Meter, wanted: Throughput) -> Result<Vec<Figure>, Error> {
    bench.tell(format!("throughput: each flush {SLOW_FLUSH_MICROSECONDS} µs longer"));
    let in_flight = wanted.in_flight;
    let mut measured: Result<Vec<SlowRun>, String> = Ok(Vec::new());
    for _ in 0..bench.pace.rounds {
        let database = bench.place.database().await?;
        if let Err(error) = database.slow_flushes(SLOW_FLUSH_MICROSECONDS).await {
            measured = Err(format!("commit_delay is for superusers: {error}"));
            break;
        }
        let commits_1 = commits_per_second(&database, 1, bench.pace.baseline_run).await?;
        let commits = commits_per_second(&database, CLIENTS, bench.pace.baseline_run).await?;
        bench.tell(format!("  baseline: {commits_1:.0} commits/s by 1 client, {commits:.0} by {CLIENTS}"));
        let run = run(bench, meter, &database, wanted.workflows, in_flight).await?;
        bench.place.forget(database).await?;
        measured = measured.map(|mut runs| {
            runs.push(SlowRun { commits_1, commits_64: commits, per_second: run.per_second });
            runs
        });
    }
    let runs = |of: fn(&SlowRun) -> f64| measured.clone().map(|runs| runs.iter().map(of).collect());
    Ok(vec![
        Figure::new(
            "baseline.commits_per_s_1_slow_disk",
            "/s",
            "single-row insert commits, 1 client: never more than 400, or the disk is not slow",
            runs(|run| run.commits_1),
        ),
        Figure::new(
            "baseline.commits_per_s_64_slow_disk",
            "/s",
            "single-row insert commits, 64 clients, each flush 2.5 ms longer",
            runs(|run| run.commits_64),
        ),
        Figure::new(
            format!("throughput.workflows_per_s_{in_flight}_slow_disk"),
            "/s",
            "workflows completed, each flush 2.5 ms longer",
            runs(|run| run.per_second),
        ),
        Figure::new(
            format!("throughput.ratio_{in_flight}_slow_disk"),
            "ratio",
            "the one over the other",
            runs(|run| run.per_second / run.commits_64),
        ),
    ])
}
