//! Which workflows are meant, and who decides about them?

use std::time::Duration;

use backstitch::{Filter, Status, WorkflowId};
use chrono::{DateTime, Utc};
use clap::{Args, value_parser};

use crate::time::{parse_past, parse_span};

/// Which workflows: all that is said holds for each.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Which workflows")]
pub struct Chosen {
    /// Only of this kind
    #[arg(long)]
    pub kind: Option<String>,
    /// Only with this status: pending, running, compensating, needs_attention, completed, compensated or abandoned
    #[arg(long, value_parser = parse_status)]
    pub status: Option<Status>,
    /// Only with this key
    #[arg(long)]
    pub key: Option<String>,
    /// Only of this queue
    #[arg(long)]
    pub queue: Option<String>,
    /// Only those that failed with this code, as `backstitch errors` shows it
    #[arg(long, value_name = "CODE")]
    pub error_code: Option<String>,
    /// Only those asked for since: a time, or 30s, 10m, 2h, 1d ago
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    pub since: Option<DateTime<Utc>>,
    /// Only those asked for before: a time, or 30s, 10m, 2h, 1d ago
    #[arg(long, value_name = "WHEN", value_parser = parse_past)]
    pub until: Option<DateTime<Utc>>,
}

impl Chosen {
    /// The same as the engine takes it.
    pub fn filter(self, limit: u32) -> Filter {
        let Self { kind, status, key, queue, error_code, since, until } = self;
        Filter { kind, status, key, queue, error_code, since, until, before: None, limit, whole: false }
    }

    /// Nothing is said: all are meant.
    pub fn is_everything(&self) -> bool {
        let Self { kind, status, key, queue, error_code, since, until } = self;
        let texts = [kind, key, queue, error_code].iter().all(|said| said.is_none());
        texts && status.is_none() && since.is_none() && until.is_none()
    }
}

/// Who decides, and why.
#[derive(Debug, Clone, Args)]
pub struct Decision {
    /// Who says so; it is journaled
    #[arg(long, env = "USER", default_value = "operator", value_parser = parse_by)]
    pub by: String,
    /// Why; it is journaled, and told to whoever waits
    #[arg(long, value_parser = parse_why)]
    pub why: String,
    /// Print the answer as JSON
    #[arg(long)]
    pub json: bool,
}

/// `cancel` and `retry`: one workflow, or all that are chosen.
#[derive(Debug, Args)]
pub struct OnWorkflows {
    /// Which workflow; or none, and say below which
    #[arg(
        value_name = "ID",
        value_parser = parse_workflow,
        conflicts_with_all = ["kind", "status", "key", "queue", "error_code", "since", "until"]
    )]
    pub workflow: Option<WorkflowId>,
    /// Who, and why
    #[command(flatten)]
    pub decision: Decision,
    /// Don't ask before deciding about many
    #[arg(long)]
    pub yes: bool,
    /// Decide about at most so many at once
    #[arg(long, default_value_t = 1_000, value_parser = value_parser!(u32).range(1..=10_000))]
    pub limit: u32,
    /// Or which ones
    #[command(flatten)]
    pub chosen: Chosen,
}

/// How often to look, and draw again.
#[derive(Debug, Args)]
pub struct Watched {
    /// Draw again as it changes, until Ctrl-C; behind a pipe, print again whatever has changed
    #[arg(long, conflicts_with = "json")]
    pub watch: bool,
    /// How often to look
    #[arg(long, value_name = "SPAN", default_value = "2s", value_parser = parse_span, requires = "watch")]
    pub every: Duration,
}

/// A workflow's id.
pub fn parse_workflow(text: &str) -> Result<WorkflowId, String> {
    text.parse().map_err(|_| "give the UUID of a workflow, as `backstitch list` shows it".to_owned())
}

/// As the database has it.
const BY_BYTES_MAX: usize = 200;
const WHY_BYTES_MAX: usize = 2_000;

fn parse_by(text: &str) -> Result<String, String> {
    within(text, BY_BYTES_MAX, "say who decides")
}

fn parse_why(text: &str) -> Result<String, String> {
    within(text, WHY_BYTES_MAX, "say why")
}

fn within(text: &str, bytes_max: usize, ask: &str) -> Result<String, String> {
    match text.trim().is_empty() || text.len() > bytes_max {
        true => Err(format!("{ask}, in 1 to {bytes_max} bytes")),
        false => Ok(text.to_owned()),
    }
}

fn parse_status(word: &str) -> Result<Status, String> {
    word.parse()
}
