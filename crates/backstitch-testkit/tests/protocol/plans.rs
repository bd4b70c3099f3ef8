//! What a step costs the database: the same with a hundred thousand waiting and as many finished as with none, also
//! while the planner still believes that the tables are empty.

use std::time::Instant;

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::journals::written;
use crate::record::{append, record, verdict};
use crate::stage::{SHORT, Session, Stage, claim, execute, one};

/// What one call of a function cost.
#[derive(Debug)]
pub struct Cost {
    pub buffers: i64,
    pub sequential_scans: i64,
}

/// The most a call may touch more than on an empty database: indexes grow a level or two.
pub const FACTOR: i64 = 3;

pub async fn cost(session: &mut Session, call: &str) -> Cost {
    let before = sequential_scans(&mut session.connection).await;
    let explain = format!("explain (analyze, buffers, format json) {call}");
    let plan: Value = one(&mut session.connection, &explain).await;
    let plan = &plan[0]["Plan"];
    let buffers = |what: &str| plan[what].as_i64().expect("a number");
    Cost {
        buffers: buffers("Shared Hit Blocks") + buffers("Shared Read Blocks"),
        sequential_scans: sequential_scans(&mut session.connection).await - before,
    }
}

/// Of this session, since its statistics were last sent away.
async fn sequential_scans(connection: &mut PgConnection) -> i64 {
    let sql = "select sum(seq_scan)::bigint from pg_stat_xact_user_tables where schemaname = 'backstitch'";
    one(connection, sql).await
}

/// An append as a worker makes it, in SQL: its outcome, its next intent, and perhaps what follows.
fn append_call(worker: i32, workflow: Uuid, seq: i32, after: &str) -> String {
    let position = seq - 1;
    format!(
        "select * from backstitch.append({worker}, array[row(
            '{workflow}', {seq}, 1, 'succeeded', {position}, 'run', 1, '1', null, null, {seq}, 'run', 1, 's', 1,
            'independent', '{{}}', null, {after}
        )::backstitch.journal_record])"
    )
}

/// A claim of three, as a worker makes it.
fn claim_call(worker: i32) -> String {
    let (rows_max, bytes_max) = SHORT;
    format!("select * from backstitch.claim({worker}, '{{default}}', '{{k}}', 3, 1, {rows_max}, {bytes_max})")
}

/// A claim of three, an append on the way, one that ends a park, in this order. In one transaction: statistics stay.
async fn costs(session: &mut Session, worker: i32, workflow: Uuid, seq: i32) -> Vec<(&'static str, Cost)> {
    session.open().await;
    let claim = claim_call(worker);
    let costs = vec![
        ("claim", cost(session, &claim).await),
        ("append", cost(session, &append_call(worker, workflow, seq, "null")).await),
        (
            "append with a change",
            cost(session, &append_call(worker, workflow, seq + 1, "'{\"innocent\": true}'")).await,
        ),
    ];
    session.commit().await.expect("all of it");
    costs
}

