//! How the records of all workflows in flight share one write.
//!
//! While one batch is on its way to the disk, the next one fills. Nothing waits for a timer: a lone record goes at once. A
//! batch that can't be written for now is written one by one, beside the others (`one_by_one.rs`).

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use backstitch_core::json::Json;
use backstitch_core::record::Verdict;
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::database::{Database, Kept};
use crate::error::{Error, is_held_up, is_of_the_statement, is_transient};
use crate::journal::{self, Answer, Record};
use crate::lease::{EndsWithPanic, Lease};
use crate::one_by_one::{Submission, Told, fenced, write_one_by_one};
use crate::outage::Outage;
use crate::watchdog::{Watchdog, What};

/// The most records in one statement: beyond a few hundred the commit is shared by enough, and a refused batch is costly.
const BATCH_RECORDS_MAX: usize = 512;

/// The most bytes of JSON in one statement, so that a batch of large inputs is not one huge message.
const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// How long a statement has been under way before a second one may join it: longer than a full batch keeps the processor.
/// From then on it waits for the disk, and the database can take the next batch meanwhile.
const SECOND_AFTER: Duration = Duration::from_millis(4);

/// How many statements may be under way: each on a connection of its own.
const STATEMENTS_MAX: usize = 2;

/// How long to wait before a write whose answer was lost is repeated; doubles up to the longest.
const REPEAT_FIRST: Duration = Duration::from_millis(50);
const REPEAT_MAX: Duration = Duration::from_secs(1);

/// How often a batch is repeated of which the server itself says that it can't be written for now: a deadlock is over by then,
/// a page that can't be read is not.
const SAID_MAX: u32 = 3;

/// The way into the journal for one incarnation.
#[derive(Clone)]
pub(crate) struct Appender {
    submissions: mpsc::UnboundedSender<Submission>,
    /// How many records were submitted and are not answered yet.
    unanswered: Arc<AtomicUsize>,
    claims: Arc<Mutex<Kept>>,
    lease: Arc<Lease>,
    watchdog: Watchdog,
}

impl Appender {
    /// Begins to write for the holder of this lease, until the last clone of it is dropped.
    ///
    /// On a thread of its own: among the tasks of hundreds of workflows the answer of the database would wait for its turn,
    /// and the database for the next batch. `claims`: the connection for a record that is alone.
    ///
    /// However long the database does not answer, or a lock is not to be had, the thread runs: each try has a deadline, which
    /// a timer of that thread ends. One that is blocked would keep its workflows for ever, while the heart beats on; so it
    /// is the thread's silence that is watched, not how long a record waits.
    pub(crate) fn start(
        database: Database,
        lease: Arc<Lease>,
        claims: Arc<Mutex<Kept>>,
        watchdog: Watchdog,
    ) -> Result<Self, Error> {
        // Bounded by its users: a workflow has one append in flight.
        let (submissions, queue) = mpsc::unbounded_channel();
        let unanswered = Arc::<AtomicUsize>::default();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Error::Thread)?;
        runtime.spawn(watchdog.ticking(What::Appender));
        thread::Builder::new()
            .name("backstitch-appender".to_owned())
            .spawn({
                let (lease, unanswered) = (Arc::clone(&lease), Arc::clone(&unanswered));
                move || {
                    let _ends_with_panic = EndsWithPanic(Arc::clone(&lease));
                    runtime.block_on(write_on(database, lease, queue, unanswered));
                }
            })
            .map_err(Error::Thread)?;
        Ok(Self { submissions, unanswered, claims, lease, watchdog })
    }

    /// Writes one record, and waits until it is durable or refused, however often the write must be repeated.
    ///
    /// # Errors
    /// When the database refuses this very record, which nothing but a defect of ours explains.
    pub(crate) async fn append(&self, record: Record) -> Told {
        if let Some(answer) = self.append_alone(&record).await {
            return Ok(answer);
        }
        let (answered, answer) = oneshot::channel();
        self.unanswered.fetch_add(1, Ordering::Relaxed);
        // The thread lives as long as its senders, and answers every record; where a panic ended it, it ended this life.
        if self.submissions.send(Submission { record, answered }).is_err() {
            return Ok(fenced());
        }
        answer.await.unwrap_or_else(|_| Ok(fenced()))
    }

    /// Writes a record that no other would share a write with, from its workflow's own task: the appender's thread need not
    /// wake for it, nor wake the task again. On the connection of the claims, whose server process is the warmest.
    ///
    /// None: it is not alone; or it was tried and has no answer, which is the thread's to repeat until there is one. It has one
    /// or none within its deadlines, unless its thread is blocked: of all those of the runtime, only this.
    async fn append_alone(&self, record: &Record) -> Option<Answer> {
        if self.unanswered.load(Ordering::Relaxed) > 0 {
            return None;
        }
        let mut journal = self.claims.try_lock().ok()?;
        let _watching = self.watchdog.watch(What::Append(record.workflow), journal.lasts_max());
        let (incarnation, record) = (self.lease.incarnation, record.clone());
        let answers = journal
            .run("appending to the journal", async |connection| {
                journal::append(connection, incarnation, &[record]).await
            })
            .await;
        answers.ok()?.pop()
    }
}

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

