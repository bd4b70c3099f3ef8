//! Who is buried, what a burial waits for, and what it leaves behind.

use backstitch_testkit::clock;
use backstitch_testkit::wait::until;
use serde_json::json;
use uuid::Uuid;

use crate::record::{InFlight, appending, first, record, verdict};
use crate::stage::{Session, Stage, bury, burying, cancel, claim, execute, one, park, register};

/// Buries by the lease: whoever saw this beat.
async fn bury_expired(stage: &Stage, worker: i32, beat: i64) -> Option<i32> {
    sqlx::query_scalar("select backstitch.bury($1, $2, false)")
        .bind(worker)
        .bind(beat)
        .fetch_one(&stage.pool)
        .await
        .expect("it answers")
}

async fn expire(stage: &Stage, worker: i32) {
    stage
        .run(&format!(
            "update backstitch.incarnation set lease_until = now() where incarnation_id = {worker}"
        ))
        .await;
}

async fn beat(stage: &Stage, worker: i32) -> bool {
    one(&stage.pool, &format!("select alive from backstitch.beat({worker}, interval '1 hour')")).await
}

#[tokio::test]
async fn a_burial_waits_for_appends_in_flight_and_refuses_the_next() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    let late = stage.held_by(dead).await;
    let in_flight = InFlight::first_record(&stage, dead).await;
    let workflow = in_flight.workflow;
    let (burier, next) = (stage.session().await, stage.session().await);
    let (burier_pid, next_pid) = (burier.pid, next.pid);
    let burial = burying(burier, dead);
    stage.waits(burier_pid, "advisory").await;
    let append = appending(next, dead, vec![first(late)]);
    stage.waits(next_pid, "advisory").await;

    assert_eq!(in_flight.release().await, "written");
    assert_eq!(burial.await.expect("no panic"), Some(3));
    assert_eq!(append.await.expect("no panic").expect("it answers")[0].verdict, "fenced");
    assert_eq!(stage.ready(workflow, "orphaned").await.as_deref(), Some("gone"));
    assert_eq!(stage.ready(workflow, "crash_charges").await.as_deref(), Some("1"));
    assert_eq!(stage.ready(late, "orphaned").await, None);
}

#[tokio::test]
async fn a_claim_in_flight_is_not_missed_by_a_burial() {
    let stage = Stage::new().await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.enqueued().await;
    let mut claimant = stage.session().await;
    claimant.open().await;
    assert_eq!(claim(&mut claimant.connection, dead, 1).await, [workflow]);
    let burier = stage.session().await;
    let pid = burier.pid;
    let burial = burying(burier, dead);
    stage.waits(pid, "advisory").await;
    claimant.commit().await.expect("the claim");
    assert_eq!(burial.await.expect("no panic"), Some(1));
    assert_eq!(claim(&stage.pool, dead, 1).await, Vec::<Uuid>::new(), "the dead claim nothing");
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
    assert_eq!(
        verdict(&stage.pool, dead, first(workflow)).await,
        "fenced",
        "what the dead claimed is the heir's"
    );
    assert_eq!(verdict(&stage.pool, heir, record(workflow, 2, 0).begins(0)).await, "written");
}

#[tokio::test]
async fn a_parked_workflow_is_not_an_orphan() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    let (parked, released) = (stage.held_by(dead).await, stage.held_by(dead).await);
    for workflow in [parked, released] {
        assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    }
    let waits = record(parked, 1, 1).ends(0, "retry").after(json!({"park_ms": 60_000}));
    assert_eq!(verdict(&stage.pool, dead, waits).await, "written");
    assert!(park(&stage.pool, dead, released, 1, json!({})).await);
    let never_claimed = stage.enqueued().await;
    assert_eq!(bury(&stage.pool, dead).await, Some(0));
    for workflow in [parked, released, never_claimed] {
        assert_eq!(stage.ready(workflow, "orphaned").await, None);
        assert_eq!(stage.ready(workflow, "crash_charges").await.as_deref(), Some("0"));
    }
    assert_eq!(stage.ready(parked, "due_at > now() + interval '50 seconds'").await.as_deref(), Some("true"));
}

