//! How is one thing decided about many workflows?

use std::io::{self, BufRead, IsTerminal};

use backstitch::{Answered, Filter, Status, WorkflowView};
use serde_json::json;

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

/// Counts, asks, and decides about one after the other. Ends with 5 if one was refused.
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
    let mut answers = Vec::new();
    for view in &found {
        answers.push((view.workflow, reach.decide(view.workflow, many.verb.clone(), &decision, None).await?));
    }
    let accepted = answers.iter().filter(|(_, answer)| *answer == Answered::Accepted).count();
    if decision.json {
        let answers: Vec<_> = answers
            .iter()
            .map(|(workflow, answer)| json!({ "workflow": workflow, "answer": answer }))
            .collect();
        say_json(&answers)?;
    } else {
        for (workflow, answer) in answers.iter().filter(|(_, answer)| *answer != Answered::Accepted) {
            note(&format!("{workflow}: {}", answer.as_str()));
        }
        let refused = answers.len() - accepted;
        say(&format!("{}: {accepted} accepted, {refused} refused", many.name))?;
    }
    Ok(if accepted == found.len() { Exit::Done } else { Exit::Refused })
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
