//! What does each command want to know that only looks?

use backstitch::WorkflowId;
use clap::{ArgGroup, Args, value_parser};
use clap_complete::Shell;

use super::choose::{Chosen, Watched, parse_workflow};
use super::edge::EdgeArguments;
use super::operate::{DaemonArguments, WorkerArguments};

/// `list`
#[derive(Debug, Args)]
pub struct List {
    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print an array of JSON objects
    #[arg(long)]
    pub json: bool,
    /// Once, or on and on
    #[command(flatten)]
    pub watched: Watched,
    /// Which ones
    #[command(flatten)]
    pub chosen: Chosen,
}

/// `errors`
#[derive(Debug, Args)]
pub struct Errors {
    /// Only of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Only of this queue
    #[arg(long)]
    pub queue: Option<String>,
    /// Only of workflows asked for since: a time, or 30s, 10m, 2h, 1d ago
    #[arg(long, value_name = "WHEN", value_parser = crate::time::parse_past)]
    pub since: Option<chrono::DateTime<chrono::Utc>>,
    /// Only of workflows asked for before: a time, or 30s, 10m, 2h, 1d ago
    #[arg(long, value_name = "WHEN", value_parser = crate::time::parse_past)]
    pub until: Option<chrono::DateTime<chrono::Utc>>,
    /// At most so many errors, the most frequent first
    #[arg(long, default_value_t = 50, value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `wait`
#[derive(Debug, Args)]
pub struct Wait {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: WorkflowId,
    /// Print the workflow as JSON
    #[arg(long)]
    pub json: bool,
}

/// `show`
#[derive(Debug, Args)]
pub struct Show {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: WorkflowId,
    /// Go on until it has ended, and end with 0 or 3: draw again as it changes; behind a pipe, a line for each thing that happens
    #[arg(long, conflicts_with = "json")]
    pub follow: bool,
    /// Print an object with workflow, steps, attempts, worker and now
    #[arg(long)]
    pub json: bool,
}

/// `explain`
#[derive(Debug, Args)]
pub struct Explain {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: WorkflowId,
    /// Print an object with the same sentences
    #[arg(long)]
    pub json: bool,
}

/// `verify`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["workflow", "orphans"]))]
pub struct Verify {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: Option<WorkflowId>,
    /// Look for what belongs to no workflow instead
    #[arg(long)]
    pub orphans: bool,
    /// Print an object: of a workflow its steps, else what was looked at and the orphans
    #[arg(long)]
    pub json: bool,
    /// Where to look
    #[command(flatten)]
    pub edge: EdgeArguments,
}

/// `workers`
#[derive(Debug, Args)]
pub struct Workers {
    /// Also show so many of those that died last
    #[arg(long, value_name = "WORKERS", default_value_t = 0, value_parser = value_parser!(u32).range(0..=10_000))]
    pub dead: u32,
    /// Print an array of JSON objects
    #[arg(long)]
    pub json: bool,
}

/// `kinds` and `stats`
#[derive(Debug, Args)]
pub struct Counted {
    /// Print an array of JSON objects
    #[arg(long)]
    pub json: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub struct Doctor {
    /// Print an array of JSON objects
    #[arg(long)]
    pub json: bool,
    /// Examine what `serve --without-gateway` needs
    #[arg(long, env = "BACKSTITCH_WITHOUT_GATEWAY")]
    pub without_gateway: bool,
    /// Where and whom it would answer
    #[command(flatten)]
    pub daemon: DaemonArguments,
    /// How the worker would work
    #[command(flatten)]
    pub worker: WorkerArguments,
    /// What it would work on
    #[command(flatten)]
    pub edge: EdgeArguments,
}

/// `completions`
#[derive(Debug, Args)]
pub struct Completions {
    /// For which shell
    pub shell: Shell,
}

/// `man`
#[derive(Debug, Args)]
pub struct Man {
    /// Write a page for each command into this directory, which must be there, instead of printing the first
    #[arg(long, value_name = "DIRECTORY")]
    pub directory: Option<std::path::PathBuf>,
}