#[tokio::test]
async fn a_burial_charges_what_was_left_open_under_this_very_claim_or_never_came_to_a_record() {
    let stage = Stage::new().await;
    let (before, dead) = (stage.worker().await, stage.worker().await);
    // Open since an earlier claim.
    let earlier = stage.held_by(before).await;
    assert_eq!(verdict(&stage.pool, before, first(earlier)).await, "written");
    assert!(park(&stage.pool, before, earlier, 1, json!({})).await);
    assert_eq!(claim(&stage.pool, dead, 1).await, [earlier]);
    let idle = stage.held_by(dead).await;
    let between = stage.held_by(dead).await;
    assert_eq!(verdict(&stage.pool, dead, first(between)).await, "written");
    assert_eq!(verdict(&stage.pool, dead, record(between, 1, 1).ends(0, "succeeded")).await, "written");
    let transacted = stage.held_by(dead).await;
    let whole = record(transacted, 1, 0).begins(0).ends(0, "succeeded");
    assert_eq!(verdict(&stage.pool, dead, whole).await, "written");
    let open = stage.held_by(dead).await;
    assert_eq!(verdict(&stage.pool, dead, first(open)).await, "written");
    assert_eq!(verdict(&stage.pool, dead, record(open, 1, 1).ends(0, "retry")).await, "written");
    assert_eq!(verdict(&stage.pool, dead, record(open, 1, 2).begins_again(0, 2)).await, "written");

    expire(&stage, dead).await;
    assert_eq!(bury_expired(&stage, dead, 0).await, Some(5));
    let mut told = Vec::new();
    for workflow in [earlier, idle, between, transacted, open] {
        let charges = stage.ready(workflow, "crash_charges").await.expect("live");
        told.push((charges, stage.ready(workflow, "coalesce(orphaned, '-')").await.expect("live")));
    }
    let expected = [("1", "expired"), ("1", "-"), ("0", "expired"), ("0", "expired"), ("1", "expired")];
    assert_eq!(told, expected.map(|(charges, orphaned)| (charges.to_owned(), orphaned.to_owned())));
}

#[tokio::test]
async fn a_workflow_of_which_all_deaths_are_counted_that_can_be_does_not_keep_the_dead_from_being_buried() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    let (deadly, other) = (stage.held_by(dead).await, stage.held_by(dead).await);
    for workflow in [deadly, other] {
        assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    }
    stage
        .run(&format!("update backstitch.ready set crash_charges = 32767 where workflow_id = '{deadly}'"))
        .await;
    assert_eq!(bury(&stage.pool, dead).await, Some(2));
    assert_eq!(stage.ready(deadly, "crash_charges").await.as_deref(), Some("32767"));
    assert_eq!(stage.ready(other, "crash_charges").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn what_somebody_was_told_of_is_due_as_soon_as_its_worker_is_buried_unless_it_may_kill() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    let told = [("0", true), ("1", true), ("2", false)];
    let mut held = Vec::new();
    for (charges, is_due) in told {
        let workflow = stage.held_by(dead).await;
        let told = "update backstitch.ready set attention = true, crash_charges =";
        stage.run(&format!("{told} {charges} where workflow_id = '{workflow}'")).await;
        held.push((workflow, is_due));
    }
    assert_eq!(bury(&stage.pool, dead).await, Some(3));
    for (workflow, is_due) in held {
        let due = if is_due { "due_at <= now()" } else { "due_at > now() + interval '4 minutes'" };
        assert_eq!(stage.ready(workflow, due).await.as_deref(), Some("true"));
    }
}

/// Buries as the engine does, which waits for no lock for longer than this.
async fn bury_in_time(stage: &Stage, worker: i32) -> Option<i32> {
    let mut burier = stage.session().await;
    execute(&mut burier.connection, "set lock_timeout = '3500ms'").await.expect("set");
    bury(&mut burier.connection, worker).await
}

/// A session that has cancelled a workflow, and has not made up its mind.
async fn keeping(stage: &Stage, workflow: Uuid) -> Session {
    let mut keeper = stage.session().await;
    keeper.open().await;
    assert_eq!(cancel(&mut keeper.connection, workflow).await, "accepted");
    keeper
}