/// The cheapest of three rounds: in one a session looks into the catalog, or a page is full and the next must be found.
async fn cheapest(
    session: &mut Session,
    worker: i32,
    workflow: Uuid,
    seqs: &mut i32,
) -> Vec<(&'static str, Cost)> {
    let mut cheapest: Vec<(&'static str, Cost)> = Vec::new();
    for _ in 0..3 {
        let round = costs(session, worker, workflow, *seqs).await;
        *seqs += 2;
        if cheapest.is_empty() {
            cheapest = round;
            continue;
        }
        for ((_, best), (call, cost)) in cheapest.iter_mut().zip(round) {
            assert_eq!(cost.sequential_scans, 0, "{call}");
            best.buffers = best.buffers.min(cost.buffers);
        }
    }
    cheapest
}

#[tokio::test]
async fn a_claim_and_an_append_cost_the_same_on_large_tables() {
    let stage = Stage::new().await;
    // No analysis comes to help in the middle; and a vacuum has seen the tables empty.
    for table in ["ready", "journal", "workflow"] {
        stage.run(&format!("alter table backstitch.{table} set (autovacuum_enabled = off)")).await;
        stage.run(&format!("vacuum analyze backstitch.{table}")).await;
    }
    let worker = stage.worker().await;
    for _ in 0..40 {
        stage.enqueued().await;
    }
    let mut session = stage.session().await;
    let workflow = claim(&mut session.connection, worker, 1).await.remove(0);
    assert_eq!(verdict(&mut session.connection, worker, record(workflow, 1, 0).begins(0)).await, "written");
    let mut seqs = 1;
    // The session's plans are made now, and kept.
    let empty = cheapest(&mut session, worker, workflow, &mut seqs).await;

    fill(&stage).await;
    let kept = cheapest(&mut session, worker, workflow, &mut seqs).await;
    let mut new = stage.session().await;
    let stale = cheapest(&mut new, worker, workflow, &mut seqs).await;
    stage.run("analyze backstitch.ready; analyze backstitch.journal; analyze backstitch.workflow").await;
    let mut new = stage.session().await;
    let analyzed = cheapest(&mut new, worker, workflow, &mut seqs).await;

    for (name, costs) in [("kept plans", &kept), ("new plans", &stale), ("analyzed", &analyzed)] {
        for ((call, small), (_, large)) in empty.iter().zip(costs) {
            assert!(
                // Each index has grown by a level or two.
                large.buffers <= small.buffers * 2,
                "{name}: {call} costs {large:?}, on empty tables {small:?}"
            );
            assert_eq!(large.sequential_scans, 0, "{name}: {call}");
            println!("{name}: {call} {} buffers, on empty tables {}", large.buffers, small.buffers);
        }
    }
}

/// Whether it comes along or not; and whoever reads it on walks down to where it was.
#[tokio::test]
async fn a_claim_looks_at_no_more_of_a_long_journal_than_of_a_short_one() {
    const LONG: i32 = 10_000;
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    fill(&stage).await;
    stage.run("analyze backstitch.ready; analyze backstitch.journal; analyze backstitch.workflow").await;
    let mut long = Uuid::nil();
    let mut claims = Vec::new();
    for (rows, output) in [(3, "'1'"), (LONG, "'1'"), (SHORT.0, LARGE)] {
        for _ in 0..3 {
            // Claimed before the hundred thousand.
            let urgent = "select backstitch.enqueue('k', '{}', null, 'default', 0)";
            let workflow = one(&stage.pool, urgent).await;
            written(&stage, workflow, rows, output).await;
            if rows == LONG {
                long = workflow;
            }
        }
        let mut session = stage.session().await;
        let (mut buffers, mut scans) = (i64::MAX, 0);
        for _ in 0..3 {
            let free = "update backstitch.ready set holder = null, epoch = 1 where priority = 0";
            execute(&mut session.connection, free).await.expect("it is ours");
            session.open().await;
            let cost = cost(&mut session, &claim_call(worker)).await;
            session.commit().await.expect("the claim");
            (buffers, scans) = (buffers.min(cost.buffers), scans + cost.sequential_scans);
        }
        assert_eq!(scans, 0, "{rows} rows of {output}");
        stage.run("update backstitch.ready set priority = 3 where priority = 0").await;
        claims.push(buffers);
    }
    println!("a claim of three with short, long and large journals: {claims:?} buffers");
    let short = claims[0];
    assert!(claims.iter().all(|buffers| *buffers <= short + short / 2), "{claims:?}");

    let mut session = stage.session().await;
    let page = |seq: i32| format!("select * from backstitch.journal_page('{long}', {seq}, 50, 1000000)");
    // The session's first call looks into the catalog.
    cost(&mut session, &page(0)).await;
    let first = cost(&mut session, &page(0)).await.buffers;
    let later = cost(&mut session, &page(LONG - 50)).await.buffers;
    println!("a page at the beginning and at the end: {first} and {later} buffers");
    // The outputs' pages lie a little differently; that the rows before are not read is what is asked.
    assert!(later <= first + first / 2, "a page at the end costs {later}, at the beginning {first}");
}

/// An output of the largest size that does not grow shorter when it is compressed.
const LARGE: &str =
    "(select to_json(string_agg(md5(i::text), '')) from generate_series(n * 2000, n * 2000 + 1999) i)";

/// 100,000 waiting and 200,000 finished workflows, each of these with a journal of one row.
async fn fill(stage: &Stage) {
    stage
        .run(
            "insert into backstitch.workflow (workflow_id, kind, version, queue, input, enqueued_at)
                select backstitch.uuid_v7(), 'k', 1, 'default', '{}', now() from generate_series(1, 100000);
            insert into backstitch.ready (workflow_id, kind, queue, priority, due_at)
                select w.workflow_id, 'k', 'default', 1, w.enqueued_at from backstitch.workflow w
                on conflict do nothing;
            insert into backstitch.workflow
                    (workflow_id, kind, version, queue, input, enqueued_at, status, output, finished_at)
                select gen_random_uuid(), 'k', 1, 'default', '{}', now(), 'completed', '1', now()
                from generate_series(1, 200000);
            insert into backstitch.journal (workflow_id, seq, epoch, written_at, turn)
                select w.workflow_id, 0, 1, now(), 'completed' from backstitch.workflow w where w.status = 'completed'",
        )
        .await;
}

/// One look answers for all who wait: it walks down the key once for each, whatever it thought of the tables at first.
#[tokio::test]
async fn a_look_for_who_waits_costs_each_the_same_on_large_tables() {
    const WAITING: i64 = 100;
    let stage = Stage::new().await;
    stage.run("alter table backstitch.ready set (autovacuum_enabled = off)").await;
    stage.run("vacuum analyze backstitch.ready").await;
    let mut session = stage.session().await;
    let look = |workflows: &[Uuid]| {
        let workflows = workflows.iter().map(Uuid::to_string).collect::<Vec<_>>().join(",");
        format!("select * from backstitch.settled('{{{workflows}}}')")
    };
    let unknown = vec![Uuid::nil(); WAITING as usize];
    cost(&mut session, &look(&unknown)).await;
    let empty = cost(&mut session, &look(&unknown)).await;

    fill(&stage).await;
    let sample = format!(
        "select array_agg(workflow_id) from (
            select workflow_id from backstitch.ready tablesample bernoulli (10) limit {WAITING}
        ) waiting"
    );
    let waiting: Vec<Uuid> = one(&mut session.connection, &sample).await;
    session.open().await;
    let kept = cost(&mut session, &look(&waiting)).await;
    session.commit().await.expect("all of it");
    assert_eq!(kept.sequential_scans, 0);
    assert!(
        kept.buffers <= WAITING * (FACTOR + 1),
        "a walk and a row each: {kept:?}, on empty tables {empty:?}"
    );
    println!("{WAITING} waiting: {} buffers, on empty tables {}", kept.buffers, empty.buffers);
}

