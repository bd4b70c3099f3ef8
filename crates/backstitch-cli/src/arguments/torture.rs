//! How long is everything hurt, and how badly?

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum, value_parser};

use super::exit_codes;

/// `torture`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, after_help = concat!(
    "Examples:\n",
    "  backstitch torture --minutes 5\n",
    "  backstitch torture --seed 42 --minutes 60 --gateways 6 --json > torture.json\n",
    "  backstitch torture --control fence     without the fence: must end with 4\n\n",
    "0: everything held; 4: something did not, and what there is to look at is kept.\n\n",
    exit_codes!(0 1 2 4)
))]
pub struct TortureCommand {
    /// How
    #[command(flatten)]
    pub torture: Torture,
    /// A process of its own
    #[command(subcommand)]
    pub part: Option<TorturePart>,
}

/// How it is done.
#[derive(Debug, Clone, Args)]
pub struct Torture {
    /// Decides which fault comes when and what work it may hit; the same seed gives the same plan [default: the time]
    #[arg(long)]
    pub seed: Option<u64>,
    /// For how long, before the last round is settled and looked through
    #[arg(long, default_value_t = 5.0, value_parser = minutes)]
    pub minutes: f64,
    /// For so many whole rounds instead, however long they take; each has every fault
    #[arg(long, conflicts_with = "minutes", value_parser = value_parser!(u64).range(1..=10_000))]
    pub rounds: Option<u64>,
    /// How many milliseconds lie between two faults, give or take half of it
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 400, value_parser = value_parser!(u32).range(10..=60_000))]
    pub pace: u32,
    /// How many workflows are asked for in a second, beside gateways
    #[arg(long, value_name = "WORKFLOWS", default_value_t = 10, value_parser = value_parser!(u32).range(1..=1_000))]
    pub rate: u32,
    /// How many gateways are there, behind a PowerDNS and an nginx of the run's own, to be started and stopped; 0: no edge
    #[arg(long, default_value_t = 0, value_parser = gateways)]
    pub gateways: usize,
    /// Leave out one part of the protection, to see that it is noticed
    #[arg(long, value_enum)]
    pub control: Option<Control>,
    /// Where to keep what there is to look at when something did not hold [default: where it was made]
    #[arg(long, value_name = "DIRECTORY")]
    pub bundle: Option<PathBuf>,
    /// Print a JSON object: seed, verdict, sigkills, workflows, faults, violations and more
    #[arg(long)]
    pub json: bool,
}

/// What is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Control {
    /// The database lets the dead go on writing
    Fence,
    /// The target hears the stale, and lets a run arrive after its compensation
    Tombstone,
    /// The target does not know a key again
    Key,
    /// Intents are called durable before they are
    Intent,
    /// The target says that it took back what it did not
    Undo,
    /// PowerDNS says of names that they are gone, and lets them stand; there is an edge in any case
    Removal,
}

/// The processes that are tortured.
#[derive(Debug, Subcommand)]
pub enum TorturePart {
    /// A worker, there to be killed
    #[command(hide = true)]
    Worker,
    /// The target of effects
    #[command(hide = true)]
    Recorder {
        /// Where it listens
        socket: PathBuf,
        /// Where it writes down what was done
        log: PathBuf,
        /// It does not know a key again
        #[arg(long)]
        lacks_keys: bool,
        /// It lets a run arrive after its compensation
        #[arg(long)]
        lacks_tombstones: bool,
        /// It says that it took back what it did not
        #[arg(long)]
        lacks_honesty: bool,
    },
}

impl Torture {
    /// Between two faults.
    pub fn pace(&self) -> Duration {
        Duration::from_millis(self.pace.into())
    }

    /// Between two workflows.
    pub fn every(&self) -> Duration {
        Duration::from_secs(1) / self.rate
    }
}

/// A week: nobody waits for longer, and every clock can count to it.
const MINUTES_MAX: f64 = 7.0 * 24.0 * 60.0;

/// More processes than a host has ports to spare for.
const GATEWAYS_MAX: usize = 100;

fn minutes(text: &str) -> Result<f64, String> {
    let minutes = text.parse().map_err(|_| "give a number of minutes such as 5 or 0.5".to_owned())?;
    if (0.0..=MINUTES_MAX).contains(&minutes) {
        Ok(minutes)
    } else {
        Err(format!("give 0 to {MINUTES_MAX} minutes"))
    }
}

fn gateways(text: &str) -> Result<usize, String> {
    let gateways = text.parse().map_err(|_| "give a number of gateways such as 6".to_owned())?;
    if gateways <= GATEWAYS_MAX { Ok(gateways) } else { Err(format!("give at most {GATEWAYS_MAX} gateways")) }
}
