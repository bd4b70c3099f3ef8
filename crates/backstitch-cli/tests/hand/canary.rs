//! Is a secret found anywhere in the clear, whatever becomes of its workflow?
//!
//! Two birds go through the same workflows in a worker process that logs everything: a secret one, sealed or referred to, and
//! for control one in a plain string. Then both are searched for wherever something is left behind.

use std::collections::BTreeSet;
use std::fs::File;
use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use backstitch::{
    Attempt, Backward, Compensate, CompensateTransactionally, Conduct, Ending, Flow, Handle, Keyring,
    LateEffects, Outcome, Patience, Recovery, RetryPolicy, Secret, Secrets, Step, StepError, Steps,
    TransactionalBackward, TransactionalStep, Worker, Workflow, WorkflowError,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::PgConnection;
use tokio::process::{Child, Command};

use crate::daemon::{Daemon, serve};
use crate::http::Caller;
use crate::world::World;

/// The secret one. What is searched for is its name: the rest is there to be escaped.
const SECRET: (&str, &str) = ("Zaunkoenig", "a \"Zaunkoenig\" \\ 100% ö");
/// The control.
const PLAIN: (&str, &str) = ("Rotkehlchen", "a \"Rotkehlchen\" \\ 100% ö");

/// Set in the worker's process: where its database is.
const WORKER: &str = "CANARY_WORKER";
/// What the reference names.
const VARIABLE: &str = "CANARY";

fn keyring() -> Keyring {
    Keyring::parse(&format!("2026-11 {}", "5a".repeat(64))).unwrap()
}

/// What becomes of the bird.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Does {
    /// It is handed over in the output, as it came.
    HandsOver,
    /// It is shown in the output.
    Shows,
    /// An error quotes it.
    Fails,
    /// A panic quotes it.
    Panics,
    /// A panic on another thread quotes it, and an error quotes that.
    PanicsElsewhere,
    /// An error of the compensation quotes it, for good.
    Sticks,
}

const ALL: [Does; 6] =
    [Does::HandsOver, Does::Shows, Does::Fails, Does::Panics, Does::PanicsElsewhere, Does::Sticks];

/// How the bird is held: in a secret, or in a plain string.
trait Holds: std::fmt::Debug + Clone + Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: &'static str;

    fn text(&self, attempt: &Attempt) -> impl Future<Output = Result<String, StepError>> + Send;
    fn of(text: &str, attempt: &Attempt) -> Result<Self, StepError>;
}

impl Holds for Secret {
    const KIND: &'static str = "canary.secret";

    async fn text(&self, attempt: &Attempt) -> Result<String, StepError> {
        Ok(attempt.reveal(self).await?.expose().to_owned())
    }

    fn of(text: &str, attempt: &Attempt) -> Result<Self, StepError> {
        Ok(attempt.seal(text)?)
    }
}

impl Holds for String {
    const KIND: &'static str = "canary.plain";

    async fn text(&self, _: &Attempt) -> Result<String, StepError> {
        Ok(self.clone())
    }

    fn of(text: &str, _: &Attempt) -> Result<Self, StepError> {
        Ok(text.to_owned())
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "H: Holds")]
struct Canary<H> {
    does: Does,
    in_transaction: bool,
    held: H,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "H: Holds")]
struct Use<H> {
    does: Does,
    held: H,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "H: Holds")]
struct UseInTransaction<H>(Use<H>);

#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "H: Holds")]
struct Given<H> {
    held: Option<H>,
    shown: Option<String>,
}

impl<H: Holds> Workflow<()> for Canary<H> {
    const KIND: &'static str = H::KIND;
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = Given<H>;

    fn steps(steps: &mut Steps<()>) {
        steps.step::<Use<H>>().transactional::<UseInTransaction<H>>();
    }

    async fn run(self, flow: &Flow<()>) -> Result<Given<H>, WorkflowError> {
        let used = Use { does: self.does, held: self.held };
        let given = match self.in_transaction {
            true => flow.transactional(UseInTransaction(used)).await?,
            false => flow.step(used).await?,
        };
        match self.does {
            Does::Sticks => Err(WorkflowError::new("given_up", "the bird says so")),
            _ => Ok(given),
        }
    }
}

/// Once; and one failure of a compensation is enough for a person to be told.
const CONDUCT: Conduct = Conduct {
    retry: RetryPolicy::ONCE,
    patience: Patience { attempts: 1, time: Duration::from_secs(1), slow_retry: Duration::from_secs(600) },
    late_effects: LateEffects::Refused,
    ..Conduct::DEFAULT
};

