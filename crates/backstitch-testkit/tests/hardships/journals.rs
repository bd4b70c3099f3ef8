//! Journals that are too long for a claim to bring them along: whoever takes their workflows over reads them in pages.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstitch::{
    Answered, Attempt, Backward, Compensate, Conduct, Database, Ending, Flow, Handle, LateEffects, Outcome,
    Recovery, Running, Status, Step, StepError, Steps, Timing, Worker, Workflow, WorkflowError,
};
use backstitch_testkit::cut::{Line, Passage, Statement};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{TIMING, World};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::facts::{alerts, crash_charges, epoch, hold_answers_from, leases_end};

/// What the steps wrote and took back, by diary; and whether their workflows may go on.
#[derive(Clone)]
struct Desk {
    written: Arc<Mutex<HashMap<u32, Vec<u32>>>>,
    erased: Arc<Mutex<HashMap<u32, Vec<u32>>>>,
    open: watch::Sender<bool>,
}

impl Desk {
    fn closed() -> Self {
        Self { written: Arc::default(), erased: Arc::default(), open: watch::Sender::new(false) }
    }

    fn take(of: &Mutex<HashMap<u32, Vec<u32>>>, diary: u32) -> Vec<u32> {
        of.lock().expect("no panic").remove(&diary).unwrap_or_default()
    }
}

/// Writes an entry; its output is the text.
#[derive(Serialize, Deserialize)]
struct Write {
    diary: u32,
    entry: u32,
    bytes: usize,
}

impl Write {
    /// Another for each entry, and no shorter when it is compressed.
    fn text(&self) -> String {
        let mut text = String::with_capacity(self.bytes + 16);
        for part in 0.. {
            if text.len() >= self.bytes {
                break;
            }
            let mut hasher = DefaultHasher::new();
            (self.diary, self.entry, part).hash(&mut hasher);
            text.push_str(&format!("{:016x}", hasher.finish()));
        }
        text
    }
}

const CONDUCT: Conduct = Conduct { late_effects: LateEffects::Refused, ..Conduct::DEFAULT };

impl Step<Desk> for Write {
    const NAME: &'static str = "write";
    const BACKWARD: Backward<Self, Desk> = Backward::after_all_later();
    const CONDUCT: Conduct = CONDUCT;
    type Output = String;

    async fn run(&self, desk: &Desk, _: &Attempt) -> Result<String, StepError> {
        desk.written.lock().expect("no panic").entry(self.diary).or_default().push(self.entry);
        Ok(self.text())
    }
}

impl Compensate<Desk> for Write {
    async fn compensate(&self, desk: &Desk, _: &Attempt, outcome: Outcome<String>) -> Result<(), StepError> {
        assert!(matches!(outcome, Outcome::Succeeded(text) if text == self.text()), "entry {}", self.entry);
        desk.erased.lock().expect("no panic").entry(self.diary).or_default().push(self.entry);
        Ok(())
    }
}

/// Waits until the desk is open.
#[derive(Serialize, Deserialize)]
struct Rest {}

impl Step<Desk> for Rest {
    const NAME: &'static str = "rest";
    const BACKWARD: Backward<Self, Desk> = Backward::nothing_because("it has no effect");
    const CONDUCT: Conduct = CONDUCT;
    type Output = ();

    async fn run(&self, desk: &Desk, _: &Attempt) -> Result<(), StepError> {
        desk.open.subscribe().wait_for(|open| *open).await.expect("the desk is there");
        Ok(())
    }
}

/// So many entries, a rest, and then it ends with a digest of them all; or gives up.
#[derive(Serialize, Deserialize)]
struct Diary {
    diary: u32,
    entries: u32,
    bytes: usize,
    gives_up: bool,
}

impl Diary {
    fn entry(&self, entry: u32) -> Write {
        Write { diary: self.diary, entry, bytes: self.bytes }
    }

    fn digest(texts: impl Iterator<Item = String>) -> u64 {
        let mut hasher = DefaultHasher::new();
        texts.for_each(|text| text.hash(&mut hasher));
        hasher.finish()
    }

