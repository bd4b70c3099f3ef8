//! `backstitch bench`: how fast is it here, and what does a workflow cost?

use backstitch_testkit::bench::throughput::{self, Throughput};
use backstitch_testkit::bench::{Bench, Environment, Error, Figure, Measured, Pace, Place, work_for_parent};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::arguments::{BenchCommand, BenchVerb, HowMeasured};
use crate::exit::{Exit, Failed};
use crate::output::{cell, lines, note, say, say_json, table};
use crate::settings::Settings;
use crate::signals::Signals;

/// What is measured, as programs read it. Keys are only ever added.
#[derive(Serialize)]
struct Report {
    /// The subcommand.
    command: &'static str,
    /// It was a look only.
    quick: bool,
    environment: Environment,
    /// Under its key, each.
    #[serde(serialize_with = "under_their_keys")]
    figures: Vec<Figure>,
}

/// Measures, and tells.
pub async fn run(settings: &Settings, command: BenchCommand) -> Result<Exit, Failed> {
    match command.verb {
        BenchVerb::Worker { in_flight } => {
            let url =
                settings.database_url().ok_or_else(|| Failed::usage("a worker needs a --database-url"))?;
            work_for_parent(url, size(in_flight)).await?;
            Ok(Exit::Done)
        }
        BenchVerb::Throughput { workflows, in_flight, how } => {
            let wanted = Throughput { workflows, in_flight: size(in_flight) };
            measured(settings, "throughput", how, async |bench| throughput::measure(bench, wanted).await)
                .await
        }
    }
}

/// Measures in a place that is left whatever happens, an interruption included.
async fn measured(
    settings: &Settings,
    command: &'static str,
    how: HowMeasured,
    measure: impl AsyncFnOnce(&Bench) -> Result<Vec<Figure>, Error>,
) -> Result<Exit, Failed> {
    let mut signals = Signals::listen()?;
    let program = std::env::current_exe().map_err(|error| Failed::because(&error, ""))?;
    let place = tokio::select! {
        place = Place::open(settings.database_url()) => place?,
        signal = signals.next() => return Err(interrupted(signal)),
    };
    let pace = if how.quick { Pace::QUICK } else { Pace::FULL };
    let bench = Bench { place, pace, program, tell: Box::new(note) };
    let figures = async { Ok::<_, Error>((bench.place.environment().await?, measure(&bench).await?)) };
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

fn told(report: &Report) -> String {
    let mut table = table(&["FIGURE", "VALUE", "UNIT", "SPREAD", "WHAT IT IS"]);
    for figure in &report.figures {
        let (value, spread) = match &figure.measured {
            Ok(measured) => (number(measured.value), spread(measured)),
            Err(_) => ("-".to_owned(), String::new()),
        };
        let means = match &figure.measured {
            Ok(_) => figure.means.to_owned(),
            Err(because) => format!("not measured: {because}"),
        };
        table.add_row([cell(&figure.key), cell(value), cell(figure.unit), cell(spread), cell(means)]);
    }
    let environment = &report.environment;
    let server = if environment.private_server { "a fresh server" } else { "the named server" };
    let look = if report.quick { "; a quick look, no figures to quote" } else { "" };
    format!(
        "{}\n\non Postgres {} ({server}, fsync {}, synchronous_commit {}, shared_buffers {}), {} processors{look}",
        lines(table),
        environment.postgres,
        environment.fsync,
        environment.synchronous_commit,
        environment.shared_buffers,
        environment.processors
    )
}

/// With three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        1.0..10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Between which two numbers the runs were.
fn spread(measured: &Measured) -> String {
    match &measured.runs[..] {
        [] | [_] => String::new(),
        runs => {
            let smallest = runs.iter().copied().fold(f64::INFINITY, f64::min);
            let largest = runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            format!("{} … {}", number(smallest), number(largest))
        }
    }
}

fn under_their_keys<S: Serializer>(figures: &[Figure], serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(figures.len()))?;
    for figure in figures {
        map.serialize_entry(&figure.key, figure)?;
    }
    map.end()
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
            Error::Place(_) => {
                "name a server whose user may make databases, or give --database-url '' to have one started for the benchmark"
            }
            Error::Database { .. } => "look whether Postgres is well, and try again",
            _ => "",
        };
        Failed::because(&error, what_to_do)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits_that_count() {
        for (value, written) in
            [(12_345.6, "12346"), (12.34, "12.3"), (1.234, "1.23"), (0.1234, "0.123"), (0.0, "0.000")]
        {
            assert_eq!(number(value), written);
        }
    }
}
