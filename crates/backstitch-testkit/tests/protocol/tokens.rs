//! Does a token stay what it is while servers of two versions look for it?

use std::path::{Path, PathBuf};

use backstitch_postgres::test::TestDatabase;
use sqlx::PgPool;

use crate::stage::{Stage, code, execute, one};

/// The migration that gives a token several roles.
const SEVERAL_ROLES: &str = "0015_tokens_of_several_roles.sql";

/// A database as the version before that migration left it.
async fn before() -> (TestDatabase, PgPool) {
    let database = backstitch_postgres::test::database().await;
    let pool = database.pool().await;
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory())
        .expect("it is there")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    let earlier = files.iter().take_while(|file| !file.ends_with(SEVERAL_ROLES));
    for file in earlier {
        apply(&pool, file).await;
    }
    (database, pool)
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations")
}

async fn apply(pool: &PgPool, file: &Path) {
    let text = std::fs::read_to_string(file).expect("it can be read");
    execute(pool, &text).await.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
}

#[tokio::test]
async fn a_token_of_the_version_before_keeps_its_role() {
    let (_database, pool) = before().await;
    let make = "select backstitch.create_token('ops', sha256('a'), 'operate', array['k'])";
    execute(&pool, make).await.expect("it is made");
    apply(&pool, &directory().join(SEVERAL_ROLES)).await;
    for find in ["token_of", "find_token"] {
        let name = format!("select name from backstitch.{find}(sha256('a'))");
        assert_eq!(one::<String>(&pool, &name).await, "ops", "{find}");
    }
    let roles = "select roles from backstitch.token_of(sha256('a'))";
    assert_eq!(one::<Vec<String>>(&pool, roles).await, ["operate"]);
}

#[tokio::test]
async fn the_version_before_makes_a_token_of_one_role() {
    let stage = Stage::new().await;
    stage.run("select backstitch.create_token('ops', sha256('a'), 'operate', null)").await;
    let roles = "select roles from backstitch.token_of(sha256('a'))";
    assert_eq!(one::<Vec<String>>(&stage.pool, roles).await, ["operate"]);
    for role in ["'king'", "''", "null"] {
        let make = format!("select backstitch.create_token('a test', sha256('b'), {role}::text, null)");
        assert_eq!(code(execute(&stage.pool, &make).await), "BSI01", "{role}");
    }
}

#[tokio::test]
async fn to_a_server_of_the_version_before_a_token_of_several_roles_is_one_of_its_first() {
    let stage = Stage::new().await;
    stage.run("select backstitch.create_token('both', sha256('a'), array['produce', 'read'], null)").await;
    // What that version asks, and how it reads the answer.
    let role = "select role from backstitch.find_token(sha256('a'))";
    assert_eq!(one::<String>(&stage.pool, role).await, "produce");
    let listed = "select role from backstitch.tokens";
    assert_eq!(one::<String>(&stage.pool, listed).await, "produce");
    let roles = "select roles from backstitch.token_of(sha256('a'))";
    assert_eq!(one::<Vec<String>>(&stage.pool, roles).await, ["produce", "read"]);
}

#[tokio::test]
async fn a_token_has_roles_that_there_are() {
    let stage = Stage::new().await;
    for roles in ["array['king']", "array['read', 'king']", "array['read', null]", "'{}'", "null"] {
        let make = format!("select backstitch.create_token('a test', sha256('a'), {roles}, null)");
        assert_eq!(code(execute(&stage.pool, &make).await), "BSI01", "{roles}");
    }
    let beside = "insert into backstitch.token (name, hash, role, roles)
        values ('a test', sha256('a'), 'operate', array['read', 'operate'])";
    assert_eq!(code(execute(&stage.pool, beside).await), "23514", "the first is the one that others know");
}
