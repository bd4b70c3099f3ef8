//! Random workflows under random hardships, hundreds of them, against a real Postgres: each ends, as it must where that can be
//! said beforehand, and the oracle's word is held over each.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::rc::Rc;

use backstitch::{Answered, Ending, Handle, WorkflowId};
use backstitch_testkit::cut::{Held, Line, Moment, Statement};
use backstitch_testkit::script::{Act, Do, Ground, Manner, Script};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::{WorkerProcess, World};
use backstitch_testkit::{harm, looks, oracle};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use rustix::process::Signal;
use tokio::task::{JoinSet, LocalSet};

use crate::WORKER;
use crate::prefixes::each_prefix_recovers;

type Outputs = Vec<Option<u32>>;

/// How many there are in a run of the suite, which has minutes; [`LONG`] times as many where there is time.
const CASES: usize = 256;
/// Set by `cargo xtask test --long`.
const LONG: (&str, usize) = ("BACKSTITCH_TEST_LONG", 20);
/// As many go on beside each other: mostly they wait.
const LANES: usize = 6;
/// Of one workflow in so many each prefix of its journal is driven, too.
const PREFIXES_EVERY: usize = 8;
/// More attempts than any step makes.
const MANY: usize = 20;
/// Attempts of a step that nothing but its own script can use up.
const ATTEMPTS_MAX: usize = 3;

/// What happens to a workflow that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hardship {
    /// The connection on which something is said.
    Cut,
    /// The process that drives it.
    Kill,
    /// That process stands still until it is declared dead, and then goes on where it was.
    Freeze,
    /// That process is declared dead, and lives.
    Bury,
    /// Somebody cancels it.
    Cancel,
}

/// When it happens: as the worker says this, after so many such words.
#[derive(Debug, Clone)]
struct Aimed {
    what: Hardship,
    moment: Moment,
    word: &'static str,
    pass: u32,
}

/// A workflow, and what happens to it.
#[derive(Debug, Clone)]
struct Case {
    resumes: bool,
    steps: Vec<Act>,
    gives_up: bool,
    hardships: Vec<Aimed>,
}

impl Case {
    fn has_pivot(&self) -> bool {
        self.steps.iter().any(is_pivot)
    }

    /// Whether it turns back by itself, whatever happens to it.
    fn fails(&self) -> bool {
        self.gives_up || self.steps.iter().any(|act| !act.caught && ends_for_good(act) && !is_pivot(act))
    }

    /// Whether its pivot says that it will not happen: believed of its first attempt, and then it can turn back.
    fn pivot_rejects(&self) -> bool {
        self.steps.iter().any(|act| is_pivot(act) && !act.caught && ends_for_good(act))
    }

