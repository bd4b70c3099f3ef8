//! What can be measured, and how thoroughly?

use clap::{Args, Subcommand, value_parser};

use super::exit_codes;

/// `bench`
#[derive(Debug, Args)]
pub struct BenchCommand {
    /// What to measure
    #[command(subcommand)]
    pub verb: BenchVerb,
}

/// How something is measured, and told.
#[derive(Debug, Clone, Copy, Args)]
pub struct HowMeasured {
    /// Measure once and briefly: a look, not a figure to quote
    #[arg(long)]
    pub quick: bool,
    /// Print a JSON object: command, quick, environment, and under figures each key with value, unit, runs and what it means
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Workflows a second, and what each costs in commits, log, rows, bytes and processor time
    #[command(after_help = concat!(
        "Example:\n  backstitch bench throughput --workflows 10000 --in-flight 512\n\n", exit_codes!()
    ))]
    Throughput {
        /// How many are enqueued before the worker starts
        #[arg(long, value_name = "WORKFLOWS", default_value_t = 10_000, value_parser = value_parser!(u64).range(1..=10_000_000))]
        workflows: u64,
        /// How many the worker drives at once
        #[arg(long, value_name = "WORKFLOWS", default_value_t = 512, value_parser = value_parser!(u32).range(2..=100_000))]
        in_flight: u32,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// A worker process of the benchmark's own
    #[command(hide = true)]
    Worker {
        /// How many workflows to drive at once
        #[arg(long)]
        in_flight: u32,
    },
}