#[tokio::test]
async fn whose_first_holder_may_live_is_not_said_to_be_of_one_that_is_gone() {
    let stage = Stage::new().await;
    let (frozen, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(frozen).await;
    assert_eq!(verdict(&stage.pool, frozen, first(workflow)).await, "written");
    expire(&stage, frozen).await;
    assert_eq!(bury_expired(&stage, frozen, 0).await, Some(1));
    // It wrote nothing: the open attempt is the first one's.
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
    assert_eq!(bury(&stage.pool, heir).await, Some(1));
    assert_eq!(stage.ready(workflow, "orphaned").await.as_deref(), Some("expired"));
}

#[tokio::test]
async fn a_workflow_that_somebody_keeps_holds_up_no_other_of_its_dead_worker() {
    let stage = Stage::new().await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let (kept, other) = (stage.held_by(dead).await, stage.held_by(dead).await);
    for workflow in [kept, other] {
        assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    }
    let mut keeper = keeping(&stage, kept).await;
    assert_eq!(bury_in_time(&stage, dead).await, Some(1));
    assert_eq!(claim(&stage.pool, heir, 2).await, [other]);
    assert_eq!(verdict(&stage.pool, dead, record(other, 1, 1).ends(0, "succeeded")).await, "fenced");
    assert_eq!(verdict(&stage.pool, heir, record(other, 2, 1).ends(0, "in_doubt")).await, "written");
    assert_eq!(bury_in_time(&stage, dead).await, Some(0), "as long as it is kept");

    execute(&mut keeper.connection, "rollback").await.expect("it is ours");
    assert_eq!(bury_in_time(&stage, dead).await, Some(1));
    assert_eq!(bury_in_time(&stage, dead).await, None, "now it is buried");
    assert_eq!(claim(&stage.pool, heir, 2).await, [kept]);
    for workflow in [kept, other] {
        assert_eq!(stage.ready(workflow, "orphaned").await.as_deref(), Some("gone"));
        assert_eq!(stage.ready(workflow, "crash_charges").await.as_deref(), Some("1"));
    }
}

#[tokio::test]
async fn who_is_buried_but_for_what_somebody_keeps_does_not_come_back() {
    let stage = Stage::new().await;
    let late = stage.worker().await;
    let (kept, other) = (stage.held_by(late).await, stage.held_by(late).await);
    let keeper = keeping(&stage, kept).await;
    expire(&stage, late).await;
    assert_eq!(bury_expired(&stage, late, 0).await, Some(1));
    // Its attempts would go on by a lease that it had anew, beside those of whoever claims the other one.
    assert!(!beat(&stage, late).await, "it hears of its burial");
    assert_eq!(claim(&stage.pool, late, 1).await, Vec::<Uuid>::new());
    assert_eq!(verdict(&stage.pool, late, first(other)).await, "fenced");
    drop(keeper);
    until("the cancel is rolled back", async || {
        let buried = bury_expired(&stage, late, 0).await.expect("it is not buried yet");
        (buried == 1).then_some(())
    })
    .await;
    assert_eq!(stage.ready(kept, "holder is null").await.as_deref(), Some("true"));
    let death = format!("select death from backstitch.incarnation where incarnation_id = {late}");
    assert_eq!(one::<String>(&stage.pool, &death).await, "expired");
}

#[tokio::test]
async fn a_suspect_that_somebody_keeps_is_charged_only_if_it_was_alone_when_its_worker_died() {
    for (others, charges) in [(0, "3"), (1, "2")] {
        let stage = Stage::new().await;
        let dead = stage.worker().await;
        let suspect = stage.held_by(dead).await;
        stage
            .run(&format!("update backstitch.ready set crash_charges = 2 where workflow_id = '{suspect}'"))
            .await;
        for _ in 0..others {
            stage.held_by(dead).await;
        }
        let mut keeper = keeping(&stage, suspect).await;
        assert_eq!(bury_in_time(&stage, dead).await, Some(others));
        execute(&mut keeper.connection, "rollback").await.expect("it is ours");
        assert_eq!(bury_in_time(&stage, dead).await, Some(1));
        assert_eq!(stage.ready(suspect, "crash_charges").await.as_deref(), Some(charges));
    }
}

#[tokio::test]
async fn an_outcome_after_a_crash_clears_the_charges() {
    let stage = Stage::new().await;
    let (dead, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(dead).await;
    assert_eq!(verdict(&stage.pool, dead, first(workflow)).await, "written");
    assert_eq!(bury(&stage.pool, dead).await, Some(1));
    assert_eq!(claim(&stage.pool, heir, 1).await, [workflow]);
    let outcome = record(workflow, 2, 1).ends(0, "in_doubt").after(json!({"innocent": true}));
    assert_eq!(verdict(&stage.pool, heir, outcome).await, "written");
    assert_eq!(stage.ready(workflow, "crash_charges").await.as_deref(), Some("0"));
}

#[tokio::test]
async fn who_beats_in_time_is_not_buried_and_who_is_buried_does_not_beat() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    assert_eq!(bury_expired(&stage, worker, 0).await, None, "its lease holds");
    expire(&stage, worker).await;
    assert!(beat(&stage, worker).await, "expired and not buried, it revives");
    expire(&stage, worker).await;
    assert_eq!(bury_expired(&stage, worker, 0).await, None, "it has beaten since");
    assert_eq!(bury_expired(&stage, worker, 1).await, Some(0));
    assert_eq!(bury_expired(&stage, worker, 1).await, None, "once is enough");
    assert_eq!(bury(&stage.pool, worker).await, None);
    assert!(!beat(&stage, worker).await);
}

#[tokio::test]
async fn of_a_beat_and_a_burial_that_race_the_first_wins() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    expire(&stage, worker).await;
    let mut heart = stage.session().await;
    heart.open().await;
    let sql = format!("select alive from backstitch.beat({worker}, interval '1 hour')");
    assert!(one::<bool>(&mut heart.connection, &sql).await);
    let mut burier = stage.session().await;
    let pid = burier.pid;
    let burial = tokio::spawn(async move {
        let sql = format!("select backstitch.bury({worker}, 0, false)");
        one::<Option<i32>>(&mut burier.connection, &sql).await
    });
    stage.waits(pid, "transactionid").await;
    heart.commit().await.expect("the beat");
    assert_eq!(burial.await.expect("no panic"), None, "the beat came first");

    let mut burier = stage.session().await;
    burier.open().await;
    assert_eq!(bury(&mut burier.connection, worker).await, Some(0));
    let mut heart = stage.session().await;
    let pid = heart.pid;
    let beating = tokio::spawn(async move { one::<bool>(&mut heart.connection, &sql).await });
    stage.waits(pid, "transactionid").await;
    burier.commit().await.expect("the burial");
    assert!(!beating.await.expect("no panic"), "the burial came first");
}