    /// How it must end. None: that depends on what came first.
    fn must_end(&self, fired: &[Hardship], is_cancelled: bool) -> Option<Must> {
        let met = |what: Hardship| fired.contains(&what);
        if is_cancelled && !self.has_pivot() || self.fails() {
            return Some(Must::BeTakenBack);
        }
        if self.pivot_rejects() {
            return fired.is_empty().then_some(Must::BeTakenBack);
        }
        let worker_died = met(Hardship::Kill) || met(Hardship::Freeze) || met(Hardship::Bury);
        let is_vain = |attempt: &&Vec<Do>| {
            attempt.iter().any(|what| matches!(what, Do::Retry(_) | Do::Panic | Do::Hang))
        };
        let vain = |act: &Act| act.run.iter().filter(is_vain).count();
        let used_up = self.steps.iter().map(vain).max().unwrap_or(0) + fired.len();
        let is_sure = used_up < ATTEMPTS_MAX && !met(Hardship::Cancel);
        (is_sure && (self.resumes || !worker_died)).then_some(Must::Complete)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Must {
    Complete,
    BeTakenBack,
}

fn is_pivot(act: &Act) -> bool {
    matches!(act.manner, Manner::Pivot | Manner::ProbedPivot | Manner::TransactionalPivot)
}

fn ends_for_good(act: &Act) -> bool {
    act.run.iter().flatten().any(|what| matches!(what, Do::Fail(_) | Do::Reject(_)))
}

/// An attempt that is tried again: without an effect, or after it.
fn vain() -> impl Strategy<Value = Vec<Do>> {
    let ends = prop_oneof![
        6 => Just(Do::Retry("busy".into())),
        3 => Just(Do::Panic),
        1 => Just(Do::Hang),
    ];
    (any::<bool>(), ends)
        .prop_map(|(acts, ends)| acts.then_some(Do::Effect).into_iter().chain([ends]).collect())
}

fn act() -> impl Strategy<Value = Act> {
    use Manner::{
        Dependent, Independent, Nothing, Pivot, Probed, ProbedPivot, Transactional, TransactionalPivot,
    };
    let manner = prop_oneof![
        16 => select(vec![Dependent, Dependent, Independent, Nothing, Probed, Transactional]),
        1 => select(vec![Pivot, ProbedPivot, TransactionalPivot]),
    ];
    let attempts = || prop_oneof![3 => Just(Vec::new()), 1 => vec(vain(), 1..3)];
    let fails = prop_oneof![
        12 => Just(None),
        1 => Just(Some(vec![Do::Effect, Do::Fail("no".into())])),
        1 => Just(Some(vec![Do::Reject("never".into())])),
    ];
    (manner, attempts(), fails, any::<bool>(), attempts()).prop_map(
        |(manner, mut run, fails, caught, compensate)| {
            // Whichever attempt comes to it: one that is killed is not the last.
            run.extend(fails.into_iter().cycle().take(MANY));
            Act { manner, run, compensate, caught, ..Act::new() }
        },
    )
}

/// As a workflow can be: past its pivot nothing fails for good, and the pivot itself only as long as nothing came of it.
fn steps() -> impl Strategy<Value = Vec<Act>> {
    vec(act(), 1..6).prop_map(|mut steps| {
        let mut past_pivot = false;
        for act in &mut steps {
            if past_pivot && is_pivot(act) {
                act.manner = Manner::Nothing;
            }
            // What is looked for may be found done by an attempt before the one that fails.
            if (past_pivot || act.manner == Manner::Probed) && ends_for_good(act) {
                act.run.clear();
            }
            if is_pivot(act) && ends_for_good(act) {
                act.run = vec![vec![Do::Reject("never".into())]];
            }
            past_pivot |= is_pivot(act);
            if act.manner == Manner::Nothing {
                // Whatever it did would stand for ever.
                act.run.iter_mut().for_each(|attempt| attempt.retain(|what| *what != Do::Effect));
                act.run.resize(MANY, Vec::new());
            }
        }
        steps
    })
}

fn aimed() -> impl Strategy<Value = Aimed> {
    let what = prop_oneof![
        4 => Just(Hardship::Cut),
        4 => Just(Hardship::Kill),
        1 => Just(Hardship::Freeze),
        2 => Just(Hardship::Bury),
        1 => Just(Hardship::Cancel),
    ];
    let moment = select(vec![Moment::BeforeStatement, Moment::BeforeAnswer]);
    let word = select(vec![
        "backstitch.append",
        "backstitch.append",
        "backstitch.append",
        "COMMIT",
        "backstitch.claim",
    ]);
    (what, moment, word, 0..6_u32).prop_map(|(what, moment, word, pass)| Aimed { what, moment, word, pass })
}

fn case() -> impl Strategy<Value = Case> {
    (any::<bool>(), steps(), prop_oneof![6 => Just(false), 1 => Just(true)], vec(aimed(), 0..4)).prop_map(
        |(resumes, steps, gives_up, hardships)| {
            let gives_up = gives_up && !steps.iter().any(is_pivot);
            Case { resumes, steps, gives_up, hardships }
        },
    )
}

/// Workers of one queue, on which one workflow after the other is under way.
struct Lane {
    world: Rc<World>,
    queue: String,
    line: Line,
    worker: WorkerProcess,
    /// Were declared dead, and live on, each on its line.
    undead: Vec<(WorkerProcess, Line)>,
}

impl Lane {
    async fn new(world: Rc<World>, number: usize) -> Self {
        let queue = format!("lane {number}");
        let line = world.line();
        let worker = spawn(&world, &queue, &line).await;
        Self { world, queue, line, worker, undead: Vec::new() }
    }

    /// The next one begins where the last one stands still.
    async fn next_worker(&mut self) -> (WorkerProcess, Line) {
        let line = self.world.line();
        let next = spawn(&self.world, &self.queue, &line).await;
        (std::mem::replace(&mut self.worker, next), std::mem::replace(&mut self.line, line))
    }

    /// Drives a case to its end. Answers what happened to it, and how it ended.
    async fn goes_through<const RESUME: bool>(&mut self, case: &Case) -> Gone
    where
        Script<RESUME>: backstitch::Workflow<Ground, Output = Outputs> + Clone,
    {
        let script = script::<RESUME>(case);
        let handle =
            self.world.client.enqueue(script).queue(&self.queue).send().await.expect("it is enqueued");
        let (mut fired, mut is_cancelled) = (Vec::new(), false);
        for aimed in &case.hardships {
            let word = Statement { texts: vec![aimed.word], carries: None };
            let held = self.line.hold(aimed.moment, word, aimed.pass);
            let held = tokio::select! {
                held = held => held.ok(),
                _ = ended(&self.world, &handle) => None,
            };
            let Some(held) = held else { break };
            fired.push(aimed.what);
            is_cancelled |= self.meets(aimed.what, held, handle.workflow).await;
        }
        let ending = ended(&self.world, &handle).await;
        let World { pool, ledger, inner_ledger, .. } = &*self.world;
        let faults = oracle::faults(pool, Some(ledger), Some(inner_ledger), handle.workflow).await;
        assert!(
            faults.is_empty(),
            "{faults:#?} of {case:#?}, which met {fired:?}: {:#?} {:#?} {:#?}",
            self.world.client.attempts(handle.workflow).await,
            ledger.entries(handle.workflow).await,
            inner_ledger.entries(handle.workflow).await
        );
        for (undead, _) in self.undead.drain(..) {
            undead.kill().await;
        }
        let how = match ending {
            Ending::Completed(_) => Must::Complete,
            _ => Must::BeTakenBack,
        };
        if let Some(must) = case.must_end(&fired, is_cancelled) {
            assert_eq!(how, must, "workflow {}, of {case:#?}, which met {fired:?}", handle.workflow);
        }
        if let Ending::Completed(outputs) = ending {
            let came_to_nothing: Vec<bool> = outputs.iter().map(Option::is_none).collect();
            let meant: Vec<bool> = case.steps.iter().map(|act| act.caught && ends_for_good(act)).collect();
            let is_sure = fired.is_empty();
            assert!(!is_sure || came_to_nothing == meant, "{outputs:?} of {case:#?}");
        }
        Gone { workflow: handle.workflow, fired, how }
    }

    /// Whether it was cancelled.
    async fn meets(&mut self, what: Hardship, held: Held, workflow: WorkflowId) -> bool {
        let pool = self.world.pool.clone();
        match what {
            Hardship::Cut => drop(held),
            Hardship::Kill => {
                self.worker.signal(Signal::KILL);
                self.next_worker().await.0.kill().await;
                drop(held);
            }
            Hardship::Freeze => {
                let frozen = self.worker.pid();
                let incarnation = looks::living(&pool, frozen).await.expect("it answers");
                self.worker.signal(Signal::STOP);
                let zombie = self.next_worker().await;
                if let Some(incarnation) = incarnation {
                    until("it is declared dead", async || {
                        looks::is_buried(&pool, incarnation).await.expect("it answers").then_some(())
                    })
                    .await;
                }
                zombie.0.signal(Signal::CONT);
                held.pass();
                self.undead.push(zombie);
            }
            Hardship::Bury => {
                harm::bury(&pool, self.worker.pid()).await.expect("it answers");
                held.pass();
            }
            Hardship::Cancel => {
                let cancel = self.world.client.cancel(workflow, "ada", "not wanted");
                // What is held may hold the row that a cancel needs.
                let (answered, ()) = tokio::join!(cancel, async { held.pass() });
                return answered.expect("it answers") == Answered::Accepted;
            }
        }
        false
    }
}

/// How it went.
struct Gone {
    workflow: WorkflowId,
    fired: Vec<Hardship>,
    how: Must,
}

async fn spawn(world: &World, queue: &str, line: &Line) -> WorkerProcess {
    let process = world.process(WORKER).with_lock(&world.state_directory());
    process.variable("DATABASE_URL", line.url(&world.database.url)).variable("QUEUE", queue).spawn().await
}

fn script<const RESUME: bool>(case: &Case) -> Script<RESUME> {
    Script { gives_up: case.gives_up.then(|| "enough".to_owned()), ..Script::of(case.steps.clone()) }
}

async fn ended(world: &World, handle: &Handle<Outputs>) -> Ending<Outputs> {
    let has_ended =
        |ending: &Ending<Outputs>| matches!(ending, Ending::Completed(_) | Ending::Compensated(_));
    match world.client.wait(handle).await.expect("it answers") {
        ending if has_ended(&ending) => ending,
        // Somebody is told, and it goes on.
        _ => {
            until("the workflow ends", async || {
                world.client.poll(handle).await.expect("it answers").filter(has_ended)
            })
            .await
        }
    }
}

/// From a seed that is said, so that a run can be repeated: what a machine does beside it can't.
fn cases(count: usize) -> Vec<Case> {
    let seed = env::var("BACKSTITCH_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{count} cases of BACKSTITCH_TEST_SEED={seed}");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let case = case();
    (0..count).map(|_| case.new_tree(&mut runner).expect("nothing is filtered out").current()).collect()
}

/// Each of them, in no order.
async fn gone_through(world: &Rc<World>, cases: &Rc<Vec<Case>>) -> Vec<(usize, Gone)> {
    let next = Rc::new(Cell::new(0));
    let mut lanes = JoinSet::new();
    for number in 0..LANES {
        let (world, cases, next) = (Rc::clone(world), Rc::clone(cases), Rc::clone(&next));
        lanes.spawn_local(async move {
            let mut lane = Lane::new(world, number).await;
            let mut gone = Vec::new();
            while let Some(case) = cases.get(next.get()) {
                let index = next.replace(next.get() + 1);
                let went = match case.resumes {
                    true => lane.goes_through::<true>(case).await,
                    false => lane.goes_through::<false>(case).await,
                };
                gone.push((index, went));
            }
            gone
        });
    }
    lanes.join_all().await.into_iter().flatten().collect()
}

#[tokio::test]
async fn any_workflow_ends_well_whatever_happens_to_it() {
    let (variable, times) = LONG;
    let count = if env::var_os(variable).is_some() { CASES * times } else { CASES };
    let (world, cases) = (Rc::new(World::new().await), Rc::new(cases(count)));
    harm::note_stale_claims(&world.pool).await.expect("it is ours");
    let gone = LocalSet::new().run_until(gone_through(&world, &cases)).await;
    let stale = looks::written_under_a_stale_claim(&world.pool).await.expect("it answers");
    assert!(stale.is_empty(), "written by somebody who has no right to: {stale:?}");
    let mut fired: BTreeMap<Hardship, usize> = BTreeMap::new();
    for what in gone.iter().flat_map(|(_, gone)| &gone.fired) {
        *fired.entry(*what).or_default() += 1;
    }
    let completed = gone.iter().filter(|(_, gone)| gone.how == Must::Complete).count();
    let mut prefixes = 0;
    for (index, Gone { workflow, .. }) in gone.iter().filter(|(index, _)| index % PREFIXES_EVERY == 0) {
        let case = &cases[*index];
        prefixes += match case.resumes {
            true => each_prefix_recovers(&world, *workflow, script::<true>(case)).await,
            false => each_prefix_recovers(&world, *workflow, script::<false>(case)).await,
        };
    }
    println!(
        "{completed} of {} completed, the others were taken back; {fired:?}; {prefixes} prefixes",
        gone.len()
    );
    let enough: Range<usize> = gone.len() / 5..gone.len() * 4 / 5;
    assert!(enough.contains(&completed), "both ways are gone");
    assert!(fired.len() == 5 && fired.values().all(|times| *times >= 5), "each comes about: {fired:?}");
    assert!(prefixes >= gone.len(), "only {prefixes} prefixes were tried");
}

/// A control run: without what it is there to find, it would find nothing.
#[tokio::test]
async fn random_hardships_notice_that_there_is_no_fence() {
    let (world, cases) = (Rc::new(World::new().await), Rc::new(cases(CASES / 4)));
    harm::note_stale_claims(&world.pool).await.expect("it is ours");
    harm::take_the_fence_away(&world.pool).await.expect("it is ours");
    let lanes = LocalSet::new();
    let going = {
        let (world, cases) = (Rc::clone(&world), Rc::clone(&cases));
        lanes.spawn_local(async move { gone_through(&world, &cases).await })
    };
    let is_unwell = lanes.run_until(going).await.is_err();
    let stale = looks::written_under_a_stale_claim(&world.pool).await.expect("it answers");
    assert!(is_unwell || !stale.is_empty(), "all was well");
}
