//! Does a workflow of yours end cleanly, wherever it is hurt?
//!
//! A sweep runs the workflow once and counts what its worker says to Postgres: each intent, outcome, turn, and commit of a
//! step is a boundary. Then it runs it again for every boundary, before and after Postgres has heard it, and hurts it right
//! there: the worker process is killed (SIGKILL), killed again in the recovery that follows, loses its connection, or the
//! workflow is cancelled. The same on the way back, from the last step to the first. A world that says what can be wrong with
//! it ([`World::faults`]) is hurt too: each of that at each boundary, until the attempt has ended that began there. After each,
//! another worker finishes what is left; then the world must look as it did before, or as it does after a run that nothing hurt,
//! according to how the workflow ended.
//!
//! The worker is a process of its own, as death must be real: your test program, started again with one test only.
//!
//! Nothing is waited out: the database is the sweep's, and where the workflow waits (for a late effect, a next try, a time) its
//! clock jumps to the end of that. So steps may have any [`Conduct`](backstitch::Conduct), a minute's wait for late effects
//! included. It asks two things of what a step calls: it answers by the database's clock or by none, and what was under way in a
//! killed worker is over within moments; at a boundary that is only what steps side by side do. After a hurt of the world, which
//! may do late what it was asked, the last 20 s of each wait are real.
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
//!     async fn input(&mut self) -> StartGateway {
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

mod ground;
mod point;
mod process;
mod world;

use std::collections::BTreeMap;

use backstitch::{Status, Workflow};
use backstitch_postgres::test::TestDatabase;

use self::ground::Ground;
use self::point::{Hurt, Way, points};
use self::process::Launch;

pub use self::process::worker;
pub use self::world::World;

/// A sweep in the making.
#[derive(Debug)]
pub struct Sweep {
    launch: Launch,
    /// Which of how many shares.
    share: (usize, usize),
}

/// What was swept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Swept {
    /// How many boundaries there are, on the way forward and all the way back.
    pub boundaries: u32,
    /// How many times the workflow was hurt.
    pub hurts: u32,
    /// How many of those completed all the same.
    pub completed: u32,
    /// How many were taken back.
    pub compensated: u32,
    /// For each fault of the world that [lets](World::lets_fail) attempts fail: how many did, where it was there.
    pub failures: BTreeMap<&'static str, u32>,
}

impl Sweep {
    /// A sweep whose journal is in this database, and whose worker is the test of this name; see [`worker`].
    #[must_use]
    pub fn new(database: &TestDatabase, worker_test: &'static str) -> Self {
        let server = database.server.connect_options(&database.name);
        let launch = Launch { url: database.url.clone(), server, worker_test, given: String::new() };
        Self { launch, share: (0, 1) }
    }

    /// Has this handed to the worker: where its servers are, for instance.
    #[must_use]
    pub fn given(mut self, given: impl Into<String>) -> Self {
        self.launch.given = given.into();
        self
    }

    /// Sweeps only each `of`-th place, from the `number`-th on (from 0): so that several worlds share the work. Whether each fault
    /// of the world has bitten is then known of their sum alone: see [`Swept::toothless`].
    #[must_use]
    pub fn share(self, number: usize, of: usize) -> Self {
        Self { share: (number, of), ..self }
    }

    /// Sweeps. A workflow that has a pivot can't turn back from its end: it is hurt on its way forward only.
    ///
    /// # Panics
    /// When the workflow does not complete where nothing hurts it, neither is compensated nor completes where it is cancelled at
    /// its end, or when the world looks otherwise than it should after any hurt: with the place, what was done to it, and its
    /// journal's faults.
    /// When it does not go on within a minute, or its worker ends by itself: with the same. When a fault of the world let no
    /// attempt fail, though it [should](World::lets_fail).
    pub async fn run<S, W, P>(self, world: &mut P) -> Swept
    where
        W: Workflow<S> + Clone,
        P: World<S, W>,
    {
        let ground = Ground::of(self.launch).await;
        let forward = ground.untouched::<S, W, P>(world, Way::Forward).await;
        let forward = forward.unwrap_or_else(|failed| panic!("where nothing hurts it: {failed}"));
        assert_eq!(forward.status, Status::Completed, "it should complete where nothing hurts it");
        assert_eq!(forward.faults, [], "where nothing hurts it");
        let back = ground.untouched::<S, W, P>(world, Way::Back).await;
        let back = back.unwrap_or_else(|failed| panic!("cancelled at its end: {failed}"));
        assert_eq!(back.faults, [], "cancelled at its end");
        let on_the_way_back = match back.status {
            Status::Compensated => {
                assert_eq!(back.after, back.before, "cancelled at its end, it should leave nothing");
                // What would be its end is on both ways.
                back.boundaries + 1 - forward.boundaries
            }
            // Past its pivot, where it can't be cancelled.
            Status::Completed => {
                assert_eq!(back.after, forward.after, "past its pivot, it should look so");
                0
            }
            other => panic!("cancelled at its end, it ends {other}"),
        };
        let faults = world.faults();
        let lets_fail = faults.iter().filter(|fault| world.lets_fail(fault));
        let mut swept = Swept {
            boundaries: forward.boundaries + on_the_way_back.saturating_sub(1),
            failures: lets_fail.map(|fault| (*fault, 0)).collect(),
            ..Swept::default()
        };
        let (number, of) = self.share;
        let points = points(forward.boundaries, on_the_way_back, faults);
        for point in points.into_iter().skip(number).step_by(of) {
            let ended = ground.hurt_at::<S, W, P>(world, point).await;
            let ended = ended.unwrap_or_else(|failed| panic!("{point}: {failed}"));
            swept.hurts += 1;
            if let Hurt::World(fault) = point.hurt
                && let Some(failures) = swept.failures.get_mut(fault)
            {
                *failures += ended.failures;
            }
            match ended.status {
                Status::Completed if point.way == Way::Forward => {
                    swept.completed += 1;
                    assert_eq!(ended.after, forward.after, "{point}: completed, it should look so");
                }
                Status::Compensated => {
                    swept.compensated += 1;
                    assert_eq!(ended.after, ended.before, "{point}: compensated, it should leave nothing");
                }
                other => panic!("{point}: it ends {other}"),
            }
            assert!(ended.faults.is_empty(), "{point}: {:#?}", ended.faults);
        }
        let toothless = swept.toothless();
        assert!(
            of > 1 || toothless.is_empty(),
            "no attempt failed where this was wrong with the world: {toothless:?}; does `hurt` do so, where the steps meet it? \
            Of one that none of them should notice, `lets_fail` says so"
        );
        swept
    }
}

impl Swept {
    /// The faults of the world that let no attempt fail, though they should: whoever shares a sweep asks so of the sum.
    #[must_use]
    pub fn toothless(&self) -> Vec<&'static str> {
        self.failures.iter().filter(|(_, failures)| **failures == 0).map(|(fault, _)| *fault).collect()
    }
}

impl std::ops::Add for Swept {
    type Output = Self;

    /// Two shares of one sweep.
    fn add(mut self, other: Self) -> Self {
        for (fault, failures) in other.failures {
            *self.failures.entry(fault).or_default() += failures;
        }
        Self {
            boundaries: self.boundaries.max(other.boundaries),
            hurts: self.hurts + other.hurts,
            completed: self.completed + other.completed,
            compensated: self.compensated + other.compensated,
            failures: self.failures,
        }
    }
}
