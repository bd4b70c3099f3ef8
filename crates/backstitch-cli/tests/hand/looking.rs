//! Does a person find a workflow by what is known of it, and see what becomes of it?

use std::process::Stdio;

use backstitch::Client;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::plain::plain;
use crate::toys::{self, Toy};
use crate::world::World;

async fn ask(client: &Client, fails: bool, sticks: bool) -> String {
    let handle = client.enqueue(Toy { fails, sticks }).send().await.unwrap();
    client.wait(&handle).await.unwrap();
    handle.workflow.to_string()
}

/// A command that goes on, and what it prints.
struct Goes {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
}

impl Goes {
    fn on(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, out }
    }

    /// Waits until it has printed this.
    async fn says(&mut self, part: &str) {
        while let Some(line) = self.out.next_line().await.unwrap() {
            if line.contains(part) {
                return;
            }
        }
        panic!("it ended without saying {part:?}");
    }

    /// What it prints until its end, and how it ends.
    async fn ends(mut self) -> (String, i32) {
        let mut rest = String::new();
        while let Some(line) = self.out.next_line().await.unwrap() {
            rest.push_str(&line);
            rest.push('\n');
        }
        (rest, self.child.wait().await.unwrap().code().unwrap_or(-1))
    }

    fn interrupt(&self) {
        let pid = self.child.id().unwrap().to_string();
        assert!(std::process::Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
}

#[tokio::test]
async fn a_workflow_is_found_by_whatever_is_known_of_it() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    let broken = ask(&client, true, false).await;
    let stuck = ask(&client, true, true).await;
    let done = ask(&client, false, false).await;
    worker.shut_down().await;
    for (kind, key, queue) in [("a", "k", "slow"), ("b", "k", "default"), ("b", "l", "default")] {
        world.run(&["enqueue", kind, "{}", "--key", key, "--queue", queue]).await.expect(0);
    }
    let found = async |arguments: &[&str]| -> Vec<String> {
        let listed = world.run(&[&["list", "--json"], arguments].concat()).await.expect(0).json();
        let name = |view: &serde_json::Value| match view["kind"].as_str() {
            Some("toy") => view["workflow"].as_str().unwrap().to_owned(),
            kind => format!("{}/{}", kind.unwrap(), view["key"].as_str().unwrap()),
        };
        listed.as_array().unwrap().iter().map(name).collect()
    };
    assert_eq!(found(&["--error-code", "worn_out"]).await, [&*stuck, &broken]);
    assert_eq!(found(&["--error-code", "worn_out", "--status", "needs_attention"]).await, [&*stuck]);
    assert_eq!(found(&["--status", "compensated"]).await, [&*broken]);
    assert_eq!(found(&["--status", "completed", "--since", "1h"]).await, [&*done]);
    assert_eq!(found(&["--key", "k"]).await, ["b/k", "a/k"]);
    assert_eq!(found(&["--key", "k", "--kind", "a"]).await, ["a/k"]);
    assert_eq!(found(&["--key", "k", "--queue", "default"]).await, ["b/k"]);
    assert_eq!(found(&["--key", "k", "--status", "completed"]).await, [""; 0]);
    assert_eq!(found(&["--queue", "slow"]).await, ["a/k"]);
    assert_eq!(found(&["--status", "pending", "--limit", "2"]).await, ["b/l", "b/k"]);
    assert_eq!(found(&["--status", "pending", "--kind", "a"]).await, ["a/k"]);
    assert_eq!(found(&["--until", "1h"]).await, [""; 0]);
    assert_eq!(found(&["--until", "2100-01-01T00:00:00Z", "--since", "1h"]).await.len(), 6);
}

#[tokio::test]
async fn failures_are_grouped_by_error_with_an_example() {
    let world = World::new().await;
    let none = world.run(&["errors"]).await.expect(0);
    assert_eq!((&*none.out, &*none.err), ("", "no failures: 0 workflows were looked at\n"));
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    ask(&client, true, false).await;
    let last = ask(&client, true, true).await;
    ask(&client, false, false).await;
    worker.shut_down().await;
    let ran = world.run(&["errors"]).await.expect(0);
    assert_eq!(
        plain(&ran.out),
        "CODE KIND WORKFLOWS FIRST LAST EXAMPLE MESSAGE\n\
         worn_out toy 2 TIME TIME ID it broke \u{FFFD}[31min use"
    );
    assert_eq!(ran.err, "3 workflows were looked at\n");
    let errors = world.run(&["errors", "--since", "1h", "--kind", "toy", "--json"]).await.expect(0).json();
    assert_eq!((&errors["looked_at"], &errors["is_bounded"]), (&json!(3), &json!(false)));
    assert_eq!(errors["errors"][0]["example"], last);
    let elsewhere = world.run(&["errors", "--queue", "slow", "--json"]).await.expect(0).json();
    assert_eq!(elsewhere["errors"], json!([]));
}

