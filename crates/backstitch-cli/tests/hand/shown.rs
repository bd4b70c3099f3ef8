//! Does every reading command print what it printed before, to people and to programs?
//!
//! What is printed stands in `shown/`, a file for each command and manner, with ids, times and what belongs to the machine
//! replaced. After a change that is meant, `BACKSTITCH_WRITE_SHOWN=1` writes the files anew; the difference is to be read, and a
//! member of JSON that is gone or renamed in it breaks a promise.

use std::path::PathBuf;

use backstitch::{Client, WorkflowId};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::plain::plain;
use crate::toys::{self, Toy};
use crate::world::World;

/// Members whose values belong to the machine, the process or the moment.
const OF_THE_MACHINE: [&str; 11] = [
    "host",
    "pid",
    "version",
    "beat_age_milliseconds",
    "lease_left_milliseconds",
    "incarnation",
    "holder",
    "held",
    // What the doctor finds here; its text has the verdicts that are the same everywhere.
    "verdict",
    "says",
    "mend",
];

async fn ended(client: &Client, fails: bool, sticks: bool) -> WorkflowId {
    let handle = client.enqueue(Toy { fails, sticks }).send().await.unwrap();
    client.wait(&handle).await.unwrap();
    handle.workflow
}

#[tokio::test]
async fn what_is_shown_is_what_was_shown() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    let done = ended(&client, false, false).await.to_string();
    let compensated = ended(&client, true, false).await.to_string();
    let stuck = ended(&client, true, true).await.to_string();
    let key = ["--key", "monthly/1", "--queue", "slow", "--priority", "2"];
    let asked =
        world.run(&[&["enqueue", "report.build", r#"{"month": 1}"#][..], &key].concat()).await.expect(0);
    let pending = asked.out.trim().to_owned();
    world.run(&["gateway", "add", "berlin-1", "10.0.0.7:80"]).await.expect(0);
    world.run(&["token", "create", "platform", "--role", "produce", "--kind", "toy"]).await.expect(0);
    let doctor = ["doctor", "--without-gateway", "--listen", "127.0.0.1:0"];

    let worker_seen = &world.run(&["workers", "--json"]).await.expect(0).json()[0];
    let host = worker_seen["host"].as_str().unwrap();
    let machine = [
        (world.directory.path().to_string_lossy().into_owned(), "DIRECTORY"),
        (format!(" {host} {} {} ", worker_seen["pid"], env!("CARGO_PKG_VERSION")), " HOST PID VERSION "),
    ];

    let mut wrong = Vec::new();
    for (name, arguments, code) in [
        ("list", &["list"][..], 0),
        ("show-completed", &["show", &done], 0),
        ("show-compensated", &["show", &compensated], 0),
        ("show-stuck", &["show", &stuck], 0),
        ("show-pending", &["show", &pending], 0),
        ("explain-completed", &["explain", &done], 0),
        ("explain-compensated", &["explain", &compensated], 0),
        ("explain-stuck", &["explain", &stuck], 0),
        ("explain-pending", &["explain", &pending], 0),
        ("errors", &["errors"], 0),
        ("workers", &["workers"], 0),
        ("kinds", &["kinds"], 0),
        ("stats", &["stats"], 0),
        ("gateway-list", &["gateway", "list"], 0),
        ("gateway-stats", &["gateway", "stats"], 0),
        ("token-list", &["token", "list"], 0),
        // The tests' Postgres promises nothing, and the doctor says so.
        ("doctor", &doctor, 1),
    ] {
        let text = world.run(arguments).await.expect(code).out;
        wrong.extend(differs(&format!("{name}.txt"), &without_machine(&machine, &plain(&text))));
        let json = world.run(&[arguments, &["--json"]].concat()).await.expect(code).json();
        let json = serde_json::to_string_pretty(&normal(json)).unwrap();
        wrong.extend(differs(&format!("{name}.json"), &json));
    }
    worker.shut_down().await;
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// What is different about what is shown, if anything is.
fn differs(name: &str, now: &str) -> Option<String> {
    let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hand/shown")).join(name);
    let now = format!("{}\n", now.trim_end());
    if std::env::var_os("BACKSTITCH_WRITE_SHOWN").is_some() {
        std::fs::write(&file, now).unwrap();
        return None;
    }
    let before = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{name}: {error}"));
    (before != now).then(|| format!("{name} was\n{before}\nand is\n{now}"))
}

/// With what belongs to the moment and the machine replaced, and nothing else.
fn normal(value: Value) -> Value {
    match value {
        Value::Object(members) => {
            let each = members.into_iter().map(|(name, value)| {
                let of_the_machine = OF_THE_MACHINE.contains(&&*name) && !value.is_null();
                let value = if of_the_machine { Value::from(sort(&value)) } else { normal(value) };
                (name, value)
            });
            Value::Object(each.collect::<Map<_, _>>())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(normal).collect()),
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(&text).is_ok() => "TIME".into(),
        Value::String(text) => Value::String(plain(&ids_replaced(&text))),
        other => other,
    }
}

/// What sort of value it is: that is promised, too.
fn sort(value: &Value) -> &'static str {
    match value {
        Value::Number(_) => "A NUMBER",
        Value::String(_) => "A TEXT",
        Value::Bool(_) => "A BOOLEAN",
        Value::Array(_) | Value::Object(_) | Value::Null => "SOMETHING ELSE",
    }
}

fn ids_replaced(text: &str) -> String {
    let mut rest = text;
    let mut replaced = String::new();
    while let Some(first) = rest.chars().next() {
        match rest.get(..36).filter(|id| Uuid::parse_str(id).is_ok()) {
            Some(_) => {
                replaced.push_str("ID");
                rest = &rest[36..];
            }
            None => {
                replaced.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    replaced
}

/// The text without the names and numbers of this machine's things.
fn without_machine(machine: &[(String, &'static str)], text: &str) -> String {
    let depends_on_it =
        |line: &str| ["postgres version", "connections"].into_iter().find(|what| line.contains(what));
    let line =
        |line: &str| depends_on_it(line).map_or_else(|| line.to_owned(), |what| format!("VERDICT {what} …"));
    let text = text.lines().map(line).collect::<Vec<_>>().join("\n");
    machine.iter().fold(text, |text, (of_the_machine, word)| text.replace(of_the_machine, word))
}
