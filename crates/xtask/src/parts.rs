//! Which parts ran, how long each took, and how it ended.

use std::time::{Duration, Instant};

use anyhow::Result;

/// The parts of one task, in the order they ran.
#[derive(Default)]
pub struct Parts {
    rows: Vec<Row>,
    /// The first failure is the answer: later ones are often its echo.
    failure: Option<anyhow::Error>,
}

struct Row {
    name: &'static str,
    took: Duration,
    passed: bool,
}

impl Parts {
    /// Runs a part, unless an earlier one failed.
    pub fn then(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) {
        if self.failure.is_none() {
            self.also(name, body);
        }
    }

    /// Runs a part whatever happened before it.
    pub fn also(&mut self, name: &'static str, body: impl FnOnce() -> Result<()>) {
        println!("── {name}");
        let began = Instant::now();
        let ended = body();
        self.rows.push(Row { name, took: began.elapsed(), passed: ended.is_ok() });
        if let Err(error) = ended {
            eprintln!("── {name}: {error:#}");
            self.failure.get_or_insert(error);
        }
    }

    /// Prints the table and hands back the first failure.
    pub fn finish(self) -> Result<()> {
        println!();
        for row in &self.rows {
            println!(
                "{:<16} {:>8}  {}",
                row.name,
                seconds(row.took),
                if row.passed { "ok" } else { "FAILED" }
            );
        }
        println!("{:<16} {:>8}", "in all", seconds(self.rows.iter().map(|row| row.took).sum()));
        self.failure.map_or(Ok(()), Err)
    }
}

/// A duration as a person reads it.
pub fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
