//! Does a workflow of yours end cleanly, wherever it is hurt?
//!
//! A sweep runs the workflow once and counts what its worker says to Postgres: each intent, outcome, turn, and commit of a
//! step is a boundary. Then it runs it again for every boundary, before and after Postgres has heard it, and hurts it right
//! there: the worker process is killed (SIGKILL), killed again in the recovery that follows, loses its connection, or the
//! workflow is cancelled. The same on the way back, from the last step to the first. A world that says what can be wrong with
//! it ([`World::faults`]) is hurt too: each of that at each boundary, until the attempt has ended that began there. After each, another worker
//! finishes what is left; then the world must look as it did before, or as it does after a run that nothing hurt, according to how the workflow ended.
//!
//! The worker is a process of its own, as death must be real: your test program, started again with one test only.
//!
//! ```no_run
//! use backstitch::{Database, Worker};
//! use backstitch_testkit::sweep::{self, Sweep, World};
//! # use backstitch::*;
//! # #[derive(Clone, serde::Serialize, serde::Deserialize)] struct StartGateway { organization: u32 }
//! # struct Edge;
//! # impl Workflow<Edge> for StartGateway {
//! #     const KIND: &'static str = "gateway.start";
//! #     const RECOVERY: Recovery = Recovery::Compensate;
//! #     type Output = ();
//! #     fn steps(_: &mut Steps<Edge>) {}
//! #     async fn run(self, _: &Flow<Edge>) -> Result<(), WorkflowError> { Ok(()) }
//! # }
//! struct Town;
//!
//! impl World<Edge, StartGateway> for Town {
//!     type Look = (bool, bool);
//!
//!     fn input(&mut self) -> StartGateway {
//!         StartGateway { organization: 7 }
//!     }
//!
//!     async fn look(&mut self, start: &StartGateway) -> Self::Look {
//!         (false, false) // is there a DNS record? is there a route?
//!     }
//!
//!     async fn tidy(&mut self, start: &StartGateway) {} // stop it, so that the next one finds a gateway
//!
//!     fn faults(&self) -> &'static [&'static str] {
//!         &["the DNS server answers 500"]
//!     }
//!
//!     async fn hurt(&mut self, fault: &'static str) {} // lock its database
//!
//!     async fn mend(&mut self, fault: &'static str) {} // unlock it
//! }
//!
//! // #[tokio::test]
//! async fn swept_worker() {
//!     sweep::worker(async |database: Database, _| Worker::new(database, Edge).serve::<StartGateway>()).await;
//! }
//!
//! // #[tokio::test]
//! async fn a_start_ends_cleanly_wherever_it_is_hurt() {
//!     let database = backstitch_postgres::test::database().await;
//!     let swept = Sweep::new(&database, "swept_worker").run(&mut Town).await;
//!     println!("{} boundaries, {} hurts", swept.boundaries, swept.hurts);
//! }
//! ```

mod point;

use std::env;
use std::fmt::Debug;
use std::process::Stdio;
use std::time::Duration;

use backstitch::{Client, Database, Status, Worker, Workflow, WorkflowId};
use backstitch_postgres::test::TestDatabase;
use sqlx::PgPool;
use sqlx::postgres::PgConnectOptions;
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::oneshot;

use self::point::{Hurt, Point, Way, points};
use crate::cut::{Held, Line, Moment, Statement};
use crate::oracle;
use crate::violation::Violation;
use crate::wait::until;
use crate::world::TIMING;

/// Says to a test program that it is the worker of a sweep: in which database.
const DATABASE: &str = "BACKSTITCH_SWEEP_DATABASE";
/// Where its lock file is: its death shows at once.
const STATE: &str = "BACKSTITCH_SWEEP_STATE";
/// What else it was given.
const GIVEN: &str = "BACKSTITCH_SWEEP_GIVEN";

/// What the workflow changes, as a sweep needs to see it.
pub trait World<S, W: Workflow<S>> {
    /// What is seen of the world, apart from what differs from input to input.
    type Look: PartialEq + Debug;

    /// A new input: for something that does not exist yet.
    fn input(&mut self) -> W;

    /// What stands outside of what this input asks for.
    fn look(&mut self, input: &W) -> impl Future<Output = Self::Look>;

