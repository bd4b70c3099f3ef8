//! What a claim tells of the journals of what it takes, and how those are read that are too long for it.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

use crate::record::{first, record, verdict};
use crate::stage::{SHORT, Stage, claim, claim_of, execute, one, park};

/// A workflow's journal of so many rows: steps that succeed one after the other with this output (SQL, of `n`).
pub async fn written(stage: &Stage, workflow: Uuid, rows: i32, output: &str) {
    stage
        .run(&format!(
            "insert into backstitch.journal (workflow_id, seq, epoch, incarnation, written_at, outcome,
                outcome_position, outcome_direction, outcome_attempt, outcome_value, intent_position,
                intent_direction, intent_attempt, intent_step, intent_version, intent_backward, intent_input)
            select '{workflow}', n, 1, 1, now(), case when n > 0 then 'succeeded' end,
                case when n > 0 then n - 1 end, case when n > 0 then 'run' end, case when n > 0 then 1 end,
                case when n > 0 then ({output})::json end, n, 'run', 1, 's', 1, 'independent', '{{}}'
            from generate_series(0, {rows} - 1) n"
        ))
        .await;
}

/// Workflows that were claimed once, with journals of so many rows and such outputs.
async fn let_go(stage: &Stage, journals: &[(i32, &str)]) -> Vec<Uuid> {
    let mut workflows = Vec::new();
    for (rows, output) in journals {
        let workflow = stage.enqueued().await;
        written(stage, workflow, *rows, output).await;
        workflows.push(workflow);
    }
    stage.run("update backstitch.ready set epoch = 1").await;
    workflows
}

/// Each row of a journal as workers read it.
async fn stitches(stage: &Stage, workflow: Uuid) -> Vec<Value> {
    let sql =
        "select backstitch.stitch(j)::text from backstitch.journal j where workflow_id = $1 order by seq";
    let stitches: Vec<String> =
        sqlx::query_scalar(sql).bind(workflow).fetch_all(&stage.pool).await.expect("the journal");
    stitches.iter().map(|stitch| serde_json::from_str(stitch).expect("an array")).collect()
}

/// What a claim of all tells of their journals, by workflow.
async fn told(stage: &Stage, worker: i32) -> HashMap<Uuid, Option<Value>> {
    let rows = claim_of(&stage.pool, worker, &["default"], &["k"], 99).await;
    rows.iter()
        .map(|row| {
            let journal: Option<String> = row.get("journal");
            (row.get("workflow_id"), journal.map(|text| serde_json::from_str(&text).expect("an array")))
        })
        .collect()
}

async fn page(stage: &Stage, workflow: Uuid, from: usize, rows_max: i32, bytes_max: i32) -> Vec<String> {
    let sql = format!("select * from backstitch.journal_page('{workflow}', {from}, {rows_max}, {bytes_max})");
    sqlx::query_scalar(AssertSqlSafe(sql)).fetch_all(&stage.pool).await.expect("a page")
}

#[tokio::test]
async fn a_claim_brings_short_journals_along_and_says_of_a_long_one_that_it_does_not() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let (rows_max, bytes_max) = SHORT;
    // 32,000 bytes, hardly shorter when they are compressed.
    let mixed = "select to_json(string_agg(md5(i::text), '')) from generate_series(1, 1000) i";
    let workflows = let_go(
        &stage,
        &[
            (0, "'1'"),
            (3, "'1'"),
            (rows_max, "'1'"),
            (rows_max + 1, "'1'"),
            (2, mixed),
            (4, mixed),
            // Some hundred bytes as it is stored.
            (3, "to_json(repeat('x', 50000))"),
            // Shorter than the bound, but not with what stands before each quote in the answer.
            (2, "to_json(repeat('\"', 20000))"),
        ],
    )
    .await;
    let never_claimed = stage.enqueued().await;
    stage.run(&format!("update backstitch.ready set epoch = 0 where workflow_id = '{never_claimed}'")).await;
    let told = told(&stage, worker).await;
    assert_eq!(told[&never_claimed], Some(json!([])));
    let comes_along = [true, true, true, false, true, false, false, false];
    for (number, (workflow, comes_along)) in workflows.into_iter().zip(comes_along).enumerate() {
        let whole = Value::Array(stitches(&stage, workflow).await);
        let length = whole.to_string().len();
        assert_eq!(told[&workflow].is_some(), comes_along, "number {number}, {length} bytes");
        if let Some(journal) = &told[&workflow] {
            assert_eq!(*journal, whole, "number {number}");
            assert!(
                length <= usize::try_from(bytes_max).expect("positive"),
                "number {number}: {length} bytes"
            );
        }
    }
}

