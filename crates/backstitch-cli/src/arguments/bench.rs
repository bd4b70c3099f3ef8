//! What can be measured, and how thoroughly?

use clap::{Args, Subcommand, value_parser};

use super::exit_codes;

/// How far apart workflows are submitted unless said: longer than each takes.
pub const APART_MILLISECONDS: u32 = 50;

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
    /// Measure less, once and briefly: a look, not a figure to quote
    #[arg(long)]
    pub quick: bool,
    /// Print a JSON object: command, quick, environment, and under figures each key with value, unit, runs and what it means
    #[arg(long)]
    pub json: bool,
}

/// How much a worker is given.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct Load {
    /// How many are enqueued before the worker starts [default: 10000; with --quick 1000]
    #[arg(long, value_name = "WORKFLOWS", value_parser = value_parser!(u64).range(1..=10_000_000))]
    pub workflows: Option<u64>,
    /// How many the worker drives at once [default: 512]
    #[arg(long, value_name = "WORKFLOWS", value_parser = value_parser!(u32).range(2..=100_000))]
    pub in_flight: Option<u32>,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub enum BenchVerb {
    /// Workflows a second, and what each costs in commits, log, rows, bytes and processor time
    #[command(after_help = concat!(
        "Example:\n  backstitch bench throughput --workflows 10000 --in-flight 512\n\n", exit_codes!(0 1 2)
    ))]
    Throughput {
        /// How much
        #[command(flatten)]
        load: Load,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// How long one workflow takes on an idle worker: to its first step, and to its end
    #[command(after_help = concat!("Example:\n  backstitch bench latency --submissions 1000\n\n", exit_codes!(0 1 2)))]
    Latency {
        /// How many are submitted, one after the other [default: 200; with --quick 20]
        #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
        submissions: Option<u32>,
        /// How many milliseconds apart, give or take half of it
        #[arg(long, value_name = "MILLISECONDS", default_value_t = APART_MILLISECONDS, value_parser = value_parser!(u32).range(..=60_000))]
        apart: u32,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// What asking for workflows costs, one by one and many at once
    #[command(after_help = concat!("Example:\n  backstitch bench enqueue\n\n", exit_codes!(0 1 2)))]
    Enqueue {
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// What asking and waiting over HTTP cost, on a daemon of its own, beside the SQL function called directly
    #[command(after_help = concat!("Example:\n  backstitch bench http --requests 1000\n\n", exit_codes!(0 1 2)))]
    Http {
        /// How many requests a percentile is of [default: 200; with --quick 20]
        #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
        requests: Option<u32>,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// Whether what has ended, or waits for later, slows down what is due
    #[command(after_help = concat!(
        "Example:\n  backstitch bench history --finished 1000000 --waiting 100000\n\n", exit_codes!(0 1 2)
    ))]
    History {
        /// How many have ended, each of them really run [default: 1000000; with --quick 20000]
        #[arg(long, value_name = "WORKFLOWS", value_parser = value_parser!(u64).range(1..=100_000_000))]
        finished: Option<u64>,
        /// How many wait for tomorrow [default: 100000; with --quick 10000]
        #[arg(long, value_name = "WORKFLOWS", value_parser = value_parser!(u64).range(1..=10_000_000))]
        waiting: Option<u64>,
        /// How much, beside them
        #[command(flatten)]
        load: Load,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// How long after a kill everything that was in flight is settled, and what a workflow in flight weighs
    #[command(after_help = concat!("Example:\n  backstitch bench recovery --workflows 10000\n\n", exit_codes!(0 1 2)))]
    Recovery {
        /// How many are in flight when their worker is killed [default: 10000; with --quick 1000]
        #[arg(long, value_parser = value_parser!(u64).range(1..=100_000))]
        workflows: Option<u64>,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// What taking back costs beside going on
    #[command(after_help = concat!("Example:\n  backstitch bench compensate --workflows 10000\n\n", exit_codes!(0 1 2)))]
    Compensate {
        /// How much
        #[command(flatten)]
        load: Load,
        /// How it is measured
        #[command(flatten)]
        how: HowMeasured,
    },
    /// All of these, one after the other, with their defaults
    #[command(after_help = concat!("Example:\n  backstitch bench all --json > figures.json\n\n", exit_codes!(0 1 2)))]
    All {
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
