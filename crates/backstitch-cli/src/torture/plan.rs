//! Which faults come when, and what work is there for them to hit? A function of the seed.

use std::time::Duration;

use backstitch::Direction;
use backstitch_testkit::cut::Moment;
use backstitch_testkit::script::{Act, Do, Manner};
use rand::rngs::ChaCha8Rng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::crew::WORKERS;
use super::fault::{
    BOUNDARIES, Boundary, EDGE, Fault, MISBEHAVIOURS, OnPooler, OnPostgres, OnProcess, PASSAGES, PROCESS,
    Then, Whose,
};

/// Beside the deaths at boundaries and in calls, so many at any moment for each round.
const KILLS_AT_RANDOM: usize = 36;

/// So many where one would rarely be in the middle of something.
const SESSIONS_TERMINATED: usize = 75;
const STATEMENTS_CANCELLED: usize = 8;

/// So many where there is more than one way to be hit.
const FROZEN: usize = 9;
const TERMINATED: usize = 6;
const CUT: usize = 3;
const POSTGRES_STOPPED: usize = 2;

/// A fault, and at whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Aimed {
    /// What happens.
    pub fault: Fault,
    /// The worker it happens to, where it happens to one.
    pub worker: usize,
    /// How long after the one before, in parts of the pace of a thousand.
    pub after_permille: u32,
}

/// Every fault, each at least once, in an order that only seed and round decide.
pub fn round(seed: u64, round: u64, with_edge: bool) -> Vec<Aimed> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(round);
    let mut faults = deck(with_edge);
    faults.shuffle(&mut random);
    aimed(faults, &mut random)
}

/// These faults, in their order.
pub fn cycle(seed: u64, faults: Vec<Fault>) -> Vec<Aimed> {
    aimed(faults, &mut ChaCha8Rng::seed_from_u64(seed))
}

fn aimed(faults: Vec<Fault>, random: &mut ChaCha8Rng) -> Vec<Aimed> {
    faults
        .into_iter()
        .map(|fault| {
            let workers: Vec<usize> = (0..WORKERS).filter(|worker| fault.may_meet(*worker)).collect();
            Aimed {
                fault,
                worker: workers[random.random_range(0..workers.len())],
                after_permille: random.random_range(500..1500),
            }
        })
        .collect()
}

fn deck(with_edge: bool) -> Vec<Fault> {
    let mut faults = at_boundaries(Whose::Worker, &BOUNDARIES, CUT);
    for misbehave in MISBEHAVIOURS {
        for direction in [Direction::Run, Direction::Compensate] {
            faults.push(Fault::Call(misbehave, direction));
        }
    }
    for how in PROCESS {
        let times = match how {
            OnProcess::Killed => KILLS_AT_RANDOM,
            OnProcess::Frozen => FROZEN,
            OnProcess::Terminated => TERMINATED,
            _ => 1,
        };
        faults.extend(std::iter::repeat_n(Fault::Process(Whose::Worker, how), times));
    }
    faults.extend(PASSAGES.map(|passage| Fault::Line(Whose::Worker, passage)));
    faults.push(Fault::RecorderKilled);
    faults.extend([Fault::Postgres(OnPostgres::Stopped); POSTGRES_STOPPED]);
    for how in [
        OnPostgres::Killed,
        OnPostgres::Frozen,
        OnPostgres::DiskFull,
        OnPostgres::ClockAhead,
        OnPostgres::ClockBehind,
    ] {
        faults.push(Fault::Postgres(how));
    }
    faults.extend([Fault::Postgres(OnPostgres::SessionTerminated); SESSIONS_TERMINATED]);
    faults.extend([Fault::Postgres(OnPostgres::StatementCancelled); STATEMENTS_CANCELLED]);
    faults.extend([Fault::Pooler(OnPooler::Killed), Fault::Pooler(OnPooler::Frozen)]);
    if with_edge {
        faults.extend(EDGE.map(Fault::Edge));
        faults.extend(PROCESS.map(|how| Fault::Process(Whose::Daemon, how)));
        faults.extend(at_boundaries(Whose::Daemon, &[Boundary::Batch, Boundary::Commit], 1));
        faults.extend(PASSAGES.map(|passage| Fault::Line(Whose::Daemon, passage)));
    }
    faults
}

/// Before and after each of these boundaries whatever can happen there; the connection is cut so many times.
fn at_boundaries(whose: Whose, boundaries: &[Boundary], cut: usize) -> Vec<Fault> {
    let mut faults = Vec::new();
    for &boundary in boundaries {
        for moment in [Moment::BeforeStatement, Moment::BeforeAnswer] {
            for then in [Then::Killed, Then::Cut, Then::Delayed, Then::Buried] {
                let times = if then == Then::Cut { cut } else { 1 };
                faults.extend(std::iter::repeat_n(Fault::Statement { whose, boundary, moment, then }, times));
            }
        }
    }
    faults
}