#[tokio::test]
async fn a_watched_listing_shows_what_changes_until_it_is_interrupted() {
    let world = World::new().await;
    let mut watch = Goes::on(world.command(&["list", "--watch", "--every", "1s"]));
    watch.says("no workflows").await;
    world.run(&["enqueue", "report.build"]).await.expect(0);
    watch.says("report.build").await;
    watch.interrupt();
    let (_, code) = watch.ends().await;
    assert_eq!(code, 0);
}

#[tokio::test]
async fn one_that_is_followed_tells_each_try_and_ends_as_the_workflow_does() {
    let world = World::new().await;
    let toy = json!({ "fails": true, "sticks": false }).to_string();
    let asked = world.run(&["enqueue", "toy", &toy]).await.expect(0);
    let mut follow = Goes::on(world.command(&["show", asked.out.trim(), "--follow"]));
    follow.says("asked for toy").await;
    let worker = toys::worker(&world).await;
    let (told, code) = follow.ends().await;
    assert_eq!(code, 3);
    assert_eq!(
        plain(&told),
        "TIME 0 take run, attempt 1: begun\n\
         TIME 0 take run, attempt 1: succeeded, after SPAN\n\
         TIME 1 use run, attempt 1: begun\n\
         TIME 1 use run, attempt 1: failed, after SPAN: it broke \u{FFFD}[31min use (worn_out)\n\
         TIME unwinding: failed\n\
         TIME 0 take compensate, attempt 1: begun\n\
         TIME 0 take compensate, attempt 1: succeeded, after SPAN\n\
         TIME compensated, after SPAN: it broke \u{FFFD}[31min use (worn_out)"
    );
    worker.shut_down().await;
}

#[tokio::test]
async fn a_ladder_tells_the_next_try_and_an_explanation_what_to_do() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    let id = ask(&client, true, true).await;
    let shown = plain(&world.run(&["show", &id]).await.expect(0).out);
    let expected = "\
ID needs_attention
  kind toy (version 1)
  queue default
  input {\"fails\": true, \"sticks\": true}
  asked TIME
  next try in SPAN, at TIME
  cause failed
  error it broke \u{FFFD}[31min use (worn_out), in step use
  attention take can't be compensated: it does not let go (stuck)
  report take still owed after 1 attempts: it does not let go (stuck), use had nothing to compensate

  0 take compensating
     ↓ run key ID/0/run
          1 TIME SPAN succeeded
     ↑ compensate key ID/0/compensate
          1 TIME SPAN retry
             it does not let go (stuck)

  1 use failed
     ↓ run key ID/1/run
          1 TIME SPAN failed
             it broke \u{FFFD}[31min use (worn_out)
     ↑ nothing to take back";
    assert_eq!(shown, expected, "{shown}");

    let explained = plain(&world.run(&["explain", &id]).await.expect(0).out);
    for part in [
        "ID, toy: needs attention",
        "  Step use failed for good after 1 try: it broke",
        "  So it is taken back: step use failed with \"worn_out\".",
        "  take: may still stand; to compensate it was tried once: it does not let go (stuck).",
        "  A worker takes it up in SPAN, at TIME.",
        "  Step take is compensated, tried until it succeeds; then it ends as compensated.",
        "  backstitch retry ID --why 'WHY'",
    ] {
        assert!(explained.contains(part), "{part}: {explained}");
    }
    let explained = world.run(&["explain", &id, "--json"]).await.expect(0).json();
    let mut fields: Vec<_> = explained.as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["can", "happened", "kind", "next", "stands", "status", "workflow"]);
    assert_eq!(explained["can"][0]["command"], format!("backstitch retry {id} --why 'WHY'"));
    world
        .run(&["explain", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"])
        .await
        .complains(5, &["there is no workflow", "`backstitch list`"]);
    worker.shut_down().await;
}
