//! Waiting for an end: told of it without a poll, told after one when the announcement is lost, and cheap meanwhile.

use std::time::Duration;

use backstitch::{Ending, Handle, Timing};
use backstitch_testkit::script::{Act, Compensating};
use backstitch_testkit::wait::{PATIENCE, until};
use backstitch_testkit::world::World;
use tokio::task::JoinHandle;

use crate::counted::Counted;
use crate::look::giving_up;

/// The looks with which listening begins. After them only an announcement brings one, or a poll.
const LOOKS_FIRST: u64 = 4;

/// No test lasts so long: whoever is answered, is told.
const NEVER: Duration = Duration::from_secs(3600);

/// The answer to one that waits, once it has come.
type Answer = JoinHandle<Result<Ending<Vec<Option<u32>>>, backstitch::Error>>;

impl Counted {
    fn waits_for(&self, handle: &Handle<Vec<Option<u32>>>) -> Answer {
        let (client, handle) = (self.client.clone(), Handle::new(handle.workflow));
        tokio::spawn(async move { client.wait(&handle).await })
    }

    /// Looks for all who wait together.
    fn looks(&self) -> u64 {
        self.line.begun("backstitch.settled")
    }

    /// Looks of those who wait, each for itself.
    fn own_looks(&self) -> u64 {
        self.line.begun("backstitch.workflows")
    }

    async fn has_looked(&self, times: u64) {
        until("it has looked", async || (self.looks() >= times).then_some(())).await;
    }
}

/// The processes of the sessions to which ends are announced.
async fn told(world: &World) -> Vec<i32> {
    sqlx::query_scalar(
        "select l.pid from pg_locks l join pg_stat_activity a using (pid)
        where a.datname = current_database() and l.locktype = 'advisory' and l.granted
            and l.classid::bigint = backstitch.fence_class() + 3 and l.mode = 'ShareLock'",
    )
    .fetch_all(&world.pool)
    .await
    .expect("it answers")
}

async fn answered(answer: Answer) -> Ending<Vec<Option<u32>>> {
    let answer = tokio::time::timeout(PATIENCE, answer).await.expect("it is answered");
    answer.expect("it does not panic").expect("it is told the end")
}

#[tokio::test]
async fn a_thousand_who_wait_share_one_connection_and_one_look() {
    const WORKFLOWS: u64 = 1000;
    let world = World::new().await;
    let scripts = (0..WORKFLOWS).map(|_| Compensating::of([]));
    let handles = world.client.enqueue_many(scripts).send().await.expect("they are enqueued");
    let waiting = Counted::new(&world, Timing::DEFAULT.poll).await;
    let answers: Vec<_> = handles.iter().map(|handle| waiting.waits_for(handle)).collect();
    until("each has looked", async || (waiting.own_looks() == WORKFLOWS).then_some(())).await;
    waiting.has_looked(waiting.looks() + 5).await;
    assert_eq!(waiting.own_looks(), WORKFLOWS, "nobody polls by itself");
    let connections: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'waiting'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    let in_pool = i64::from(waiting.client.database().size());
    assert_eq!(connections, in_pool + 1, "one beside the pool");

    let worker = world.start_worker().await;
    for answer in answers {
        assert_eq!(answered(answer).await, Ending::Completed(vec![]));
    }
    assert_eq!(waiting.own_looks(), 2 * WORKFLOWS, "each has looked once more, for its answer");
    println!("{WORKFLOWS} answers after {} looks for all", waiting.looks());
    worker.shut_down().await;
}

#[tokio::test]
async fn an_end_is_told_without_a_poll() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let waiting = Counted::new(&world, NEVER).await;
    let answer = waiting.waits_for(&handle);
    waiting.has_looked(LOOKS_FIRST).await;
    let worker = world.start_worker().await;
    assert_eq!(answered(answer).await, Ending::Completed(vec![Some(1)]));

    // The next finds the connection there, and looks only for itself.
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    assert_eq!(answered(waiting.waits_for(&handle)).await, Ending::Completed(vec![Some(1)]));
    worker.shut_down().await;
}

