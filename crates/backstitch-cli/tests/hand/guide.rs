//! Does what the guide to HTTP shows work, as it stands?

use std::process::Stdio;

use backstitch::Worker;
use serde_json::Value;
use tokio::process::Command;

use crate::daemon::{Daemon, serve};
use crate::trip::{ToyAgency, Trip};
use crate::world::World;

const GUIDE: &str = include_str!("../../../../docs/http.md");

/// The commands of the guide, each with the answer that is shown below it, if one is.
fn examples() -> Vec<(&'static str, Option<Value>)> {
    GUIDE
        .split("```sh\n")
        .skip(1)
        .map(|rest| {
            let (commands, rest) = rest.split_once("\n```").expect("a block ends");
            let shown = rest.trim_start().strip_prefix("```json\n").and_then(|json| json.split_once("\n```"));
            (commands, shown.map(|(json, _)| serde_json::from_str(json).expect("what is shown is JSON")))
        })
        .collect()
}

/// The same, but that no id is the same twice.
fn without_ids(value: &Value) -> String {
    let is_id = |part: &str| part.len() == 36 && part.bytes().filter(|byte| *byte == b'-').count() == 4;
    let text = value.to_string();
    let parts = text.split_inclusive(|c: char| !c.is_ascii_hexdigit() && c != '-');
    parts.map(|part| if is_id(&part[..part.len() - 1]) { "ID " } else { part }).collect()
}

#[tokio::test]
async fn what_the_guide_shows_is_what_happens() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let database = world.client().await.database().clone();
    let worker = Worker::new(database, ToyAgency).serve::<Trip>().start().await.unwrap();
    let binary = std::path::Path::new(env!("CARGO_BIN_EXE_backstitch")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    let examples = examples();
    assert!(examples.len() > 5 && examples.iter().filter(|(_, shown)| shown.is_some()).count() > 5);
    // One shell for all of them: a variable that is set in one is used in the next.
    let mut script = "set -euo pipefail\n".to_owned();
    for (commands, _) in &examples {
        script.push_str(&commands.replace("http://127.0.0.1:7410", &daemon.url));
        script.push_str("\nprintf '\\n=====\\n'\n");
    }
    let mut shell = Command::new("bash");
    shell.args(["-c", &script]).env("PATH", path).env("DATABASE_URL", &world.database.url);
    let ran = shell.current_dir(world.directory.path()).stdin(Stdio::null()).output().await.unwrap();
    let (out, err) = (String::from_utf8(ran.stdout).unwrap(), String::from_utf8(ran.stderr).unwrap());
    assert!(ran.status.success(), "bash, curl and jq are there, and all goes well: {out}\n{err}");
    for ((commands, shown), answered) in examples.iter().zip(out.split("\n=====\n")) {
        let Some(shown) = shown else { continue };
        let answers = serde_json::Deserializer::from_str(answered).into_iter::<Value>();
        let last = answers.last().expect("it answers").unwrap_or_else(|error| panic!("{error}: {answered}"));
        assert_eq!(without_ids(&last), without_ids(shown), "{commands}");
    }
    worker.shut_down().await;
    daemon.stop().await;
}
