//! Following a workflow: each row of its journal told once and in order, from anywhere on, to its end; and cheap meanwhile.

use std::time::Duration;

use backstitch::{Client, Direction, Error, Event, Status, Timing, WorkflowId};
use backstitch_testkit::cut::Moment;
use backstitch_testkit::script::{Act, Compensating, Do};
use backstitch_testkit::wait::{PATIENCE, until};
use backstitch_testkit::world::World;
use tokio::task::JoinHandle;

use crate::counted::Counted;
use crate::look::{broken, giving_up, retried};

/// How a look for all who follow is known.
const LOOK: &str = "followed (workflow_id, after)";

/// All that is told of a workflow from behind `after` on, up to its end.
fn told(client: &Client, workflow: WorkflowId, after: Option<u32>) -> JoinHandle<Result<Vec<Event>, Error>> {
    let events = client.follow(workflow);
    let mut events = match after {
        Some(seq) => events.after(seq),
        None => events,
    };
    tokio::spawn(async move {
        let mut told = Vec::new();
        while let Some(event) = events.next().await {
            told.push(event?);
        }
        Ok(told)
    })
}

async fn ended(told: JoinHandle<Result<Vec<Event>, Error>>) -> Result<Vec<Event>, Error> {
    let told = tokio::time::timeout(PATIENCE, told).await.expect("it ends");
    told.expect("it does not panic")
}

/// In words.
fn said(events: &[Event]) -> Vec<String> {
    let way = |direction| if direction == Direction::Run { "run" } else { "compensate" };
    let mut said = Vec::new();
    for event in events {
        said.extend(event.ended.as_ref().map(|ended| {
            format!("{} {} {} {}", ended.position, way(ended.direction), ended.attempt, ended.outcome)
        }));
        said.extend(event.turned.as_ref().map(|turned| match &turned.operator {
            Some(operator) => format!("{} by {}", turned.turn, operator.by),
            None => turned.turn.clone(),
        }));
        said.extend(
            event
                .began
                .as_ref()
                .map(|began| format!("{} {} {} began", began.position, way(began.direction), began.attempt)),
        );
    }
    said
}

#[tokio::test]
async fn every_try_is_told_in_order_and_then_the_end() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([retried(&["busy"]), broken()])).await;
    let following = told(&world.client, handle.workflow, None);
    let worker = world.start_worker().await;
    let events = ended(following).await.expect("they can be read");
    assert_eq!(
        said(&events),
        [
            "0 run 1 began",
            "0 run 1 retry",
            "0 run 2 began",
            "0 run 2 succeeded",
            "1 run 1 began",
            "1 run 1 failed",
            "1 compensate 1 began",
            "1 compensate 1 succeeded",
            "unwinding",
            "0 compensate 1 began",
            "0 compensate 1 succeeded",
            "compensated",
        ]
    );
    let seqs: Vec<_> = events.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (0..u32::try_from(events.len()).expect("few")).collect::<Vec<_>>(), "without gaps");
    assert!(events.iter().all(|event| event.workflow == handle.workflow && event.incarnation.is_some()));
    let failed = events.iter().filter_map(|event| event.ended.as_ref()).find(|ended| ended.position == 1);
    let failure = failed.and_then(|ended| ended.failure.as_ref()).expect("it failed");
    assert_eq!(failure.code, "broken");
    let last = events.last().expect("there are some");
    assert!(last.is_end());

    for after in 0..=last.seq + 1 {
        let rest = ended(told(&world.client, handle.workflow, Some(after))).await.expect("they can be read");
        let index = usize::try_from(after + 1).expect("few").min(events.len());
        assert_eq!(rest, events[index..], "after {after}: the same, names and times included");
    }
    worker.shut_down().await;
}

