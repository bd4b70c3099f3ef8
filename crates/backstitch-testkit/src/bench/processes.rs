//! What do two worker processes complete, over one?

use std::time::{Duration, Instant};

use super::child::WorkerProcess;
use super::drain::wait_until_settled;
use super::error::Error;
use super::figure::Figure;
use super::sample::each;
use super::work::{Completing, looker};
use super::{Bench, ask};

/// How often the counts of the processes are added up.
const LOOK: Duration = Duration::from_millis(1);

/// Measures one process, two like it, and two that share what one has in flight.
pub(super) async fn two_of_one(
    bench: &Bench,
    workflows: u64,
    in_flight: usize,
) -> Result<Vec<Figure>, Error> {
    bench.tell("throughput: one worker process, two like it, and two that share what one has in flight");
    let (mut one, mut two, mut halves) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..bench.pace.rounds {
        one.push(per_second(bench, workflows, in_flight, 1).await?);
        two.push(per_second(bench, workflows, in_flight, 2).await?);
        halves.push(per_second(bench, workflows, in_flight / 2, 2).await?);
    }
    let of_one = |two: &[f64]| two.iter().zip(&one).map(|(two, one)| two / one).collect();
    let (ratios, ratios_of_halves) = (of_one(&two), of_one(&halves));
    Ok(vec![
        Figure::of(
            "throughput.workflows_per_s_one_process",
            "/s",
            "workflows completed by one worker process",
            one,
        ),
        Figure::of("throughput.workflows_per_s_two_processes", "/s", "by two like it", two),
        Figure::of("throughput.two_workers_of_one", "ratio", "two processes over one", ratios),
        Figure::of(
            "throughput.two_that_share_of_one",
            "ratio",
            "two processes with half as many in flight each, over one",
            ratios_of_halves,
        ),
    ])
}

/// Workflows a second, from when the processes may start their workers. They count for themselves; a worker
/// beside them that takes nothing asks for the end.
async fn per_second(
    bench: &Bench,
    workflows: u64,
    in_flight_each: usize,
    processes: usize,
) -> Result<f64, Error> {
    let database = bench.place.database().await?;
    ask::many::<Completing>(&database, workflows, None).await?;
    let mut workers = Vec::new();
    for _ in 0..processes {
        workers.push(WorkerProcess::spawn(bench, &database, in_flight_each).await?);
    }
    let engine = database.engine().await?;
    let looker = looker(engine.clone()).start().await?;
    let begun = Instant::now();
    for worker in &mut workers {
        worker.go().await?;
    }
    let counts: Vec<_> = workers.iter().map(WorkerProcess::counts).collect();
    let ran = || counts.iter().map(|counts| counts.borrow().last_ones).sum::<u64>();
    while ran() < workflows {
        if counts.iter().any(|counts| counts.has_changed().is_err()) {
            return Err(Error::Run("a worker process has gone; its own words are above".to_owned()));
        }
        tokio::time::sleep(LOOK).await;
    }
    let end = wait_until_settled(&looker, &mut 0.0).await?;
    looker.shut_down().await;
    engine.close().await;
    for worker in workers {
        worker.shut_down().await?;
    }
    bench.place.forget(database).await?;
    let per_second = each(workflows) / (end - begun).as_secs_f64();
    bench.tell(format!("  {processes} with {in_flight_each} in flight: {per_second:.0} workflows/s"));
    Ok(per_second)
}
