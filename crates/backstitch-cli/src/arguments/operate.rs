//! What does each command want to know that does something?

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, value_parser};

use backstitch_gateway::identifiers::{GatewayId, OrganizationId};

use super::edge::EdgeArguments;
use super::exit_codes;
use crate::time::{parse_moment, parse_span};

/// `serve`
#[derive(Debug, Args)]
pub struct Serve {
    /// Where and whom it answers
    #[command(flatten)]
    pub daemon: DaemonArguments,
    /// Serve without gateway kinds and routes: only recovery and health
    #[arg(long, env = "BACKSTITCH_WITHOUT_GATEWAY")]
    pub without_gateway: bool,
    /// How the worker works
    #[command(flatten)]
    pub worker: WorkerArguments,
    /// What it works on
    #[command(flatten)]
    pub edge: EdgeArguments,
}

/// Where the daemon answers, whom, and who else hears of what happens.
#[derive(Debug, Args)]
pub struct DaemonArguments {
    /// Where to answer HTTP. Beyond loopback only with TLS, and to whoever shows a token [default: 127.0.0.1:7410]
    #[arg(long, value_name = "ADDRESS", env = "BACKSTITCH_LISTEN")]
    pub listen: Option<String>,
    /// Speak TLS with this certificate: PEM, with those between it and a known authority. Read once, at the start
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_TLS_CERTIFICATE")]
    pub tls_certificate: Option<PathBuf>,
    /// The certificate's private key: PEM
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_TLS_KEY")]
    pub tls_key: Option<PathBuf>,
    /// Where to post alerts, beside the log: plain http, retried until it answers 2xx
    #[arg(long, value_name = "URL", env = "BACKSTITCH_ALERT_WEBHOOK", hide_env_values = true)]
    pub alert_webhook: Option<String>,
    /// After how many seconds a caller that waits for a workflow is told that it is still under way [default: 120]
    #[arg(long, value_name = "SECONDS", env = "BACKSTITCH_ANSWER_WITHIN", value_parser = value_parser!(u64).range(1..=86_400))]
    pub answer_within: Option<u64>,
    /// How long to keep workflows that have ended, 1h or more: 30d. Their keys are kept for ever [default: for ever]
    #[arg(long, value_name = "AGE", env = "BACKSTITCH_KEEP_FINISHED")]
    pub keep_finished: Option<String>,
    /// Answer under /v1 without tokens: to every program on this host, which may then do everything
    #[arg(long, env = "BACKSTITCH_WITHOUT_TOKENS")]
    pub without_tokens: bool,
}

/// `recover`
#[derive(Debug, Args)]
pub struct Recover {
    /// For how many seconds at most
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
    /// Report as JSON
    #[arg(long)]
    pub json: bool,
    /// Recover without gateway kinds: only declare dead workers dead
    #[arg(long, env = "BACKSTITCH_WITHOUT_GATEWAY")]
    pub without_gateway: bool,
    /// How the worker works
    #[command(flatten)]
    pub worker: WorkerArguments,
    /// What it works on
    #[command(flatten)]
    pub edge: EdgeArguments,
}

/// How a worker works.
#[derive(Debug, Args)]
#[command(next_help_heading = "Worker")]
pub struct WorkerArguments {
    /// Where the process shows its host that it lives, so that its work is taken over at once when it dies
    #[arg(long, value_name = "DIRECTORY", env = "BACKSTITCH_STATE_DIRECTORY")]
    pub state_directory: Option<PathBuf>,
    /// How many workflows to drive at once [default: 512]
    #[arg(long, value_name = "WORKFLOWS", env = "BACKSTITCH_CONCURRENCY", value_parser = value_parser!(u32).range(1..=100_000))]
    pub concurrency: Option<u32>,
    /// Which queues to take from [default: default]
    #[arg(long, value_name = "QUEUE,…", env = "BACKSTITCH_QUEUES", value_delimiter = ',')]
    pub queues: Option<Vec<String>>,
}

/// `migrate`
#[derive(Debug, Args)]
pub struct Migrate {
    /// Change nothing; only say whether they are
    #[arg(long)]
    pub check: bool,
}

/// `enqueue`
#[derive(Debug, Args)]
pub struct Enqueue {
    /// Which kind of workflow
    pub kind: String,
    /// Its input, as JSON of up to 256 KiB; `-` reads the standard input
    #[arg(default_value = "{}", conflicts_with = "input_file")]
    pub input: String,
    /// Read the input from this file
    #[arg(long, value_name = "FILE")]
    pub input_file: Option<PathBuf>,
    /// The same key and input give the same workflow. 1 to 500 bytes
    #[arg(long)]
    pub key: Option<String>,
    /// The queue to wait in
    #[arg(long, default_value = "default")]
    pub queue: String,
    /// 0 is taken up first, 3 last
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u8).range(0..=3))]
    pub priority: u8,
    /// Take it back unless it has ended by then: a time, or 30s, 10m, 2h, 1d from now
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    pub deadline: Option<DateTime<Utc>>,
    /// Not to be begun before
    #[arg(long, value_name = "WHEN", value_parser = parse_moment)]
    pub run_at: Option<DateTime<Utc>>,
    /// Wait until it has ended or needs attention, and end with 0, 3 or 4
    #[arg(long)]
    pub wait: bool,
    /// Print the workflow as JSON
    #[arg(long)]
    pub json: bool,
}

