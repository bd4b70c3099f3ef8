//! What does it cost to ask over HTTP instead of in SQL, and to wait there?

use std::time::{Duration, Instant};

use backstitch::{Client, WorkflowId};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::Bench;
use super::daemon::Daemon;
use super::enqueue::directly;
use super::error::Error;
use super::figure::Figure;
use super::place::BenchDatabase;
use super::proc::resident_kib;
use super::sample::{each, percentile};
use super::throughput::CLIENTS;
use super::work::{Completing, Made, Tally, worker};

/// How many wait while their memory is measured.
const WAITING: u64 = 1_000;

/// How long all of them may take until they wait, and an answer until it comes.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long after it was asked for a workflow is begun that is waited for: by then its caller waits.
const BEGUN_AFTER: Duration = Duration::from_millis(200);

/// What is wanted.
#[derive(Debug, Clone, Copy)]
pub struct Http {
    /// How many requests a percentile is of.
    pub requests: usize,
}

/// Measures, on a daemon in a process of its own. Keys:
///
/// - `http.per_s_1`, `http.per_s_64`: `POST /v1/workflows` by 1 and by 64 callers, each with a connection that it keeps.
///   `http.sql_per_s_1`, `http.sql_per_s_64`: the SQL function called directly by as many connections, in the same round.
///   `http.ratio_1`, `http.ratio_64`: the one over the other. The daemon itself has six connections to Postgres.
/// - `http.request_ms.p50`, `.p99`: one such request when nothing else is asked; `http.sql_ms`: one such call, in turn with
///   the requests; `http.added_ms`: the one less the other.
/// - `http.answer_ms.p50`, `.p99`: from when a workflow completed, by the database's clock and before its commit, until the
///   caller that waited for it has its answer, on an idle worker.
/// - `http.kib_per_waiting`: resident memory of the daemon for one of a thousand callers that wait, each on a connection of its
///   own.
///
/// # Errors
/// When the database or the daemon does not answer.
pub async fn measure(bench: &Bench, wanted: Http) -> Result<Vec<Figure>, Error> {
    // First: memory that was used once is not given back.
    bench.tell(format!("http: {WAITING} who wait"));
    let kib_per_waiting = waiting(bench).await?;
    let mut rounds = Vec::new();
    for round in 1..=bench.pace.rounds {
        bench.tell(format!("http: round {round} of {}", bench.pace.rounds));
        rounds.push(round_of(bench).await?);
    }
    let runs = |of: fn(&Round) -> f64| rounds.iter().map(of).collect::<Vec<_>>();
    let (over, sql) =
        ("requests over calls of the SQL function", "the SQL function called by as many connections");
    let mut figures = vec![
        Figure::of("http.per_s_1", "/s", "POST /v1/workflows by 1 caller", runs(|round| round.http_1)),
        Figure::of("http.sql_per_s_1", "/s", sql, runs(|round| round.sql_1)),
        Figure::of("http.ratio_1", "ratio", over, runs(|round| round.http_1 / round.sql_1)),
        Figure::of("http.per_s_64", "/s", "the same by 64 callers", runs(|round| round.http_64)),
        Figure::of("http.sql_per_s_64", "/s", sql, runs(|round| round.sql_64)),
        Figure::of("http.ratio_64", "ratio", over, runs(|round| round.http_64 / round.sql_64)),
    ];
    bench.tell(format!("http: {} requests one by one, and as many waits", wanted.requests));
    figures.extend(one_by_one(bench, wanted.requests).await?);
    figures.push(Figure::once(
        "http.kib_per_waiting",
        "KiB",
        "resident memory of the daemon for one of 1,000 callers that wait",
        kib_per_waiting,
    ));
    Ok(figures)
}

struct Round {
    http_1: f64,
    sql_1: f64,
    http_64: f64,
    sql_64: f64,
}