/// Whether a plan is worth compiling is estimated, and the estimates of a claim are for a large table: 180 ms each time.
#[tokio::test]
async fn what_a_worker_calls_is_not_compiled_whatever_the_planner_estimates() {
    let stage = Stage::new().await;
    let mut session = stage.session().await;
    let compiled: Vec<String> = one(
        &mut session.connection,
        "select coalesce(array_agg(p.oid::regprocedure::text), '{}')
        from pg_proc p
        where p.pronamespace = 'backstitch'::regnamespace
            and 'plan_cache_mode=force_generic_plan' = any (p.proconfig)
            and not 'jit=off' = any (p.proconfig)",
    )
    .await;
    assert_eq!(compiled, Vec::<String>::new());
}

#[tokio::test]
async fn an_append_takes_a_time_linear_in_its_batch() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    stage.run("select backstitch.enqueue('k', '{}') from generate_series(1, 512)").await;
    let workflows = claim(&stage.pool, worker, 512).await;
    let mut session = stage.session().await;
    execute(&mut session.connection, "set synchronous_commit = off").await.expect("set");
    let alarm = serde_json::json!({"attention": {"reason": "r", "message": "m"}, "report": {}});
    let mut seq = 0;
    let mut round = async |batch: &[Uuid]| {
        let records: Vec<_> = batch
            .iter()
            .map(|workflow| record(*workflow, 1, seq).turns("retry").after(alarm.clone()))
            .collect();
        seq += 1;
        let began = Instant::now();
        let answers = append(&mut session.connection, worker, &records).await.expect("it answers");
        let took = began.elapsed();
        assert!(answers.iter().all(|answer| answer.verdict == "written"));
        took
    };
    round(&workflows).await;
    let mut whole = std::time::Duration::MAX;
    for _ in 0..3 {
        whole = whole.min(round(&workflows).await);
    }
    let mut part = std::time::Duration::MAX;
    for _ in 0..3 {
        part = part.min(round(&workflows[..64]).await);
    }
    // Eight times the records; a quadratic one takes 64 times as long.
    assert!(whole < part * 24, "64 records take {part:?}, 512 take {whole:?}");
}

