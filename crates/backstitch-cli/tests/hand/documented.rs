//! Do the commands work that the README and the pages show, as they stand there?
//!
//! What is shown of HTTP is run in `guide`, what is shown of SQL with the protocol's tests.

use std::path::Path;
use std::process::Stdio;

use backstitch::{
    Attempt, Backward, Client, Compensate, Conduct, Filter, Flow, Keyring, Outcome, Patience, Recovery,
    RetryPolicy, Secret, Step, StepError, Steps, Worker, Workflow, WorkflowError,
};
use backstitch_postgres::Durability;
use backstitch_postgres::test::{database_in, private_cluster};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::Executor;
use tokio::process::Command;

use crate::daemon::{Daemon, serve};
use crate::edge::{Edge, gateway};
use crate::trip::{ToyAgency, Trip};
use crate::world::World;

const README: &str = include_str!("../../../../README.md");
const TRIP: &str = include_str!("../../../backstitch/examples/trip.rs");
const CLI: &str = include_str!("../../../../docs/cli.md");
const SECRETS: &str = include_str!("../../../../docs/secrets.md");
const GATEWAY: &str = include_str!("../../../../docs/gateway.md");

/// The blocks of this language.
fn blocks<'p>(page: &'p str, language: &str) -> Vec<&'p str> {
    let begin = format!("```{language}\n");
    page.split(&*begin).skip(1).map(|rest| rest.split_once("```").expect("a block ends").0).collect()
}

/// What a block came to.
struct Shown {
    /// All that was printed.
    said: String,
    /// The commands that did not end with 0, after what they ended with.
    failed: Vec<String>,
}

/// Before each block: what does not end with 0 is noted.
const PRELUDE: &str = r#"
set -uo pipefail
exec 2>&1
rm -f failed
trap 'echo "$? $BASH_COMMAND" >> failed' ERR
"#;

/// And before one with the daemon, which would go on for ever: it is a job in the background that is told to stop at the end.
const DAEMON: &str = r#"
backstitch() {
    if [ "$1" != serve ]; then command backstitch "$@"; return; fi
    command backstitch "$@" 2> serve.log &
    until grep -q http.address= serve.log; do kill -0 $! || return 1; done
    address=$(sed -n 's/.*http.address=//p' serve.log)
    trap 'kill -TERM $!; wait $! || echo "$? serve" >> failed' EXIT
}
curl() { command curl -sf "${@//127.0.0.1:7410/$address}"; }
export BACKSTITCH_LISTEN=127.0.0.1:0
"#;

/// And before one with the example: it is part of this very program, and stopped at the end if nothing else stops it.
const CARGO: &str = r#"
cargo() {
    case "$*" in
        "install --path crates/backstitch-cli") command -v backstitch > installed ;;
        "run -p backstitch --example trip") CITIES= the_trip > trip.log & trap "kill $!" EXIT ;;
        "run -p backstitch --example trip "*) (CITIES="${*:6}" the_trip) ;;
        *) return 1 ;;
    esac
}
the_trip() { exec "$THIS_PROGRAM" --exact documented::the_trip --ignored --nocapture; }
"#;

#[test]
#[ignore = "what the other process does"]
fn the_trip() {
    let Ok(cities) = std::env::var("CITIES") else { return };
    let cities: Vec<String> = cities.split_whitespace().map(str::to_owned).collect();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let url = std::env::var("DATABASE_URL").unwrap();
    runtime.block_on(crate::trip::run(&url, cities.into_iter())).unwrap();
}

/// Runs a block in a shell that has the binary, the world's database, and its daemon where the pages say it is.
async fn run(world: &World, daemon: Option<&Daemon>, block: &str) -> Shown {
    let url = daemon.map_or("http://127.0.0.1:7410", |daemon| &daemon.url);
    let daemon = if block.contains("backstitch serve") { DAEMON } else { "" };
    let cargo = if block.contains("cargo ") { CARGO } else { "" };
    let script = format!("{PRELUDE}{daemon}{cargo}{}", block.replace("http://127.0.0.1:7410", url));
    let binary = Path::new(env!("CARGO_BIN_EXE_backstitch")).parent().unwrap();
    let path = format!("{}:{}", binary.display(), std::env::var("PATH").unwrap_or_default());
    // As `world.command` has it; the shell hands it on.
    let mut shell = Command::new("bash");
    shell
        .args(["-c", &script])
        .env_clear()
        .env("PATH", path)
        .env("HOME", world.directory.path())
        .env("USER", "ada")
        .env("THIS_PROGRAM", std::env::current_exe().unwrap())
        .env("BACKSTITCH_STATE_DIRECTORY", world.path("state"))
        .env("DATABASE_URL", &world.database.url)
        .current_dir(world.directory.path())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let said = String::from_utf8(shell.output().await.unwrap().stdout).unwrap();
    let failed = std::fs::read_to_string(world.path("failed")).unwrap_or_default();
    Shown { said, failed: failed.lines().map(str::to_owned).collect() }
}