async fn round_of(bench: &Bench) -> Result<Round, Error> {
    let database = bench.place.database().await?;
    let daemon = Daemon::spawn(bench, &database).await?;
    let run = bench.pace.baseline_run;
    let sql_1 = directly(&database, 1, run).await?;
    let http_1 = requests(&daemon, 1, run).await?;
    let sql_64 = directly(&database, CLIENTS, run).await?;
    let http_64 = requests(&daemon, CLIENTS, run).await?;
    leave(bench, daemon, database).await?;
    bench.tell(format!(
        "  {http_1:.0}/s by 1 caller ({sql_1:.0}/s in SQL), {http_64:.0}/s by {CLIENTS} ({sql_64:.0}/s)"
    ));
    Ok(Round { http_1, sql_1, http_64, sql_64 })
}

/// A connection that is kept.
struct Caller {
    http: reqwest::Client,
    url: String,
}

impl Caller {
    fn of(daemon: &Daemon) -> Self {
        Self { http: reqwest::Client::new(), url: daemon.url.clone() }
    }

    /// Asks for a workflow, to be begun at once, or then.
    async fn ask(&self, run_at: Option<DateTime<Utc>>) -> Result<WorkflowId, Error> {
        let body = json!({ "kind": "bench.completing", "input": Completing::make(), "run_at": run_at });
        let asked = self.http.post(format!("{}/v1/workflows", self.url)).json(&body).send();
        let answer: Value = answered(asked, "asking for a workflow").await?;
        let workflow = answer["workflow_id"].as_str().and_then(|id| id.parse().ok());
        workflow.ok_or_else(|| Error::Run(format!("a request is answered with {answer}")))
    }

    /// Waits for its end.
    async fn wait(&self, workflow: WorkflowId) -> Result<Value, Error> {
        let url = format!("{}/v1/workflows/{workflow}/wait?timeout=60s", self.url);
        answered(self.http.get(url).send(), "waiting for a workflow").await
    }

    /// How many requests were answered.
    async fn ask_until(self, end: Instant) -> Result<f64, Error> {
        let mut asked = 0.0;
        while Instant::now() < end {
            self.ask(None).await?;
            asked += 1.0;
        }
        Ok(asked)
    }
}

async fn answered(
    request: impl Future<Output = reqwest::Result<reqwest::Response>>,
    doing: &'static str,
) -> Result<Value, Error> {
    let answer = async { request.await?.error_for_status()?.json().await };
    answer.await.map_err(|source| Error::Http { doing, source })
}

/// How many requests a second are answered, of so many callers.
async fn requests(daemon: &Daemon, callers: usize, run: Duration) -> Result<f64, Error> {
    let mut connected = Vec::with_capacity(callers);
    for _ in 0..callers {
        let caller = Caller::of(daemon);
        // The first request connects.
        caller.ask(None).await?;
        connected.push(caller);
    }
    let begun = Instant::now();
    let mut asking: JoinSet<_> = connected.into_iter().map(|caller| caller.ask_until(begun + run)).collect();
    let mut asked = 0.0;
    while let Some(caller) = asking.join_next().await {
        asked += caller.map_err(|error| Error::Run(format!("a caller ended: {error}")))??;
    }
    Ok(asked / begun.elapsed().as_secs_f64())
}

