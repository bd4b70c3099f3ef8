//! Does the server keep to its own description, whatever it is asked? Asked by schemathesis, which makes requests of all
//! sorts out of the description.

use std::path::PathBuf;

use tokio::process::Command;

use crate::daemon::{Daemon, serve};
use crate::toys;
use crate::world::World;

/// How many requests of each sort for each route.
const EXAMPLES: &str = "15";

/// What must hold of every answer. Not asked is that a request that fits the description is accepted: a key may be taken.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,unsupported_method";

/// Where `cargo xtask setup` puts it.
fn schemathesis() -> PathBuf {
    let chosen = std::env::var_os("BACKSTITCH_SCHEMATHESIS").map(PathBuf::from);
    let path = chosen.unwrap_or_else(|| {
        PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/schemathesis/bin/schemathesis"))
    });
    assert!(path.is_file(), "{} is missing: `cargo xtask setup` installs it", path.display());
    path
}

#[tokio::test]
async fn the_server_answers_every_request_as_it_is_described() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let worker = toys::worker(&world).await;
    // One role after the other: what the one is refused the other does.
    for role in ["produce", "operate"] {
        let made = world.run(&["token", "create", role, "--role", role, "--json"]).await.expect(0).json();
        let bearer = made["bearer"].as_str().expect("a bearer");
        let asked = Command::new(schemathesis())
            .args(["run", &format!("{}/openapi.json", daemon.url), "--url", &format!("{}/v1", daemon.url)])
            .args(["--header", &format!("Authorization: Bearer {bearer}")])
            .args(["--checks", CHECKS, "--max-examples", EXAMPLES, "--seed", "1"])
            // A wait takes as long as it is told to, and a stream as its workflow takes; they have tests of their own.
            .args(["--exclude-path", "/workflows/{id}/wait", "--exclude-path", "/workflows/{id}/events"])
            .args(["--generation-database", "none", "--no-color"])
            .current_dir(world.directory.path())
            .output()
            .await
            .expect("it starts");
        let said = String::from_utf8_lossy(&asked.stdout);
        assert!(asked.status.success(), "{role}: {said}\n{}", String::from_utf8_lossy(&asked.stderr));
    }
    worker.shut_down().await;
    let (_, log) = daemon.stop().await;
    assert!(!log.contains("ERROR"), "{log}");
}
