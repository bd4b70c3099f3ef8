//! What must hold of every function and view in the schema, whoever adds the next.

use crate::stage::Stage;

/// The names of what does not hold.
async fn offenders(stage: &Stage, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(&stage.pool).await.expect("the catalog answers")
}

#[tokio::test]
async fn every_function_pins_its_search_path() {
    let stage = Stage::new().await;
    let sql = "select proname::text from pg_proc
        where pronamespace = 'backstitch'::regnamespace
            -- A body that was parsed when it was made has looked its names up already.
            and prosqlbody is null
            and not exists (select from unnest(proconfig) setting where setting like 'search_path=%')";
    assert_eq!(offenders(&stage, sql).await, Vec::<String>::new());
}

#[tokio::test]
async fn nothing_is_everybodys() {
    let stage = Stage::new().await;
    let sql = "select 'function ' || proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) a
        where pronamespace = 'backstitch'::regnamespace and a.grantee = 0
        union all
        select 'table ' || relname from pg_class, aclexplode(coalesce(relacl, acldefault('r', relowner))) a
        where relnamespace = 'backstitch'::regnamespace and relkind in ('r', 'v', 'S') and a.grantee = 0
        union all
        select 'schema ' || nspname from pg_namespace, aclexplode(coalesce(nspacl, acldefault('n', nspowner))) a
        where nspname = 'backstitch' and a.grantee = 0";
    assert_eq!(offenders(&stage, sql).await, Vec::<String>::new());
}

#[tokio::test]
async fn every_table_view_and_function_says_what_it_is_for() {
    let stage = Stage::new().await;
    let sql = "select proname::text from pg_proc
        where pronamespace = 'backstitch'::regnamespace and obj_description(oid, 'pg_proc') is null
        union all
        select relname::text from pg_class
        where relnamespace = 'backstitch'::regnamespace and relkind in ('r', 'v')
            and relname not like '\\_%' and obj_description(oid, 'pg_class') is null";
    assert_eq!(offenders(&stage, sql).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_runs_at_every_step_has_one_plan_whatever_its_tables_look_like() {
    let stage = Stage::new().await;
    let sql = "select proname::text from pg_proc
        where pronamespace = 'backstitch'::regnamespace
            and proname in (
                'append', 'follow', 'claim', 'take', 'journal_page', 'park', 'enter_slot', 'bury', 'remove_finished', 'settled'
            )
            and not proconfig @> '{enable_seqscan=off,plan_cache_mode=force_generic_plan}'";
    assert_eq!(offenders(&stage, sql).await, Vec::<String>::new());
}
