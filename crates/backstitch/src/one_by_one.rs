//! How records are written that no batch could take along for now: each by itself, beside the batches, so that nobody waits
//! for another's.
//!
//! Somebody's transaction may hold a workflow's row for as long as it likes, and a damaged page fails whoever touches it.
//! All such records share one connection and take turns; none waits long for a lock while it is its turn.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, Kept};
use crate::error::Error;
use crate::journal::{self, Answer, Record, Written};
use crate::lease::Lease;
use crate::outage::Outage;

/// How long one waits for a lock while others wait for their turn: longer than any append or claim keeps one.
const LOCK_WAIT: Duration = Duration::from_millis(50);

/// How long to wait after a round in which none could be written; doubles up to the longest.
const AGAIN_FIRST: Duration = Duration::from_millis(50);
const AGAIN_MAX: Duration = Duration::from_secs(1);

/// A record, and who waits for its answer.
pub(crate) struct Submission {
    pub(crate) record: Record,
    pub(crate) answered: oneshot::Sender<Told>,
}

pub(crate) type Told = Result<Answer, Arc<Error>>;

/// Writes what comes, until nothing can come any more and nobody waits. `unanswered`: of how many each that is answered is one.
pub(crate) async fn write_one_by_one(
    database: Database,
    lease: Arc<Lease>,
    mut coming: mpsc::UnboundedReceiver<Submission>,
    unanswered: &AtomicUsize,
) {
    let (mut journal, mut outage) = (Kept::of(database), Outage::default());
    let mut waiting = VecDeque::new();
    let (mut failed, mut again) = (0, AGAIN_FIRST);
    loop {
        if waiting.is_empty() {
            outage.ends();
            let Some(submission) = coming.recv().await else { return };
            waiting.push_back(submission);
        }
        // First: most of a batch is only there because of one.
        while let Ok(submission) = coming.try_recv() {
            waiting.push_front(submission);
        }
        let Submission { record, answered } = waiting.pop_front().expect("there is one, or one came");
        if answered.is_closed() {
            unanswered.fetch_sub(1, Ordering::Relaxed);
            continue;
        }
        let told = match write(&mut journal, &lease, record.clone()).await {
            Err(_) if lease.is_dead() => Ok(fenced()),
            Err(error) if error.is_transient() => {
                if outage.is_news() {
                    tracing::warn!(
                        workflow.id = %record.workflow, %error,
                        "a record can't be written for now, trying on while others pass it"
                    );
                }
                waiting.push_back(Submission { record, answered });
                failed += 1;
                if failed >= waiting.len() {
                    tokio::select! {
                        () = tokio::time::sleep(again) => {}
                        () = lease.died() => {}
                    }
                    (failed, again) = (0, (again * 2).min(AGAIN_MAX));
                }
                continue;
            }
            told => told.map_err(Arc::new),
        };
        (failed, again) = (0, AGAIN_FIRST);
        unanswered.fetch_sub(1, Ordering::Relaxed);
        // Nobody waits any more: its flow was dropped. The record stands all the same.
        let _ = answered.send(told);
    }
}

async fn write(journal: &mut Kept, lease: &Lease, record: Record) -> Result<Answer, Error> {
    let incarnation = lease.incarnation;
    journal
        .run_waiting(LOCK_WAIT, "appending a record by itself", async |connection| {
            let mut answers = journal::append(connection, incarnation, &[record]).await?;
            Ok(answers.remove(0))
        })
        .await
}

/// The answer of a grave.
pub(crate) fn fenced() -> Answer {
    Answer { verdict: Written::Fenced, leased: false, cancel: None, at: chrono::DateTime::UNIX_EPOCH }
}
