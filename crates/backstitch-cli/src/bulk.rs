//! How is one thing decided about many workflows?

use std::io::{self, BufRead, IsTerminal};

use backstitch::{Answered, Client, Error, Filter, Status, WorkflowId, WorkflowView};
use serde_json::json;

use crate::arguments::OnWorkflows;
use crate::exit::{Exit, Failed};
use crate::output::{clean, note, say, say_json};

/// What is decided.
#[derive(Debug, Clone, Copy)]
pub struct Verb {
    /// The command.
    pub name: &'static str,
    /// The statuses that are meant unless one is said.
    pub usual: &'static [Status],
}

/// Counts, asks, and decides about one after the other. Ends with 5 if one was refused.
pub async fn decide(
    client: &Client,
    verb: Verb,
    arguments: OnWorkflows,
    mut one: impl AsyncFnMut(&Client, WorkflowId) -> Result<Answered, Error>,
) -> Result<Exit, Failed> {
    let OnWorkflows { decision, yes, limit, chosen, .. } = arguments;
    if chosen.is_everything() {
        return Err(Failed::usage(format!(
            "say which workflow, or which ones: `backstitch {} ID` or a filter such as --kind; see --help",
            verb.name
        )));
    }
    let statuses = chosen.status.map_or_else(|| verb.usual.to_vec(), |status| vec![status]);
    let filter = chosen.filter(limit);
    let found = found(client, &filter, &statuses).await?;
    if !found.is_empty() && !yes {
        ask(&question(verb, &found, limit), verb)?;
    }
    let mut answers = Vec::new();
    for view in &found {
        answers.push((view.workflow, one(client, view.workflow).await?));
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
        say(&format!("{}: {accepted} accepted, {refused} refused", verb.name))?;
    }
    Ok(if accepted == found.len() { Exit::Done } else { Exit::Refused })
}

async fn found(client: &Client, filter: &Filter, statuses: &[Status]) -> Result<Vec<WorkflowView>, Failed> {
    let mut found = Vec::new();
    for status in statuses {
        let filter = Filter { status: Some(*status), ..filter.clone() };
        found.extend(client.workflows(filter).await?);
    }
    found.sort_by_key(|view| std::cmp::Reverse(view.workflow));
    found.truncate(usize::try_from(filter.limit).unwrap_or(usize::MAX));
    Ok(found)
}

fn question(verb: Verb, found: &[WorkflowView], limit: u32) -> String {
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
    clean(&format!("{} {count} of {}? [y/N]", verb.name, kinds.join(", ")))
}

/// Goes on only if a person says yes.
fn ask(question: &str, verb: Verb) -> Result<(), Failed> {
    if !io::stdin().is_terminal() {
        let verb = verb.name;
        return Err(Failed::usage(format!("{question} Nobody is there to answer: say --yes to {verb} them")));
    }
    note(question);
    let mut answer = String::new();
    let read = io::stdin().lock().read_line(&mut answer);
    match read.map(|_| answer.trim()) {
        Ok("y" | "Y" | "yes") => Ok(()),
        _ => Err(Failed::refused("left as they are")),
    }
}
