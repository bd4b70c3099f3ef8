//! `backstitch bench`: how fast is it here, and what does a workflow cost?

mod report;

use std::time::Duration;

use backstitch_testkit::bench::compensate::{self, Compensations};
use backstitch_testkit::bench::history::{self, History};
use backstitch_testkit::bench::http::{self, Http};
use backstitch_testkit::bench::latency::{self, Latency};
use backstitch_testkit::bench::recovery::{self, Recovering};
use backstitch_testkit::bench::throughput::{self, Throughput};
use backstitch_testkit::bench::{Bench, Error, Figure, Pace, Place, enqueue, work_for_parent};

use self::report::{Report, told};
use crate::arguments::{APART_MILLISECONDS, BenchCommand, BenchVerb, HowMeasured, Load};
use crate::exit::{Exit, Failed};
use crate::output::{note, say, say_json};
use crate::settings::Settings;
use crate::signals::Signals;

/// How many workflows a worker drives at once unless said; the engine's own number.
const IN_FLIGHT: u32 = 512;

/// Measures, and tells.
pub async fn run(settings: &Settings, command: BenchCommand) -> Result<Exit, Failed> {
    let wanted = match command.verb {
        BenchVerb::Worker { in_flight } => {
            let url =
                settings.database_url().ok_or_else(|| Failed::usage("a worker needs a --database-url"))?;
            work_for_parent(url, size(in_flight)).await?;
            return Ok(Exit::Done);
        }
        verb => Wanted::from(verb),
    };
    measured(settings, wanted).await
}

/// What is measured, every number settled.
struct Wanted {
    command: &'static str,
    how: HowMeasured,
    parts: Vec<Part>,
}

enum Part {
    Throughput(Throughput),
    Latency(Latency),
    Enqueue,
    Http(Http),
    History(History),
    Recovery(Recovering),
    Compensate(Compensations),
}
impl From<BenchVerb> for Wanted {
    fn from(verb: BenchVerb) -> Self {
        let none = Load::default();
        let (command, how, parts) = match verb {
            BenchVerb::Throughput { load, how } => ("throughput", how, vec![throughput(load, how)]),
            BenchVerb::Latency { submissions, apart, how } => {
                ("latency", how, vec![latency(submissions, apart, how)])
            }
            BenchVerb::Enqueue { how } => ("enqueue", how, vec![Part::Enqueue]),
            BenchVerb::Http { requests, how } => ("http", how, vec![http(requests, how)]),
            BenchVerb::History { finished, waiting, load, how } => {
                ("history", how, vec![history(finished, waiting, load, how)])
            }
            BenchVerb::Recovery { workflows, how } => ("recovery", how, vec![recovery(workflows, how)]),
            BenchVerb::Compensate { load, how } => ("compensate", how, vec![compensate(load, how)]),
            BenchVerb::All { how } => {
                let parts = vec![
                    throughput(none, how),
                    latency(None, APART_MILLISECONDS, how),
                    Part::Enqueue,
                    http(None, how),
                    compensate(none, how),
                    recovery(None, how),
                    history(None, None, none, how),
                ];
                ("all", how, parts)
            }
            // Measures nothing.
            BenchVerb::Worker { .. } => ("worker", HowMeasured { quick: true, json: false }, Vec::new()),
        };
        Self { command, how, parts }
    }
}

fn throughput(load: Load, how: HowMeasured) -> Part {
    Part::Throughput(Throughput { workflows: workflows(load.workflows, how), in_flight: in_flight(load) })
}

fn latency(submissions: Option<u32>, apart: u32, how: HowMeasured) -> Part {
    let submissions = submissions.unwrap_or(if how.quick { 20 } else { 200 });
    Part::Latency(Latency { submissions: size(submissions), apart: Duration::from_millis(apart.into()) })
}

fn http(requests: Option<u32>, how: HowMeasured) -> Part {
    Part::Http(Http { requests: size(requests.unwrap_or(if how.quick { 20 } else { 200 })) })
}

fn history(finished: Option<u64>, waiting: Option<u64>, load: Load, how: HowMeasured) -> Part {
    Part::History(History {
        finished: finished.unwrap_or(if how.quick { 20_000 } else { 1_000_000 }),
        waiting: waiting.unwrap_or(if how.quick { 10_000 } else { 100_000 }),
        workflows: workflows(load.workflows, how),
        in_flight: in_flight(load),
    })
}

fn recovery(said: Option<u64>, how: HowMeasured) -> Part {
    Part::Recovery(Recovering { workflows: workflows(said, how) })
}

fn compensate(load: Load, how: HowMeasured) -> Part {
    Part::Compensate(Compensations { workflows: workflows(load.workflows, how), in_flight: in_flight(load) })
}

fn workflows(said: Option<u64>, how: HowMeasured) -> u64 {
    said.unwrap_or(if how.quick { 1_000 } else { 10_000 })
}

fn in_flight(load: Load) -> usize {
    size(load.in_flight.unwrap_or(IN_FLIGHT))
}

/// Measures in a place that is left whatever happens, an interruption included.
async fn measured(settings: &Settings, wanted: Wanted) -> Result<Exit, Failed> {
    let Wanted { command, how, parts } = wanted;
    let mut signals = Signals::listen()?;
    let program = std::env::current_exe().map_err(|error| Failed::because(&error, ""))?;
    let place = tokio::select! {
        place = Place::open(settings.database_url()) => place?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let pace = if how.quick { Pace::QUICK } else { Pace::FULL };
    let bench = Bench { place, pace, program, tell: Box::new(note) };
    let figures =
        async { Ok::<_, Error>((bench.place.environment().await?, figures(&bench, &parts).await?)) };
    let figures = tokio::select! {
        figures = figures => figures.map_err(Failed::from),
        signal = signals.next() => Err(interrupted(signal)),
    };
    let left = bench.place.leave().await;
    let (environment, figures) = figures?;
    left?;
    let report = Report { command, quick: how.quick, environment, figures };
    if how.json {
        say_json(&report)?
    } else {
        say(&told(&report))?
    }
    Ok(Exit::Done)
}

async fn figures(bench: &Bench, parts: &[Part]) -> Result<Vec<Figure>, Error> {
    let mut figures = Vec::new();
    for part in parts {
        figures.extend(match part {
            Part::Throughput(wanted) => throughput::measure(bench, *wanted).await?,
            Part::Latency(wanted) => latency::measure(bench, *wanted).await?,
            Part::Enqueue => enqueue::measure(bench).await?,
            Part::Http(wanted) => http::measure(bench, *wanted).await?,
            Part::History(wanted) => history::measure(bench, *wanted).await?,
            Part::Recovery(wanted) => recovery::measure(bench, *wanted).await?,
            Part::Compensate(wanted) => compensate::measure(bench, *wanted).await?,
        });
    }
    Ok(figures)
}

fn interrupted(signal: &str) -> Failed {
    Failed::new(Exit::Error, format!("interrupted by {signal}: nothing is told, and nothing is left behind"))
}

fn size(in_flight: u32) -> usize {
    usize::try_from(in_flight).unwrap_or(usize::MAX)
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        let what_to_do = match &error {
            Error::Place(_) | Error::Database { .. } => {
                "name a server that answers and whose user may make databases, or give --database-url '' to have one started"
            }
            _ => "",
        };
        Failed::because(&error, what_to_do)
    }
}
