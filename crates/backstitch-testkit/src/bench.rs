//! How fast is the engine on this machine, and what does a workflow cost it? Asked as a user would ask, in one run with
//! what the same Postgres does for the same driver without an engine.
//!
//! The work: a workflow of five steps outside (see `work`), each of which declares a compensation, takes one UUID and
//! answers about 100 bytes; the steps themselves do nothing. So what is measured is the engine and Postgres, and nothing
//! else. Figures are [`Figure`]s: a key that stays, a value, its unit, the runs it is the median of, and what it means.
//!
//! - [`throughput`]: workflows a second, and what each costs in commits, log, rows, bytes and processor time.
//! - [`latency`]: how long one workflow takes on an idle worker.
//! - [`enqueue`]: what asking costs, and what a caller weighs that waits.
//! - [`http`]: what asking and waiting over HTTP cost beside SQL.
//! - [`history`]: whether what has ended, or waits for later, slows down what is due.
//! - [`recovery`]: how long after the death of a worker all that it held is settled; what a workflow in flight weighs.
//! - [`compensate`]: what taking back costs beside going on.
//!
//! A shared machine speaks with a trembling voice: look at the spread before believing the third digit.

mod ask;
mod baseline;
mod child;
pub mod compensate;
mod daemon;
mod drain;
pub mod enqueue;
mod error;
mod figure;
pub mod history;
pub mod http;
pub mod latency;
mod meter;
mod place;
mod proc;
mod processes;
pub mod recovery;
mod sample;
pub mod throughput;
mod waiting;
mod work;

use std::path::PathBuf;
use std::time::Duration;

pub use self::child::work_for_parent;
pub use self::error::Error;
pub use self::figure::{Environment, Figure, Measured};
pub use self::place::Place;

/// What every measurement is given.
pub struct Bench {
    /// Where it is measured.
    pub place: Place,
    /// How thoroughly.
    pub pace: Pace,
    /// The program that becomes a worker process when it is called with `bench worker`, and a daemon with `serve`.
    pub program: PathBuf,
    /// Hears how it goes.
    pub tell: Box<dyn Fn(&str) + Send + Sync>,
}

/// How thoroughly something is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// How often; the median counts.
    pub rounds: usize,
    /// How long a run of the baseline takes.
    pub baseline_run: Duration,
}

impl Pace {
    /// Three rounds with runs of 4 s, as in every figure of the documentation.
    pub const FULL: Self = Self { rounds: 3, baseline_run: Duration::from_secs(4) };
    /// One round with runs of 300 ms: a look, no measurement.
    pub const QUICK: Self = Self { rounds: 1, baseline_run: Duration::from_millis(300) };
}

impl Bench {
    fn tell(&self, message: impl AsRef<str>) {
        (self.tell)(message.as_ref());
    }
}
