//! What is asked for while everything goes wrong?

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstitch::{Answered, Client, WorkflowId};
use backstitch_testkit::script::Script;

use super::plan::{Errand, errand};

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
    loop {
        let asked = if errand.resumes {
            client.enqueue(script::<true>(errand)).key(key).send().await.map(|handle| handle.workflow)
        } else {
            client.enqueue(script::<false>(errand)).key(key).send().await.map(|handle| handle.workflow)
        };
        match asked {
            Ok(workflow) => return workflow,
            Err(_) => tokio::time::sleep(AGAIN).await,
        }
    }
}

fn script<const RESUME: bool>(errand: &Errand) -> Script<RESUME> {
    Script { gives_up: errand.gives_up.clone(), ..Script::of(errand.steps.clone()) }
}