/// What one request takes, and one answer, when there is nothing else to do.
async fn one_by_one(bench: &Bench, requests: usize) -> Result<Vec<Figure>, Error> {
    let database = bench.place.database().await?;
    let daemon = Daemon::spawn(bench, &database).await?;
    let caller = Caller::of(&daemon);
    let engine = database.engine().await?;
    let client = Client::new(engine.clone());
    let running = worker(engine.clone(), Tally::new()).start().await?;
    let (mut request, mut sql, mut answer) = (Vec::new(), Vec::new(), Vec::new());
    // What is done for the first time is done more slowly.
    for round in 0..requests + requests.div_ceil(10) {
        let asked_at = Instant::now();
        let over_http = caller.ask(None).await?;
        let took = asked_at.elapsed();
        caller.wait(over_http).await?;
        let asked_at = Instant::now();
        let in_sql = client.enqueue(Completing::make()).send().await?;
        let took_sql = asked_at.elapsed();
        caller.wait(in_sql.workflow).await?;
        let waited = after_its_end(&caller, &client).await?;
        if round >= requests.div_ceil(10) {
            request.push(took.as_secs_f64() * 1e3);
            sql.push(took_sql.as_secs_f64() * 1e3);
            answer.push(waited);
        }
    }
    running.shut_down().await;
    drop(client);
    engine.close().await;
    leave(bench, daemon, database).await?;
    let clock = match bench.place.is_on_this_host() {
        true => Ok(()),
        false => Err("the server is not on this host, and has a clock of its own".to_owned()),
    };
    let mut figures = Vec::new();
    for (name, percent) in [("p50", 50), ("p99", 99)] {
        let [request, sql, answer] = [&request, &sql, &answer].map(|times| percentile(times, percent));
        let answers = "from the end of a workflow until its waiting caller is answered";
        figures.extend([
            Figure::once(format!("http.request_ms.{name}"), "ms", "one POST /v1/workflows, idle", request),
            Figure::once(format!("http.sql_ms.{name}"), "ms", "one call of the SQL function, idle", sql),
            Figure::once(format!("http.added_ms.{name}"), "ms", "the request less the call", request - sql),
            Figure::new(
                format!("http.answer_ms.{name}"),
                "ms",
                answers,
                clock.clone().map(|()| vec![answer]),
            ),
        ]);
    }
    Ok(figures)
}

/// From the end of a workflow until its caller is answered, in milliseconds.
async fn after_its_end(caller: &Caller, client: &Client) -> Result<f64, Error> {
    let workflow = caller.ask(Some(Utc::now() + BEGUN_AFTER)).await?;
    let told = caller.wait(workflow).await?;
    let answered_at = Utc::now();
    let view = client.workflow(workflow).await?;
    let finished_at = view.and_then(|view| view.finished_at).filter(|_| told["status"] == "completed");
    let finished_at =
        finished_at.ok_or_else(|| Error::Run(format!("workflow {workflow} did not complete: {told}")))?;
    Ok((answered_at - finished_at).as_seconds_f64() * 1e3)
}

/// Resident memory of the daemon with all who wait less that without, by how many they are.
async fn waiting(bench: &Bench) -> Result<f64, Error> {
    let database = bench.place.database().await?;
    let daemon = Daemon::spawn(bench, &database).await?;
    let engine = database.engine().await?;
    let handles =
        Client::new(engine.clone()).enqueue_many((0..WAITING).map(|_| Completing::make())).send().await?;
    let resident = || resident_kib(daemon.pid()?).map_err(Error::Run);
    // What is there for one is there for all.
    wait_until(&daemon, 0).await?;
    let before = resident()?;
    let mut waiting = JoinSet::new();
    for handle in handles {
        let caller = Caller::of(&daemon);
        // Nobody serves them.
        waiting.spawn(async move { caller.wait(handle.workflow).await });
    }
    let all_wait = wait_until(&daemon, WAITING).await;
    if let Some(answer) = waiting.try_join_next() {
        return Err(Error::Run(format!("a workflow that nobody serves should not end: {answer:?}")));
    }
    all_wait?;
    let with_all = resident()?;
    waiting.shutdown().await;
    engine.close().await;
    leave(bench, daemon, database).await?;
    Ok((with_all - before) / each(WAITING))
}

/// Until so many wait, as the daemon counts them.
async fn wait_until(daemon: &Daemon, wanted: u64) -> Result<(), Error> {
    let series = format!("backstitch_http_open_waits {wanted}");
    let http = reqwest::Client::new();
    let counted = async {
        loop {
            let metrics = async { http.get(format!("{}/metrics", daemon.url)).send().await?.text().await };
            let metrics =
                metrics.await.map_err(|source| Error::Http { doing: "reading the metrics", source })?;
            if metrics.lines().any(|line| line == series) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let patience = tokio::time::timeout(PATIENCE, counted).await;
    patience.map_err(|_| {
        Error::Run(format!("{wanted} callers do not come to wait: are enough open files allowed?"))
    })?
}

async fn leave(bench: &Bench, daemon: Daemon, database: BenchDatabase) -> Result<(), Error> {
    daemon.end().await?;
    bench.place.forget(database).await
}
