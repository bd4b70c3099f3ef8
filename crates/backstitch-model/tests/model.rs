//! Does the protocol hold whatever goes wrong, and does the checker notice when a part of it is left out?

use std::collections::BTreeSet;

use backstitch_core::decide::Recovery;
use backstitch_core::limits::CRASH_BUDGET;
use backstitch_core::record::Backward::{AfterAllLater, Independent, Pivot};
use backstitch_model::protocol::{Defect, Plan, Protocol, Target};
use backstitch_model::rules;
use stateright::{Checker, HasDiscoveries, Model};

/// A step upon a target that keeps tombstones.
const KEEPS: Plan = Plan::new(AfterAllLater);

/// A step upon a target that must be waited out.
const TAKES: Plan = Plan::new(AfterAllLater).on(Target::TakesAnything);

/// As many as the machines that this runs on have at least.
const THREADS: usize = 2;

#[test]
fn an_allocation_ends_well_whatever_two_things_go_wrong() {
    holds(Protocol::new([KEEPS, TAKES], 2), 100_000);
}

#[test]
fn a_workflow_that_is_resumed_ends_well_whatever_two_things_go_wrong() {
    holds(Protocol { recovery: Recovery::Resume, ..Protocol::new([TAKES, KEEPS], 2) }, 100_000);
}

#[test]
fn a_function_that_goes_on_after_a_failed_step_ends_well() {
    let resumed = Protocol::new([KEEPS, TAKES], 2);
    holds(Protocol { recovery: Recovery::Resume, tolerant: true, ..resumed }, 100_000);
}

#[test]
fn a_cancel_and_a_pivot_race_for_one_winner() {
    let pivot = Plan::new(Pivot);
    holds(Protocol { verbs: 1, ..Protocol::new([KEEPS, pivot], 2) }, 100_000);
    let pivot = pivot.on(Target::TakesAnything);
    holds(Protocol { verbs: 1, recovery: Recovery::Resume, ..Protocol::new([TAKES, pivot], 2) }, 100_000);
}

#[test]
fn what_a_person_decides_about_a_stuck_compensation_is_kept() {
    let stuck = Plan::new(Independent).on(Target::TakesAnything);
    // A cancel brings it on its way back; what then goes wrong sticks, and is decided.
    holds(Protocol { verbs: 3, ..Protocol::new([stuck, KEEPS.halting()], 1) }, 8_000);
}

#[test]
fn a_workflow_that_used_up_its_crash_budget_is_taken_back() {
    let charges = u8::try_from(CRASH_BUDGET).expect("small") - 1;
    let resumed = Protocol::new([KEEPS, TAKES], 2);
    holds(Protocol { charges, recovery: Recovery::Resume, ..resumed }, 50_000);
}

#[test]
fn without_the_fence_a_stale_record_is_written() {
    finds(Defect::FenceOff, Protocol::new([KEEPS, TAKES], 1), rules::NO_STALE_RECORD);
}

#[test]
fn a_burial_without_the_lock_lets_a_stale_record_through() {
    finds(Defect::BurialWithoutLock, Protocol::new([KEEPS, TAKES], 1), rules::NO_STALE_RECORD);
}

#[test]
fn a_burial_by_the_clock_alone_buries_the_living() {
    finds(Defect::BurialByClockAlone, Protocol::new([KEEPS, TAKES], 1), rules::THE_LIVING_ARE_NOT_BURIED);
}

#[test]
fn a_burial_that_keeps_the_holder_strands_the_workflow() {
    finds(Defect::BurialKeepsHolder, Protocol::new([KEEPS, TAKES], 1), rules::REST_IS_AN_END);
}

#[test]
fn an_effect_before_its_intent_is_noticed() {
    finds(Defect::IntentAfterEffect, Protocol::new([KEEPS, TAKES], 1), rules::NO_EFFECT_WITHOUT_INTENT);
}

#[test]
fn an_append_that_is_not_repeated_leads_to_an_effect_without_intent() {
    finds(Defect::UnansweredIsWritten, Protocol::new([KEEPS, TAKES], 1), rules::NO_EFFECT_WITHOUT_INTENT);
}

#[test]
fn without_its_tombstone_a_target_keeps_a_late_effect() {
    finds(Defect::TombstoneOff, Protocol::new([KEEPS, TAKES], 1), rules::COMPENSATED_LEAVES_NOTHING);
}

#[test]
fn what_is_not_waited_out_arrives_after_its_compensation() {
    finds(Defect::NotWaitedOut, Protocol::new([KEEPS, TAKES], 1), rules::COMPENSATED_LEAVES_NOTHING);
}

