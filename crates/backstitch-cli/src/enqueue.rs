//! `backstitch enqueue`: which input is taken, and how does the workflow end?

use std::io::{IsTerminal, Read};
use std::path::Path;

use backstitch::{Ending, Json, JsonError, Status, Unfinished, WorkflowId, limits, redacted};
use serde_json::{Value, json};

use crate::arguments::Enqueue;
use crate::exit::{Exit, Failed};
use crate::output::{clean, complain, note, say, say_json};
use crate::progress::waiting;
use crate::reach::{Asked, Reach, reach};
use crate::settings::Settings;

/// Asks, and waits if told to.
pub async fn run(settings: &Settings, arguments: Enqueue) -> Result<Exit, Failed> {
    // Before the database: what can't be taken is refused wherever Postgres is.
    let input = input(&arguments)?;
    let reach = reach(settings).await?;
    let asked = Asked {
        kind: arguments.kind.clone(),
        input,
        key: arguments.key,
        queue: arguments.queue,
        priority: arguments.priority,
        run_at: arguments.run_at,
        deadline_at: arguments.deadline,
    };
    let workflow = reach.enqueue(&asked).await?;
    // Under a key it is found again. Without one, whoever is not told its id now can't find it, so nothing that can fail goes before.
    if asked.key.is_some() && hint(workflow, reach.is_removed(workflow).await).unwrap_or(false) {
        return removed(&asked, workflow, arguments.wait || arguments.json);
    }
    if !arguments.json {
        say(&workflow.to_string())?;
    }
    if hint(workflow, reach.is_served(workflow, &arguments.kind).await) == Some(false) {
        warn_of_unserved(&arguments.kind);
    }
    match (arguments.wait, arguments.json) {
        (true, json) => match wait(&reach, workflow, json).await {
            Err(failed) if json => say_json(&json!({ "workflow": workflow })).and(Err(failed)),
            ended => ended,
        },
        (false, true) => whole(&reach, workflow, json!({ "workflow": workflow })).await.map(|()| Exit::Done),
        (false, false) => Ok(Exit::Done),
    }
}

/// What a look found. None: it came to nothing, which changes nothing about what was asked for.
fn hint<T>(workflow: WorkflowId, looked: Result<T, Failed>) -> Option<T> {
    let complaint = |failed: &Failed| {
        complain(&format!("workflow {workflow} was asked for, and how it stands can't be told: {failed}"));
    };
    looked.inspect_err(complaint).ok()
}

/// Prints a workflow for programs, or, when it can't be looked at, what is known of it.
async fn whole(reach: &Reach, workflow: WorkflowId, known: Value) -> Result<(), Failed> {
    match hint(workflow, reach.workflow(workflow).await) {
        Some(view) => say_json(&view),
        None => say_json(&known),
    }
}

/// What was asked for under this key was done once, and is not done again: good for whoever asks again, and no answer to whoever
/// wants to know how it ended.
fn removed(asked: &Asked, workflow: WorkflowId, wants_its_end: bool) -> Result<Exit, Failed> {
    let remark = format!(
        "workflow {workflow}, which the key {:?} names, ended and was removed; a key outlives its workflow: give another key to \
         have it done again",
        asked.key.as_deref().unwrap_or_default()
    );
    if wants_its_end {
        return Err(Failed::refused(remark));
    }
    complain(&remark);
    say(&workflow.to_string()).map(|()| Exit::Done)
}

/// Waits until it has ended or needs attention, and tells it: in words, or the workflow for programs.
pub async fn wait(reach: &Reach, workflow: WorkflowId, json: bool) -> Result<Exit, Failed> {
    let message = format!("waiting for workflow {workflow}; it goes on without us too …");
    let ending = waiting(&message, reach.wait(workflow)).await?;
    match json {
        true => whole(reach, workflow, known(workflow, &ending)).await?,
        false => say(&told(workflow, &ending))?,
    }
    Ok(exit_of(&ending))
}

/// The members of a workflow that its ending tells.
fn known(workflow: WorkflowId, ending: &Ending<Json>) -> Value {
    let unfinished = |status: Status, why: &Unfinished| json!({ "workflow": workflow, "status": status, "output": null, "error": why.error, "report": why.report });
    match ending {
        Ending::Completed(output) => json!({
            "workflow": workflow, "status": Status::Completed, "output": redacted(output), "error": null, "report": null
        }),
        Ending::Compensated(why) => unfinished(Status::Compensated, why),
        Ending::NeedsAttention(why) => unfinished(Status::NeedsAttention, why),
        Ending::Abandoned(why) => unfinished(Status::Abandoned, why),
    }
}

/// What is asked of a kind that nobody serves waits.
fn warn_of_unserved(kind: &str) {
    note(&clean(&format!(
        "backstitch: warning: no living worker serves the kind {kind:?}; it waits until one does: check the name, or start a worker"
    )));
}

/// The number that an ending ends with.
pub fn exit_of<T>(ending: &Ending<T>) -> Exit {
    match ending {
        Ending::Completed(_) => Exit::Done,
        Ending::Compensated(_) => Exit::Compensated,
        Ending::NeedsAttention(_) | Ending::Abandoned(_) => Exit::NeedsAttention,
    }
}

/// An ending in words.
pub fn told(workflow: WorkflowId, ending: &Ending<Json>) -> String {
    let unfinished = |word: &str, unfinished: &Unfinished| {
        format!(
            "{word}: {}\n{}\nsee `backstitch show {workflow}`",
            clean(&unfinished.error.to_string()),
            clean(&unfinished.report.to_string())
        )
    };
    match ending {
        Ending::Completed(output) => format!("completed: {}", clean(redacted(output).as_str())),
        Ending::Compensated(why) => unfinished("compensated", why),
        Ending::NeedsAttention(why) => unfinished("needs attention", why),
        Ending::Abandoned(why) => unfinished("abandoned", why),
    }
}

fn input(arguments: &Enqueue) -> Result<Json, Failed> {
    let kind = &arguments.kind;
    let text = match &arguments.input_file {
        Some(path) => file(path)?,
        None if arguments.input == "-" => standard_input()?,
        None => arguments.input.clone(),
    };
    if text.len() > limits::INPUT_BYTES_MAX {
        // How long it really is was not read.
        return Err(Failed::usage(format!(
            "kind {kind}: the input is too long, more than the {} allowed bytes of JSON; keep large data elsewhere and pass its \
             address",
            limits::INPUT_BYTES_MAX
        )));
    }
    let checked = Json::parse(&text, limits::INPUT_BYTES_MAX).and_then(|input| {
        crate::edge::check_input(kind, &input)?;
        Ok(input)
    });
    checked.map_err(|error| match error {
        JsonError::Shape(error) => Failed::usage(format!(
            "the input does not fit {kind}: {}",
            Failed::because(&error, "correct it and ask again")
        )),
        error => Failed::usage(format!(
            "kind {kind}: the input {}",
            Failed::because(&error, "correct it and ask again")
        )),
    })
}

fn file(path: &Path) -> Result<String, Failed> {
    let wrong = |error| Failed::usage(format!("--input-file {}: {error}", path.display()));
    bounded(std::fs::File::open(path).map_err(wrong)?).map_err(wrong)
}

fn standard_input() -> Result<String, Failed> {
    if std::io::stdin().is_terminal() {
        note("reading the input from the terminal; end it with Ctrl-D …");
    }
    bounded(std::io::stdin()).map_err(|error| Failed::usage(format!("reading the standard input: {error}")))
}

/// Reads no more than is needed to say that it is too much.
fn bounded(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(limits::INPUT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
}
