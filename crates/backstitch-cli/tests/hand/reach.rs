//! Is it the same to a person and to a script whether the database is asked or a daemon?

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use tokio::process::Command;

use crate::daemon::{Daemon, serve};
use crate::plain::plain;
use crate::toys;
use crate::world::{Ran, World, bare, end};

const NOWHERE: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";

/// A daemon, and a token that may do everything a caller can.
struct Both {
    world: World,
    daemon: Daemon,
    token: String,
}

impl Both {
    async fn new() -> Self {
        let world = World::new().await;
        let token = token(&world, "operate").await;
        let daemon = Daemon::start(serve(&world)).await;
        Self { world, daemon, token }
    }

    /// Without a database: only the daemon can know.
    async fn over_http(&self, token: &str, arguments: &[&str]) -> Ran {
        let mut command = bare(self.world.directory.path(), arguments);
        command.env("BACKSTITCH_SERVER", &self.daemon.url).env("BACKSTITCH_TOKEN", token);
        end(command).await
    }

    /// Both ways it is the same number, output and complaint. What a look can't help to see differ is taken out.
    async fn same(&self, code: i32, arguments: &[&str]) -> Ran {
        let database = self.world.run(arguments).await.expect(code);
        let http = self.over_http(&self.token, arguments).await.expect(code);
        assert_eq!(lasting(&database.out), lasting(&http.out), "{arguments:?}");
        assert_eq!(database.err, http.err, "{arguments:?}");
        http
    }
}

async fn token(world: &World, role: &str) -> String {
    world.run(&["token", "create", role, "--role", role]).await.expect(0).out.trim().to_owned()
}

/// Without the time that passes between two looks: what now is, and how long it is to the next try.
fn lasting(out: &str) -> String {
    let Ok(mut value) = serde_json::from_str::<Value>(out) else {
        let lines = out.split('\n').map(|line| match line.contains("next try ") {
            true => plain(line),
            false => line.to_owned(),
        });
        return lines.collect::<Vec<_>>().join("\n");
    };
    if let Some(seen) = value.as_object_mut().filter(|seen| seen.contains_key("attempts")) {
        assert!(seen.remove("now").is_some_and(|now| now.is_string()), "{out}");
    }
    value.to_string()
}

