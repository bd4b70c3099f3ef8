//! What does each command want to know that decides about a step, a workflow or a kind?

use backstitch::{Position, WorkflowId};
use clap::{ArgGroup, Args};
use uuid::Uuid;

use super::choose::{Decision, parse_workflow};

/// One workflow, and who decides about it.
#[derive(Debug, Args)]
pub struct OnWorkflow {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: WorkflowId,
    /// Decides once, however often the command is repeated: any UUID
    #[arg(long, value_parser = parse_token)]
    pub token: Option<Uuid>,
    /// Who, and why
    #[command(flatten)]
    pub decision: Decision,
}

/// One step of a workflow.
#[derive(Debug, Args)]
pub struct OnStep {
    /// Which workflow
    #[command(flatten)]
    pub on: OnWorkflow,
    /// Which step: its position, as `backstitch show` tells it
    #[arg(value_parser = parse_position)]
    pub position: Position,
}

/// `resolve`
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("found").required(true).args(["happened", "did_not_happen"]))]
pub struct Resolve {
    /// Which step
    #[command(flatten)]
    pub on: OnStep,
    /// Its effect is there
    #[arg(long)]
    pub happened: bool,
    /// Nothing of it is there
    #[arg(long)]
    pub did_not_happen: bool,
    /// What it would have handed over, as JSON
    #[arg(
        long,
        value_name = "JSON",
        default_value = "null",
        requires = "happened",
        conflicts_with = "did_not_happen"
    )]
    pub output: String,
}

/// `pause` and `resume`: a workflow, or a kind.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("what").required(true).args(["workflow", "kind"]))]
pub struct OnWorkflowOrKind {
    /// Which workflow
    #[arg(value_name = "ID", value_parser = parse_workflow)]
    pub workflow: Option<WorkflowId>,
    /// Or all of this kind, those that are asked for later too
    #[arg(long)]
    pub kind: Option<String>,
    /// Decides once, however often the command is repeated: any UUID
    #[arg(long, conflicts_with = "kind", value_parser = parse_token)]
    pub token: Option<Uuid>,
    /// Who, and why
    #[command(flatten)]
    pub decision: Decision,
}

/// What is paused or resumed.
#[derive(Debug)]
pub enum On {
    /// This workflow.
    Workflow(WorkflowId),
    /// All of this kind.
    Kind(String),
}

impl OnWorkflowOrKind {
    /// Which of both, beside who says so.
    pub fn split(self) -> (On, Option<Uuid>, Decision) {
        let on = match (self.workflow, self.kind) {
            (Some(workflow), _) => On::Workflow(workflow),
            (None, Some(kind)) => On::Kind(kind),
            (None, None) => unreachable!("one of both is required"),
        };
        (on, self.token, self.decision)
    }
}

fn parse_token(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "give a UUID, the same whenever this decision is repeated".to_owned())
}

fn parse_position(text: &str) -> Result<Position, String> {
    text.parse().map(Position).map_err(|_| "give the position of a step, counted from 0".to_owned())
}
