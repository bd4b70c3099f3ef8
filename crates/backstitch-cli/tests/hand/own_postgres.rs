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
    command.env("BACKSTITCH_POSTGRES_DIRECTORY", directory.join("postgres")).env("BACKSTITCH_LOG", "info");
    end(command).await
}

#[tokio::test]
async fn without_a_database_the_users_own_is_started_and_said() {
    let directory = directory();
    let run = async |arguments: &[&str]| run(directory.path(), arguments).await;
    let status = async || run(&["pg", "status", "--json"]).await.expect(0).json()["status"].clone();
    assert_eq!(status().await, json!("not_initialised"));
    run(&["pg", "stop"]).await.expect(0);

    let migrated = run(&["migrate"]).await.expect(0);
    assert!(migrated.err.contains("using the Postgres of this user's own"), "{migrated:?}");
    let asked = run(&["enqueue", "demo"]).await.expect(0);
    let running = run(&["pg", "status", "--json"]).await.expect(0).json();
    assert_eq!(running["status"], "running");
    assert!(running["pid"].is_number() && running["uptime_seconds"].is_number(), "{running}");

    run(&["pg", "stop"]).await.expect(0);
    assert_eq!(status().await, json!("stopped"));
    let url = run(&["pg", "start"]).await.expect(0).out;
    let listed = run(&["list", "--json", "--database-url", url.trim()]).await.expect(0).json();
    assert_eq!(listed[0]["workflow"], asked.out.trim(), "what was asked before is still there");
    run(&["pg", "stop"]).await.expect(0);
}