    fn expected(&self) -> u64 {
        Self::digest((0..self.entries).map(|entry| self.entry(entry).text()))
    }

    /// Two entries of a few bytes.
    fn short(diary: u32) -> Self {
        Self { diary, entries: 2, bytes: 10, gives_up: false }
    }
}

impl Workflow<Desk> for Diary {
    const KIND: &'static str = "hardship.diary";
    const RECOVERY: Recovery = Recovery::Resume;
    type Output = u64;

    fn steps(steps: &mut Steps<Desk>) {
        steps.step::<Write>().step::<Rest>();
    }

    async fn run(self, flow: &Flow<Desk>) -> Result<u64, WorkflowError> {
        let mut texts = Vec::new();
        for entry in 0..self.entries {
            texts.push(flow.step(self.entry(entry)).await?);
        }
        flow.step(Rest {}).await?;
        if self.gives_up {
            return Err(WorkflowError::new("enough", "the diary says so"));
        }
        Ok(Self::digest(texts.into_iter()))
    }
}

async fn start(database: Database, desk: &Desk, timing: Timing) -> Running {
    let worker = Worker::new(database, desk.clone()).serve::<Diary>().timing(timing);
    worker.start().await.expect("the worker starts")
}

async fn connect(world: &World) -> Database {
    Database::connect(&world.database.url).await.expect("the test database answers")
}

/// Diaries that rest, handed back by the worker that wrote them.
async fn handed_back(world: &World, desk: &Desk, diaries: &[Diary]) -> Vec<Handle<u64>> {
    // It hands back at once.
    let timing = Timing { shutdown_grace: Duration::from_millis(100), ..Timing::DEFAULT };
    let worker = start(connect(world).await, desk, timing).await;
    let mut handles = Vec::new();
    for diary in diaries {
        let diary = Diary { ..*diary };
        handles.push(world.client.enqueue(diary).send().await.expect("it is enqueued"));
    }
    until("all rest", async || {
        let resting: i64 =
            sqlx::query_scalar("select count(*) from backstitch.journal where intent_step = 'rest'")
                .fetch_one(&world.pool)
                .await
                .expect("it answers");
        (resting == i64::try_from(diaries.len()).expect("few")).then_some(())
    })
    .await;
    worker.shut_down().await;
    handles
}

/// Nobody but the next claim has taken it since its first.
async fn claimed_twice(world: &World, handle: &Handle<u64>) -> bool {
    let last: i32 = sqlx::query_scalar("select max(epoch) from backstitch.journal where workflow_id = $1")
        .bind(handle.workflow.0)
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    last == 2
}

#[tokio::test]
async fn workflows_with_long_journals_are_taken_over_beside_many_others_and_end_right() {
    const ENTRIES: u32 = 400;
    let world = World::new().await;
    let desk = Desk::closed();
    // 20 MB each, of outputs near the largest.
    let long = |diary, gives_up| Diary { diary, entries: ENTRIES, bytes: 50_000, gives_up };
    let diaries: Vec<_> =
        [long(0, false), long(1, true)].into_iter().chain((2..128).map(Diary::short)).collect();
    let handles = handed_back(&world, &desk, &diaries).await;

    desk.open.send_replace(true);
    let worker = start(connect(&world).await, &desk, Timing::DEFAULT).await;
    for (handle, diary) in handles.iter().zip(&diaries) {
        let written = (0..diary.entries).collect::<Vec<_>>();
        match world.ending(handle).await {
            Ending::Completed(digest) => {
                assert!(!diary.gives_up, "diary {}", diary.diary);
                assert_eq!(digest, diary.expected(), "diary {}: the texts as they were written", diary.diary);
            }
            Ending::Compensated(unfinished) => {
                assert!(diary.gives_up, "diary {}: {unfinished:?}", diary.diary);
                assert_eq!(unfinished.error.failure.code, "enough");
                let erased = Desk::take(&desk.erased, diary.diary);
                assert!(erased.iter().eq(written.iter().rev()), "the last entry first: {erased:?}");
            }
            other => panic!("diary {} ends {other:?}", diary.diary),
        }
        assert_eq!(Desk::take(&desk.written, diary.diary), written, "diary {}: each entry once", diary.diary);
        assert!(claimed_twice(&world, handle).await, "diary {}: the first claim was answered", diary.diary);
    }
    worker.shut_down().await;
}

