//! What may be asked for, and how often the same is asked for.

use backstitch::Json;
use backstitch::limits::{DEPTH_MAX, INPUT_BYTES_MAX};
use uuid::Uuid;

use crate::stage::{Stage, code, one};

async fn enqueue(stage: &Stage, arguments: &str) -> sqlx::Result<Uuid> {
    let sql = format!("select backstitch.enqueue({arguments})");
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_one(&stage.pool).await
}

#[tokio::test]
async fn sixteen_that_ask_for_the_same_at_once_get_the_same_workflow() {
    let stage = Stage::new().await;
    let mut first = stage.session().await;
    first.open().await;
    let ask = r#"select backstitch.enqueue('k', '{"a": 1}', 'key')"#;
    let workflow: Uuid = one(&mut first.connection, ask).await;
    let mut others = Vec::new();
    for _ in 1..16 {
        let mut session = stage.session().await;
        let pid = session.pid;
        others.push(tokio::spawn(async move { one::<Uuid>(&mut session.connection, ask).await }));
        stage.waits(pid, "transactionid").await;
    }
    first.commit().await.expect("the first");
    for other in others {
        assert_eq!(other.await.expect("no panic"), workflow);
    }
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.workflow").await, 1);
}

#[tokio::test]
async fn the_first_that_rolls_back_leaves_the_key_to_the_next_and_nothing_else() {
    let stage = Stage::new().await;
    let mut first = stage.session().await;
    first.open().await;
    let ask = "select backstitch.enqueue('k', '{}', 'key')";
    let gone: Uuid = one(&mut first.connection, ask).await;
    let mut second = stage.session().await;
    let pid = second.pid;
    let asking = tokio::spawn(async move { one::<Uuid>(&mut second.connection, ask).await });
    stage.waits(pid, "transactionid").await;
    crate::stage::execute(&mut first.connection, "rollback").await.expect("a rollback");
    let workflow = asking.await.expect("no panic");
    assert_ne!(workflow, gone);
    for table in ["workflow", "ready", "key"] {
        let sql = format!("select array_agg(workflow_id) from backstitch.{table}");
        assert_eq!(one::<Vec<Uuid>>(&stage.pool, &sql).await, [workflow], "{table}");
    }
}

#[tokio::test]
async fn the_same_key_with_another_input_is_an_error_that_names_the_first() {
    let stage = Stage::new().await;
    let first = enqueue(&stage, r#"'k', '{"a": 1, "b": 2}', 'key'"#).await.expect("it is taken");
    assert_eq!(enqueue(&stage, r#"'k', '{"b":2,"a":1}', 'key'"#).await.expect("the same value"), first);
    let error = enqueue(&stage, r#"'k', '{"a": 2}', 'key'"#).await.expect_err("another input");
    let error = error
        .as_database_error()
        .expect("from the database")
        .downcast_ref::<sqlx::postgres::PgDatabaseError>();
    assert_eq!((error.code(), error.detail()), ("BSK01", Some(first.to_string().as_str())));
    assert!(error.message().contains(&first.to_string()), "{}", error.message());
    assert_ne!(enqueue(&stage, r#"'other', '{"a": 2}', 'key'"#).await.expect("a key is its kind's"), first);
    assert_ne!(
        enqueue(&stage, "'k', '{}'").await.ok(),
        enqueue(&stage, "'k', '{}'").await.ok(),
        "without a key"
    );
}

#[tokio::test]
async fn what_cannot_be_a_workflow_is_refused() {
    let stage = Stage::new().await;
    let long = |bytes: usize| format!("repeat('x', {bytes})");
    let refused = [
        "null, '{}'".to_owned(),
        "'', '{}'".to_owned(),
        format!("{}, '{{}}'", long(101)),
        "'k', null".to_owned(),
        format!("'k', to_jsonb({})", long(INPUT_BYTES_MAX - 1)),
        "'k', '{}', ''".to_owned(),
        format!("'k', '{{}}', {}", long(501)),
        "'k', '{}', null, ''".to_owned(),
        "'k', '{}', null, null".to_owned(),
        format!("'k', '{{}}', null, {}", long(101)),
        "'k', '{}', null, 'default', 4".to_owned(),
        "'k', '{}', null, 'default', -1".to_owned(),
        "'k', '{}', null, 'default', null".to_owned(),
        // No client could read them back.
        "'k', '{}', p_deadline_at => 'infinity'".to_owned(),
        "'k', '{}', p_run_at => '-infinity'".to_owned(),
        "'k', '{}', p_run_at => '294000-01-01'".to_owned(),
    ];
    for arguments in refused {
        assert_eq!(code(enqueue(&stage, &arguments).await), "BSI01", "{arguments}");
    }
    let taken = [
        format!("'k', to_jsonb({})", long(INPUT_BYTES_MAX - 2)),
        format!("{}, 'null', {}, {}", long(100), long(500), long(100)),
    ];
    for arguments in taken {
        assert!(enqueue(&stage, &arguments).await.is_ok(), "{arguments}");
    }
    assert_eq!(
        one::<i64>(&stage.pool, "select count(*) from backstitch.ready").await,
        2,
        "the refused left nothing"
    );
}

#[tokio::test]
async fn the_database_and_the_engine_agree_how_deep_an_input_may_be() {
    let stage = Stage::new().await;
    let arrays = |levels: usize, inside: &str| "[".repeat(levels) + inside + &"]".repeat(levels);
    let objects = |levels: usize, inside: &str| r#"{"a":"#.repeat(levels) + inside + &"}".repeat(levels);
    let mut agreed = Vec::new();
    for levels in [DEPTH_MAX - 1, DEPTH_MAX, DEPTH_MAX + 1] {
        let half = levels / 2;
        let mixed = arrays(half, &objects(levels - half, "1"));
        let wide = format!("[1,{{\"b\":[]}},{}]", arrays(levels - 1, ""));
        for text in [
            arrays(levels, ""),
            arrays(levels, "1"),
            objects(levels, "[]"),
            objects(levels, "null"),
            mixed,
            wide,
        ] {
            let engine = Json::parse(&text, INPUT_BYTES_MAX).is_ok();
            let sql = "select backstitch.enqueue('k', $1::text::jsonb)";
            let answer: sqlx::Result<Uuid> =
                sqlx::query_scalar(sql).bind(text.clone()).fetch_one(&stage.pool).await;
            assert_eq!(answer.is_ok(), engine, "{text}");
            if !engine {
                assert_eq!(code(answer), "BSI01");
            }
            agreed.push(engine);
        }
    }
    assert!(agreed.contains(&true) && agreed.contains(&false));
}
