//! Longer workflows with more going wrong than can be enumerated.

use std::time::Duration;

use backstitch_core::decide::{LateEffects, Orphaned, Recovery};
use backstitch_core::id::Seq;
use backstitch_core::record::{AttemptId, Backward, Turn};
use proptest::collection::vec;
use proptest::prelude::{Strategy, any};
use proptest::sample::select;
use proptest::test_runner::{Config, TestRunner};

use crate::drive::{BRIEF, Drive, Ending, Event, Kind, Plan, Script};

/// A few thousand keep the whole suite within seconds, unoptimized.
const CASES: u32 = 4_000;

#[test]
fn any_workflow_ends_well_whatever_goes_wrong() {
    let config = Config { cases: CASES, failure_persistence: None, ..Config::default() };
    let script = (vec(ending(), 0..40), vec(event(), 0..40));
    TestRunner::new(config)
        .run(&(kind(), script), |(kind, (endings, events))| {
            let mut drive = Drive::new(&kind, Listed { endings, events });
            let end = drive.finish();
            if drive.around.cancel.is_some() {
                assert_eq!(end, Turn::Compensated, "an accepted cancel always ends compensated");
            }
            assert_eq!(drive.report().map_or(0, |report| report.owed().count()), 0);
            Ok(())
        })
        .unwrap_or_else(|failed| panic!("{failed}"));
}

fn kind() -> impl Strategy<Value = Kind> {
    let recovery = select(vec![Recovery::Compensate, Recovery::Resume]);
    (vec(plan(), 1..8), recovery, any::<bool>()).prop_map(|(steps, recovery, tolerant)| Kind {
        steps,
        recovery,
        tolerant,
    })
}

fn plan() -> impl Strategy<Value = Plan> {
    use Backward::{AfterAllLater, Independent, Nothing, Pivot};
    use LateEffects::{Local, Refused, WaitOut};
    // Few pivots, or hardly any workflow would ever turn back.
    let backward = select(vec![AfterAllLater, AfterAllLater, Independent, Independent, Nothing, Pivot]);
    let late_effects = select(vec![Refused, Local, WaitOut]);
    (backward, any::<bool>(), late_effects, 1..4_u32, 1..4_u32, 0..900_u64).prop_map(
        |(backward, transactional, late_effects, attempts_max, patience, seconds)| {
            let mut plan = Plan { transactional, ..Plan::new(backward).late_effects(late_effects) };
            plan.conduct.retry = BRIEF.retry.attempts(attempts_max);
            plan.conduct.patience.attempts = patience;
            plan.conduct.patience.time = Duration::from_secs(seconds);
            plan
        },
    )
}

fn ending() -> impl Strategy<Value = Ending> {
    use Ending::{Fails, IsCutShort, Panics, Rejects, Retries, Succeeds, TimesOut};
    select(vec![
        Succeeds, Succeeds, Succeeds, Succeeds, Retries, Retries, Fails, Rejects, TimesOut, IsCutShort,
        Panics,
    ])
}

fn event() -> impl Strategy<Value = Event> {
    use Event::{Cancelled, DeadlinePasses, Dies, Nothing, OperatorRetries};
    let rare = select(vec![Cancelled, DeadlinePasses, OperatorRetries]);
    let death = select(vec![Dies(Orphaned::Expired), Dies(Orphaned::Gone)]);
    proptest::prop_oneof![12 => proptest::strategy::Just(Nothing), 4 => death, 1 => rare]
}

/// What happens, in order; then nothing goes wrong any more.
#[derive(Debug)]
struct Listed {
    endings: Vec<Ending>,
    events: Vec<Event>,
}

impl Script for Listed {
    fn ending(&mut self, _: AttemptId) -> Ending {
        self.endings.pop().unwrap_or(Ending::Succeeds)
    }

    fn event(&mut self, _: Seq) -> Event {
        self.events.pop().unwrap_or(Event::Nothing)
    }
}
