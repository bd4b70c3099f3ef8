//! `backstitch enqueue`: which input is taken, and how does the workflow end?

use std::io::{IsTerminal, Read};
use std::path::Path;

use backstitch::{Client, Ending, Handle, Json, Unfinished, WorkflowId, limits, redacted};

use crate::arguments::Enqueue;
use crate::connect;
use crate::connect::warn_if_unserved;
use crate::exit::{Exit, Failed};
use crate::output::{clean, say, say_json};
use crate::progress::waiting;
use crate::settings::Settings;

/// Asks, and waits if told to.
pub async fn run(settings: &Settings, arguments: Enqueue) -> Result<Exit, Failed> {
    // Before the database: what can't be taken is refused wherever Postgres is.
    let input = input(&arguments)?;
    let client = connect::client(settings).await?;
    let mut ask = client
        .enqueue_untyped(arguments.kind.clone(), &input)
        .queue(arguments.queue)
        .priority(arguments.priority);
    if let Some(key) = arguments.key {
        ask = ask.key(key);
    }
    if let Some(at) = arguments.deadline {
        ask = ask.deadline_at(at);
    }
    if let Some(at) = arguments.run_at {
        ask = ask.run_at(at);
    }
    let handle = ask.send().await?;
    warn_if_unserved(&client, &arguments.kind).await?;
    if !arguments.json {
        say(&handle.workflow.to_string())?;
    }
    let handle = Handle::<Json>::new(handle.workflow);
    let exit = if arguments.wait { wait(&client, &handle, arguments.json).await? } else { Exit::Done };
    if arguments.json {
        let view = client.workflow(handle.workflow).await?;
        say_json(&view.ok_or(backstitch::Error::NotFound(handle.workflow))?.redacted())?;
    }
    Ok(exit)
}

async fn wait(client: &Client, handle: &Handle<Json>, quiet: bool) -> Result<Exit, Failed> {
    let message = format!("waiting for workflow {}; it goes on without us too …", handle.workflow);
    let ending = waiting(&message, client.wait(handle)).await?;
    if !quiet {
        say(&told(handle.workflow, &ending))?;
    }
    Ok(exit_of(&ending))
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
    let checked = Json::parse(&text, limits::INPUT_BYTES_MAX).and_then(|input| {
        crate::edge::check_input(kind, &input)?;
        Ok(input)
    });
    checked.map_err(|error| {
        Failed::usage(format!(
            "kind {kind}: the input {}",
            Failed::because(&error, "correct it and ask again")
        ))
    })
}

fn file(path: &Path) -> Result<String, Failed> {
    let wrong = |error| Failed::usage(format!("--input-file {}: {error}", path.display()));
    bounded(std::fs::File::open(path).map_err(wrong)?).map_err(wrong)
}

fn standard_input() -> Result<String, Failed> {
    if std::io::stdin().is_terminal() {
        crate::output::note("reading the input from the terminal; end it with Ctrl-D …");
    }
    bounded(std::io::stdin()).map_err(|error| Failed::usage(format!("reading the standard input: {error}")))
}

/// Reads no more than is needed to say that it is too much.
fn bounded(from: impl Read) -> std::io::Result<String> {
    let mut text = String::new();
    from.take(limits::INPUT_BYTES_MAX as u64 + 1).read_to_string(&mut text).map(|_| text)
}
