//! How long does one workflow take on a worker that has nothing else to do?

use std::time::{Duration, Instant};

use backstitch::{Client, Ending, WorkflowId};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::Bench;
use super::baseline::commits_after_rest;
use super::error::Error;
use super::figure::Figure;
use super::sample::percentile;
use super::work::{Completing, Made, Tally, worker};

/// Between two looks of the client that looks.
const LOOK: Duration = Duration::from_micros(500);

/// How long one workflow may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Latency {
    /// How many are submitted, one after the other.
    pub submissions: usize,
    /// How far apart they are, give or take half of it: not in step with anything that is periodic in the worker.
    pub apart: Duration,
}

/// Measures one workflow at a time, each from before its enqueue is sent. Keys, each with `.p50`, `.p90`, `.p99`, `.max`:
///
/// - `latency.first_step_ms`: until its first step begins. In it: the enqueue's commit, the wake-up, the claim's commit,
///   and that of the first step's intent.
/// - `latency.five_steps_ms`: until a client that looks every half millisecond sees that it has completed: six more commits,
///   of which the last makes all five steps and the end durable.
/// - `latency.answer_ms`: until `Client::wait` has told of another such workflow's end, submitted in turn. In it beside all
///   that: the announcement, a look for all who wait, and one for the answer.
///
/// Beside it `baseline.commit_ms`, a bare insert of one client, as far apart: on a machine that rests in between, waking up is
/// most of either. `latency.first_step_of_commit` and so on: the medians over that of the insert.
///
/// # Errors
/// When the database does not answer, or a workflow ends otherwise than it should.
pub async fn measure(bench: &Bench, wanted: Latency) -> Result<Vec<Figure>, Error> {
    let submissions = wanted.submissions;
    bench.tell(format!("latency: {submissions} workflows, {} ms apart", wanted.apart.as_millis()));
    let database = bench.place.database().await?;
    let (begins, mut begun) = mpsc::unbounded_channel();
    let (engine, asking) = (database.engine().await?, database.engine().await?);
    let client = Client::new(asking.clone());
    let rests = (0..submissions).map(|_| about(wanted.apart));
    let commits = commits_after_rest(&database, rests).await?;
    let running = worker(engine.clone(), Tally::telling(Some(begins))).start().await?;
    // What is done for the first time is done more slowly: connections, plans.
    for _ in 0..submissions.div_ceil(10) {
        submit(&client, &mut begun).await?;
        wait(&client).await?;
    }
    let (mut first_step, mut five_steps, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..submissions {
        tokio::time::sleep(about(wanted.apart)).await;
        let (begin, end) = submit(&client, &mut begun).await?;
        first_step.push(begin);
        five_steps.push(end);
        tokio::time::sleep(about(wanted.apart)).await;
        answer.push(wait(&client).await?);
    }
    running.shut_down().await;
    drop(client);
    engine.close().await;
    asking.close().await;
    bench.place.forget(database).await?;
    let begins =
        told("latency.first_step_ms", "from before the enqueue until the first step begins", &first_step);
    let ends =
        told("latency.five_steps_ms", "from before the enqueue until a client sees the end", &five_steps);
    let answers =
        told("latency.answer_ms", "from before the enqueue until Client::wait has returned", &answer);
    let bare = told("baseline.commit_ms", "a single-row insert commits, as far apart", &commits);
    let of_bare = [("first_step", &first_step), ("five_steps", &five_steps), ("answer", &answer)].map(
        |(name, times)| {
            Figure::once(
                format!("latency.{name}_of_commit"),
                "ratio",
                "its median over that of the bare insert",
                percentile(times, 50) / percentile(&commits, 50),
            )
        },
    );
    Ok(bare.into_iter().chain(begins).chain(ends).chain(answers).chain(of_bare).collect())
}

/// Until its first step began and until it was seen to have ended, in milliseconds.
async fn submit(
    client: &Client,
    begun: &mut mpsc::UnboundedReceiver<(WorkflowId, Instant)>,
) -> Result<(f64, f64), Error> {
    let asked_at = Instant::now();
    let handle = client.enqueue(Completing::make()).send().await?;
    let ended_at = loop {
        match client.poll(&handle).await? {
            Some(Ending::Completed(())) => break Instant::now(),
            Some(_) => return Err(Error::Run(format!("workflow {} did not complete", handle.workflow))),
            None if asked_at.elapsed() > PATIENCE => {
                return Err(Error::Run(format!("workflow {} does not end", handle.workflow)));
            }
            None => tokio::time::sleep(LOOK).await,
        }
    };
    // An attempt that was repeated began twice; the first time counts.
    let mut began_at = None;
    while let Ok((workflow, at)) = begun.try_recv() {
        if workflow == handle.workflow {
            began_at = began_at.or(Some(at));
        }
    }
    let began_at =
        began_at.ok_or_else(|| Error::Run("a workflow completed without a first step".to_owned()))?;
    let milliseconds = |at: Instant| (at - asked_at).as_secs_f64() * 1e3;
    Ok((milliseconds(began_at), milliseconds(ended_at)))
}

/// Until `Client::wait` returned, in milliseconds.
async fn wait(client: &Client) -> Result<f64, Error> {
    let asked_at = Instant::now();
    let handle = client.enqueue(Completing::make()).send().await?;
    match tokio::time::timeout(PATIENCE, client.wait(&handle)).await {
        Ok(Ok(Ending::Completed(()))) => Ok(asked_at.elapsed().as_secs_f64() * 1e3),
        Ok(Ok(_)) => Err(Error::Run(format!("workflow {} did not complete", handle.workflow))),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(Error::Run(format!("the end of workflow {} is not told", handle.workflow))),
    }
}

fn told(key: &str, means: &'static str, times: &[f64]) -> [Figure; 4] {
    [("p50", 50), ("p90", 90), ("p99", 99), ("max", 100)]
        .map(|(name, percent)| Figure::once(format!("{key}.{name}"), "ms", means, percentile(times, percent)))
}

/// Half of it to one and a half.
fn about(apart: Duration) -> Duration {
    let random = Uuid::new_v4().as_bytes()[0];
    apart / 2 + apart * u32::from(random) / 256
}
