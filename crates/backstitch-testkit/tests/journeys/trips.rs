//! A sweep over a trip as the README books it, whose steps have the default conduct; and what a sweep says where it can't sweep.

use std::collections::BTreeSet;
use std::path::PathBuf;

use backstitch::{
    Attempt, Backward, Compensate, Flow, Outcome, Recovery, Step, StepError, Steps, Worker, Workflow,
    WorkflowError,
};
use backstitch_postgres::Running;
use backstitch_postgres::test::{database_in, shared_cluster};
use backstitch_testkit::sweep::{self, Sweep, World};
use serde::{Deserialize, Serialize};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, UnixStream};
use tokio::task::JoinHandle;

/// What the steps work with: each booking is a file here.
struct Agency(PathBuf);

#[derive(Clone, Serialize, Deserialize)]
struct Trip {
    city: String,
    legs: Vec<String>,
}

impl Workflow<Agency> for Trip {
    const KIND: &'static str = "trip";
    const RECOVERY: Recovery = Recovery::Compensate;
    type Output = ();

    fn steps(steps: &mut Steps<Agency>) {
        steps.step::<Book>();
    }

    async fn run(self, flow: &Flow<Agency>) -> Result<(), WorkflowError> {
        for what in self.legs {
            flow.step(Book { what, city: self.city.clone() }).await?;
        }
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct Book {
    what: String,
    city: String,
}

impl Book {
    fn file(&self, agency: &Agency) -> PathBuf {
        agency.0.join(format!("{} in {}", self.what, self.city))
    }
}

impl Step<Agency> for Book {
    const NAME: &'static str = "book";
    const BACKWARD: Backward<Self, Agency> = Backward::independent();
    type Output = ();

    async fn run(&self, agency: &Agency, _: &Attempt) -> Result<(), StepError> {
        std::fs::write(self.file(agency), "").map_err(|error| StepError::retry("full", error.to_string()))
    }
}

impl Compensate<Agency> for Book {
    async fn compensate(&self, agency: &Agency, _: &Attempt, _: Outcome<()>) -> Result<(), StepError> {
        // Also where there is nothing to cancel.
        let _ = std::fs::remove_file(self.file(agency));
        Ok(())
    }
}

/// Not a test of its own: the sweep runs this program again with only this, as a worker that can be killed.
#[tokio::test]
async fn swept_worker() {
    sweep::worker(async |database, agency| Worker::new(database, Agency(agency.into())).serve::<Trip>())
        .await;
}

/// All that is booked, city by city.
struct Town {
    agency: tempfile::TempDir,
    legs: &'static [&'static str],
    faults: &'static [&'static str],
    trips: u32,
}

impl Town {
    fn of(legs: &'static [&'static str], faults: &'static [&'static str]) -> Self {
        Self { agency: tempfile::tempdir().expect("a temporary directory"), legs, faults, trips: 0 }
    }

    fn given(&self) -> String {
        self.agency.path().to_string_lossy().into_owned()
    }
}

impl World<Agency, Trip> for Town {
    type Look = BTreeSet<String>;

    async fn input(&mut self) -> Trip {
        self.trips += 1;
        Trip { city: self.trips.to_string(), legs: self.legs.iter().map(ToString::to_string).collect() }
    }

    async fn look(&mut self, trip: &Trip) -> Self::Look {
        let city = format!(" in {}", trip.city);
        let booked = std::fs::read_dir(self.agency.path()).expect("it is there");
        let booked = booked.map(|file| file.expect("readable").file_name().to_string_lossy().into_owned());
        booked.filter_map(|file| file.strip_suffix(&city).map(str::to_owned)).collect()
    }

    async fn tidy(&mut self, _: &Trip) {}

    fn faults(&self) -> &'static [&'static str] {
        self.faults
    }

    /// Nothing is wrong with it, whatever is said.
    async fn hurt(&mut self, _: &'static str) {}

    async fn mend(&mut self, _: &'static str) {}
}

/// Where the shared server can be reached over TCP as well: a stand-in for one that listens there itself.
struct TcpDoor {
    server: Running,
    passing: JoinHandle<()>,
}

impl TcpDoor {
    async fn open() -> Self {
        let behind = shared_cluster().await.connect_options("postgres");
        let user = behind.get_username().to_owned();
        let Some(socket) = behind.get_socket() else {
            // The tests' server is reached over TCP as it is.
            return Self { server: shared_cluster().await, passing: tokio::spawn(async {}) };
        };
        let socket = socket.join(format!(".s.PGSQL.{}", behind.get_port()));
        let door = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = door.local_addr().expect("it listens").port();
        let passing = tokio::spawn(async move {
            while let Ok((mut client, _)) = door.accept().await {
                let socket = socket.clone();
                tokio::spawn(async move {
                    let mut server = UnixStream::connect(socket).await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        let server = Running::elsewhere(&format!("postgres://{user}@127.0.0.1:{port}/postgres"));
        Self { server: server.expect("a url"), passing }
    }
}

impl Drop for TcpDoor {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

/// A leg is in doubt for a minute and more when its worker was killed; a URL says nothing but where.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trip_of_default_conduct_is_swept_without_waiting_and_over_tcp() {
    let door = TcpDoor::open().await;
    let database = database_in(&door.server).await;
    let mut town = Town::of(&["flight", "hotel", "car"], &[]);
    let swept =
        Sweep::new(&database, "trips::swept_worker").given(town.given()).share(0, 3).run(&mut town).await;
    println!("{swept:?}");
    // Three intents and the end; the end that is refused, the turn with one compensation, two more, the end.
    assert_eq!((swept.boundaries, swept.hurts), (8, (4 * 8 + 5 * 6_u32).div_ceil(3)), "{swept:?}");
    assert!(swept.completed >= 3 && swept.compensated >= 12, "{swept:?}");
}

/// What a sweep over this world says before it gives up.
async fn said(mut town: Town, worker_test: &'static str) -> String {
    let database = backstitch_postgres::test::database().await;
    let sweeping =
        tokio::spawn(
            async move { Sweep::new(&database, worker_test).given(town.given()).run(&mut town).await },
        );
    let panic = sweeping.await.expect_err("it can't sweep").into_panic();
    *panic.downcast::<String>().expect("a text")
}

#[tokio::test]
async fn a_worker_test_that_is_not_there_is_said_at_once() {
    let said = said(Town::of(&["flight"], &[]), "swept_worker").await;
    assert!(said.starts_with("where nothing hurts it: the worker test \"swept_worker\" ended"), "{said}");
    assert!(said.contains("exit status: 0") && said.contains("is that its full name"), "{said}");
}

#[tokio::test]
async fn a_fault_of_the_world_that_never_bites_is_an_error() {
    let said = said(Town::of(&["flight"], &["a strike"]), "trips::swept_worker").await;
    assert!(
        said.starts_with("no attempt failed where this was wrong with the world: [\"a strike\"]"),
        "{said}"
    );
}
