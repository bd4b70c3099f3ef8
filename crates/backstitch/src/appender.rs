//! How the records of all workflows in flight share one write.
//!
//! While one batch is on its way to the disk, the next one fills. Nothing waits for a timer: a lone record goes at once.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::json::Json;
use backstitch_core::record::Verdict;
use tokio::sync::{mpsc, oneshot};

use crate::database::{Database, Kept};
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
    answered: oneshot::Sender<Told>,
}

impl Appender {
    /// Begins to write for the holder of this lease, until the last clone of it is dropped.
    pub(crate) fn start(database: Database, lease: Arc<Lease>) -> Self {
        // Bounded by its users: a workflow has one append in flight.
        let (submissions, queue) = mpsc::unbounded_channel();
        tokio::spawn(write_on(database, lease, queue));
        Self { submissions }
    }

    /// Writes one record, and waits until it is durable or refused, however often the write must be repeated.
    ///
    /// # Errors
    /// When the database refuses this very record, which nothing but a defect of ours explains.
    pub(crate) async fn append(&self, record: Record) -> Told {
        let (answered, answer) = oneshot::channel();
        self.submissions
            .send(Submission { record, answered })
            .expect("the appender lives as long as its senders");
        answer.await.expect("the appender answers every record")
    }
}

type Told = Result<Answer, Arc<Error>>;

/// What waits to be written, and one that was too large for its batch.
struct Queue {
    submitted: mpsc::UnboundedReceiver<Submission>,
    held_over: Option<Submission>,
}

/// The records of one statement, and who waits for their answers.
#[derive(Default)]
struct Batch {
    records: Vec<Record>,
    waiting: Vec<oneshot::Sender<Told>>,
}

async fn write_on(database: Database, lease: Arc<Lease>, submitted: mpsc::UnboundedReceiver<Submission>) {
    let mut queue = Queue { submitted, held_over: None };
    let mut journal = Kept::of(database);
    let mut told: Vec<(oneshot::Sender<Told>, Told)> = Vec::new();
    loop {
        let mut batch = queue.take();
        if batch.records.is_empty() {
            // Nobody else has anything to write: those who are answered now may.
            hand_out(std::mem::take(&mut told));
            batch = match queue.wait().await {
                Some(batch) => batch,
                None => return,
            };
        }
        let Batch { records, waiting } = batch;
        // The next batch is on its way before the last one's workflows wake: they and the database work at once.
        let (answers, ()) = tokio::join!(write(&mut journal, &lease, records.into()), async {
            hand_out(std::mem::take(&mut told));
        });
        told = waiting.into_iter().zip(answers).collect();
    }
}

fn hand_out(told: Vec<(oneshot::Sender<Told>, Told)>) {
    for (waiting, answer) in told {
        // Nobody waits any more: its flow was dropped. The record stands all the same.
        let _ = waiting.send(answer);
    }
}

impl Queue {
    /// Waits for a record, and takes what has come with it. None: nobody can submit any more.
    async fn wait(&mut self) -> Option<Batch> {
        self.held_over = Some(self.submitted.recv().await?);
        Some(self.take())
    }

    /// Takes what has come, up to the size of a batch.
    fn take(&mut self) -> Batch {
        let (mut batch, mut bytes) = (Batch::default(), 0);
        while batch.records.len() < BATCH_RECORDS_MAX {
            let Some(Submission { record, answered }) =
                self.held_over.take().or_else(|| self.submitted.try_recv().ok())
            else {
                break;
            };
            bytes += record.bytes();
            if bytes > BATCH_BYTES_MAX && !batch.records.is_empty() {
                self.held_over = Some(Submission { record, answered });
                break;
            }
            batch.records.push(record);
            batch.waiting.push(answered);
        }
        batch
    }
}

/// Writes one batch, and answers each record in its order. A batch that the database refuses is halved until the record
/// that it refuses is alone: nobody fails for another's.
async fn write(journal: &mut Kept, lease: &Lease, records: Arc<[Record]>) -> Vec<Told> {
    let mut told = Vec::with_capacity(records.len());
    let mut parts = vec![0..records.len()];
    while let Some(part) = parts.pop() {
        match write_until_answered(journal, lease, Arc::clone(&records), part.clone()).await {
            Ok(answers) => told.extend(answers.into_iter().map(Ok)),
            Err(error) if part.len() == 1 => told.push(Err(Arc::new(error))),
            Err(_) => {
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
        }
    }
    told
}

/// Repeats the same keyed write until the database has answered it, or the incarnation is known to be dead.
async fn write_until_answered(
    journal: &mut Kept,
    lease: &Lease,
    records: Arc<[Record]>,
    part: Range<usize>,
) -> Result<Vec<Answer>, Error> {
    let incarnation = lease.incarnation;
    let (mut pause, mut outage) = (REPEAT_FIRST, Outage::default());
    loop {
        let (records, within) = (Arc::clone(&records), part.clone());
        let answer = journal
            .run("appending to the journal", move |connection| {
                Box::pin(async move { journal::append(connection, incarnation, &records[within]).await })
            })
            .await;
        let error = match answer {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        match &error {
            Error::Database { source, .. } if !is_transient(source) => return Err(error),
            _ if lease.is_dead() => return Ok(fenced(part.len())),
            _ if !outage.is_news() => {}
            _ => tracing::warn!(
                incarnation = %incarnation, records = part.len(), error = %error,
                "the journal's write got no answer, repeating it"
            ),
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(REPEAT_MAX),
            () = lease.died() => return Ok(fenced(part.len())),
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
