//! How is one thing decided about many workflows?

use std::io::{self, BufRead, IsTerminal};

use backstitch::{Answered, Filter, Status, WorkflowId, WorkflowView};
use serde_json::{Value, json};

use crate::arguments::OnWorkflows;
use crate::exit::{Exit, Failed};
use crate::output::{clean, note, say, say_json};
use crate::reach::{Reach, Verb};

/// What is decided.
#[derive(Debug, Clone)]
pub struct Many {
    /// The command.
    pub name: &'static str,
    /// The same about each.
    pub verb: Verb,
    /// The statuses that are meant unless one is said.
    pub usual: &'static [Status],
}

/// After so many in a row whoever is asked is not there, and would not be for the rest.
const FAILED_IN_A_ROW_MAX: usize = 3;

/// What came of one.
enum Came {
    Answered(Answered),
    /// It is not known whether it was decided.
    Failed(Failed),
    /// Too many before it had failed.
    NotAsked,
}

/// Counts, asks, and decides about one after the other. Ends with 1 if one could not be asked about, else with 5 if one was refused.
pub async fn decide(reach: &Reach, many: Many, arguments: OnWorkflows) -> Result<Exit, Failed> {
    let OnWorkflows { decision, yes, limit, chosen, .. } = arguments;
    if chosen.is_everything() {
        return Err(Failed::usage(format!(
            "say which workflow, or which ones: `backstitch {} ID` or a filter such as --kind; see --help",
            many.name
        )));
    }
    let statuses = chosen.status.map_or_else(|| many.usual.to_vec(), |status| vec![status]);
    let filter = chosen.filter(limit);
    let found = found(reach, &filter, &statuses).await?;
    if !found.is_empty() && !yes {
        ask(&question(many.name, &found, limit), many.name)?;
    }
    let (mut came, mut failed_in_a_row) = (Vec::new(), 0);
    for view in &found {
        let of_it = match failed_in_a_row < FAILED_IN_A_ROW_MAX {
            true => match reach.decide(view.workflow, many.verb.clone(), &decision, None).await {
                Ok(answered) => Came::Answered(answered),
                Err(failed) => Came::Failed(failed),
            },
            false => Came::NotAsked,
        };
        failed_in_a_row = if matches!(of_it, Came::Answered(_)) { 0 } else { failed_in_a_row + 1 };
        came.push((view.workflow, of_it));
    }
    match decision.json {
        true => {
            say_json(&came.iter().map(|(workflow, came)| for_programs(*workflow, came)).collect::<Vec<_>>())?
        }
        false => tell(many.name, &came)?,
    }
    Ok(exit_of(&came))
}

fn exit_of(came: &[(WorkflowId, Came)]) -> Exit {
    let is_any = |wanted: fn(&Came) -> bool| came.iter().any(|(_, came)| wanted(came));
    match () {
        () if is_any(|came| matches!(came, Came::Failed(_) | Came::NotAsked)) => Exit::Error,
        () if is_any(|came| !matches!(came, Came::Answered(Answered::Accepted))) => Exit::Refused,
        () => Exit::Done,
    }
}

fn for_programs(workflow: WorkflowId, came: &Came) -> Value {
    let (answer, error) = match came {
        Came::Answered(answer) => (Some(answer), None),
        Came::Failed(failed) => (None, Some(failed.message.as_str())),
        Came::NotAsked => (None, Some(NOT_ASKED)),
    };
    json!({ "workflow": workflow, "answer": answer, "error": error })
}

const NOT_ASKED: &str = "was not asked about: too many before it had failed; say the same again";

/// Those that came to something else than was wanted, and how many came to what.
fn tell(name: &str, came: &[(WorkflowId, Came)]) -> Result<(), Failed> {
    let (mut accepted, mut refused, mut failed, mut not_asked) = (0, 0, 0, 0);
    for (workflow, came) in came {
        match came {
            Came::Answered(Answered::Accepted) => accepted += 1,
            Came::Answered(answer) => {
                refused += 1;
                note(&format!("{workflow}: {}", answer.as_str()));
            }
            Came::Failed(problem) => {
                failed += 1;
                note(&clean(&format!("{workflow}: {problem}")));
            }
            Came::NotAsked => {
                not_asked += 1;
                note(&format!("{workflow}: {NOT_ASKED}"));
            }
        }
    }
    let rest = match failed {
        0 => String::new(),
        _ => format!(", {failed} failed, {not_asked} not asked about; say the same again"),
    };
    say(&format!("{name}: {accepted} accepted, {refused} refused{rest}"))
}

async fn found(reach: &Reach, filter: &Filter, statuses: &[Status]) -> Result<Vec<WorkflowView>, Failed> {
    let mut found = Vec::new();
    for status in statuses {
        let filter = Filter { status: Some(*status), ..filter.clone() };
        found.extend(reach.workflows(filter).await?.workflows);
    }
    found.sort_by_key(|view| std::cmp::Reverse(view.workflow));
    found.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    Ok(found)
}

fn question(name: &str, found: &[WorkflowView], limit: u32) -> String {
    let mut kinds: Vec<_> = found.iter().map(|view| view.kind.as_str()).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let count = match found.len() {
        1 => "1 workflow".to_owned(),
        many if u32::try_from(many).is_ok_and(|many| many == limit) => {
            format!("{many} workflows (--limit; there may be more)")
        }
        many => format!("{many} workflows"),
    };
    clean(&format!("{name} {count} of {}? [y/N]", kinds.join(", ")))
}

/// Goes on only if a person says yes.
fn ask(question: &str, name: &str) -> Result<(), Failed> {
    if !io::stdin().is_terminal() {
        return Err(Failed::usage(format!("{question} Nobody is there to answer: say --yes to {name} them")));
    }
    note(question);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.map(|_| answer.trim()) {
        Ok("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failed::refused("left as they are")),
    }
}