impl Shown {
    /// Every command ended with 0, and this was said among the rest.
    #[track_caller]
    fn went_well(&self, said: &[&str]) {
        assert_eq!(self.failed, [""; 0], "{}", self.said);
        self.says(said);
    }

    #[track_caller]
    fn says(&self, said: &[&str]) {
        for part in said {
            assert!(self.said.contains(part), "{part:?} is not said: {}", self.said);
        }
    }
}

#[test]
fn every_page_has_the_blocks_that_are_run() {
    // A block that is added is run by a test, or named here with the reason. The README's fourth builds and tests this
    // very project, which CI does; bench measures, and its own tests run it.
    assert_eq!((blocks(README, "sh").len(), blocks(README, "sql").len()), (5, 1));
    assert!(blocks(README, "sh")[3].lines().all(|line| line.starts_with("cargo xtask ")));
    assert_eq!((blocks(CLI, "sh").len(), blocks(GATEWAY, "sh").len()), (2, 2));
    assert_eq!(blocks(include_str!("../../../../docs/performance.md"), "sh").len(), 1);
    // For an hour; `torture` runs the same for minutes.
    assert_eq!(blocks(include_str!("../../../../docs/guarantees.md"), "sh").len(), 1);
    assert_eq!(blocks(SECRETS, "sh").len(), 1);
}

#[test]
fn the_readme_shows_the_whole_example() {
    assert_eq!(blocks(README, "rust"), [TRIP]);
}

#[tokio::test]
async fn a_first_reader_comes_from_nothing_to_a_workflow_that_is_taken_back() {
    let world = World::empty().await;
    let shown = run(&world, None, blocks(README, "sh")[0]).await;
    shown.went_well(&["schema", "book-car did not happen", "What happened"]);
    let told: Vec<_> = shown.said.lines().map(|line| line.split(", under ").next().unwrap()).collect();
    let expected: Vec<_> = blocks(README, "text")[0].lines().collect();
    assert!(told.windows(expected.len()).any(|lines| lines == expected), "{expected:#?} in {told:#?}");
}