async fn write_on(
    database: Database,
    lease: Arc<Lease>,
    submitted: mpsc::UnboundedReceiver<Submission>,
    unanswered: Arc<AtomicUsize>,
) {
    let mut queue = Queue { submitted, held_over: None };
    let (beside, held_up) = mpsc::unbounded_channel();
    tokio::spawn({
        let (database, lease, unanswered) = (database.clone(), Arc::clone(&lease), Arc::clone(&unanswered));
        async move {
            let _ends_with_panic = EndsWithPanic(Arc::clone(&lease));
            write_one_by_one(database, lease, held_up, &unanswered).await;
        }
    });
    let mut at_rest: Vec<_> = (0..STATEMENTS_MAX).map(|_| Kept::of(database.clone())).collect();
    let mut under_way = JoinSet::new();
    let mut last_began = Instant::now();
    loop {
        let (alone, has_room) = (under_way.is_empty(), under_way.len() < STATEMENTS_MAX);
        let mut answered = Vec::new();
        let batch = tokio::select! {
            // Answers first: those whom they wake have the next records.
            biased;
            Some(written) = under_way.join_next() => {
                let Written { journal, told, held_up } = written.expect("a write does not panic");
                at_rest.push(journal);
                answered = told;
                // Unanswered still: what somebody keeps is often kept beside more of it, and the next that waits for it must not
                // do so on the connection of the claims.
                for submission in held_up {
                    beside.send(submission).expect("it is received for as long as it can be sent");
                }
                if under_way.is_empty() { queue.take() } else { Batch::default() }
            }
            batch = next_batch(&mut queue, last_began, alone), if has_room => match batch {
                Some(batch) => batch,
                None => break,
            },
        };
        if !batch.records.is_empty() {
            let journal = at_rest.pop().expect("as many connections as statements");
            under_way.spawn(write_batch(journal, Arc::clone(&lease), batch));
            last_began = Instant::now();
            // It is sent before the workflows of the last one wake: they and the database work at once.
            tokio::task::yield_now().await;
        }
        unanswered.fetch_sub(answered.len(), Ordering::Relaxed);
        hand_out(answered);
    }
    // Nobody waits for what is held up now.
    while let Some(written) = under_way.join_next().await {
        hand_out(written.expect("a write does not panic").told);
    }
}

/// Waits for a batch: at once if nothing is under way, else until what is has been so for long. None: nobody can submit
/// any more.
async fn next_batch(queue: &mut Queue, last_began: Instant, alone: bool) -> Option<Batch> {
    if !alone {
        sleep_until(last_began + SECOND_AFTER).await;
    }
    queue.wait().await
}

/// A batch that was answered, and the connection on which it was.
struct Written {
    journal: Kept,
    told: Vec<(oneshot::Sender<Told>, Told)>,
    /// What is better written one by one.
    held_up: Vec<Submission>,
}

