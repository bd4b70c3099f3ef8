//! Is a Postgres of the user's own used where none is named, and is that said?

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::world::{Ran, bare, end};

/// As root it runs as someone else, who must get there.
fn directory() -> TempDir {
    let open = std::fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(open).tempdir_in("/tmp").unwrap()
}

async fn run(directory: &Path, arguments: &[&str]) -> Ran {
    let mut command = bare(directory, arguments);
    command.env("BACKSTITCH_POSTGRES_DIRECTORY", directory.join("postgres"));
    end(command).await
}

#[tokio::test]
async fn without_a_database_the_users_own_is_started_and_said() {
    let directory = directory();
    let run = async |arguments: &[&str]| run(directory.path(), arguments).await;
    let status = async || run(&["pg", "status", "--json"]).await.expect(5).json()["status"].clone();
    assert_eq!(status().await, json!("not_initialised"));
    run(&["pg", "stop"]).await.expect(0);

    let migrated = run(&["migrate"]).await.expect(0);
    let said =
        format!("using the Postgres of this user's own, in {}", directory.path().join("postgres").display());
    assert!(migrated.err.contains(&said), "{migrated:?}");
    let asked = run(&["enqueue", "demo"]).await.expect(0);
    assert!(asked.err.contains(&said), "{asked:?}");
    let listed = run(&["list", "--json", "--log-format", "json"]).await.expect(0);
    assert!(listed.json().is_array(), "the remark is beside the output");
    let remark: serde_json::Value = serde_json::from_str(&listed.err).unwrap();
    assert!(remark["message"].as_str().unwrap().contains("no database is named"), "{remark}");
    let running = run(&["pg", "status", "--json"]).await.expect(0).json();
    assert_eq!(running["status"], "running");
    assert!(running["pid"].is_number() && running["uptime_seconds"].is_number(), "{running}");
    let told = run(&["pg", "status"]).await.expect(0).out;
    let url = told.lines().last().unwrap();
    assert_eq!(running["url"], url);
    let named = run(&["list", "--json", "--database-url", url]).await.expect(0);
    assert_eq!(
        (named.err.as_str(), named.json().as_array().unwrap().len()),
        ("", 1),
        "it is reached under its URL"
    );

    run(&["pg", "stop"]).await.expect(0);
    assert_eq!(status().await, json!("stopped"));
    let url = run(&["pg", "start"]).await.expect(0).out;
    let listed = run(&["list", "--json", "--database-url", url.trim()]).await.expect(0).json();
    assert_eq!(listed[0]["workflow"], asked.out.trim(), "what was asked before is still there");
    run(&["pg", "stop"]).await.expect(0);
}
