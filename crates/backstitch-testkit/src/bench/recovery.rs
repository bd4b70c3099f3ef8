//! How long after the death of a worker is all that it held settled, and what does a workflow in flight weigh?

use std::time::{Duration, Instant};

use backstitch::{Client, Timing};

use super::child::WorkerProcess;
use super::drain::wait_for_the_end;
use super::error::Error;
use super::figure::Figure;
use super::meter::{self, Meter};
use super::place::BenchDatabase;
use super::sample::each;
use super::work::{Made, Resumed, TakenBack, Tally, worker};
use super::{Bench, ask, proc};

/// How long a process that has just begun, or that has just taken up its work, is left alone before it is weighed.
const REST: Duration = Duration::from_secs(1);

/// How often the end of the dead one's lease is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Recovering {
    /// How many a worker process has in flight, each waiting in its third step, when it is killed.
    pub workflows: u64,
}

/// Measures, with the default times and without a state directory: nobody is told of the death, the lease has to end.
/// A worker in this process, already at work, with as many in flight at most, recovers. Keys, each with `.compensate` and
/// `.resume`, the two policies of a kind:
///
/// - `recovery.seconds`: from the SIGKILL until the last workflow is compensated, or completed.
/// - `recovery.seconds_after_lease`: from when the database first says that the lease is over (looked for every 50 ms;
///   a lease is 10 s, renewed every 2.5 s) until then. In it: until the survivor has seen one beat for a whole lease, the
///   burial, and the work.
///
/// and, before the kill:
///
/// - `recovery.kib_per_workflow_in_flight`: resident memory of the process with all in flight less that when it was idle,
///   by how many they are.
/// - `recovery.connections`: how many connections to the database the process has with all in flight.
///
/// # Errors
/// When the database does not answer, a process can't be started, or workflows end otherwise than they should.
pub async fn measure(bench: &Bench, wanted: Recovering) -> Result<Vec<Figure>, Error> {
    let taken_back = once::<TakenBack>(bench, wanted, "compensated").await?;
    let resumed = once::<Resumed>(bench, wanted, "completed").await?;
    let from_death = "from SIGKILL until all is settled";
    let from_lease = "from the end of the lease until all is settled";
    let both = [&taken_back, &resumed];
    let kib = both.iter().map(|once| once.kib_each.clone()).collect::<Result<Vec<_>, _>>();
    Ok(vec![
        Figure::once("recovery.seconds.compensate", "s", from_death, taken_back.seconds),
        Figure::once("recovery.seconds.resume", "s", from_death, resumed.seconds),
        Figure::once(
            "recovery.seconds_after_lease.compensate",
            "s",
            from_lease,
            taken_back.seconds_after_lease,
        ),
        Figure::once("recovery.seconds_after_lease.resume", "s", from_lease, resumed.seconds_after_lease),
        Figure::new(
            "recovery.kib_per_workflow_in_flight",
            "KiB",
            "resident memory of a worker for each in flight",
            kib,
        ),
        Figure::of(
            "recovery.connections",
            "connections",
            "of the worker process",
            both.map(|once| once.connections).to_vec(),
        ),
    ])
}

struct Once {
    seconds: f64,
    seconds_after_lease: f64,
    kib_each: Result<f64, String>,
    connections: f64,
}

async fn once<W: Made>(bench: &Bench, wanted: Recovering, status: &str) -> Result<Once, Error> {
    let workflows = wanted.workflows;
    bench.tell(format!("recovery: {workflows} in flight, to be {status}"));
    let mut meter = Meter::at(&bench.place).await?;
    let database = bench.place.database().await?;
    let in_flight = usize::try_from(workflows).unwrap_or(usize::MAX);
    let mut dying = WorkerProcess::spawn(bench, &database, in_flight).await?;
    dying.go().await?;
    dying.until(|counts| counts.working).await?;
    tokio::time::sleep(REST).await;
    let idle_kib = resident_kib(&dying);
    ask::many::<W>(&database, workflows, None).await?;
    dying.until(|counts| counts.waiting >= workflows).await?;
    tokio::time::sleep(REST).await;
    let busy_kib = resident_kib(&dying);
    // Nobody else is connected yet.
    let connections = f64::from(i32::try_from(meter.sessions(&database).await?).unwrap_or(i32::MAX));
    let (seconds, seconds_after_lease) = recover(bench, &database, dying, workflows).await?;
    let ended = meter::ended(&database, status).await?;
    if ended.unsigned_abs() != workflows {
        return Err(Error::Run(format!("{ended} of {workflows} workflows ended {status}")));
    }
    bench.place.forget(database).await?;
    bench.tell(format!("  {seconds:.1} s after the kill, {seconds_after_lease:.1} s after the lease"));
    let kib_each = busy_kib.and_then(|busy| Ok((busy - idle_kib?) / each(workflows)));
    Ok(Once { seconds, seconds_after_lease, kib_each, connections })
}

/// Seconds from the kill, and from the end of the lease, until all is settled.
async fn recover(
    bench: &Bench,
    database: &BenchDatabase,
    dying: WorkerProcess,
    workflows: u64,
) -> Result<(f64, f64), Error> {
    let engine = database.engine().await?;
    let tally = Tally::new();
    // The third step, run again, does not wait any more.
    tally.open();
    let in_flight = usize::try_from(workflows).unwrap_or(usize::MAX);
    let survivor = worker(engine.clone(), tally.clone()).concurrency(in_flight).start().await?;
    tokio::time::sleep(REST).await;
    let killed_at = Instant::now();
    dying.kill().await?;
    while survivor.unsettled().await?.orphaned_soon == 0 {
        if killed_at.elapsed() > 3 * Timing::DEFAULT.lease {
            return Err(Error::Run("the lease of a killed worker does not end".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
    let lease_ended_at = Instant::now();
    bench.tell(format!("  the lease is over {:.1} s after the kill", killed_at.elapsed().as_secs_f64()));
    let end = wait_for_the_end(&tally, workflows, &Client::new(engine.clone()), &survivor).await?;
    survivor.shut_down().await;
    engine.close().await;
    Ok(((end.at - killed_at).as_secs_f64(), (end.at - lease_ended_at).as_secs_f64()))
}

fn resident_kib(process: &WorkerProcess) -> Result<f64, String> {
    process.pid().ok_or_else(|| "the process is gone".to_owned()).and_then(proc::resident_kib)
}