impl<H: Holds> Use<H> {
    async fn make(&self, attempt: &Attempt) -> Result<Given<H>, StepError> {
        let text = self.held.text(attempt).await?;
        tracing::info!(held = ?self.held, "it is held");
        let nothing = Given { held: None, shown: None };
        match self.does {
            Does::HandsOver => Ok(Given { held: Some(H::of(&text, attempt)?), ..nothing }),
            Does::Shows => Ok(Given { shown: Some(format!("the bird is {text}")), ..nothing }),
            Does::Fails => {
                let percent: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
                let message = format!("{text} or {text:?} is refused by http://target/?key={percent}");
                Err(StepError::fail("refused", message))
            }
            Does::Panics => panic!("nobody expected {text:?}"),
            Does::PanicsElsewhere => {
                let elsewhere = tokio::spawn(async move { panic!("nobody here expected {text}") });
                let error: Result<(), _> = elsewhere.await;
                Err(StepError::fail("died_elsewhere", format!("{error:?}")))
            }
            Does::Sticks => Ok(nothing),
        }
    }

    async fn take_back(&self, attempt: &Attempt) -> Result<(), StepError> {
        let text = self.held.text(attempt).await?;
        match self.does {
            Does::Sticks => Err(StepError::retry("stuck", format!("{text:?} does not let go"))),
            _ => Ok(()),
        }
    }
}

impl<H: Holds> Step<()> for Use<H> {
    const NAME: &'static str = "use";
    const BACKWARD: Backward<Self, ()> = Backward::after_all_later();
    const CONDUCT: Conduct = CONDUCT;
    type Output = Given<H>;

    async fn run(&self, _: &(), attempt: &Attempt) -> Result<Given<H>, StepError> {
        self.make(attempt).await
    }
}

impl<H: Holds> Compensate<()> for Use<H> {
    async fn compensate(&self, _: &(), attempt: &Attempt, _: Outcome<Given<H>>) -> Result<(), StepError> {
        self.take_back(attempt).await
    }
}

impl<H: Holds> TransactionalStep<()> for UseInTransaction<H> {
    const NAME: &'static str = "use-in-transaction";
    const BACKWARD: TransactionalBackward<Self, ()> = TransactionalBackward::after_all_later();
    const CONDUCT: Conduct = CONDUCT;
    type Output = Given<H>;

    async fn run(&self, _: &mut PgConnection, _: &(), attempt: &Attempt) -> Result<Given<H>, StepError> {
        self.0.make(attempt).await
    }
}

impl<H: Holds> CompensateTransactionally<()> for UseInTransaction<H> {
    async fn compensate(
        &self,
        _: &mut PgConnection,
        _: &(),
        attempt: &Attempt,
        _: Given<H>,
    ) -> Result<(), StepError> {
        self.0.take_back(attempt).await
    }
}

/// Not a test of its own: the other one runs this program again with only this, as a worker that logs everything.
#[tokio::test]
async fn worker_process() {
    let Ok(url) = std::env::var(WORKER) else {
        return;
    };
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    let database = backstitch::Database::connect(&url).await.unwrap();
    let secrets = Secrets::new().keyring(keyring()).environment([VARIABLE]);
    let worker = Worker::new(database, ()).serve::<Canary<Secret>>().serve::<Canary<String>>();
    let _worker = worker.secrets(secrets).start().await.unwrap();
    std::future::pending::<()>().await;
}

fn spawn_worker(world: &World) -> Child {
    let log = |name| File::create(world.path(name)).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["canary::worker_process", "--exact", "--nocapture"])
        .env(WORKER, &world.database.url)
        .env(VARIABLE, SECRET.1)
        .stdin(Stdio::null())
        .stdout(log("worker.out"))
        .stderr(log("worker.err"))
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// What was left behind, and where.
#[derive(Default)]
struct Left(Vec<(&'static str, String)>);

impl Left {
    fn behind(&mut self, place: &'static str, text: impl Into<String>) {
        self.0.push((place, text.into()));
    }

    /// The places where this stands.
    fn places_of(&self, name: &str) -> BTreeSet<&'static str> {
        self.0.iter().filter(|(_, text)| text.contains(name)).map(|(place, _)| *place).collect()
    }

    /// Every place.
    fn places(&self) -> BTreeSet<&'static str> {
        self.places_of("")
    }
}

