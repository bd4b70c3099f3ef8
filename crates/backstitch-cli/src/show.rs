//! `backstitch show`: what became of each step, forward and back, and what becomes of it now?

mod events;
mod ladder;

use std::io::{self, IsTerminal};
use std::time::Duration;

use backstitch::{Status, WorkflowId, WorkflowView};

use crate::arguments::Show;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::reach::{Reach, reach};
use crate::redraw::{Picture, Trouble, redraw};
use crate::settings::Settings;
use crate::signals::Signals;

/// How often one that is drawn is looked at: often enough that a second of a countdown is not skipped.
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

/// Until it has ended: on a terminal the ladder, redrawn; behind a pipe, a line for each thing that happens.
async fn follow(reach: &Reach, id: WorkflowId) -> Result<Exit, Failed> {
    let ended = match io::stdout().is_terminal() {
        true => draw(reach, id).await?,
        false => tell(reach, id).await?,
    };
    Ok(match ended {
        None => Exit::StillUnderWay,
        Some(Status::Compensated) => Exit::Compensated,
        Some(Status::Abandoned) => Exit::NeedsAttention,
        Some(_) => Exit::Done,
    })
}

/// How it ended. None: told to stop before.
async fn draw(reach: &Reach, id: WorkflowId) -> Result<Option<Status>, Failed> {
    let mut status = Status::Pending;
    let mut draw = async || {
        let seen = reach.look(id).await?;
        status = seen.workflow.status;
        Ok(Picture { text: ladder::told(&seen), is_last: seen.workflow.finished_at.is_some() })
    };
    let ended = redraw(LOOK, &mut draw).await?;
    Ok(ended.then_some(status))
}

/// How it ended. None: told to stop before.
async fn tell(reach: &Reach, id: WorkflowId) -> Result<Option<Status>, Failed> {
    let mut signals = Signals::listen()?;
    let told = async {
        say(&events::asked(&reach.workflow(id).await?))?;
        let mut follow = reach.follow(id);
        while let Some(event) = follow.next().await? {
            events::of(&event).iter().try_for_each(|line| say(line))?;
        }
        let view = ended(reach, id).await?;
        events::end(&view).iter().try_for_each(|line| say(line))?;
        Ok(view.status)
    };
    tokio::select! {
        told = told => told.map(Some),
        _ = signals.next() => Ok(None),
    }
}

/// A workflow of which it is known that it has ended, however long nobody answers.
async fn ended(reach: &Reach, id: WorkflowId) -> Result<WorkflowView, Failed> {
    let mut trouble = Trouble::default();
    loop {
        match reach.workflow(id).await {
            Ok(view) => return Ok(view),
            Err(failed) => trouble.passes(failed)?,
        }
        tokio::time::sleep(LOOK).await;
    }
}