#[tokio::test]
async fn every_look_is_the_same_over_http() {
    let both = Both::new().await;
    let worker = toys::worker(&both.world).await;
    let ask = async |input: Value, code| {
        let ran = both.world.run(&["enqueue", "toy", &input.to_string(), "--wait"]).await.expect(code);
        ran.out.lines().next().unwrap().to_owned()
    };
    let done = ask(json!({ "fails": false, "sticks": false }), 0).await;
    let back = ask(json!({ "fails": true, "sticks": false }), 3).await;
    let stuck = ask(json!({ "fails": true, "sticks": true }), 4).await;
    worker.shut_down().await;
    both.world
        .run(&["enqueue", "report.build", r#"{"b": 1, "aa": [2.50]}"#, "--key", "k", "--queue", "slow"])
        .await;

    for (id, code) in [(&done, 0), (&back, 3), (&stuck, 4)] {
        both.same(code, &["wait", id]).await;
        both.same(code, &["wait", id, "--json"]).await;
        both.same(0, &["show", id]).await;
        let shown = both.same(0, &["show", id, "--json"]).await.json();
        assert_eq!(shown["workflow"]["workflow"], json!(id));
        assert!(shown["attempts"][0]["incarnation"].is_number(), "{shown}");
        both.same(0, &["explain", id, "--json"]).await;
    }
    both.same(0, &["show", &done, "--follow"]).await;
    both.same(3, &["show", &back, "--follow"]).await;
    both.world
        .run(&["pause", "--kind", "report.build", "--why", "the printer burns", "--by", "ada"])
        .await
        .expect(0);
    let listed = both.same(0, &["list", "--key", "k", "--json"]).await.json();
    let paused = both.same(0, &["explain", listed[0]["workflow"].as_str().unwrap()]).await.out;
    for said in [
        "until the kind report.build is resumed: it was paused by ada",
        "backstitch resume --kind report.build",
    ] {
        assert!(paused.contains(said), "{said}: {paused}");
    }
    let kinds = both.same(0, &["kinds", "--json"]).await.json();
    let paused: Vec<_> = kinds.as_array().unwrap().iter().filter(|kind| kind["paused"].is_object()).collect();
    assert!(paused.len() == 1 && paused[0]["kind"] == "report.build", "{kinds}");
    // How long the oldest waits goes on between two looks.
    let kinds = both.over_http(&both.token, &["kinds"]).await.expect(0).out;
    assert_eq!(plain(&kinds), plain(&both.world.run(&["kinds"]).await.expect(0).out));
    both.same(0, &["stats", "--json"]).await;
    assert!(both.same(0, &["stats"]).await.out.contains("needs_attention"));
    let errors = both.same(0, &["errors", "--json"]).await.json();
    assert_eq!((&errors["looked_at"], &errors["errors"][0]["workflows"]), (&json!(4), &json!(2)));
    assert!(both.same(0, &["errors", "--kind", "toy", "--since", "1h"]).await.out.contains("worn_out"));
    for filter in [&["--queue", "slow"][..], &["--until", "1h"], &["--kind", "report.build", "--limit", "1"]]
    {
        assert_eq!(both.same(0, &[&["errors"], filter].concat()).await.out, "", "{filter:?}");
    }
    // What they say of time passes between two looks; of the dead it stays.
    let dead = |ran: Ran| {
        let workers = ran.json();
        let workers = workers.as_array().unwrap().iter().filter(|worker| worker["alive"] == false).cloned();
        workers.collect::<Vec<_>>()
    };
    let told = dead(both.over_http(&both.token, &["workers", "--dead", "9", "--json"]).await.expect(0));
    assert_eq!(told, dead(both.world.run(&["workers", "--dead", "9", "--json"]).await.expect(0)));
    assert_eq!(told.len(), 1, "the toys' worker has shut down");
    assert!(both.over_http(&both.token, &["workers"]).await.expect(0).out.contains("alive"));
    for command in ["show", "explain", "wait"] {
        both.same(5, &[command, NOWHERE]).await.complains(5, &["there is no workflow", "backstitch list"]);
    }

    assert_eq!(both.same(0, &["list", "--json"]).await.json().as_array().unwrap().len(), 4);
    for (filter, count) in [
        (&["--key", "k"][..], 1),
        (&["--queue", "slow"], 1),
        (&["--error-code", "worn_out"], 2),
        (&["--kind", "toy", "--limit", "2"], 2),
        (&["--status", "completed", "--since", "1h"], 1),
        (&["--until", "1h"], 0),
    ] {
        let listed = both.same(0, &[&["list", "--json"], filter].concat()).await.json();
        assert_eq!(listed.as_array().unwrap().len(), count, "{filter:?}");
        both.same(0, &[&["list"], filter].concat()).await;
    }
    let listed = both.same(0, &["list", "--key", "k", "--json"]).await;
    assert!(listed.out.contains("2.50"), "what was asked is shown as it stands: {listed:?}");
    both.daemon.stop().await;
}

#[tokio::test]
async fn a_list_longer_than_a_page_is_whole_over_http() {
    let both = Both::new().await;
    let client = both.world.client().await;
    let inputs = (0..120).map(|number| json!({ "number": number }));
    client.enqueue_many_untyped("report.build", inputs).send().await.unwrap();
    for limit in ["49", "50", "51", "100", "120", "1000"] {
        let listed = both.same(0, &["list", "--limit", limit, "--json"]).await.json();
        assert_eq!(listed.as_array().unwrap().len(), limit.parse::<usize>().unwrap().min(120), "{limit}");
    }
    both.daemon.stop().await;
}

#[tokio::test]
async fn what_is_asked_is_the_same_over_http() {
    let both = Both::new().await;
    let produce = token(&both.world, "produce").await;
    let ask = ["enqueue", "report.build", r#"{"month": 1}"#, "--key", "monthly/1"];
    let asked = both.over_http(&produce, &ask).await.expect(0);
    let again = both.world.run(&ask).await.expect(0);
    assert_eq!((&asked.out, &asked.err), (&again.out, &again.err), "the same workflow, and the same warning");
    let other = ["enqueue", "report.build", r#"{"month": 2}"#, "--key", "monthly/1"];
    let (http, database) = (both.over_http(&produce, &other).await, both.world.run(&other).await);
    assert_eq!((http.code, &http.out, &http.err), (5, &database.out, &database.err));
    let (json, by_http) =
        (&["--json"][..], both.over_http(&produce, &[&ask[..], &["--json"]].concat()).await);
    let by_database = both.world.run(&[&ask[..], json].concat()).await.expect(0).json();
    assert_eq!(by_http.expect(0).json(), by_database);

    let worker = toys::worker(&both.world).await;
    for (input, code) in
        [(r#"{"fails": false, "sticks": false}"#, 0), (r#"{"fails": true, "sticks": false}"#, 3)]
    {
        let ran = both.over_http(&produce, &["enqueue", "toy", input, "--wait"]).await.expect(code);
        let id = ran.out.lines().next().unwrap();
        let waited = both.world.run(&["wait", id]).await.expect(code);
        assert_eq!(ran.out, format!("{id}\n{}", waited.out));
    }
    worker.shut_down().await;
    both.daemon.stop().await;
}

#[tokio::test]
async fn what_is_decided_is_the_same_over_http() {
    let both = Both::new().await;
    let new = async || both.world.run(&["enqueue", "report.build"]).await.expect(0).out.trim().to_owned();
    let why = ["--why", "a test", "--by", "ada"];
    let decide = async |id: &str, command: &[&str], code: i32| {
        both.over_http(&both.token, &[&command[..1], &[id], &command[1..], &why].concat()).await.expect(code)
    };
    let by_database = async |id: &str, command: &[&str], code: i32| {
        both.world.run(&[&command[..1], &[id], &command[1..], &why].concat()).await.expect(code)
    };
    // Each on a workflow of its own that stands the same.
    for (commands, code) in [
        (&[&["pause"][..], &["resume"]][..], 0),
        (&[&["resume"]], 5),
        (&[&["retry"]], 0),
        (&[&["cancel"], &["cancel"]], 0),
        (&[&["abandon"]], 5),
        (&[&["skip-step", "0"]], 5),
        (&[&["resolve", "0", "--did-not-happen"]], 5),
        (&[&["resolve", "0", "--happened", "--output", "{\"id\": 7}"]], 5),
        (&[&["cancel", "--json"]], 0),
        (&[&["abandon", "--json"]], 5),
    ] {
        let (one, other) = (new().await, new().await);
        for command in commands {
            let http = decide(&one, command, code).await;
            let database = by_database(&other, command, code).await;
            let same = |text: &str| text.replace(&one, "ID").replace(&other, "ID");
            assert_eq!(same(&http.out), same(&database.out), "{command:?}");
            assert_eq!(same(&http.err), same(&database.err), "{command:?}");
        }
        let told = |ran: Ran| {
            let mut view = ran.json();
            for unlike in ["workflow", "enqueued_at", "due_at", "finished_at"] {
                view["workflow"][unlike] = Value::Null;
            }
            view["workflow"].clone()
        };
        let http = told(both.over_http(&both.token, &["show", &one, "--json"]).await);
        assert_eq!(http, told(both.world.run(&["show", &other, "--json"]).await), "{commands:?}");
    }
    for (kind, json) in [("report.build", &[][..]), ("report.build", &["--json"]), ("a/b?c=%2f #é", &[])] {
        let story = async |over_http: bool| {
            let mut told = Vec::new();
            // Said again it is so already; what is not paused can't be resumed.
            for (verb, code) in [("pause", 0), ("pause", 0), ("resume", 0), ("resume", 5)] {
                let said = [&[verb, "--kind", kind], &why[..], json].concat();
                let ran = match over_http {
                    true => both.over_http(&both.token, &said).await.expect(code),
                    false => both.world.run(&said).await.expect(code),
                };
                let kinds = both.same(0, &["kinds", "--json"]).await.json();
                let paused = json!({ "by": "ada", "why": "a test" });
                let is_paused = |view: &Value| view["kind"] == kind && view["paused"] == paused;
                assert_eq!(kinds.as_array().unwrap().iter().any(is_paused), verb == "pause", "{kinds}");
                told.push((ran.out, ran.err));
            }
            told
        };
        assert_eq!(story(true).await, story(false).await, "{kind}");
    }
    let long = "x".repeat(101);
    both.same(2, &[&["pause", "--kind", &long], &why[..]].concat()).await.complains(2, &["1 to 100 bytes"]);
    let parent = [&["pause", "--kind", ".."], &why[..]].concat();
    both.over_http(&both.token, &parent).await.complains(2, &["can't be named in a URL"]);
    let nobody = decide(NOWHERE, &["cancel"], 5).await;
    assert_eq!(nobody.err, by_database(NOWHERE, &["cancel"], 5).await.err);
    let all = ["cancel", "--kind", "report.build", "--why", "all", "--yes"];
    let many = both.over_http(&both.token, &all).await.expect(0);
    // All but those that were cancelled already, which had not begun.
    assert!(many.out.contains("16 accepted, 0 refused"), "{many:?}");
    both.daemon.stop().await;
}

#[tokio::test]
async fn what_http_cannot_is_said_and_nothing_else_is_asked_instead() {
    let both = Both::new().await;
    for command in [&["migrate"][..], &["token", "list"]] {
        let mut asked = both.world.command(command);
        asked.env("BACKSTITCH_SERVER", &both.daemon.url).env("BACKSTITCH_TOKEN", &both.token);
        end(asked).await.complains(2, &["can't be asked over HTTP", "BACKSTITCH_SERVER"]);
    }
    let read = token(&both.world, "read").await;
    both.over_http(&read, &["enqueue", "report.build"]).await.complains(5, &["role"]);
    both.over_http("", &["list"]).await.complains(1, &["BACKSTITCH_TOKEN", "backstitch token create"]);
    let unknown = format!("bst_{}", "0".repeat(64));
    both.over_http(&unknown, &["list"]).await.complains(1, &["BACKSTITCH_TOKEN"]);
    let typo = both.over_http("sesame", &["list"]).await.complains(2, &["BACKSTITCH_TOKEN", "bst_"]);
    assert!(!typo.err.contains("sesame"), "{typo:?}");
    for (url, code, said) in [
        ("nowhere", 2, "give a URL"),
        ("ftp://127.0.0.1", 2, "https://"),
        ("http://backstitch.example.com", 2, "only https"),
        ("http://ada:sesame@127.0.0.1", 2, "BACKSTITCH_TOKEN"),
        ("http://127.0.0.1:1", 1, "can't be reached"),
    ] {
        let asked = end(bare(both.world.directory.path(), &["list", "--server", url])).await;
        assert!(!asked.complains(code, &[said]).err.contains("sesame"), "{url}");
    }
    // Both may stand in the configuration; a database that is said for the command goes before that.
    let file = |server: &str| format!("server = \"{server}\"\nserver_token_file = \"ops.token\"\n");
    let configured = async |server: &str, command: Command| {
        std::fs::write(both.world.path("backstitch.toml"), file(server)).unwrap();
        std::fs::write(both.world.path("ops.token"), format!("{}\n", both.token)).unwrap();
        let ran = end(command).await;
        std::fs::remove_file(both.world.path("backstitch.toml")).unwrap();
        ran
    };
    let hand = |arguments: &[&str]| bare(both.world.directory.path(), arguments);
    configured(&both.daemon.url, hand(&["list", "--json"])).await.expect(0);
    configured(&both.daemon.url, hand(&["migrate"])).await.complains(2, &["server in backstitch.toml"]);
    configured("http://127.0.0.1:1", both.world.command(&["token", "list"])).await.expect(0);
    // Its token is for its daemon, and shown to no other.
    let other = hand(&["list", "--server", &both.daemon.url]);
    configured("http://127.0.0.1:1", other).await.complains(1, &["show a token", "server_token_file"]);
    std::fs::write(both.world.path("backstitch.toml"), file("http://127.0.0.1:1") + "database_url = \"a\"\n")
        .unwrap();
    end(hand(&["list"])).await.complains(2, &["server and database_url"]);
    std::fs::remove_file(both.world.path("backstitch.toml")).unwrap();
    // A token may lie in a file.
    std::fs::write(both.world.path("ops.token"), format!("{}\n", both.token)).unwrap();
    let by_file = ["list", "--server", &both.daemon.url, "--server-token-file", "ops.token"];
    end(bare(both.world.directory.path(), &by_file)).await.expect(0);
    both.daemon.stop().await;
}

#[tokio::test]
async fn beyond_loopback_a_daemon_is_asked_over_tls() {
    let world = World::new().await;
    let token = token(&world, "read").await;
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(world.path("tls.pem"), cert.pem()).unwrap();
    std::fs::write(world.path("tls.key"), signing_key.serialize_pem()).unwrap();
    let beyond = ["serve", "--without-gateway", "--listen", "0.0.0.0:0"];
    let tls = ["--tls-certificate", "tls.pem", "--tls-key", "tls.key"];
    let daemon = Daemon::start(world.command(&[&beyond[..], &tls].concat())).await;
    let (_, port) = daemon.url.rsplit_once(':').unwrap();
    let list = async |trusted: bool| {
        let mut command = bare(world.directory.path(), &["list", "--json"]);
        command.env("BACKSTITCH_SERVER", format!("https://localhost:{port}")).env("BACKSTITCH_TOKEN", &token);
        if trusted {
            command.env("SSL_CERT_FILE", world.path("tls.pem"));
        }
        end(command).await
    };
    assert_eq!(list(true).await.expect(0).json(), json!([]));
    list(false).await.complains(1, &["can't be reached"]);
    daemon.stop().await;
}
