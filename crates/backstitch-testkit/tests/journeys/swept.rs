//! A sweep over a scripted workflow and a target that misbehaves: every boundary × every hurt of the worker, and of the target.

use std::collections::BTreeMap;
use std::path::PathBuf;

use backstitch::{Database, Direction};
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::recorder::{self, Lacking, Misbehave, Recorder, Verdict, read_log};
use backstitch_testkit::script::{Act, Compensating, Ground, Manner};
use backstitch_testkit::sweep::{self, Sweep, Swept, World};
use backstitch_testkit::world::worker_on;

/// How the target can misbehave, by name.
const FAULTS: [(&str, Misbehave); 7] = [
    ("says no, and has not done it", Misbehave::Fail),
    ("says no, and has done it", Misbehave::FailAfter),
    ("says that it never will", Misbehave::Reject),
    ("does not hear", Misbehave::LoseCall),
    ("is not heard", Misbehave::LoseAnswer),
    ("does it later", Misbehave::BeLate),
    ("does it twice", Misbehave::Twice),
];

const NAMES: [&str; FAULTS.len()] = {
    let mut names = [""; FAULTS.len()];
    let mut index = 0;
    while index < FAULTS.len() {
        names[index] = FAULTS[index].0;
        index += 1;
    }
    names
};

fn named(fault: &'static str) -> Misbehave {
    FAULTS.into_iter().find(|(name, _)| *name == fault).expect("one of them").1
}

/// Not a test of its own: the sweep runs this program again with only this, as a worker that can be killed.
#[tokio::test]
async fn swept_worker() {
    sweep::worker(async |database: Database, socket| {
        let ledger = Ledger::there(database.pool().clone());
        worker_on(database, Ground { ledger, recorder: Some(Recorder::at(socket)) })
    })
    .await;
}

/// A target that remembers what was done to it.
struct Town {
    recorder: Recorder,
    log: PathBuf,
    /// How the second of three steps is taken back.
    second: Manner,
    /// What can be wrong with it.
    faults: &'static [&'static str],
    /// How much of the log is about those that are over.
    told: usize,
}

impl World<Ground, Compensating> for Town {
    /// How many times the effect of each step stands.
    type Look = BTreeMap<u32, u32>;

    async fn input(&mut self) -> Compensating {
        self.told = read_log(&self.log).expect("it has a log").len();
        Compensating::of([Act::new(), Act::new().manner(self.second), Act::new()])
    }

    async fn look(&mut self, _: &Compensating) -> Self::Look {
        let mut standing = BTreeMap::new();
        let log = read_log(&self.log).expect("it has a log");
        for line in log.iter().skip(self.told).filter(|line| line.verdict == Verdict::Applied) {
            match line.call.direction.as_str() {
                "run" => *standing.entry(line.call.position).or_insert(0) += 1,
                _ => drop(standing.remove(&line.call.position)),
            }
        }
        standing
    }

    async fn tidy(&mut self, _: &Compensating) {}

    fn faults(&self) -> &'static [&'static str] {
        self.faults
    }

    /// Whoever asked once does not notice that it was done twice.
    fn lets_fail(&self, fault: &'static str) -> bool {
        !matches!(named(fault), Misbehave::Twice)
    }

    async fn hurt(&mut self, fault: &'static str) {
        let misbehave = named(fault);
        for (aim, direction) in [(0, Direction::Run), (1, Direction::Compensate)] {
            self.recorder.aim(aim, misbehave, direction, None).await.expect("it answers");
        }
    }

    async fn mend(&mut self, _: &'static str) {
        for aim in [0, 1] {
            self.recorder.forget(aim).await.expect("it answers");
        }
    }
}

/// Sweeps in a town of this kind.
async fn swept(second: Manner, faults: &'static [&'static str]) -> Swept {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (socket, log) = (directory.path().join("recorder"), directory.path().join("log"));
    let serving = tokio::spawn({
        let (socket, log) = (socket.clone(), log.clone());
        async move { recorder::serve(&socket, &log, Lacking::default()).await }
    });
    let database = backstitch_postgres::test::database().await;
    Ledger::in_database(database.pool().await).await;
    let mut town = Town { recorder: Recorder::at(&socket), log, second, faults, told: 0 };
    let sweep = Sweep::new(&database, "swept::swept_worker").given(socket.to_string_lossy());
    let swept = sweep.run(&mut town).await;
    println!("{swept:?}");
    serving.abort();
    swept
}

#[tokio::test]
async fn a_sweep_hurts_the_world_too() {
    let swept = swept(Manner::Dependent, &NAMES).await;
    // Three intents and the end; the turn and three compensations, the end.
    assert!(swept.boundaries >= 8, "{swept:?}");
    let points = 7 * u32::try_from(FAULTS.len()).expect("few");
    assert!(swept.hurts >= 50 + points, "{swept:?}");
    // All but one of them let each attempt fail that they meet.
    assert!(swept.failures.values().sum::<u32>() >= points / 2, "{swept:?}");
    assert!(swept.completed > 0 && swept.compensated > 0, "{swept:?}");
}

#[tokio::test]
async fn a_workflow_with_a_pivot_is_swept_on_its_way_forward() {
    let swept = swept(Manner::Pivot, &[]).await;
    // Three intents and the end, each killed, killed twice, cut off and cancelled, before and after.
    assert_eq!((swept.boundaries, swept.hurts), (4, 4 * 4 * 2), "{swept:?}");
    // Before its pivot it turns back where its worker dies or somebody cancels it, from there on it never does.
    assert!(swept.compensated >= 6 && swept.completed >= 16, "{swept:?}");
}