#[tokio::test]
async fn one_that_needs_a_person_is_followed_on_to_what_the_person_decides() {
    let world = World::new().await;
    let handle = world.enqueue(giving_up::<false>([Act::new().compensates_once_open("healed")])).await;
    let following = told(&world.client, handle.workflow, None);
    let worker = world.start_worker().await;
    world.reaches(handle.workflow, Status::NeedsAttention).await;
    assert!(!following.is_finished(), "it has not ended");
    world.ledger.open("healed").await;
    until("the decision is taken", async || {
        let answer = world.client.operate("ada", "healed").retry(handle.workflow).await.expect("it answers");
        (answer == backstitch::Answered::Accepted).then_some(())
    })
    .await;
    let said = said(&ended(following).await.expect("they can be read"));
    assert!(said.contains(&"retry by ada".to_owned()), "{said:?}");
    assert_eq!(said.last().map(String::as_str), Some("compensated"));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_journal_longer_than_one_look_is_told_whole() {
    const STEPS: usize = 100;
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of(vec![Act::new(); STEPS])).await;
    let worker = world.start_worker().await;
    world.reaches(handle.workflow, Status::Completed).await;
    let events = ended(told(&world.client, handle.workflow, None)).await.expect("they can be read");
    assert_eq!(events.len(), STEPS + 1);
    assert!(events.windows(2).all(|pair| pair[0].seq + 1 == pair[1].seq));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_workflow_that_is_none_is_an_error() {
    let world = World::new().await;
    let none = WorkflowId(uuid::Uuid::nil());
    let error = ended(told(&world.client, none, None)).await.expect_err("there is none");
    assert!(matches!(error, Error::NotFound(workflow) if workflow == none), "{error}");
}

#[tokio::test]
async fn an_outage_is_waited_out() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new()])).await;
    let following = Counted::new(&world, Duration::from_millis(20)).await;
    following.line.cut(Moment::BeforeAnswer, LOOK, 1);
    let events = told(&following.client, handle.workflow, None);
    until("the line was cut", async || (following.line.cuts() == 1).then_some(())).await;
    let worker = world.start_worker().await;
    let events = ended(events).await.expect("it goes on");
    assert_eq!(said(&events), ["0 run 1 began", "0 run 1 succeeded", "completed"]);
    worker.shut_down().await;
}

#[tokio::test]
async fn where_nobody_may_look_whoever_follows_is_told_why() {
    let world = World::new().await;
    let handle = world.enqueue(Compensating::of([Act::new().run([Do::Effect])])).await;
    sqlx::query("alter table backstitch.journal rename to gone").execute(&world.pool).await.expect("it may");
    let error = ended(told(&world.client, handle.workflow, None)).await.expect_err("nobody may look");
    assert!(error.to_string().contains("backstitch.journal"), "{error}");
    sqlx::query("alter table backstitch.gone rename to journal").execute(&world.pool).await.expect("it may");
}

#[tokio::test]
async fn a_thousand_who_follow_share_one_look() {
    const WORKFLOWS: usize = 1000;
    let world = World::new().await;
    let scripts = (0..WORKFLOWS).map(|_| Compensating::of([]));
    let handles = world.client.enqueue_many(scripts).send().await.expect("they are enqueued");
    let following = Counted::new(&world, Timing::DEFAULT.poll).await;
    let told: Vec<_> = handles.iter().map(|handle| told(&following.client, handle.workflow, None)).collect();
    let looks = || following.line.begun(LOOK);
    until("somebody has looked a few times", async || (looks() >= 5).then_some(())).await;
    assert!(told.iter().all(|told| !told.is_finished()));
    assert!(looks() < 50, "not each for itself: {}", looks());
    let connections: i64 = sqlx::query_scalar(
        "select count(*) from pg_stat_activity where datname = current_database() and application_name = 'waiting'",
    )
    .fetch_one(&world.pool)
    .await
    .expect("it answers");
    let in_pool = i64::from(following.client.database().size());
    assert_eq!(connections, in_pool, "and none beside the pool");

    let worker = world.start_worker().await;
    for told in told {
        let events = ended(told).await.expect("they can be read");
        assert_eq!(said(&events), ["completed"]);
    }
    println!("{WORKFLOWS} journals told after {} looks for all", looks());
    assert!(looks() < u64::try_from(WORKFLOWS).expect("few") / 2, "{}", looks());
    worker.shut_down().await;
}
