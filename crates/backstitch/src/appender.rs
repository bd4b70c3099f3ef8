//! How the records of all workflows in flight share one write.
//!
//! While one batch is on its way to the disk, the next one fills. Nothing waits for a timer: a lone record goes at once.

use std::sync::Arc;
use std::time::Duration;

use backstitch_core::json::Json;
use backstitch_core::record::Verdict;
use tokio::sync::{mpsc, oneshot};

use crate::database::Database;
use crate::error::{Error, is_transient};
use crate::journal::{self, Answer, Record, Written};
use crate::lease::Lease;
use crate::outage::Outage;

/// The most records in one statement: beyond a few hundred the commit is shared by enough, and a refused batch is costly.
const BATCH_RECORDS_MAX: usize = 512;

/// The most bytes of JSON in one statement, so that a batch of large inputs is not one huge message.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long to wait before a write whose answer was lost is repeated; doubles up to the longest.
const REPEAT_FIRST: Duration = Duration::from_millis(50);
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// The way into the journal for one incarnation.
#[derive(Clone)]
pub(crate) struct Appender {
    submissions: mpsc::UnboundedSender<Submission>,
}

struct Submission {
    record: Record,
    answered: oneshot::Sender<Result<Answer, Arc<Error>>>,
}

impl Appender {
    /// Begins to write for the holder of this lease, until the last clone of it is dropped.
    pub(crate) fn start(database: Database, lease: Arc<Lease>) -> Self {
        // Bounded by its users: a workflow has one append in flight.
        let (submissions, mut queue) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut held_over = None;
            while let Some(batch) = next_batch(&mut queue, &mut held_over).await {
                write(&database, &lease, batch).await;
            }
        });
        Self { submissions }
    }

    /// Writes one record, and waits until it is durable or refused, however often the write must be repeated.
    ///
    /// # Errors
    /// When the database refuses this very record, which nothing but a defect of ours explains.
    pub(crate) async fn append(&self, record: Record) -> Result<Answer, Arc<Error>> {
        let (answered, answer) = oneshot::channel();
        self.submissions
            .send(Submission { record, answered })
            .expect("the appender lives as long as its senders");
        answer.await.expect("the appender answers every record")
    }
}

/// Waits for a record, and takes what has come with it.
async fn next_batch(
    queue: &mut mpsc::UnboundedReceiver<Submission>,
    held_over: &mut Option<Submission>,
) -> Option<Vec<Submission>> {
    let first = match held_over.take() {
        Some(submission) => submission,
        None => queue.recv().await?,
    };
    let mut bytes = first.record.bytes();
    let mut batch = vec![first];
    while batch.len() < BATCH_RECORDS_MAX {
        let Ok(next) = queue.try_recv() else { break };
        bytes += next.record.bytes();
        if bytes > BATCH_BYTES_MAX {
            *held_over = Some(next);
            break;
        }
        batch.push(next);
    }
    Some(batch)
}

/// Writes one batch and answers everyone in it. A batch that the database refuses is written record by record, so that
/// nobody fails for another's record.
async fn write(database: &Database, lease: &Lease, batch: Vec<Submission>) {
    let (records, answered): (Vec<_>, Vec<_>) =
        batch.into_iter().map(|Submission { record, answered }| (record, answered)).unzip();
    let records: Arc<[Record]> = records.into();
    match write_until_answered(database, lease, Arc::clone(&records)).await {
        Ok(answers) => {
            for (answered, answer) in answered.into_iter().zip(answers) {
                // Nobody waits any more: its flow was dropped. The record stands all the same.
                let _ = answered.send(Ok(answer));
            }
        }
        Err(error) if records.len() == 1 => {
            for answered in answered {
                let _ = answered.send(Err(Arc::clone(&error)));
            }
        }
        Err(_) => {
            for (record, answered) in records.iter().zip(answered) {
                let single = write_until_answered(database, lease, Arc::from([record.clone()])).await;
                let _ = answered.send(single.map(|mut answers| answers.remove(0)));
            }
        }
    }
}

/// Repeats the same keyed write until the database has answered it, or the incarnation is known to be dead.
async fn write_until_answered(
    database: &Database,
    lease: &Lease,
    records: Arc<[Record]>,
) -> Result<Vec<Answer>, Arc<Error>> {
    let incarnation = lease.incarnation;
    let (mut pause, mut outage) = (REPEAT_FIRST, Outage::default());
    loop {
        let batch = Arc::clone(&records);
        let answer = database
            .run("appending to the journal", move |connection| {
                Box::pin(async move { journal::append(connection, incarnation, &batch).await })
            })
            .await;
        let error = match answer {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        match &error {
            Error::Database { source, .. } if !is_transient(source) => return Err(Arc::new(error)),
            _ if lease.is_dead() => return Ok(fenced(records.len())),
            _ if !outage.is_news() => {}
            _ => tracing::warn!(
                incarnation = %incarnation, records = records.len(), error = %error,
                "the journal's write got no answer, repeating it"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(REPEAT_MAX),
            () = lease.died() => return Ok(fenced(records.len())),
        }
    }
}

/// The answer of a grave.
fn fenced(records: usize) -> Vec<Answer> {
    let answer =
        Answer { verdict: Written::Fenced, leased: false, cancel: None, at: chrono::DateTime::UNIX_EPOCH };
    vec![answer; records]
}

impl Record {
    /// About how much of a statement it takes.
    fn bytes(&self) -> usize {
        let output = self.stitch.outcome.as_ref().map_or(0, |outcome| match &outcome.verdict {
            Verdict::Succeeded(output) => output.as_str().len(),
            other => other.failure().map_or(0, |failure| failure.message.len()),
        });
        let input = self
            .stitch
            .intent
            .as_ref()
            .and_then(|intent| intent.input.as_ref())
            .map_or(0, |json| json.as_str().len());
        output + input + self.after.output.as_ref().map_or(0, |json: &Json| json.as_str().len())
    }
}