#[tokio::test]
async fn what_the_readme_asks_for_is_done_by_whoever_serves_it() {
    let world = World::new().await;
    let pool = world.database.pool().await;
    pool.execute("create table orders (order_id bigint primary key)").await.unwrap();
    for block in blocks(README, "sql") {
        pool.execute(block).await.unwrap_or_else(|error| panic!("{error}: {block}"));
    }
    let shown = run(&world, None, blocks(README, "sh")[1]).await;
    shown.went_well(&[r#"completed: ["flight in Lisbon","#, "book-hotel", "is to be taken back"]);
    let asked = world.run(&["list", "--key", "order-4711", "--json"]).await.expect(0).json();
    assert_eq!(asked.as_array().unwrap().len(), 1, "SQL and the command line asked for the same one");

    run(&world, None, blocks(README, "sh")[2]).await.went_well(&["workflow_id"]);
    let worker = Worker::new(world.client().await.database().clone(), ToyAgency).serve::<Trip>();
    let worker = worker.start().await.unwrap();
    let asked = world.run(&["list", "--kind", "trip", "--json"]).await.expect(0).json();
    world.run(&["wait", asked[0]["workflow"].as_str().unwrap()]).await.expect(0);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_the_readme_says_of_running_it_is_what_happens() {
    // A Postgres that keeps what it promises, for the doctor looks.
    let cluster = private_cluster(Durability::Full).await;
    let database = database_in(&cluster.server).await;
    let world = World { database, directory: tempfile::tempdir().unwrap() };
    world.run(&["migrate"]).await.expect(0);
    let edge = Edge::over(world).await;
    let (upstream, _asked) = gateway(true).await;
    edge.world.run(&["gateway", "add", "berlin-1", &upstream]).await.expect(0);
    let shown = run(&edge.world, None, blocks(README, "sh")[4]).await;
    shown.went_well(&["migrat", "fsync", "left: nothing"]);
}

#[tokio::test]
async fn what_the_page_on_the_gateway_shows_is_what_happens() {
    let edge = Edge::over(World::new().await).await;
    let (upstream, _asked) = gateway(true).await;
    edge.world.run(&["gateway", "add", "berlin-1", &upstream]).await.expect(0);
    let daemon = Daemon::start(edge.serve()).await;
    let [asking, pool] = blocks(GATEWAY, "sh")[..] else { panic!("it has two blocks") };
    let shown = run(&edge.world, Some(&daemon), asking).await;
    shown.went_well(&["agrees", "the organisation's gateway is stopped"]);
    assert_eq!(shown.said.matches(r#"{"gateway_hostname":"org-0193"#).count(), 2, "{}", shown.said);
    assert_eq!(daemon.stop().await.0, 0);

    let empty = World::new().await;
    run(&empty, None, pool).await.went_well(&["gateway-1", "10.0.3.7:8080"]);
    let listed = empty.run(&["gateway", "list", "--json"]).await.expect(0).json();
    assert_eq!(listed[0]["state"], "ready");
}

#[tokio::test]
async fn what_the_page_on_the_command_line_shows_is_what_happens() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = Worker::new(client.database().clone(), ()).serve::<Route>().start().await.unwrap();
    stuck(&client).await;
    let shown = run(&world, None, blocks(CLI, "sh")[0]).await;
    assert_eq!(shown.failed, ["3 backstitch show $id --follow"], "{}", shown.said);
    shown.says(&["needs_attention", "nginx_broken", "retry: 1 accepted, 0 refused", "compensated, after"]);

    stuck(&client).await;
    let token = world.run(&["token", "create", "ada", "--role", "read"]).await.expect(0).out;
    let daemon = Daemon::start(serve(&world)).await;
    let over_http = blocks(CLI, "sh")[1]
        .replace("https://backstitch.example.com:7410", &daemon.url)
        .replace("bst_…", token.trim());
    run(&world, None, &over_http).await.went_well(&["route", "needs_attention"]);
    assert_eq!(daemon.stop().await.0, 0);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_the_page_on_secrets_shows_is_what_happens() {
    let world = World::new().await;
    std::fs::write(world.path("token.txt"), "open sesame\n").unwrap();
    let shown = run(&world, None, blocks(SECRETS, "sh")[0]).await;
    shown.went_well(&["no living worker serves the kind"]);
    assert!(!shown.said.contains("sesame"), "{}", shown.said);
    let filter = Filter { key: Some("2026-12".to_owned()), limit: 1, whole: true, ..Filter::default() };
    let asked = world.client().await.workflows(filter).await.unwrap();
    let token: Secret =
        serde_json::from_value(asked[0].input.as_ref().unwrap().decode::<Value>().unwrap()["token"].clone())
            .unwrap();
    let keyring = Keyring::parse(&std::fs::read_to_string(world.path("keyring")).unwrap()).unwrap();
    assert_eq!(keyring.open("report.publish", &token).unwrap().expose(), "open sesame");
}

async fn stuck(client: &Client) {
    let handle = client.enqueue(Route {}).send().await.unwrap();
    assert!(matches!(client.wait(&handle).await.unwrap(), backstitch::Ending::NeedsAttention(_)));
}

/// Fails, and is taken back only at the second try: by then somebody has mended what was broken.
#[derive(Serialize, Deserialize)]
struct Route {}

#[derive(Serialize, Deserialize)]
struct WriteRoute {}

impl Workflow<()> for Route {
    const KIND: &'static str = "route";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = ();

    fn steps(steps: &mut Steps<()>) {
        steps.step::<WriteRoute>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<(), WorkflowError> {
        Ok(flow.step(WriteRoute {}).await?)
    }
}

impl Step<()> for WriteRoute {
    const NAME: &'static str = "write-route";
    const BACKWARD: Backward<Self, ()> = Backward::after_all_later();
    const CONDUCT: Conduct = Conduct {
        retry: RetryPolicy::ONCE,
        patience: Patience {
            attempts: 1,
            time: std::time::Duration::from_secs(1),
            slow_retry: std::time::Duration::from_secs(600),
        },
        ..Conduct::DEFAULT
    };
    type Output = ();

    async fn run(&self, _: &(), _: &Attempt) -> Result<(), StepError> {
        Err(StepError::fail("nginx_broken", "the configuration does not parse"))
    }
}

impl Compensate<()> for WriteRoute {
    async fn compensate(&self, _: &(), attempt: &Attempt, _: Outcome<()>) -> Result<(), StepError> {
        match attempt.number() {
            1 => Err(StepError::retry("nginx_broken", "the configuration does not parse")),
            _ => Ok(()),
        }
    }
}
