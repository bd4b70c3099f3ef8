//! `backstitch wait`: how does a workflow end that was asked for before?

use crate::arguments::Wait;
use crate::enqueue;
use crate::exit::{Exit, Failed};
use crate::reach::reach;
use crate::settings::Settings;

/// Waits until it has ended or needs attention.
pub async fn run(settings: &Settings, arguments: Wait) -> Result<Exit, Failed> {
    let reach = reach(settings).await?;
    enqueue::wait(&reach, arguments.workflow, arguments.json).await
}