#[tokio::test]
async fn a_secret_is_found_nowhere_in_the_clear() {
    let world = World::new().await;
    let client = world.client().await;
    let daemon = Daemon::start({
        let mut command = serve(&world);
        command.env("BACKSTITCH_LOG", "trace");
        command
    })
    .await;
    let mut worker = spawn_worker(&world);
    let sealed = keyring().seal(<Secret as Holds>::KIND, SECRET.1).unwrap();
    let referred = Secret::reference(&format!("env:{VARIABLE}")).unwrap();
    let mut asked = Vec::new();
    for (does, in_transaction) in ALL.into_iter().flat_map(|does| [(does, false), (does, true)]) {
        for held in [&sealed, &referred] {
            let canary = Canary { does, in_transaction, held: held.clone() };
            asked.push((does, true, client.enqueue(canary).send().await.unwrap().workflow));
        }
        let canary = Canary { does, in_transaction, held: PLAIN.1.to_owned() };
        asked.push((does, false, client.enqueue(canary).send().await.unwrap().workflow));
    }

    let mut left = Left::default();
    for (does, is_secret, workflow) in &asked {
        let ending = client.wait(&Handle::<Value>::new(*workflow)).await.unwrap();
        if *is_secret {
            ends_as_it_should(*does, ending);
        }
        let id = workflow.to_string();
        for (place, arguments) in [
            ("show", &["show", &id][..]),
            ("show --json", &["show", &id, "--json"]),
            ("explain", &["explain", &id]),
            ("explain --json", &["explain", &id, "--json"]),
        ] {
            left.behind(place, world.run(arguments).await.expect(0).out);
        }
    }
    let reader = Caller::of_role(&world, &daemon, "read", "").await;
    for (_, _, workflow) in &asked {
        for (place, path) in [("GET", ""), ("GET journal", "/journal"), ("GET wait", "/wait")] {
            let answer = reader.get(&format!("/v1/workflows/{workflow}{path}")).await;
            left.behind(place, answer.body.to_string());
        }
    }
    for (place, path) in [("GET list", "/v1/workflows"), ("metrics", "/metrics")] {
        left.behind(place, reader.get(path).await.body.to_string());
    }
    for (place, arguments) in [
        ("list", &["list"][..]),
        ("list --json", &["list", "--json"]),
        ("errors", &["errors"]),
        ("errors --json", &["errors", "--json"]),
    ] {
        left.behind(place, world.run(arguments).await.expect(0).out);
    }
    while !client.alerts_to_log().await.unwrap().is_empty() {
        tokio::task::yield_now().await;
    }
    left.behind("daemon's log", daemon.stop().await.1);
    worker.kill().await.unwrap();
    for place in ["worker.out", "worker.err"] {
        left.behind(place, std::fs::read_to_string(world.path(place)).unwrap());
    }
    let dump = backstitch_postgres::find_binaries().unwrap().program("pg_dump");
    let dump = Command::new(dump).arg(&world.database.url).output().await.unwrap();
    assert!(dump.status.success(), "{}", String::from_utf8_lossy(&dump.stderr));
    left.behind("dump", String::from_utf8(dump.stdout).unwrap());

    let nowhere = BTreeSet::new();
    assert_eq!(left.places_of(SECRET.0), nowhere);
    // So it would be found: wherever there is anything to be found.
    let says_nothing_of_workflows = ["metrics", "worker.out"];
    let left_out: Vec<_> = left.places().difference(&left.places_of(PLAIN.0)).copied().collect();
    assert_eq!(left_out, says_nothing_of_workflows);
}

/// As if it had gone well, and with nothing left out but the bird.
fn ends_as_it_should(does: Does, ending: Ending<Value>) {
    let error = |code: &str, said: &str, unfinished: &backstitch::Unfinished| {
        let failure = &unfinished.error.failure;
        assert_eq!(failure.code, code, "{does:?}: {failure}");
        assert!(failure.message.contains(said), "{does:?}: {failure}");
    };
    match (does, ending) {
        (Does::HandsOver, Ending::Completed(output)) => {
            let given: Given<Secret> = serde_json::from_value(output).unwrap();
            let opened = keyring().open(<Secret as Holds>::KIND, &given.held.unwrap()).unwrap();
            assert_eq!(opened.expose(), SECRET.1);
        }
        (Does::Shows, Ending::Compensated(why)) => error("secret_in_output", "in the clear", &why),
        (Does::Fails, Ending::Compensated(why)) => {
            error(
                "refused",
                "[redacted] or \"[redacted]\" is refused by http://target/?key=[redacted]",
                &why,
            );
        }
        (Does::Panics, Ending::Compensated(why)) => error("panicked", "nobody expected \"[redacted]\"", &why),
        (Does::PanicsElsewhere, Ending::Compensated(why)) => {
            error("died_elsewhere", "nobody here expected [redacted]", &why);
        }
        (Does::Sticks, Ending::NeedsAttention(why)) => error("given_up", "the bird says so", &why),
        (_, ending) => panic!("{does:?} ends {ending:?}"),
    }
}