    /// Makes room for the next one: it has ended, and was looked at.
    fn tidy(&mut self, input: &W) -> impl Future<Output = ()>;

    /// What can be wrong with the world, so that a step fails by itself: it says no, before or after it did what it was asked; it
    /// says that it never will; its answer is lost; it does everything twice. By names of its own; nothing unless said.
    fn faults(&self) -> &'static [&'static str] {
        &[]
    }

    /// From now on this is wrong with it.
    fn hurt(&mut self, fault: &'static str) -> impl Future<Output = ()> {
        async move { panic!("a world that can have {fault:?} says what that is") }
    }

    /// Nothing is wrong with it any more, if anything still is.
    fn mend(&mut self, fault: &'static str) -> impl Future<Output = ()> {
        async move { panic!("a world that can have {fault:?} says how it is mended") }
    }
}

/// A sweep in the making.
#[derive(Debug)]
pub struct Sweep {
    url: String,
    options: PgConnectOptions,
    worker_test: &'static str,
    given: String,
    /// Which of how many shares.
    share: (usize, usize),
}

/// What was swept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many boundaries there are, on the way forward and all the way back.
    pub boundaries: u32,
    /// How many times the workflow was hurt.
    pub hurts: u32,
    /// How many of those completed all the same.
    pub completed: u32,
    /// How many were taken back.
    pub compensated: u32,
    /// How many attempts failed by themselves, where the world was hurt.
    pub failures: u32,
}

/// Every write of a record and every commit of a step.
const BOUNDARY: [&str; 2] = ["backstitch.append", "COMMIT"];

/// Nothing more has to be waited for: a worker that has ended its workflow says nothing but that it lives.
const HELD_WITHIN: Duration = Duration::from_secs(30);

impl Sweep {
    /// A sweep whose journal is in this database, and whose worker is the test of this name; see [`worker`].
    #[must_use]
    pub fn new(database: &TestDatabase, worker_test: &'static str) -> Self {
        let options = database.server.connect_options(&database.name);
        Self { url: database.url.clone(), options, worker_test, given: String::new(), share: (0, 1) }
    }

    /// Has this handed to the worker: where its servers are, for instance.
    #[must_use]
    pub fn given(self, given: impl Into<String>) -> Self {
        Self { given: given.into(), ..self }
    }

    /// Sweeps only each `of`-th place, from the `number`-th on (from 0): so that several worlds share the work.
    #[must_use]
    pub fn share(self, number: usize, of: usize) -> Self {
        Self { share: (number, of), ..self }
    }

    /// Sweeps.
    ///
    /// # Panics
    /// When the workflow does not complete where nothing hurts it, is not compensated where it is cancelled at its end, or when
    /// the world looks otherwise than it should after any hurt: with the place, what was done to it, and its journal's faults.
    pub async fn run<S, W, P>(self, world: &mut P) -> Swept
    where
        W: Workflow<S> + Clone,
        P: World<S, W>,
    {
        let engine = Database::connect_with(self.options.clone()).await.expect("the test database answers");
        backstitch::migrate(&engine).await.expect("the migrations apply");
        let state = tempfile::tempdir().expect("a temporary directory");
        let ground = Ground { sweep: &self, pool: engine.pool().clone(), client: Client::new(engine), state };
        let forward = ground.untouched::<S, W, P>(world, Way::Forward).await;
        assert_eq!(forward.status, Status::Completed, "it should complete where nothing hurts it");
        let back = ground.untouched::<S, W, P>(world, Way::Back).await;
        assert_eq!(
            back.status,
            Status::Compensated,
            "it should be taken back where it is cancelled at its end"
        );
        assert_eq!(back.after, back.before, "cancelled at its end, it should leave nothing");
        let mut swept = Swept { boundaries: back.boundaries, ..Swept::default() };
        let (number, of) = self.share;
        let points = points(forward.boundaries, back.boundaries, world.faults());
        for point in points.into_iter().skip(number).step_by(of) {
            let ended = ground.hurt_at::<S, W, P>(world, point).await;
            swept.hurts += 1;
            if matches!(point.hurt, Hurt::World(_)) {
                swept.failures += ended.failures;
            }
            match ended.status {
                Status::Completed => {
                    swept.completed += 1;
                    assert_eq!(ended.after, forward.after, "{point:?}: completed, it should look so");
                }
                Status::Compensated => {
                    swept.compensated += 1;
                    assert_eq!(ended.after, ended.before, "{point:?}: compensated, it should leave nothing");
                }
                other => panic!("{point:?}: it ends {other}"),
            }
            assert!(ended.faults.is_empty(), "{point:?}: {:#?}", ended.faults);
        }
        swept
    }
}

