//! `backstitch show`: what became of each step, forward and back, and what becomes of it now?

mod events;
mod ladder;

use std::io::{self, IsTerminal};
use std::time::Duration;

use backstitch::{Status, WorkflowId};

use crate::arguments::Show;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::reach::{Reach, reach};
use crate::redraw::{Picture, redraw};
use crate::settings::Settings;

/// How often one that is followed is looked at: often enough that a second of a countdown is not skipped.
const LOOK: Duration = Duration::from_millis(500);

/// Shows one workflow: once, or until it has ended.
pub async fn run(settings: &Settings, arguments: Show) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    if arguments.follow {
        return follow(&reach, arguments.workflow).await;
    }
    let seen = reach.look(arguments.workflow).await?;
    match arguments.json {
        true => say_json(&seen)?,
        false => say(&ladder::told(&seen))?,
    }
    Ok(Exit::Done)
}

/// On a terminal the ladder, redrawn; behind a pipe, a line for each thing that happens.
async fn follow(reach: &Reach, id: WorkflowId) -> Result<Exit, Failed> {
    let is_terminal = io::stdout().is_terminal();
    let (mut told, mut status) = (0, Status::Pending);
    let mut draw = async || {
        let seen = reach.look(id).await?;
        status = seen.workflow.status;
        let is_last = seen.workflow.finished_at.is_some();
        if is_terminal {
            return Ok(Picture { text: ladder::told(&seen), is_last });
        }
        let events = events::of(&seen);
        for event in events.iter().skip(told) {
            say(event)?;
        }
        told = told.max(events.len());
        Ok(Picture { text: String::new(), is_last })
    };
    let ended = redraw(LOOK, &mut draw).await?;
    Ok(match status {
        _ if !ended => Exit::StillUnderWay,
        Status::Compensated => Exit::Compensated,
        Status::Abandoned => Exit::NeedsAttention,
        _ => Exit::Done,
    })
}
