//! What is made up, and how must it end?

use std::env;

use backstitch_testkit::cut::Moment;
use backstitch_testkit::script::{Act, Do, Manner};
use proptest::collection::vec;
use proptest::prelude::{Just, Strategy, any};
use proptest::prop_oneof;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// More attempts than any step makes.
const MANY: usize = 20;
/// Attempts of a step that nothing but its own script can use up.
const ATTEMPTS_MAX: usize = 3;

/// What happens to a workflow that is under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardship {
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
pub struct Aimed {
    pub what: Hardship,
    pub moment: Moment,
    pub word: &'static str,
    pub pass: u32,
}

/// A workflow, and what happens to it.
#[derive(Debug, Clone)]
pub struct Case {
    pub resumes: bool,
    pub steps: Vec<Act>,
    pub gives_up: bool,
    pub hardships: Vec<Aimed>,
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

    /// Which of its steps come to nothing and are caught, where nothing happens to it.
    pub fn comes_to_nothing(&self) -> Vec<bool> {
        self.steps.iter().map(|act| act.caught && ends_for_good(act)).collect()
    }

    /// How it must end. None: that depends on what came first.
    pub fn must_end(&self, fired: &[Hardship], is_cancelled: bool) -> Option<Must> {
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
pub enum Must {
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
        2 => Just(Hardship::Freeze),
        2 => Just(Hardship::Bury),
        2 => Just(Hardship::Cancel),
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

/// From a seed that is said, so that a run can be repeated: what a machine does beside it can't.
pub fn cases(count: usize) -> Vec<Case> {
    let seed = env::var("BACKSTITCH_TEST_SEED").ok().map(|seed| seed.parse().expect("a seed is a number"));
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
    println!("{count} cases of BACKSTITCH_TEST_SEED={seed}");
    let mut runner = TestRunner::new(Config { rng_seed: RngSeed::Fixed(seed), ..Config::default() });
    let case = case();
    (0..count).map(|_| case.new_tree(&mut runner).expect("nothing is filtered out").current()).collect()
}