impl std::ops::Add for Swept {
    type Output = Self;

    /// Two shares of one sweep.
    fn add(self, other: Self) -> Self {
        Self {
            boundaries: self.boundaries.max(other.boundaries),
            hurts: self.hurts + other.hurts,
            completed: self.completed + other.completed,
            compensated: self.compensated + other.compensated,
            failures: self.failures + other.failures,
        }
    }
}

/// How a workflow ended, and how the world looked.
struct Ended<L> {
    status: Status,
    before: L,
    after: L,
    boundaries: u32,
    /// How many attempts did not succeed.
    failures: u32,
    faults: Vec<Violation>,
}

struct Ground<'a> {
    sweep: &'a Sweep,
    client: Client,
    pool: PgPool,
    state: TempDir,
}

impl Ground<'_> {
    async fn untouched<S, W: Workflow<S> + Clone, P: World<S, W>>(
        &self,
        world: &mut P,
        way: Way,
    ) -> Ended<P::Look> {
        let mut worker = self.spawn();
        let ended = self.asked::<S, W, P>(world, way, &worker.line, async |_, _| {}).await;
        worker.kill().await;
        ended
    }

    async fn hurt_at<S, W: Workflow<S> + Clone, P: World<S, W>>(
        &self,
        world: &mut P,
        point: Point,
    ) -> Ended<P::Look> {
        let SweptWorker { mut child, line } = self.spawn();
        // Lives until all is looked at, and its line with it.
        let mut next = None;
        let held = hold(&line, point.moment, point.boundary);
        let ended = self
            .asked::<S, W, P>(world, point.way, &line, async |world, workflow| {
                let held = tokio::time::timeout(HELD_WITHIN, held).await;
                let held = held.unwrap_or_else(|_| panic!("{point:?}: it does not come to that"));
                let held = held.expect("the line holds");
                match point.hurt {
                    Hurt::Cut => drop(held),
                    Hurt::Cancelled => {
                        self.cancel(workflow).await;
                        held.pass();
                    }
                    Hurt::Killed | Hurt::KilledTwice => {
                        child.kill().await.expect("it can be killed");
                        drop(held);
                        next = Some(self.recover(workflow, point.hurt == Hurt::KilledTwice).await);
                    }
                    Hurt::World(fault) => {
                        world.hurt(fault).await;
                        // What begins here has ended when something is said again.
                        let said = hold(&line, Moment::BeforeStatement, 0);
                        held.pass();
                        let said = tokio::select! {
                            said = said => said.ok(),
                            () = self.ends(workflow) => None,
                        };
                        world.mend(fault).await;
                        if let Some(said) = said {
                            said.pass();
                        }
                    }
                }
            })
            .await;
        // Already, or now.
        let _ = child.kill().await;
        if let Some(mut next) = next {
            next.kill().await;
        }
        ended
    }

    /// Another worker, or, if that is killed in its first word about the workflow, the one after it.
    async fn recover(&self, workflow: WorkflowId, is_killed: bool) -> SweptWorker {
        let mut next = self.spawn();
        if is_killed {
            let first = hold(&next.line, Moment::BeforeAnswer, 0);
            tokio::select! {
                Ok(held) = first => {
                    next.kill().await;
                    drop(held);
                    next = self.spawn();
                }
                // Nothing was left to say.
                () = self.ends(workflow) => {}
            }
        }
        next
    }

    /// Asks for a workflow, lets `meanwhile` happen to it, and looks before and after.
    async fn asked<S, W: Workflow<S> + Clone, P: World<S, W>>(
        &self,
        world: &mut P,
        way: Way,
        line: &Line,
        meanwhile: impl AsyncFnOnce(&mut P, WorkflowId),
    ) -> Ended<P::Look> {
        let input = world.input();
        let before = world.look(&input).await;
        let at_its_end = (way == Way::Back).then(|| {
            line.hold(
                Moment::BeforeStatement,
                Statement { texts: vec!["backstitch.append"], carries: Some("completed") },
                0,
            )
        });
        let workflow = self.client.enqueue(input.clone()).send().await.expect("it is enqueued").workflow;
        let turn_back = async {
            if let Some(at_its_end) = at_its_end
                && let Ok(held) = at_its_end.await
            {
                self.cancel(workflow).await;
                held.pass();
            }
        };
        // It may be hurt before it comes to its end.
        tokio::join!(meanwhile(world, workflow), async {
            tokio::select! {
                () = turn_back => self.ends(workflow).await,
                () = self.ends(workflow) => {}
            }
        });
        let boundaries = BOUNDARY.iter().map(|text| line.begun(text)).sum::<u64>();
        let after = world.look(&input).await;
        world.tidy(&input).await;
        let view = self.client.workflow(workflow).await.expect("it answers").expect("it is there");
        let attempts = self.client.attempts(workflow).await.expect("it answers");
        let failed = attempts.iter().filter(|attempt| attempt.outcome.as_deref() != Some("succeeded"));
        Ended {
            status: view.status,
            failures: u32::try_from(failed.count()).expect("few"),
            before,
            after,
            boundaries: u32::try_from(boundaries).expect("few"),
            faults: oracle::faults(&self.pool, None, None, workflow).await,
        }
    }

    /// Refused once it has ended, or past its pivot: then it completes.
    async fn cancel(&self, workflow: WorkflowId) {
        let _ = self.client.cancel(workflow, "sweep", "to see it taken back").await;
    }

    async fn ends(&self, workflow: WorkflowId) {
        until(&format!("workflow {workflow} ends"), async || {
            let view = self.client.workflow(workflow).await.expect("it answers").expect("it is there");
            let ended = matches!(view.status, Status::Completed | Status::Compensated | Status::Abandoned);
            ended.then_some(())
        })
        .await;
    }

    fn spawn(&self) -> SweptWorker {
        let socket = self.sweep.options.get_socket().expect("tests reach Postgres through a socket");
        let line = Line::to(socket);
        let child = Command::new(env::current_exe().expect("a test program knows itself"))
            .args([self.sweep.worker_test, "--exact", "--nocapture"])
            .env(DATABASE, format!("{}&host={}&port=5432", self.sweep.url, line.directory().display()))
            .env(STATE, self.state.path())
            .env(GIVEN, &self.sweep.given)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("a test program can be started again");
        SweptWorker { child, line }
    }
}

