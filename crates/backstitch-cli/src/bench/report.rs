//! How are figures told, to people and to programs?

use backstitch_testkit::bench::{Environment, Figure, Measured};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use crate::output::{cell, lines, table};

/// What is measured, as programs read it. Keys are only ever added.
#[derive(Serialize)]
pub struct Report {
    /// The subcommand.
    pub command: &'static str,
    /// It was a look only.
    pub quick: bool,
    /// On what.
    pub environment: Environment,
    /// Under its key, each.
    #[serde(serialize_with = "under_their_keys")]
    pub figures: Vec<Figure>,
}

/// As a table.
pub fn told(report: &Report) -> String {
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