/// A workflow that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Continued after a crash, or taken back.
    pub resumes: bool,
    /// Its steps.
    pub steps: Vec<Act>,
    /// With what its function gives up at the end. None: it succeeds.
    pub gives_up: Option<String>,
    /// Somebody cancels it at once.
    pub is_cancelled: bool,
    /// How long it may take forward.
    pub deadline: Option<Duration>,
}

impl Errand {
    /// Whether it completes where nothing goes wrong.
    pub fn is_meant_to_complete(&self) -> bool {
        let fails = |what: &Do| matches!(what, Do::Fail(_) | Do::Reject(_));
        let lost = |act: &Act| !act.caught && act.run.iter().flatten().any(fails);
        let is_hurried = self.is_cancelled || self.deadline.is_some();
        !is_hurried && self.gives_up.is_none() && !self.steps.iter().any(lost)
    }
}

/// The n-th errand of a round.
pub fn errand(seed: u64, round: u64, number: u64) -> Errand {
    // Apart from the stream of faults, and from each other.
    let mut random = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    random.set_stream(round << 32 | number);
    let count = random.random_range(2..=6);
    let mut steps: Vec<Act> = (0..count).map(|_| step(&mut random)).collect();
    // Nothing comes back from behind a pivot: at most one, and nothing that fails after it.
    let pivot = random.random_ratio(1, 12).then(|| random.random_range(0..count));
    let gives_up = (pivot.is_none() && random.random_ratio(1, 3)).then(|| "enough".to_owned());
    if let Some(pivot) = pivot {
        let manner = if random.random() { Manner::Pivot } else { Manner::ProbedPivot };
        steps[pivot] = Act::new().manner(manner);
        for step in &mut steps[pivot..] {
            step.run.clear();
            step.caught = false;
        }
    }
    let is_cancelled = random.random_ratio(1, 40);
    let deadline = random.random_ratio(1, 30).then(|| Duration::from_millis(random.random_range(100..2000)));
    Errand { resumes: random.random(), steps, gives_up, is_cancelled, deadline }
}

fn step(random: &mut ChaCha8Rng) -> Act {
    let manner = match random.random_range(0..16) {
        0..=1 => Manner::Independent,
        2..=3 => Manner::Nothing,
        4..=5 => Manner::Transactional,
        6..=7 => Manner::Probed,
        8 => Manner::Halting,
        _ => Manner::Dependent,
    };
    let broken = || "broken".to_owned();
    // On every attempt: a death before the error is journaled is no way around it.
    let always = |act: Act, attempt: Vec<Do>| (0..20).fold(act, |act, _| act.run(attempt.clone()));
    let act = Act::new().manner(manner);
    if manner == Manner::Nothing {
        // What it leaves is nobody's to take back: it leaves nothing.
        return always(act, Vec::new());
    }
    let act = match random.random_range(0..40) {
        0 => always(act, vec![Do::Effect, Do::Fail(broken())]),
        1 => always(act, vec![Do::Reject(broken())]),
        2 => always(act, vec![Do::Effect, Do::Fail(broken())]).caught(),
        3..=6 => act.run([Do::Effect, Do::Retry("busy".to_owned())]),
        7 => act.run([Do::Effect, Do::Panic]),
        8 => act.run([Do::Effect, Do::Hang]),
        _ => act,
    };
    match random.random_range(0..20) {
        0 => act.compensate([Do::Effect, Do::Retry("busy".to_owned())]),
        1 => act.compensate([Do::Panic]),
        // Out of patience: an alert, then the slow pace, or the wait for an operator.
        2 => (0..4).fold(act, |act, _| act.compensate([Do::Retry("broken".to_owned())])),
        _ => act,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::crew::VETERAN;
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_plan_and_another_another() {
        assert_eq!(round(7, 3, true), round(7, 3, true));
        assert_ne!(round(7, 3, true), round(7, 4, true));
        assert_ne!(round(7, 3, true), round(8, 3, true));
        assert_eq!(errand(7, 3, 11), errand(7, 3, 11));
        assert!((0..50).any(|number| errand(7, 3, number) != errand(8, 3, number)));
    }

    #[test]
    fn every_round_has_every_fault_and_spares_the_veteran() {
        let plan = round(1, 0, true);
        let names: HashSet<String> = plan.iter().map(|aimed| aimed.fault.name()).collect();
        let all: HashSet<String> = deck(true).into_iter().map(Fault::name).collect();
        assert_eq!(names, all);
        assert_eq!(names.len(), 88 + 22 + 7 + 4 + 1 + 8 + 2 + 13 + 7 + 16 + 4);
        let veteran = |aimed: &&Aimed| aimed.worker == VETERAN;
        assert!(plan.iter().filter(veteran).all(|aimed| !aimed.fault.kills_a_worker()));
        assert!(plan.iter().any(|aimed| veteran(&aimed)), "it has its share of the others");
        assert!(plan.iter().filter(|aimed| aimed.fault.kills_a_worker()).count() >= 55);
    }

    #[test]
    fn most_errands_are_meant_to_complete_and_many_are_not() {
        let meant = (0..1000).filter(|number| errand(1, 0, *number).is_meant_to_complete()).count();
        assert!((450..750).contains(&meant), "{meant} of 1000");
    }
}