async fn write_batch(mut journal: Kept, lease: Arc<Lease>, batch: Batch) -> Written {
    let records: Arc<[Record]> = batch.records.into();
    let fates = write(&mut journal, &lease, &records).await;
    let (mut told, mut held_up) = (Vec::with_capacity(records.len()), Vec::new());
    for ((answered, fate), record) in batch.waiting.into_iter().zip(fates).zip(records.iter()) {
        match fate {
            Some(answer) => told.push((answered, answer)),
            None => held_up.push(Submission { record: record.clone(), answered }),
        }
    }
    Written { journal, told, held_up }
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
        if self.held_over.is_none() {
            self.held_over = Some(self.submitted.recv().await?);
        }
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

/// Writes one batch, and answers each record in its order; None: it is better written by itself. A batch that the database
/// refuses is halved until the record that it refuses is alone: nobody fails for another's.
async fn write(journal: &mut Kept, lease: &Lease, records: &Arc<[Record]>) -> Vec<Option<Told>> {
    let mut fates = Vec::with_capacity(records.len());
    let mut parts = Vec::new();
    parts.push(0..records.len());
    while let Some(part) = parts.pop() {
        match write_until_answered(journal, lease, records, part.clone()).await {
            Ok(answers) => fates.extend(answers.into_iter().map(|answer| Some(Ok(answer)))),
            Err(error) if error.is_transient() => {
                tracing::warn!(
                    incarnation = %lease.incarnation, records = part.len(), %error,
                    "can't be written for now, going on one by one beside the others"
                );
                fates.resize_with(part.end, || None);
            }
            Err(error) if part.len() == 1 => fates.push(Some(Err(Arc::new(error)))),
            Err(_) => {
                let middle = part.start + part.len() / 2;
                parts.extend([middle..part.end, part.start..middle]);
            }
        }
    }
    fates
}

/// Repeats the same keyed write until the database has answered it, or the incarnation is known to be dead.
///
/// # Errors
/// When the server refuses a record of it; transient, when it can't write one of them for now but may write the others.
async fn write_until_answered(
    journal: &mut Kept,
    lease: &Lease,
    records: &Arc<[Record]>,
    part: Range<usize>,
) -> Result<Vec<Answer>, Error> {
    let incarnation = lease.incarnation;
    let (mut pause, mut outage, mut said) = (REPEAT_FIRST, Outage::default(), 0);
    loop {
        let (records, within) = (Arc::clone(records), part.clone());
        let answer = journal
            .run("appending to the journal", async |connection| {
                journal::append(connection, incarnation, &records[within]).await
            })
            .await;
        let error = match answer {
            Ok(answers) => return Ok(answers),
            Err(error) => error,
        };
        if let Error::Database { source, .. } = &error {
            said += u32::from(is_of_the_statement(source));
            if !is_transient(source) || is_held_up(source) || said > SAID_MAX {
                return Err(error);
            }
        }
        if lease.is_dead() {
            return Ok(vec![fenced(); part.len()]);
        }
        if outage.is_news() {
            tracing::warn!(
                %incarnation, records = part.len(), %error,
                "the journal's write got no answer, repeating it"
            );
        }
        tokio::select! {
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(REPEAT_MAX),
            () = lease.died() => return Ok(vec![fenced(); part.len()]),
        }
    }
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

#[cfg(test)]
mod tests {
    use backstitch_core::id::{Epoch, IncarnationId, Seq, WorkflowId};
    use backstitch_core::record::Stitch;

    use super::*;

    #[tokio::test]
    async fn a_record_that_nobody_writes_any_more_is_fenced() {
        let (submissions, gone) = mpsc::unbounded_channel();
        drop(gone);
        let nowhere =
            Database::connect_lazily(sqlx::postgres::PgConnectOptions::new().host("nowhere.invalid"));
        let appender = Appender {
            submissions,
            // So that it is the thread's to write.
            unanswered: Arc::new(AtomicUsize::new(1)),
            claims: Arc::new(Mutex::new(Kept::of(nowhere))),
            lease: Arc::new(Lease::new(IncarnationId(1), Instant::now(), Duration::from_secs(8))),
            watchdog: Watchdog::start(Duration::from_secs(60)).expect("a thread"),
        };
        let record = Record {
            workflow: WorkflowId(uuid::Uuid::nil()),
            seq: Seq(0),
            epoch: Epoch(1),
            stitch: Stitch { outcome: None, turn: None, intent: None },
            after: journal::After::default(),
        };
        let answer = appender.append(record).await.expect("an answer");
        assert_eq!(answer.verdict, journal::Written::Fenced);
    }
}
