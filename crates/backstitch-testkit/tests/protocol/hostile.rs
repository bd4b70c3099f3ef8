//! What do the functions of the contract make of texts that do harm where they are pasted in?

use backstitch_testkit::hostile::texts;
use serde_json::{Value, json};
use sqlx::Row;
use uuid::Uuid;

use crate::stage::{Stage, code, one};

/// Everything that there is, beside rows: so that nothing was made, changed or dropped.
const SCHEMA: &str = "select md5(string_agg(what, ',' order by what)) from (
        select oid || relname || coalesce(relacl::text, '') as what from pg_class where relnamespace = 'backstitch'::regnamespace
        union all select oid || proname || coalesce(proacl::text, '') || prosrc from pg_proc
            where pronamespace = 'backstitch'::regnamespace
        union all select nspname || coalesce(nspacl::text, '') from pg_namespace where nspname !~ '^pg_'
    ) everything";

/// How many rows each table has that nobody may have touched.
const UNTOUCHED: &str =
    "select (select count(*) from backstitch.incarnation) + (select count(*) from backstitch.token)
    + (select count(*) from backstitch.alert)";

#[tokio::test]
async fn any_text_is_an_argument_of_the_contract_and_nothing_else() {
    let stage = Stage::new().await;
    let schema: String = one(&stage.pool, SCHEMA).await;
    let (mut asked, mut paused) = (0_i64, 0_i64);
    for text in &texts() {
        let takes = |bytes_max: usize| (1..=bytes_max).contains(&text.len()) && !text.contains('\0');
        let enqueue = "select backstitch.enqueue($1, $2, $1, $1)";
        let enqueued = sqlx::query_scalar::<_, Uuid>(enqueue).bind(text).bind(json!({ text: text }));
        let enqueued = enqueued.fetch_one(&stage.pool).await;
        if takes(100) {
            let workflow = enqueued.unwrap_or_else(|error| panic!("{text:?}: {error}"));
            comes_back(&stage, workflow, text).await;
            asked += 1;
            paused += i64::from(is_paused(&stage, workflow, text).await);
        } else {
            // 22021 and 22P05: what Postgres says of a null character, in a text and in JSON.
            assert!(["BSI01", "22021", "22P05"].contains(&&*code(enqueued)), "{text:?}");
        }
        // A role of that name is looked up, and there is none; a role of ours is only one of the four.
        for grant in
            ["select backstitch.grant_to($1, 'worker')", "select backstitch.grant_to('postgres', $1)"]
        {
            let granted = sqlx::query(grant).bind(text).execute(&stage.pool).await;
            assert!(["BSI01", "22021"].contains(&&*code(granted)), "{text:?}");
        }
    }
    assert!(asked >= 300, "{asked}");
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.workflow").await, asked);
    assert_eq!(one::<i64>(&stage.pool, "select count(*) from backstitch.key").await, asked);
    assert_eq!(
        one::<i64>(&stage.pool, "select count(*) from backstitch.journal").await,
        paused,
        "a turn each"
    );
    assert_eq!(one::<i64>(&stage.pool, UNTOUCHED).await, 0);
    assert_eq!(one::<String>(&stage.pool, SCHEMA).await, schema);
}

/// As it was, wherever it was put; and it finds itself alone.
async fn comes_back(stage: &Stage, workflow: Uuid, text: &str) {
    let seen =
        "select workflow_id, kind, key, queue, input from backstitch.workflows where key = $1 and kind = $1";
    let seen = sqlx::query(seen).bind(text).fetch_all(&stage.pool).await.expect("a look");
    assert_eq!(seen.len(), 1, "{text:?}");
    assert_eq!(seen[0].get::<Uuid, _>("workflow_id"), workflow, "{text:?}");
    for column in ["kind", "key", "queue"] {
        assert_eq!(seen[0].get::<String, _>(column), text);
    }
    assert_eq!(seen[0].get::<Value, _>("input"), json!({ text: text }));
}

/// A reason may be any text but a blank one; as such it comes back.
async fn is_paused(stage: &Stage, workflow: Uuid, text: &str) -> bool {
    let pause = "select backstitch.pause($1, $2, $2)";
    let answer =
        sqlx::query_scalar::<_, String>(pause).bind(workflow).bind(text).fetch_one(&stage.pool).await;
    if answer.is_err() || text.trim_matches(' ').is_empty() {
        assert_eq!(code(answer), "BSI01", "{text:?}");
        assert!(text.trim().is_empty(), "{text:?}");
        return false;
    }
    assert_eq!(answer.unwrap_or_else(|error| panic!("{text:?}: {error}")), "accepted");
    let paused = "select paused from backstitch.workflows where workflow_id = $1";
    let paused: Value =
        sqlx::query_scalar(paused).bind(workflow).fetch_one(&stage.pool).await.expect("a look");
    assert_eq!((&paused["by"], &paused["why"]), (&json!(text), &json!(text)));
    true
}