/// Under a clock three hours ahead each of them beats, with a lease of one hour; then the clock is set right.
async fn leased_by_a_clock_that_was_ahead<const N: usize>(stage: &Stage, workers: [i32; N]) {
    clock::take(&stage.pool).await.expect("it is ours");
    clock::set(&stage.pool, "3 hours").await.expect("it is ours");
    for worker in workers {
        assert!(beat(stage, worker).await);
    }
    clock::set(&stage.pool, "0").await.expect("it is ours");
}

#[tokio::test]
async fn a_lease_further_ahead_than_it_can_be_is_over_for_whoever_saw_the_beat_stand_still() {
    let stage = Stage::new().await;
    let [dead, alive, before] = [stage.worker().await, stage.worker().await, stage.worker().await];
    let held = stage.held_by(dead).await;
    assert_eq!(verdict(&stage.pool, dead, first(held)).await, "written");
    leased_by_a_clock_that_was_ahead(&stage, [dead, alive, before]).await;
    assert_eq!(bury_expired(&stage, dead, 0).await, None, "it has beaten since");
    assert!(beat(&stage, alive).await);
    assert_eq!(bury_expired(&stage, alive, 1).await, None, "it has beaten since");
    assert_eq!(bury_expired(&stage, alive, 2).await, None, "its lease is right again, and holds");
    // As the version before leaves it.
    stage
        .run(&format!("update backstitch.incarnation set lease = null where incarnation_id = {before}"))
        .await;
    assert_eq!(bury_expired(&stage, before, 1).await, None, "nobody knows how long its leases are");

    assert_eq!(bury_expired(&stage, dead, 1).await, Some(1));
    let death = format!("select death from backstitch.incarnation where incarnation_id = {dead}");
    assert_eq!(one::<String>(&stage.pool, &death).await, "expired");
    assert_eq!(stage.ready(held, "orphaned").await.as_deref(), Some("expired"));
    assert_eq!(stage.ready(held, "due_at <= now()").await.as_deref(), Some("true"));
    assert_eq!(stage.ready(held, "crash_charges").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn who_beats_while_its_burial_waits_is_not_buried_though_its_lease_was_ahead() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    leased_by_a_clock_that_was_ahead(&stage, [worker]).await;
    let in_flight = InFlight::first_record(&stage, worker).await;
    let mut burier = stage.session().await;
    let pid = burier.pid;
    let burial = tokio::spawn(async move {
        let sql = format!("select backstitch.bury({worker}, 1, false)");
        one::<Option<i32>>(&mut burier.connection, &sql).await
    });
    stage.waits(pid, "advisory").await;
    assert!(beat(&stage, worker).await);
    assert_eq!(in_flight.release().await, "written");
    assert_eq!(burial.await.expect("no panic"), None);
}

#[tokio::test]
async fn a_worker_retires_only_with_empty_hands() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.held_by(worker).await;
    let retire = format!("select backstitch.retire({worker})");
    assert!(!one::<bool>(&stage.pool, &retire).await);
    assert!(park(&stage.pool, worker, workflow, 1, json!({})).await);
    assert!(one::<bool>(&stage.pool, &retire).await);
    assert!(!one::<bool>(&stage.pool, &retire).await, "it lives once");
    assert_eq!(claim(&stage.pool, worker, 1).await, Vec::<Uuid>::new());
}

