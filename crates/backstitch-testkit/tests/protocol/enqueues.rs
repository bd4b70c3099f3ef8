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

/// The ids that `enqueue_many` answers for these inputs and keys.
async fn enqueue_many(
    stage: &Stage,
    inputs: &[&str],
    keys: Option<&[Option<&str>]>,
) -> sqlx::Result<Vec<Uuid>> {
    sqlx::query_scalar("select backstitch.enqueue_many('k', $1::text[]::jsonb[], $2)")
        .bind(inputs)
        .bind(keys)
        .fetch_one(&stage.pool)
        .await
}

#[tokio::test]
async fn many_are_asked_for_in_one_statement_and_answered_in_their_order() {
    let stage = Stage::new().await;
    let asked = enqueue_many(&stage, &["1", "2", "3"], None).await.expect("they are taken");
    let sql = "select array_agg(input::text order by workflow_id) from backstitch.workflow";
    assert_eq!(one::<Vec<String>>(&stage.pool, sql).await, ["1", "2", "3"]);
    let mut sorted = asked.clone();
    sorted.sort_unstable();
    assert_eq!(asked, sorted, "ids are ordered as they were asked for");
    assert_eq!(enqueue_many(&stage, &[], None).await.expect("none is as good"), Vec::<Uuid>::new());
}

#[tokio::test]
async fn many_with_keys_join_what_is_there_and_each_other() {
    let stage = Stage::new().await;
    let first = enqueue(&stage, "'k', '1', 'a'").await.expect("it is taken");
    let keys = [Some("a"), Some("b"), None, Some("b")];
    let asked = enqueue_many(&stage, &["1", "2", "2", "2"], Some(&keys)).await.expect("they are taken");
    assert_eq!(asked[0], first, "an earlier call's");
    assert_eq!(asked[1], asked[3], "its own");
    assert_ne!(asked[1], asked[2], "without a key it is another");
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.workflow").await, 3);
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.ready").await, 3);
    let again = enqueue_many(&stage, &["1", "2", "2", "2"], Some(&keys)).await.expect("they are taken");
    assert_eq!((again[0], again[1], again[3]), (asked[0], asked[1], asked[3]));
}

/// Inputs and keys, the code of the error, and a part of what it says.
type Refusal<'a> = (&'a [&'a str], Option<&'a [Option<&'a str>]>, &'a str, &'a str);

#[tokio::test]
async fn one_of_many_that_is_refused_is_named_and_nothing_is_taken() {
    let stage = Stage::new().await;
    let first = enqueue(&stage, "'k', '1', 'a'").await.expect("it is taken");
    let deep = "[".repeat(65) + &"]".repeat(65);
    let long = format!("\"{}\"", "x".repeat(INPUT_BYTES_MAX));
    let table: [Refusal; 6] = [
        (&["1", &deep], None, "BSI01", "input 2: input is nested deeper"),
        (&["1", "2", &long], None, "BSI01", "input 3: input is 262146 bytes"),
        (&["1", "2"], Some(&[Some("b"), Some("")]), "BSI01", "input 2: a key has 1 to 500 bytes"),
        (&["1", "2"], Some(&[Some("b")]), "BSI01", "2 inputs and 1 keys"),
        (&["1", "2"], Some(&[Some("b"), Some("a")]), "BSK01", &first.to_string()),
        (&["1", "2"], Some(&[Some("b"), Some("b")]), "BSK01", "key \"b\" already names workflow"),
    ];
    for (inputs, keys, expected, says) in table {
        let error = enqueue_many(&stage, inputs, keys).await.expect_err(says);
        assert!(error.to_string().contains(says), "{error}");
        assert_eq!(code::<()>(Err(error)), expected);
    }
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.workflow").await, 1);
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.key").await, 1);
}

#[tokio::test]
async fn two_that_ask_for_the_same_many_at_once_get_the_same_workflows() {
    let stage = Stage::new().await;
    let mut first = stage.session().await;
    first.open().await;
    let ask = "select backstitch.enqueue_many('k', '{1,2}'::jsonb[], '{a,b}')";
    let asked: Vec<Uuid> = one(&mut first.connection, ask).await;
    let mut second = stage.session().await;
    let pid = second.pid;
    let other = tokio::spawn(async move { one::<Vec<Uuid>>(&mut second.connection, ask).await });
    stage.waits(pid, "transactionid").await;
    first.commit().await.expect("the first");
    assert_eq!(other.await.expect("no panic"), asked);
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.ready").await, 2);
}

#[tokio::test]
async fn ids_are_time_ordered_to_the_microsecond_and_of_version_7() {
    let stage = Stage::new().await;
    let sql = "select array_agg(backstitch.uuid_v7() order by n) from generate_series(1, 1000) n";
    let ids: Vec<Uuid> = one(&stage.pool, sql).await;
    let ordered = ids.windows(2).filter(|pair| pair[0] < pair[1]).count();
    assert!(ordered > 800, "{ordered} of 999 pairs are in order");
    for id in ids {
        assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
    }
    let sql = "select abs(
            ('x' || left(replace(backstitch.uuid_v7()::text, '-', ''), 12))::bit(48)::bigint
            - extract(epoch from clock_timestamp()) * 1000
        )::float8";
    assert!(one::<f64>(&stage.pool, sql).await < 1000.0, "its first 48 bits are milliseconds");
}
