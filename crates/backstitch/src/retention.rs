//! How finished workflows are removed without hurting those that are not.
//!
//! A run walks the ids from the oldest on, batch by batch; `migrations/0005_retention.sql` says what a batch does. Each is
//! one transaction: a run that is interrupted leaves whole workflows, and the next one goes on.

use std::time::Duration;

use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::client::Client;
use crate::database::{Kept, interval};
use crate::error::Error;

/// How many workflows a batch walks over: enough that its commit costs little, few enough that it takes some ten
/// milliseconds. While it runs, no vacuum can clean what the workers leave in `ready`.
const BATCH_WORKFLOWS_MAX: i32 = 500;

/// How many rows of journals a batch removes, but for the last workflow's: as many as 500 usual workflows have, so that
/// 500 very long ones don't make a batch of minutes.
const BATCH_RECORDS_MAX: i32 = 10_000;

/// How long a batch may take. Only the first of a run comes near it: it walks over what earlier runs removed and no
/// vacuum has met yet.
const BATCH_DEADLINE: Duration = Duration::from_secs(60);

/// How long a run pauses after a batch, in times of that batch: it takes a tenth of one of the server's cores. At a
/// quarter, whoever enqueued on two busy cores was slowed down by a quarter and more; and a tenth still removes thousands
/// a second.
const PAUSE: u32 = 9;

/// The longest pause: a run without a batch for 30 seconds is given up for dead.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// What a run removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Removed {
    /// So many workflows, each with its journal and its alerts.
    pub removed: u64,
    /// So many stay though they were asked for long enough ago: they are live, or ended later.
    pub stayed: u64,
    /// Another run was at work, so this one did nothing, or not all.
    pub left_to_another: bool,
}

impl Client {
    /// Removes the workflows that ended more than `older_than` ago, with their journals and alerts.
    ///
    /// Their keys stay: the same key and input still give the id of the first, which is then [`Error::NotFound`] to
    /// whoever asks for it, and the same key with another input is still refused. Takes its time, to leave the database
    /// to the workers; one run at a time in a database.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # async fn tidy(client: backstitch::Client) -> Result<(), backstitch::Error> {
    /// let removed = client.remove_finished(Duration::from_secs(30 * 86_400)).await?;
    /// println!("{} workflows are gone", removed.removed);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the database does not answer. What was removed until then stays removed, and the next run goes on.
    pub async fn remove_finished(&self, older_than: Duration) -> Result<Removed, Error> {
        // Outside the pool, whose connections are the workers'.
        let mut kept = Kept::of(self.database.clone().with_deadline(BATCH_DEADLINE));
        let run = Uuid::new_v4();
        let mut sum = Removed::default();
        loop {
            let began = Instant::now();
            let batch = batch(&mut kept, run, older_than).await?;
            sum.removed += batch.removed;
            sum.stayed += batch.walked - batch.removed;
            match batch.verdict.as_str() {
                "goes_on" => sleep((began.elapsed() * PAUSE).min(PAUSE_MAX)).await,
                "ended" => return Ok(sum),
                _ => return Ok(Removed { left_to_another: true, ..sum }),
            }
        }
    }
}

struct Batch {
    verdict: String,
    removed: u64,
    walked: u64,
}

async fn batch(kept: &mut Kept, run: Uuid, older_than: Duration) -> Result<Batch, Error> {
    kept.run("removing finished workflows", async |connection| {
        let row = sqlx::query!(
            r#"
            select verdict as "verdict!", removed as "removed!", walked as "walked!"
            from backstitch.remove_finished($1, $2, $3, $4)
            "#,
            run,
            interval(older_than),
            BATCH_WORKFLOWS_MAX,
            BATCH_RECORDS_MAX
        )
        .fetch_one(connection)
        .await?;
        Ok(Batch {
            verdict: row.verdict,
            removed: row.removed.unsigned_abs().into(),
            walked: row.walked.unsigned_abs().into(),
        })
    })
    .await
}
