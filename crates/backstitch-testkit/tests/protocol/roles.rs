//! Who may do what: the whole matrix, against the catalog; and each role doing its work.

use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::stage::{Stage, code, execute, one};

const ROLES: [&str; 4] = ["producer", "reader", "operator", "worker"];

const ENQUEUE: [&str; 2] = ["enqueue", "enqueue_many"];

const LOOK: [&str; 3] = ["clock", "expect_announcements", "settled"];

const DECIDE: [&str; 9] =
    ["abandon", "cancel", "pause", "pause_kind", "resolve", "resume", "resume_kind", "retry", "skip_step"];

/// A role of the cluster for each, named for this database, for roles are the cluster's; and what to call it.
async fn granted(stage: &Stage) -> impl Fn(&str) -> String {
    let database: String = one(&stage.pool, "select current_database()::text").await;
    let name = move |role: &str| format!("{database}_{role}");
    for role in ROLES {
        stage.run(&format!("create role {0}; select backstitch.grant_to('{0}', '{role}')", name(role))).await;
    }
    name
}

/// They would outlive the database.
async fn forget(stage: &Stage, name: impl Fn(&str) -> String) {
    for role in ROLES {
        stage.run(&format!("drop owned by {0}; drop role {0}", name(role))).await;
    }
}

async fn names(stage: &Stage, sql: &str) -> Vec<String> {
    sqlx::query_scalar(sqlx::AssertSqlSafe(sql)).fetch_all(&stage.pool).await.expect("the catalog answers")
}

#[tokio::test]
async fn every_role_may_what_it_is_for_and_nothing_else() {
    let stage = Stage::new().await;
    let name = granted(&stage).await;
    // What each was before is nothing that it still may.
    for role in ROLES {
        for part in ["worker", role] {
            stage.run(&format!("select backstitch.grant_to('{}', '{part}')", name(role))).await;
        }
    }
    let all_functions =
        "select distinct proname::text from pg_proc where pronamespace = 'backstitch'::regnamespace";
    for role in ROLES {
        let grantee = name(role);
        let may_execute = names(
            &stage,
            &format!("{all_functions} and has_function_privilege('{grantee}', oid, 'execute') order by 1"),
        )
        .await;
        let expected: Vec<String> = match role {
            "producer" => ENQUEUE.map(str::to_owned).into(),
            "reader" => LOOK.map(str::to_owned).into(),
            "operator" => {
                let mut both: Vec<_> = LOOK.into_iter().chain(DECIDE).map(str::to_owned).collect();
                both.sort();
                both
            }
            _ => {
                let others = "('grant_to', 'create_token', 'revoke_token')";
                names(&stage, &format!("{all_functions} and proname not in {others} order by 1")).await
            }
        };
        assert_eq!(may_execute, expected, "{role} may execute");

        let relations = |kind: &str, privilege: &str| {
            format!(
                "select relname::text from pg_class
                where relnamespace = 'backstitch'::regnamespace and relkind = '{kind}'
                    and has_table_privilege('{grantee}', oid, '{privilege}') order by 1"
            )
        };
        let views = names(&stage, &relations("v", "select")).await;
        assert_eq!(views.is_empty(), role == "producer", "{role} may see {views:?}");
        for privilege in ["insert", "update", "delete", "truncate", "trigger", "references"] {
            let tables = names(&stage, &relations("r", privilege)).await;
            let writes = role == "worker" && ["insert", "update", "delete"].contains(&privilege);
            assert_eq!(!tables.is_empty(), writes, "{role} may {privilege} {tables:?}");
            for table in ["_migrations", "token"] {
                assert!(!tables.contains(&table.to_owned()), "{role}: {table}");
            }
        }
        let read = names(&stage, &relations("r", "select")).await;
        assert_eq!(read.is_empty(), role == "producer", "{role} may read {read:?}");
        assert_eq!(read.contains(&"token".to_owned()), role == "worker", "{role}");
        let create = format!("select has_schema_privilege('{grantee}', 'backstitch', 'create')");
        assert!(!one::<bool>(&stage.pool, &create).await, "{role} makes nothing in the schema");
    }
    forget(&stage, name).await;
}

#[tokio::test]
async fn every_role_can_do_its_work() {
    let stage = Stage::new().await;
    let name = granted(&stage).await;
    let mut session = stage.session().await;
    let on = &mut session.connection;
    let become_role = async |on: &mut PgConnection, role: &str| {
        execute(&mut *on, &format!("reset role; set role {}", name(role))).await.expect("the owner may");
    };

    become_role(on, "producer").await;
    let workflow: Uuid = one(&mut *on, "select backstitch.enqueue('k', '{}', 'a key')").await;
    execute(&mut *on, "select backstitch.enqueue_many('k', array['1', '2']::jsonb[])")
        .await
        .expect("its work");
    for beyond in
        ["select * from backstitch.workflows", "select backstitch.clock()", "delete from backstitch.ready"]
    {
        assert_eq!(code(execute(&mut *on, beyond).await), "42501", "{beyond}");
    }

    become_role(on, "reader").await;
    assert_eq!(one::<i64>(&mut *on, "select count(*) from backstitch.workflows").await, 3);
    let views = "select relname::text from pg_class
        where relnamespace = 'backstitch'::regnamespace and relkind = 'v' order by 1";
    let views = names(&stage, views).await;
    assert!(views.len() >= 9, "{views:?}");
    for view in views {
        execute(&mut *on, &format!("select * from backstitch.{view}")).await.expect(&view);
    }
    let pause = format!("select backstitch.pause('{workflow}', 'ada', 'seen')");
    assert_eq!(code(execute(&mut *on, &pause).await), "42501");

    become_role(on, "operator").await;
    assert_eq!(one::<String>(&mut *on, &pause).await, "accepted");
    assert_eq!(one::<i64>(&mut *on, "select count(*) from backstitch.timeline").await, 1);
    assert_eq!(code(execute(&mut *on, "select backstitch.enqueue('k', '{}')").await), "42501");

    become_role(on, "worker").await;
    let worker = crate::stage::register(&mut *on, Uuid::new_v4(), "k").await;
    assert_eq!(crate::stage::claim(&mut *on, worker, 9).await.len(), 2, "all but the paused one");
    execute(&mut *on, "reset role").await.expect("back");
    session.connection.close().await.expect("closed");
    forget(&stage, name).await;
}

#[tokio::test]
async fn what_acts_with_the_owners_rights_looks_names_up_where_nobody_else_puts_any() {
    let stage = Stage::new().await;
    let loose = names(
        &stage,
        "select proname::text from pg_proc
        where pronamespace = 'backstitch'::regnamespace and prosecdef
            and not proconfig @> array['search_path=pg_catalog, pg_temp']",
    )
    .await;
    assert_eq!(loose, Vec::<String>::new());
    // A type of this name, found first, would be the caller's.
    stage.run("create domain pg_temp.uuid as text; select backstitch.enqueue('k', '{}')").await;
    for refused in ["'postgres', 'king'", "'public', 'reader'", "'nobody', 'reader'", "null, 'reader'"] {
        let grant = format!("select backstitch.grant_to({refused})");
        assert_eq!(code(execute(&stage.pool, &grant).await), "BSI01", "{refused}");
    }
}
