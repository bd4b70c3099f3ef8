//! Does each bad input give one clear error that says what, where and what to do, and nothing half done?

use sqlx::Executor;
use tokio::net::TcpListener;

use crate::world::{World, bare, end, end_with_input};

#[tokio::test]
async fn an_unknown_kind_is_taken_shown_as_unserved_and_warned_of() {
    let world = World::new().await;
    let asked =
        world.run(&["enqueue", "report.build", r#"{"month": 1}"#, "--key", "monthly/1"]).await.expect(0);
    assert!(asked.err.contains("no living worker serves the kind \"report.build\""), "{asked:?}");
    let id = asked.out.trim();
    let listed = world.run(&["list", "--json"]).await.expect(0).json();
    assert_eq!(listed[0]["workflow"], id);
    assert_eq!((&listed[0]["unserved"], &listed[0]["status"]), (&true.into(), &"pending".into()));
    let table = world.run(&["list"]).await.expect(0).out;
    assert!(table.contains("no worker serves this kind"), "{table}");
    let shown = world.run(&["show", id]).await.expect(0).out;
    assert!(shown.contains("unserved"), "{shown}");
    // The same key and input: the same workflow.
    let again =
        world.run(&["enqueue", "report.build", r#"{"month": 1}"#, "--key", "monthly/1"]).await.expect(0);
    assert_eq!(again.out.trim(), id);
    world
        .run(&["enqueue", "report.build", r#"{"month": 2}"#, "--key", "monthly/1"])
        .await
        .complains(5, &["monthly/1", id, "another input", "choose another key"]);
}

#[tokio::test]
async fn an_input_that_cannot_be_taken_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let deep = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for (kind, input, said) in [
        ("demo", "{", "kind demo: the input is not JSON: EOF"),
        ("demo", "", "kind demo: the input is not JSON: EOF"),
        ("demo", r#"{"a": "\u0000"}"#, "null character (\\u0000) at byte 7"),
        ("demo", r#""\ud800""#, "surrogate"),
        ("demo", &deep, "deeper than the 64 levels"),
        ("gateway.start", "{}", "the input does not fit gateway.start: missing field `organization`"),
        ("gateway.start", r#"{"organization": "acme"}"#, "give a UUID such as"),
        ("gateway.start", r#"{"organization": 7}"#, "expected a string"),
        ("gateway.stop", r#"{"organization": null}"#, "expected a string"),
    ] {
        world.run(&["enqueue", kind, input]).await.complains(2, &[kind, said, "correct it and ask again"]);
    }
    let long_kind = "k".repeat(101);
    let long_key = "k".repeat(501);
    for (arguments, said) in [
        (&["enqueue", &long_kind][..], "a kind has 1 to 100 bytes"),
        (&["enqueue", ""], "a kind has 1 to 100 bytes"),
        (&["enqueue", "demo", "{}", "--key", &long_key], "a key has 1 to 500 bytes"),
        (&["enqueue", "demo", "{}", "--queue", ""], "a queue has 1 to 100 bytes"),
        (&["enqueue", "demo", "--input-file", "absent.json"], "absent.json"),
    ] {
        world.run(arguments).await.complains(2, &[said]);
    }
    assert_eq!(world.run(&["list", "--json"]).await.expect(0).json(), serde_json::json!([]));
}

#[tokio::test]
async fn an_oversized_input_is_refused_from_a_file_and_from_a_pipe() {
    let world = World::new().await;
    let fits = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    let too_long = format!("\"{}\"", "x".repeat(256 * 1024 - 1));
    let file = world.path("input.json");
    std::fs::write(&file, &fits).unwrap();
    world.run(&["enqueue", "demo", "--input-file", "input.json"]).await.expect(0);
    std::fs::write(&file, &too_long).unwrap();
    let said = ["more than the 262144 allowed", "keep large data elsewhere"];
    world.run(&["enqueue", "demo", "--input-file", "input.json"]).await.complains(2, &said);
    end_with_input(world.command(&["enqueue", "demo", "-"]), too_long.as_bytes()).await.complains(2, &said);
    end_with_input(world.command(&["enqueue", "demo", "-"]), b"\xff\xfe").await.complains(2, &["UTF-8"]);
    end_with_input(world.command(&["enqueue", "demo", "-"]), b"{}").await.expect(0);
}

#[tokio::test]
async fn a_database_that_was_not_migrated_says_what_to_run() {
    let world = World::empty().await;
    for arguments in [
        &["list"][..],
        &["enqueue", "demo"],
        &["show", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"],
        &["recover", "--without-gateway"],
        &["serve", "--without-gateway", "--listen", "127.0.0.1:0"],
        &["gateway", "list"],
        &["migrate", "--check"],
    ] {
        world.run(arguments).await.complains(1, &["run `backstitch migrate`"]);
    }
}

#[tokio::test]
async fn a_database_that_needs_a_newer_version_is_left_alone() {
    let world = World::new().await;
    let pool = world.database.pool().await;
    let ahead = "insert into backstitch._migrations (version, description, success, checksum, execution_time) \
        values (9998, 'a column more', true, '', 0)";
    pool.execute(ahead).await.unwrap();
    for arguments in [&["list"][..], &["enqueue", "demo"], &["migrate"], &["migrate", "--check"]] {
        world.run(arguments).await.expect(0);
    }
    let ahead = "insert into backstitch._migrations (version, description, success, checksum, execution_time) \
        values (9999, 'needs 9998 a column less', true, '', 0)";
    pool.execute(ahead).await.unwrap();
    for arguments in [&["list"][..], &["enqueue", "demo"], &["migrate"], &["migrate", "--check"]] {
        world.run(arguments).await.complains(1, &["at migration 9999", "knows 9998", "use a newer version"]);
    }
}

#[tokio::test]
async fn a_postgres_that_cannot_be_reached_is_named_without_its_password() {
    let directory = tempfile::tempdir().unwrap();
    let refused = ["list", "--database-url", "postgres://me:sesame@127.0.0.1:1/platform"];
    let ran = end(bare(directory.path(), &refused)).await;
    let ran =
        ran.complains(1, &["platform at 127.0.0.1:1 can't be reached", "check that Postgres runs there"]);
    assert!(!ran.err.contains("sesame"), "{ran:?}");
    let nonsense = ["list", "--database-url", "mysql://me:sesame@127.0.0.1/platform"];
    let ran = end(bare(directory.path(), &nonsense)).await;
    let ran = ran.complains(2, &["the database URL can't be read", "postgres://user@host:5432/database"]);
    assert!(!ran.err.contains("sesame"), "{ran:?}");
}

#[tokio::test]
async fn a_postgres_that_never_answers_is_given_up() {
    let directory = tempfile::tempdir().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("postgres://me@{}/platform", silent.local_addr().unwrap());
    let ran = end(bare(directory.path(), &["list", "--database-url", &url])).await;
    ran.complains(1, &["platform at 127.0.0.1:", "does not answer within 5 s"]);
}

#[tokio::test]
async fn a_database_that_is_not_there_says_how_to_make_it() {
    let world = World::empty().await;
    let url = world.database.server.url("backstitch_nowhere");
    world
        .run(&["list", "--database-url", &url])
        .await
        .complains(1, &["backstitch_nowhere", "does not exist", "createdb"]);
}

#[tokio::test]
async fn a_workflow_that_is_not_there_is_refused() {
    let world = World::new().await;
    let id = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
    let said = [&format!("there is no workflow {id}")[..], "`backstitch list`"];
    world.run(&["show", id]).await.complains(5, &said);
    world.run(&["cancel", id, "--why", "a mistake"]).await.complains(5, &said);
    world.run(&["retry", id, "--why", "a mistake"]).await.complains(5, &said);
    let answer = world.run(&["cancel", id, "--why", "a mistake", "--json"]).await.expect(5).json();
    assert_eq!(answer["answer"], "not_found");
}

#[tokio::test]
async fn the_pool_refuses_what_it_cannot_take() {
    let world = World::new().await;
    for (upstream, said) in [
        ("8.8.8.8:80", "outside the allowed networks"),
        ("169.254.169.254:80", "outside the allowed networks"),
        ("10.0.0.7", "give an address and a port"),
        ("berlin:80", "give an address and a port"),
    ] {
        world.run(&["gateway", "add", "berlin-1", upstream]).await.complains(2, &[upstream, said]);
    }
    let add = ["gateway", "add", "berlin-1", "10.0.0.7:80", "--allowed-networks"];
    world.run(&[&add[..], &["192.168.0.0/16"]].concat()).await.complains(2, &["outside", "192.168.0.0/16"]);
    world.run(&[&add[..], &["everywhere"]].concat()).await.complains(2, &["everywhere", "10.0.0.0/8"]);
    let added = world.run(&["gateway", "add", "berlin-1", "10.0.0.7:80", "--json"]).await.expect(0).json();
    world.run(&["gateway", "add", "berlin-1", "10.0.0.8:80"]).await.complains(5, &["berlin-1"]);
    let number = added["gateway"].to_string();
    world.run(&["gateway", "quarantine", &number, "--why", " "]).await.complains(2, &["say why"]);
    world
        .run(&["gateway", "quarantine", "77", "--why", "slow"])
        .await
        .complains(5, &["there is no gateway 77"]);
    world.run(&["gateway", "quarantine", &number, "--why", "slow"]).await.expect(0);
    let listed = world.run(&["gateway", "list", "--json"]).await.expect(0).json();
    assert_eq!((&listed[0]["state"], &listed[0]["reason"]), (&"quarantined".into(), &"slow".into()));
    assert_eq!(world.run(&["gateway", "stats", "--json"]).await.expect(0).json()["quarantined"], 1);
    world.run(&["gateway", "release", &number]).await.expect(0);
    assert_eq!(world.run(&["gateway", "stats", "--json"]).await.expect(0).json()["ready"], 1);
}