#[test]
fn an_attempt_whose_time_counts_from_a_late_answer_arrives_after_its_compensation() {
    // Three mischances: the answer is lost, time passes before it is repeated, and the worker dies. The sound protocol withstands
    // any three, too: ten million states, which are not walked through each time.
    finds(Defect::TimeFromAnswer, Protocol::new([TAKES, KEEPS], 3), rules::COMPENSATED_LEAVES_NOTHING);
}

#[test]
fn without_a_stable_key_an_effect_stands_twice() {
    let resumed = Protocol { recovery: Recovery::Resume, ..Protocol::new([KEEPS, TAKES], 1) };
    finds(Defect::KeyNotStable, resumed, rules::COMPLETED_STANDS_ONCE);
}

#[test]
fn a_worker_that_does_not_stop_itself_acts_after_the_compensation() {
    finds(Defect::SelfStopMissing, Protocol::new([TAKES, KEEPS], 1), rules::COMPENSATED_LEAVES_NOTHING);
}

#[test]
fn a_swallowed_error_of_a_compensation_leaves_its_effect() {
    finds(Defect::CompensationSwallowed, Protocol::new([KEEPS, TAKES], 2), rules::COMPENSATED_LEAVES_NOTHING);
}

#[test]
fn a_compensation_given_up_silently_strands_the_workflow() {
    finds(Defect::StuckSilently, Protocol::new([KEEPS, TAKES], 2), rules::REST_IS_AN_END);
}

#[test]
fn a_recovery_that_runs_forward_after_unwinding_is_noticed() {
    let twice = Protocol::new([KEEPS, TAKES], 2);
    finds(Defect::ForwardAfterUnwinding, twice, rules::NOTHING_FORWARD_AFTER_UNWINDING);
}

#[test]
fn compensations_in_the_order_of_the_steps_are_noticed() {
    finds(Defect::OrderNotReversed, Protocol::new([KEEPS, TAKES], 1), rules::COMPENSATED_IN_REVERSE);
}

#[test]
fn a_cancel_that_loses_to_the_pivot_is_noticed() {
    let raced = Protocol { verbs: 1, ..Protocol::new([KEEPS, Plan::new(Pivot)], 0) };
    finds(Defect::CancelLosesToPivot, raced, rules::CANCEL_IS_KEPT);
}

/// What was walked through is what it is about: each of these comes to pass, or the rules above were kept by nothing happening.
#[test]
fn everything_that_a_rule_is_about_comes_to_pass() {
    let taken_back = Protocol::new([KEEPS, TAKES], 2);
    let resumed = Protocol { recovery: Recovery::Resume, ..taken_back.clone() };
    for wanted in rules::SOMETIMES {
        let comes_to_pass = |protocol: &Protocol| {
            let until = HasDiscoveries::AllOf(BTreeSet::from([wanted]));
            let checker = protocol.clone().checker().threads(THREADS).finish_when(until).spawn_bfs().join();
            checker.discovery(wanted).is_some()
        };
        assert!([&taken_back, &resumed].into_iter().any(comes_to_pass), "never: {wanted}");
    }
}

/// No state breaks a rule, the whole space was walked through, and it holds at least so many states, or this says little.
fn holds(protocol: Protocol, states_min: usize) {
    let checker = protocol.checker().threads(THREADS).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("{states} states, {} moves, paths of up to {}", checker.state_count(), checker.max_depth());
    for broken in rules::ALWAYS {
        if let Some(path) = checker.discovery(broken) {
            let moves = path.clone().into_actions();
            panic!("broken: {broken}\nby {moves:#?}\nwhich lead to {:#?}", path.last_state());
        }
    }
    assert!(
        states >= states_min,
        "{states} states are fewer than {states_min}: what is not explored any more?"
    );
}

/// The defect breaks this rule within what the sound protocol withstands.
fn finds(defect: Defect, protocol: Protocol, rule: &'static str) {
    let until = HasDiscoveries::AllOf(BTreeSet::from([rule]));
    let unsound = protocol.without(defect).checker().threads(THREADS).finish_when(until).spawn_bfs().join();
    let path = unsound.discovery(rule);
    let path = path.unwrap_or_else(|| {
        panic!("{defect:?} does not break {rule:?} in {} states", unsound.unique_state_count())
    });
    println!("{defect:?}: {} states, {:?}", unsound.unique_state_count(), path.into_actions());
}