#[tokio::test]
async fn that_a_person_is_needed_is_told_without_a_poll() {
    let world = World::new().await;
    let handle = world.enqueue(giving_up::<false>([Act::new().compensates_once_open("healed")])).await;
    let waiting = Counted::new(&world, NEVER).await;
    let answer = waiting.waits_for(&handle);
    waiting.has_looked(LOOKS_FIRST).await;
    let worker = world.start_worker().await;
    let Ending::NeedsAttention(unfinished) = answered(answer).await else {
        panic!("it can't be taken back");
    };
    assert_eq!(unfinished.report.owed().count(), 1);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_lost_announcement_costs_a_poll() {
    let world = World::new().await;
    sqlx::query("alter table backstitch.workflow disable trigger announce_ends")
        .execute(&world.pool)
        .await
        .expect("the owner may");
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let waiting = Counted::new(&world, Timing::DEFAULT.poll).await;
    let answer = waiting.waits_for(&handle);
    waiting.has_looked(LOOKS_FIRST).await;
    let worker = world.start_worker().await;
    assert_eq!(answered(answer).await, Ending::Completed(vec![Some(1)]));
    worker.shut_down().await;
}

#[tokio::test]
async fn where_nobody_may_look_for_all_each_looks_for_itself() {
    let world = World::new().await;
    // As in a database that is not migrated yet.
    sqlx::query("drop function backstitch.settled").execute(&world.pool).await.expect("the owner may");
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let waiting = Counted::new(&world, Timing::DEFAULT.poll).await;
    let answer = waiting.waits_for(&handle);
    until("it has looked for itself again", async || (waiting.own_looks() > 1).then_some(())).await;
    let worker = world.start_worker().await;
    assert_eq!(answered(answer).await, Ending::Completed(vec![Some(1)]));
    worker.shut_down().await;
}

#[tokio::test]
async fn without_its_connection_it_polls_and_then_listens_again() {
    let world = World::new().await;
    let due = world.enqueue(Compensating::of([Act::new()])).await;
    let ask = world.client.enqueue(Compensating::of([Act::new()])).queue("nobody's");
    let never = ask.send().await.expect("it is enqueued");
    let waiting = Counted::new(&world, Timing::DEFAULT.poll).await;
    let (answer, unanswered) = (waiting.waits_for(&due), waiting.waits_for(&never));
    let lost = until("it listens", async || told(&world).await.first().copied()).await;
    sqlx::query("select pg_terminate_backend($1)").bind(lost).execute(&world.pool).await.expect("it may");
    let worker = world.start_worker().await;
    assert_eq!(answered(answer).await, Ending::Completed(vec![Some(1)]));
    until("it listens again", async || told(&world).await.first().copied().filter(|pid| *pid != lost)).await;
    unanswered.abort();
    worker.shut_down().await;
}

#[tokio::test]
async fn when_nobody_waits_any_more_nobody_listens() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let waiting = Counted::new(&world, Timing::DEFAULT.poll).await;
    let answer = waiting.waits_for(&handle);
    until("it listens", async || told(&world).await.first().copied()).await;
    answer.abort();
    until("nobody listens", async || told(&world).await.is_empty().then_some(())).await;

    // A client that is dropped takes its connection with it at once.
    let waiting = Counted::new(&world, NEVER).await;
    let answer = waiting.waits_for(&handle);
    until("it listens", async || told(&world).await.first().copied()).await;
    answer.abort();
    drop(waiting);
    until("nobody listens", async || told(&world).await.is_empty().then_some(())).await;
}

#[tokio::test]
async fn one_that_waits_survives_the_end_of_the_runtime_on_which_another_waited() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let client = world.client.clone();
    let (other, asked) = (client.clone(), Handle::<Vec<Option<u32>>>::new(handle.workflow));
    let (end, ends) = tokio::sync::oneshot::channel::<()>();
    let runtime = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            tokio::select! {
                _ = other.wait(&asked) => {}
                _ = ends => {}
            }
        });
    });
    until("it listens", async || told(&world).await.first().copied()).await;
    let answer = tokio::spawn(async move { client.wait(&handle).await });
    end.send(()).expect("it waits");
    until("the runtime has ended", async || runtime.is_finished().then_some(())).await;
    let worker = world.start_worker().await;
    assert_eq!(answered(answer).await, Ending::Completed(vec![Some(1)]));
    worker.shut_down().await;
}