/// A worker process, and its line to Postgres.
struct SweptWorker {
    child: Child,
    line: Line,
}

impl SweptWorker {
    async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }
}

/// Whichever kind of boundary it is: records and commits come one after the other.
fn hold(line: &Line, moment: Moment, boundary: u32) -> oneshot::Receiver<Held> {
    line.hold(moment, Statement { texts: BOUNDARY.to_vec(), carries: None }, boundary)
}

/// Does what a worker process of a sweep does, if this is one: for a test that is nothing else, and passes at once where it
/// is run with the others. `build` gets the database and what the sweep was [given](Sweep::given), and says what the worker
/// is built of; its times are the sweep's.
///
/// # Panics
/// When the worker can't start.
pub async fn worker<S: Send + Sync + 'static>(build: impl AsyncFn(Database, String) -> Worker<S>) {
    let Ok(url) = env::var(DATABASE) else { return };
    let state = env::var_os(STATE).expect("a sweep says where lock files are");
    let _working = until("the worker starts", async || {
        let database = Database::connect(&url).await.expect("the database answers");
        let worker = build(database, env::var(GIVEN).unwrap_or_default()).await;
        match worker.timing(TIMING).state_directory(&state).start().await {
            // A Postgres that is busy with other tests.
            Err(error) if error.is_transient() => None,
            started => Some(started.expect("the worker starts")),
        }
    })
    .await;
    std::future::pending::<()>().await;
}