#[tokio::test]
async fn registering_again_with_the_same_token_is_the_same_life() {
    let stage = Stage::new().await;
    let token = Uuid::new_v4();
    let first = register(&stage.pool, token, "k").await;
    assert_eq!(register(&stage.pool, token, "k").await, first);
    assert_ne!(register(&stage.pool, Uuid::new_v4(), "k").await, first);
}

#[tokio::test]
async fn a_burial_of_a_long_journal_takes_no_longer_than_its_deadline() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    let workflow = stage.held_by(dead).await;
    // 10,000 attempts under this claim, each ended but the last: 9,999 looks for an end would be 50 million rows.
    stage
        .run(&format!(
            "insert into backstitch.journal (workflow_id, seq, epoch, incarnation, written_at, outcome,
                outcome_position, outcome_direction, outcome_attempt, intent_position, intent_direction,
                intent_attempt, intent_step, intent_version, intent_backward)
            select '{workflow}', n, 1, {dead}, now(), case when n > 0 then 'succeeded' end,
                case when n > 0 then n - 1 end, case when n > 0 then 'run' end, case when n > 0 then 1 end,
                n, 'run', 1, 's', 1, 'independent'
            from generate_series(0, 9999) n"
        ))
        .await;
    let mut burier = stage.session().await;
    let deadline = backstitch::Timing::DEFAULT.database_deadline.as_millis();
    execute(&mut burier.connection, &format!("set statement_timeout = {deadline}")).await.expect("set");
    assert_eq!(bury(&mut burier.connection, dead).await, Some(1));
    assert_eq!(stage.ready(workflow, "crash_charges").await.as_deref(), Some("1"));
}

#[tokio::test]
async fn a_session_that_cannot_be_ended_does_not_keep_the_dead_from_being_buried() {
    let stage = Stage::new().await;
    let dead = stage.worker().await;
    // The burier is no superuser; a superuser's session bears the name of the dead.
    let role = format!("burier_{}", Uuid::new_v4().simple());
    stage
        .run(&format!(
            "create role {role}; grant all on schema backstitch to {role};
            grant all on all tables in schema backstitch to {role};
            grant all on all functions in schema backstitch to {role}"
        ))
        .await;
    let mut impostor = stage.session().await;
    let name = format!("set application_name = 'backstitch incarnation {dead}'");
    execute(&mut impostor.connection, &name).await.expect("a name");
    until("the name shows", async || {
        let shows: bool = one(
            &stage.pool,
            &format!(
                "select application_name like '%incarnation%' from pg_stat_activity where pid = {}",
                impostor.pid
            ),
        )
        .await;
        shows.then_some(())
    })
    .await;
    let mut burier = stage.session().await;
    execute(&mut burier.connection, &format!("set role {role}")).await.expect("a role");
    let buried = sqlx::query_scalar::<_, Option<i32>>("select backstitch.bury($1, 0, true)")
        .bind(dead)
        .fetch_one(&mut burier.connection)
        .await;
    stage.run(&format!("drop owned by {role}; drop role {role}")).await;
    assert_eq!(buried.expect("it is not refused"), Some(0));
}