#[tokio::test]
async fn a_worker_of_the_version_before_gets_whole_journals_however_long() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let output = "select to_json(string_agg(md5(i::text), '')) from generate_series(1, 500) i";
    let [none, long]: [Uuid; 2] = let_go(&stage, &[(0, "'1'"), (300, output)]).await.try_into().expect("two");
    let sql = "select workflow_id, journal from backstitch.claim($1, '{default}', '{k}', 9, 1)";
    let rows = sqlx::query(sql).bind(worker).fetch_all(&stage.pool).await.expect("it claims");
    let journals: HashMap<Uuid, Option<String>> =
        rows.iter().map(|row| (row.get("workflow_id"), row.get("journal"))).collect();
    assert_eq!(journals[&none], None);
    let journal: Value =
        serde_json::from_str(journals[&long].as_ref().expect("it came along")).expect("JSON");
    assert_eq!(journal, Value::Array(stitches(&stage, long).await));
}

#[tokio::test]
async fn neither_version_takes_what_is_of_a_paused_kind() {
    let stage = Stage::new().await;
    let worker = stage.worker().await;
    let workflow = stage.enqueued().await;
    stage.run("select backstitch.pause_kind('k', 'somebody', 'because')").await;
    let before = format!("select count(*) from backstitch.claim({worker}, '{{default}}', '{{k}}', 9, 1)");
    assert_eq!(one::<i64>(&stage.pool, &before).await, 0);
    assert_eq!(claim(&stage.pool, worker, 9).await, Vec::<Uuid>::new());
    stage.run("select backstitch.resume_kind('k', 'somebody', 'because')").await;
    assert_eq!(claim(&stage.pool, worker, 9).await, [workflow]);
}

#[tokio::test]
async fn the_pages_of_a_journal_are_bounded_by_rows_and_by_bytes_and_amount_to_the_whole() {
    const ROWS_MAX: usize = 7;
    const BYTES_MAX: usize = 10_000;
    let stage = Stage::new().await;
    // From 32 to 3,200 bytes, and up again.
    let output = "select to_json(string_agg(md5(i::text), '')) from generate_series(0, n * 37 % 100) i";
    let workflow = let_go(&stage, &[(200, output)]).await.remove(0);
    let (mut read, mut by_rows, mut by_bytes) = (Vec::new(), 0, 0);
    loop {
        let page = page(&stage, workflow, read.len(), ROWS_MAX as i32, BYTES_MAX as i32).await;
        let lengths: Vec<usize> = page.iter().map(String::len).collect();
        let Some((_, before_the_last)) = lengths.split_last() else { break };
        assert!(page.len() <= ROWS_MAX, "{lengths:?}");
        assert!(
            before_the_last.iter().sum::<usize>() < BYTES_MAX,
            "it ends as soon as it is full: {lengths:?}"
        );
        by_rows += usize::from(page.len() == ROWS_MAX);
        by_bytes += usize::from(lengths.iter().sum::<usize>() >= BYTES_MAX);
        read.extend(page.iter().map(|stitch| serde_json::from_str::<Value>(stitch).expect("an array")));
    }
    assert_eq!(read, stitches(&stage, workflow).await);
    assert!(by_rows > 3 && by_bytes > 3, "both bounds counted: {by_rows}, {by_bytes}");
    assert_eq!(page(&stage, workflow, 0, 99, 1).await.len(), 1, "a row at least, or nobody would get on");
}

/// Whoever lets go of a workflow may do so while a claim waits for its fence: it takes the workflow, and must see it all.
#[tokio::test]
async fn a_claim_brings_along_what_was_written_while_it_waited() {
    let stage = Stage::new().await;
    let (holder, heir) = (stage.worker().await, stage.worker().await);
    let workflow = stage.held_by(holder).await;
    assert_eq!(verdict(&stage.pool, holder, first(workflow)).await, "written");
    let mut fence = stage.session().await;
    fence.open().await;
    let lock = format!("select pg_advisory_xact_lock(backstitch.fence_class(), {heir})");
    execute(&mut fence.connection, &lock).await.expect("the lock");
    let mut claimant = stage.session().await;
    let pid = claimant.pid;
    let claiming = tokio::spawn(async move {
        claim_of(&mut claimant.connection, heir, &["default"], &["k"], 1).await.remove(0)
    });
    stage.waits(pid, "advisory").await;
    assert_eq!(verdict(&stage.pool, holder, record(workflow, 1, 1).ends(0, "succeeded")).await, "written");
    assert!(park(&stage.pool, holder, workflow, 1, json!({})).await);
    fence.commit().await.expect("the fence is open");
    let row = claiming.await.expect("no panic");
    let journal: Value = serde_json::from_str(row.get("journal")).expect("an array");
    assert_eq!(journal, Value::Array(stitches(&stage, workflow).await));
    assert_eq!(journal.as_array().map(Vec::len), Some(2), "{journal}");
}