#[tokio::test]
async fn to_see_that_every_kind_is_served_no_workflow_is_looked_up() {
    let stage = Stage::new().await;
    stage.worker().await;
    stage.run("select backstitch.enqueue('k', '{}') from generate_series(1, 5000)").await;
    stage.run("analyze backstitch.ready; analyze backstitch.workflow").await;
    let mut session = stage.session().await;
    let sql = "explain (analyze, format json) select * from backstitch.attention";
    let plan: Value = one(&mut session.connection, sql).await;
    let mut looked_up = 0;
    visit(&plan[0]["Plan"], &mut |node| {
        if node["Relation Name"] == "workflow" {
            let (rows, loops) = (node["Actual Rows"].as_f64(), node["Actual Loops"].as_f64());
            looked_up += (rows.expect("a number") * loops.expect("a number")) as i64;
        }
    });
    assert_eq!(looked_up, 0, "{plan:#}");
}

fn visit(node: &Value, look: &mut impl FnMut(&Value)) {
    look(node);
    for inner in node["Plans"].as_array().into_iter().flatten() {
        visit(inner, look);
    }
}

#[tokio::test]
async fn to_see_the_steps_of_a_long_workflow_its_journal_is_read_a_few_times_not_once_a_step() {
    const STEPS: i64 = 1000;
    let stage = Stage::new().await;
    let workflow = stage.enqueued().await;
    stage
        .run(&format!(
            "insert into backstitch.journal (workflow_id, seq, epoch, incarnation, written_at, outcome,
                outcome_position, outcome_direction, outcome_attempt, intent_position, intent_direction,
                intent_attempt, intent_step, intent_version, intent_backward)
            select '{workflow}', n, 1, 1, now(), 'succeeded', n, 'run', 1, n, 'run', 1, 's', 1, 'independent'
            from generate_series(0, {STEPS} - 1) n"
        ))
        .await;
    let mut session = stage.session().await;
    let steps = format!("select * from backstitch.steps where workflow_id = '{workflow}'");
    let completed = format!("select count(*) from ({steps}) s where status = 'completed'");
    assert_eq!(one::<i64>(&mut session.connection, &completed).await, STEPS);
    let attempts =
        format!("select * from backstitch.attempts where workflow_id = '{workflow}' order by began_seq");
    for look in [steps, attempts] {
        let cost = cost(&mut session, &look).await;
        assert!(cost.buffers < STEPS, "{look}: {cost:?}");
    }
}