/// A journal of some pages, and a worker that hears nothing any more once it has asked for the first one.
async fn reading(world: &World, desk: &Desk) -> (Handle<u64>, Diary, Line, Running) {
    let diary = Diary { diary: 0, entries: 60, bytes: 50_000, gives_up: false };
    let handle = handed_back(world, desk, &[Diary { ..diary }]).await.remove(0);
    let line = world.line();
    let page = Statement { texts: vec!["backstitch.journal_page"], carries: None };
    let worker = async { start(world.database_over(&line).await, desk, TIMING).await };
    let ((), worker) = tokio::join!(hold_answers_from(&line, page), worker);
    until("it is claimed again", async || (epoch(world, handle.workflow).await == 2).then_some(())).await;
    (handle, diary, line, worker)
}

#[tokio::test]
async fn an_outage_while_a_long_journal_is_read_is_waited_out() {
    let world = World::new().await;
    let desk = Desk::closed();
    let (handle, diary, line, worker) = reading(&world, &desk).await;
    leases_end(&world).await;
    assert_eq!(alerts(&world, handle.workflow).await, Vec::<String>::new());
    desk.open.send_replace(true);
    line.let_through(Passage::Open);
    let ending = world.ending(&handle).await;
    assert_eq!(ending, Ending::Completed(diary.expected()));
    assert!(claimed_twice(&world, &handle).await, "it is still the same claim");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_worker_that_stops_while_it_reads_a_long_journal_hands_its_workflow_back() {
    let world = World::new().await;
    let desk = Desk::closed();
    let (handle, diary, line, worker) = reading(&world, &desk).await;
    let rows = "select count(*) from backstitch.journal";
    let rows = async || sqlx::query_scalar::<_, i64>(rows).fetch_one(&world.pool).await.expect("it answers");
    let before = rows().await;
    let stopping = tokio::spawn(worker.shut_down());
    leases_end(&world).await;
    line.let_through(Passage::Open);
    stopping.await.expect("it stops");
    let holder: Option<i32> =
        sqlx::query_scalar("select holder from backstitch.ready where workflow_id = $1")
            .bind(handle.workflow.0)
            .fetch_one(&world.pool)
            .await
            .expect("it is live");
    assert_eq!((holder, rows().await), (None, before), "nothing was begun");
    assert_eq!(crash_charges(&world, handle.workflow).await, 0);

    desk.open.send_replace(true);
    let heir = start(connect(&world).await, &desk, TIMING).await;
    assert_eq!(world.ending(&handle).await, Ending::Completed(diary.expected()));
    heir.shut_down().await;
}

#[tokio::test]
async fn a_long_journal_that_may_not_be_read_calls_somebody_and_its_workflow_goes_on_when_told() {
    let world = World::new().await;
    let desk = Desk::closed();
    let diary = Diary { diary: 0, entries: 60, bytes: 50_000, gives_up: false };
    let handle = handed_back(&world, &desk, &[Diary { ..diary }]).await.remove(0);
    // Stands in for a right that the worker's role has not.
    let rename = async |from: &'static str, to: &'static str| {
        let sql = format!("alter function backstitch.{from}(uuid, integer, integer, integer) rename to {to}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&world.pool).await.expect("it is ours");
    };
    rename("journal_page", "put_away").await;
    let worker = start(connect(&world).await, &desk, TIMING).await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    assert_eq!(alerts(&world, handle.workflow).await, ["journal_unreadable"]);
    rename("put_away", "journal_page").await;
    desk.open.send_replace(true);
    let retry = world.client.retry(handle.workflow, "ada", "the right is given");
    assert_eq!(retry.await.expect("it answers"), Answered::Accepted);
    world.reaches(handle.workflow, Status::Completed).await;
    assert_eq!(world.ending(&handle).await, Ending::Completed(diary.expected()));
    worker.shut_down().await;
}