/// `seal`
#[derive(Debug, Args)]
pub struct Seal {
    /// For workflows of which kind: for another it does not open
    pub kind: String,
    /// Under the key of this id, to ask again for what was asked for under it [default: the keyring's first]
    #[arg(long, value_name = "KEY")]
    pub under: Option<String>,
    /// The keyring, which the workers of the kind have too
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_KEYRING_FILE")]
    pub keyring_file: Option<PathBuf>,
}

/// `prune`
#[derive(Debug, Args)]
pub struct Prune {
    /// Only what ended longer ago than this: 12h, 30d
    #[arg(long, value_name = "AGE", value_parser = parse_span)]
    pub older_than: Duration,
    /// Print the counts as JSON
    #[arg(long)]
    pub json: bool,
}

/// `gateway`
#[derive(Debug, Args)]
pub struct GatewayCommand {
    /// What to do
    #[command(subcommand)]
    pub verb: GatewayVerb,
}

/// What to do with the pool.
#[derive(Debug, Subcommand)]
pub enum GatewayVerb {
    /// Add a gateway, to be handed out from now on
    #[command(after_help = concat!(
        "Example:\n  backstitch gateway add berlin-1 10.0.0.7:8080\n\n", exit_codes!(0 1 2 5)
    ))]
    Add {
        /// What people call it
        name: String,
        /// Where it listens, as address:port within the allowed networks
        upstream: String,
        /// In which networks gateways may live [default: private ones and loopback]
        #[arg(long, value_name = "NETWORK,…", env = "BACKSTITCH_ALLOWED_NETWORKS", value_delimiter = ',')]
        allowed_networks: Option<Vec<String>>,
        /// Print it as JSON
        #[arg(long)]
        json: bool,
    },
    /// List the gateways, and whom they serve
    #[command(after_help = concat!("Example:\n  backstitch gateway list\n\n", exit_codes!(0 1 2)))]
    List {
        /// Print an array of JSON objects
        #[arg(long)]
        json: bool,
    },
    /// Count the gateways in each state
    #[command(after_help = concat!("Example:\n  backstitch gateway stats --json\n\n", exit_codes!(0 1 2)))]
    Stats {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Keep a gateway from being handed out again
    #[command(after_help = concat!(
        "Example:\n  backstitch gateway quarantine 3 --why 'answers too slowly'\n\n", exit_codes!(0 1 2 5)
    ))]
    Quarantine {
        /// Its number, as `gateway list` shows it
        #[arg(value_name = "ID")]
        gateway: GatewayId,
        /// Why; `gateway list` shows it
        #[arg(long)]
        why: String,
    },
    /// Let a quarantined gateway be handed out again
    #[command(after_help = concat!("Example:\n  backstitch gateway release 3\n\n", exit_codes!(0 1 2 5)))]
    Release {
        /// Its number, as `gateway list` shows it
        #[arg(value_name = "ID")]
        gateway: GatewayId,
    },
    /// Start the gateway of an organisation, and wait for it; a worker must be at work
    #[command(after_help = concat!(
        "Example:\n  backstitch gateway start 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n\n", exit_codes!(0 1 2 3 4 5 6)
    ))]
    Start(OnOrganization),
    /// Stop the gateway of an organisation, and wait for it; a worker must be at work
    #[command(after_help = concat!(
        "Example:\n  backstitch gateway stop 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n\n", exit_codes!(0 1 2 3 4 5 6)
    ))]
    Stop(OnOrganization),
}

/// `gateway start` and `gateway stop`
#[derive(Debug, Args)]
pub struct OnOrganization {
    /// Which organisation, a UUID
    #[arg(value_name = "ORGANIZATION")]
    pub organization: OrganizationId,
    /// After how many seconds to give up waiting; it goes on all the same
    #[arg(long, value_name = "SECONDS", default_value_t = 120, value_parser = value_parser!(u64).range(1..=86_400))]
    pub wait: u64,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `pg`
#[derive(Debug, Args)]
pub struct PgCommand {
    /// What to do
    #[command(subcommand)]
    pub verb: PgVerb,
}

/// What to do with the Postgres of this user's own.
#[derive(Debug, Subcommand)]
pub enum PgVerb {
    /// Say whether it runs, where, and under which URL
    #[command(after_help = concat!(
        "Example:\n  backstitch pg status --json\n\n",
        "0: it runs; 5: it does not.\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Status {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Start it unless it runs; it outlives whoever started it
    #[command(after_help = concat!(
        "Example:\n  psql \"$(backstitch pg start)\"    the URL is printed\n\n", exit_codes!(0 1 2)
    ))]
    Start,
    /// Stop it; clients are disconnected, and nothing acknowledged is lost
    #[command(after_help = concat!("Example:\n  backstitch pg stop\n\n", exit_codes!(0 1 2)))]
    Stop,
}
