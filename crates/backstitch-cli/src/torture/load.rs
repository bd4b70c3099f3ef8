//! What is asked for while everything goes wrong, and what does an operator do meanwhile?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstitch::{Answered, Client, Workflow, WorkflowId};
use backstitch_testkit::looks;
use backstitch_testkit::script::{Ground, Script};
use chrono::{DateTime, Utc};
use sqlx::PgPool;

use super::plan::{Errand, errand};

/// What is due later than this waits for an operator: no clock is off by so much.
pub const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How often an operator looks.
const OPERATE: Duration = Duration::from_secs(1);

/// After an enqueue that was not acknowledged it is asked again, under the same key.
const AGAIN: Duration = Duration::from_millis(50);

/// A workflow whose enqueue was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    pub workflow: WorkflowId,
    /// It completes where nothing goes wrong.
    pub is_meant_to_complete: bool,
    /// It was cancelled, and whoever did was told so.
    pub is_cancelled: bool,
}

/// The workflows of a round.
#[derive(Debug, Default)]
pub struct Load {
    acknowledged: Mutex<Vec<Acknowledged>>,
    stopped: AtomicBool,
}

impl Load {
    /// Asks for the errands of a round, one every `every`, until it is stopped.
    pub async fn ask(&self, client: &Client, seed: u64, round: u64, every: Duration) {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut number = 0;
        while !self.stopped.load(Ordering::Relaxed) {
            ticks.tick().await;
            number += 1;
            let errand = errand(seed, round, number);
            let workflow = enqueue(client, &errand, &format!("{seed}/{round}/{number}")).await;
            let is_cancelled = errand.is_cancelled && {
                // It may have ended, or Postgres may be down: then nothing is promised.
                let cancelled = client.cancel(workflow, "torture", "the plan says so").await;
                cancelled.is_ok_and(|answered| answered == Answered::Accepted)
            };
            let is_meant_to_complete = errand.is_meant_to_complete();
            self.lock().push(Acknowledged { workflow, is_meant_to_complete, is_cancelled });
        }
    }

    /// Has tried again what waits for an operator, until it is stopped.
    pub async fn operate(&self, client: &Client, pool: &PgPool) {
        while !self.stopped.load(Ordering::Relaxed) {
            tokio::time::sleep(OPERATE).await;
            // Postgres may be down, and somebody else may have been faster.
            for workflow in looks::due_beyond(pool, NEVER).await.unwrap_or_default() {
                let _ = client.retry(workflow, "torture", "its target may be well again").await;
            }
        }
    }

    /// What follows is not asked for any more.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Everything that was acknowledged.
    pub fn acknowledged(&self) -> Vec<Acknowledged> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Acknowledged>> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Until it is acknowledged: whoever asks does not know whether the first time stands, and the key makes it one.
async fn enqueue(client: &Client, errand: &Errand, key: &str) -> WorkflowId {
    let deadline_at = errand.deadline.map(|deadline| Utc::now() + deadline);
    loop {
        let asked = if errand.resumes {
            enqueue_as::<true>(client, errand, key, deadline_at).await
        } else {
            enqueue_as::<false>(client, errand, key, deadline_at).await
        };
        match asked {
            Ok(workflow) => return workflow,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

async fn enqueue_as<const RESUME: bool>(
    client: &Client,
    errand: &Errand,
    key: &str,
    deadline_at: Option<DateTime<Utc>>,
) -> Result<WorkflowId, backstitch::Error>
where
    Script<RESUME>: Workflow<Ground>,
{
    let script: Script<RESUME> =
        Script { gives_up: errand.gives_up.clone(), ..Script::of(errand.steps.clone()) };
    let mut asked = client.enqueue(script).key(key);
    if let Some(deadline_at) = deadline_at {
        asked = asked.deadline_at(deadline_at);
    }
    asked.send().await.map(|handle| handle.workflow)
}
