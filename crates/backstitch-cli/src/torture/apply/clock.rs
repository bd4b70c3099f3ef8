//! What happens when the database's clock jumps, and what does an operator do when it is right again?

use std::time::Duration;

use backstitch_testkit::{clock, looks};

use super::super::stage::Stage;
use super::{AIM_PATIENCE, SILENCE, comes_true};
use crate::exit::Failed;

/// The clock is off by an hour, and nothing that is done here waits for a quarter of one: what seems to was written under
/// that other clock.
const FAR: Duration = Duration::from_secs(15 * 60);

/// How long an operator stays: longer than anybody is frozen.
const OPERATOR_MAX: Duration = Duration::from_secs(60);

/// Off by so much until somebody who lives has a lease by that clock, and a while longer; then right again.
pub async fn jump(stage: &Stage, off_by: &str) -> Result<bool, Failed> {
    if clock::set(&stage.pool, off_by).await.is_err() {
        // Postgres is down.
        return Ok(false);
    }
    let is_leased = async || matches!(looks::leases_off(&stage.pool, FAR).await, Ok(1..));
    let came_about = comes_true(AIM_PATIENCE, is_leased).await;
    tokio::time::sleep(SILENCE).await;
    let is_right = async || clock::set(&stage.pool, "0").await.is_ok();
    if !comes_true(OPERATOR_MAX, is_right).await {
        return Err(Failed::new(crate::exit::Exit::Error, "the database's clock can't be set right again"));
    }
    let is_well = async || nothing_waits_for_another_hour(stage).await.unwrap_or(false);
    comes_true(OPERATOR_MAX, is_well).await;
    // What was in somebody's hand may wait for it since.
    tokio::time::sleep(SILENCE).await;
    comes_true(OPERATOR_MAX, is_well).await;
    Ok(came_about)
}

/// Hurries up what waits for another hour, as operators do. Whoever died with a lease to then is buried without anybody's help.
/// Whether there was nothing left of it.
async fn nothing_waits_for_another_hour(stage: &Stage) -> Result<bool, sqlx::Error> {
    let due = looks::due_beyond(&stage.pool, FAR).await?;
    for workflow in &due {
        // Refused where somebody holds it by now.
        let _ = stage.client.retry(*workflow, "torture", "the clock was set back").await;
    }
    Ok(due.is_empty() && looks::leases_beyond(&stage.pool, FAR).await? == 0)
}
