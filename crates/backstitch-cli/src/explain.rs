//! `backstitch explain`: what happened to a workflow, in words, and what comes of it?

mod happened;
mod next;
mod stands;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::arguments::Explain;
use crate::exit::{Exit, Failed};
use crate::output::{Tint, clean, say, say_json, tinted};
use crate::reach::reach;
use crate::seen::Seen;
use crate::settings::Settings;

/// Four questions about one workflow, answered in sentences.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Explanation {
    /// Which workflow, and how it stands.
    workflow: backstitch::WorkflowId,
    kind: String,
    status: backstitch::Status,
    /// What happened, in order.
    happened: Vec<String>,
    /// What its steps left outside, or may have.
    stands: Vec<String>,
    /// What will happen without anybody doing anything, and when.
    next: Vec<String>,
    /// What a person can do.
    can: Vec<Advice>,
}

/// Something that a person can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Advice {
    /// The exact command; what is to be filled in stands in capitals.
    command: String,
    /// What comes of it.
    effect: String,
}

/// Explains one workflow.
pub async fn run(settings: &Settings, arguments: Explain) -> Result<Exit, Failed> {
    let explanation = explain(&reach(settings).await?.look(arguments.workflow).await?);
    match arguments.json {
        true => say_json(&explanation)?,
        false => say(&told(&explanation))?,
    }
    Ok(Exit::Done)
}

/// Everything follows from what is seen.
fn explain(seen: &Seen) -> Explanation {
    let view = &seen.workflow;
    Explanation {
        workflow: view.workflow,
        kind: view.kind.clone(),
        status: view.status,
        happened: happened::told(seen),
        stands: stands::told(seen),
        next: next::told(seen),
        can: next::advice(seen),
    }
}

fn told(explanation: &Explanation) -> String {
    let Explanation { workflow, kind, status, happened, stands, next, can } = explanation;
    let mut lines = vec![clean(&format!("{workflow}, {kind}: {}", status.as_str().replace('_', " ")))];
    for (title, sentences) in
        [("What happened", happened), ("What stands outside", stands), ("What happens next", next)]
    {
        lines.push(String::new());
        lines.push(tinted(title, Tint::Quiet));
        lines.extend(sentences.iter().map(|sentence| format!("  {}", clean(sentence).replace('\n', " "))));
    }
    lines.push(String::new());
    lines.push(tinted("What you can do", Tint::Quiet));
    for Advice { command, effect } in can {
        lines.push(clean(&format!("  {command}")));
        lines.push(clean(&format!("      {effect}")));
    }
    lines.join("\n")
}
