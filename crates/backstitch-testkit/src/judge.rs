//! What must hold over a workflow's journal and its effects, whatever happened: a function of the raw rows, not by the
//! engine's own fold.
//!
//! - `course` is what a journal says, row by row, and what of it can't be.

mod course;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use self::course::Course;
use crate::violation::{Violated, Violation};

/// Everything that is known of a workflow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What it is called.
    pub kind: String,
    /// Where the database says it stands.
    pub status: String,
    /// Whether it can still be claimed.
    pub is_live: bool,
    /// Whether every step that has something to take back makes an effect that is told of here. Else only those that are
    /// told of at all are held against the journal.
    pub every_step_acts: bool,
    /// What it was to do and what it says of it, where it is a script. None: it is something else.
    pub script: Option<Script>,
    /// Its journal, in the order of seq.
    pub journal: Vec<Row>,
    /// What its steps did outside, in the order in which it happened.
    pub effects: Vec<Effect>,
}

/// What a scripted workflow was to do, and what it says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Of how many steps it was.
    pub steps: usize,
    /// Its output: of each step the output, null where it failed and that was caught. None: it has not completed.
    pub said: Option<Vec<Value>>,
}

/// An attempt: position, direction, number.
pub type Key = (u32, String, u32);

/// A row of the journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its place.
    pub seq: u32,
    /// Under which claim it was written.
    pub epoch: i32,
    /// How an attempt ended.
    pub outcome: Option<(Key, String)>,
    /// With which output, or which failure.
    pub value: Option<Value>,
    /// How the course turned.
    pub turn: Option<String>,
    /// The step that an operator said need not be taken back.
    pub skips: Option<u32>,
    /// The step of which an operator said whether it happened, and what they said.
    pub resolves: Option<(u32, bool)>,
    /// What began.
    pub intent: Option<Key>,
    /// How the step of the intent is taken back.
    pub backward: Option<String>,
}

/// What a target was asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect {
    /// By which attempt.
    pub key: Key,
    /// Under which claim.
    pub epoch: i32,
    /// What it came to.
    pub came_to: CameTo,
}

/// What became of an effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CameTo {
    /// It happened.
    Applied,
    /// It had happened before.
    Repeated,
    /// It did not happen.
    Nothing,
}

/// The turns after which nothing follows.
pub const ENDS: [&str; 3] = ["completed", "compensated", "abandoned"];

/// Every invariant that does not hold.
#[must_use]
pub fn faults(told: &Told) -> Vec<Violation> {
    let mut course = Course::default();
    for row in &told.journal {
        course.add(row);
    }
    let mut faults = course.faults();
    faults.extend(effect_faults(told));
    faults.extend(end_faults(told));
    faults.extend(told.script.as_ref().and_then(|script| script_fault(told, script)));
    faults
}

/// A script that completed has gone through all of its steps, and says of each what the journal says.
fn script_fault(told: &Told, script: &Script) -> Option<Violation> {
    let said = script.said.as_ref().filter(|_| told.status == "completed")?;
    let outputs: BTreeMap<u32, &Value> = told
        .journal
        .iter()
        .filter_map(|row| row.outcome.as_ref().zip(row.value.as_ref()))
        .filter(|(((_, direction, _), verdict), _)| direction == "run" && verdict == "succeeded")
        .map(|(((position, ..), _), value)| (*position, value))
        .collect();
    // What an operator said of a step is its output.
    let resolved: BTreeSet<u32> =
        told.journal.iter().filter_map(|row| row.resolves).map(|(position, _)| position).collect();
    let differs = (0..).zip(said).find(|(position, said)| {
        !resolved.contains(position) && outputs.get(position).copied().unwrap_or(&Value::Null) != *said
    });
    let how = match differs {
        Some((position, said)) => format!("it says of position {position}: {said}; its journal does not"),
        None if said.len() != script.steps => {
            format!("it completed {} of {} steps", said.len(), script.steps)
        }
        None => return None,
    };
    Some(Violated::SaysWhatItDid.by(how))
}

fn effect_faults(told: &Told) -> Vec<Violation> {
    let mut faults = Vec::new();
    for effect in &told.effects {
        let intended = told
            .journal
            .iter()
            .any(|row| row.intent.as_ref() == Some(&effect.key) && row.epoch == effect.epoch);
        if !intended {
            faults
                .push(Violated::IntentFirst.by(format!("an effect without its durable intent: {effect:?}")));
        }
    }
    let mut applied: BTreeMap<(u32, &str), u32> = BTreeMap::new();
    for effect in told.effects.iter().filter(|effect| effect.came_to == CameTo::Applied) {
        *applied.entry((effect.key.0, &effect.key.1)).or_default() += 1;
    }
    for ((position, direction), times) in applied {
        if times > 1 {
            let once = if direction == "run" { Violated::AppliedOnce } else { Violated::CompensatedOnce };
            faults.push(once.by(format!("{direction} of position {position} happened {times} times")));
        }
    }
    faults.extend(order_faults(told));
    faults
}

/// I6: what was done later is taken back earlier, but for a step that said it may pass one that is stuck.
fn order_faults(told: &Told) -> Vec<Violation> {
    let happened = |position: u32, direction: &str| {
        told.effects.iter().position(|effect| {
            effect.came_to == CameTo::Applied && effect.key.0 == position && effect.key.1 == direction
        })
    };
    let dependent: BTreeSet<u32> = told
        .journal
        .iter()
        .filter(|row| row.backward.as_deref() == Some("after_all_later"))
        .filter_map(|row| row.intent.as_ref().map(|intent| intent.0))
        .collect();
    let mut faults = Vec::new();
    for &earlier in &dependent {
        let Some(taken_back) = happened(earlier, "compensate") else { continue };
        for later in told.effects.iter().map(|effect| effect.key.0).filter(|later| *later > earlier) {
            let ran_before = happened(later, "run").is_some_and(|ran| ran < taken_back);
            let passed = happened(later, "compensate").is_some_and(|its| its > taken_back);
            if ran_before && passed {
                let how = format!("position {earlier} was taken back before position {later}");
                faults.push(Violated::Reverse.by(how));
            }
        }
    }
    faults.dedup();
    faults
}

fn end_faults(told: &Told) -> Vec<Violation> {
    let mut faults = Vec::new();
    let mut standing = standing(&told.effects);
    // What an operator took upon themselves may stand.
    for skipped in told.journal.iter().filter_map(|row| row.skips) {
        standing.remove(&skipped);
    }
    match told.status.as_str() {
        "compensated" if !standing.is_empty() => {
            let how = format!("these positions stand: {standing:?}");
            faults.push(Violated::CompensatedLeavesNothing.by(how));
        }
        "completed" => {
            let backward = |position: u32| {
                let of = |row: &&Row| row.intent.as_ref().is_some_and(|intent| intent.0 == position);
                told.journal.iter().find(of).and_then(|row| row.backward.as_deref())
            };
            for position in succeeded(&told.journal) {
                let stands = standing.remove(&position).unwrap_or(0);
                let acts = told.effects.iter().any(|effect| effect.key.0 == position)
                    || told.every_step_acts && backward(position) != Some("nothing");
                if stands != 1 && acts {
                    let how = format!("the effect of position {position} stands {stands} times");
                    faults.push(Violated::CompletedStands.by(how));
                }
            }
            for (resolved, _) in told.journal.iter().filter_map(|row| row.resolves) {
                standing.remove(&resolved);
            }
            standing.retain(|position, _| backward(*position) != Some("nothing"));
            if !standing.is_empty() {
                let how = format!("these positions of a completed workflow: {standing:?}");
                faults.push(Violated::FailedLeavesNothing.by(how));
            }
        }
        _ => {}
    }
    let ended =
        told.journal.iter().find_map(|row| row.turn.clone().filter(|turn| ENDS.contains(&turn.as_str())));
    if ENDS.contains(&told.status.as_str()) {
        if ended.as_deref() != Some(told.status.as_str()) {
            faults
                .push(Violated::OneOutcome.by(format!("it is {}, its journal says {ended:?}", told.status)));
        }
        if told.is_live {
            faults.push(Violated::EndedHoldsNothing.by("ended, and still in ready"));
        }
    } else if ended.is_some() {
        faults
            .push(Violated::EndIsLast.by(format!("its journal says {ended:?}, its status {}", told.status)));
    }
    faults
}

/// How many times each position's effect stands.
#[must_use]
pub fn standing(effects: &[Effect]) -> BTreeMap<u32, u32> {
    let mut standing = BTreeMap::new();
    for effect in effects.iter().filter(|effect| effect.came_to == CameTo::Applied) {
        if effect.key.1 == "run" {
            *standing.entry(effect.key.0).or_insert(0) += 1;
        } else {
            standing.remove(&effect.key.0);
        }
    }
    standing
}

/// Positions whose run succeeded and that were not compensated.
fn succeeded(journal: &[Row]) -> Vec<u32> {
    let has = |direction: &str| -> Vec<u32> {
        let outcomes = journal.iter().filter_map(|row| row.outcome.as_ref());
        outcomes
            .filter(|((_, of, _), verdict)| of == direction && verdict == "succeeded")
            .map(|((position, _, _), _)| *position)
            .collect()
    };
    let compensated = has("compensate");
    has("run").into_iter().filter(|position| !compensated.contains(position)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(position: u32, direction: &str) -> Key {
        (position, direction.to_owned(), 1)
    }

    fn row(seq: u32) -> Row {
        let (outcome, value, turn, skips, resolves, intent, backward) =
            (None, None, None, None, None, None, None);
        Row { seq, epoch: 1, outcome, value, turn, skips, resolves, intent, backward }
    }

    fn began(seq: u32, position: u32, direction: &str) -> Row {
        let backward = Some("after_all_later".to_owned());
        Row { intent: Some(key(position, direction)), backward, ..row(seq) }
    }

    fn then(row: Row, position: u32, direction: &str) -> Row {
        let outcome = Some((key(position, direction), "succeeded".to_owned()));
        Row { outcome, value: Some(Value::from(1)), ..row }
    }

    fn turn(row: Row, turn: &str) -> Row {
        Row { turn: Some(turn.to_owned()), ..row }
    }

    fn effect(position: u32, direction: &str, came_to: CameTo) -> Effect {
        Effect { key: key(position, direction), epoch: 1, came_to }
    }

    /// Two steps, taken back as they should be.
    fn sound() -> Told {
        Told {
            kind: "script.compensate".to_owned(),
            status: "compensated".to_owned(),
            is_live: false,
            every_step_acts: true,
            script: Some(Script { steps: 2, said: None }),
            journal: vec![
                began(0, 0, "run"),
                then(began(1, 1, "run"), 0, "run"),
                turn(then(began(2, 1, "compensate"), 1, "run"), "unwinding"),
                then(began(3, 0, "compensate"), 1, "compensate"),
                turn(then(row(4), 0, "compensate"), "compensated"),
            ],
            effects: [(0, "run"), (1, "run"), (1, "compensate"), (0, "compensate")]
                .map(|(position, direction)| effect(position, direction, CameTo::Applied))
                .to_vec(),
        }
    }

    #[track_caller]
    fn finds(what: Violated, spoil: impl FnOnce(&mut Told)) {
        let mut told = sound();
        spoil(&mut told);
        let found = faults(&told);
        assert!(found.iter().any(|fault| fault.what == what), "{what:?}: {found:#?}");
    }

    #[test]
    fn nothing_is_wrong_with_a_sound_one() {
        assert_eq!(faults(&sound()), []);
    }

    #[test]
    fn each_thing_that_can_be_wrong_is_found() {
        finds(Violated::Dense, |told| told.journal[2].seq = 7);
        finds(Violated::IntentFirst, |told| told.effects[1].epoch = 2);
        finds(Violated::IntentFirst, |told| told.effects.push(effect(9, "run", CameTo::Nothing)));
        finds(Violated::OneOutcome, |told| told.journal[3].outcome = told.journal[1].outcome.clone());
        finds(Violated::OneOutcome, |told| told.status = "completed".to_owned());
        finds(Violated::NeverForwardAgain, |told| told.journal[3].intent = Some(key(2, "run")));
        finds(Violated::CompensatedLeavesNothing, |told| drop(told.effects.pop()));
        finds(Violated::CompensatedLeavesNothing, |told| {
            told.effects.push(effect(0, "run", CameTo::Applied))
        });
        finds(Violated::Reverse, |told| told.effects.swap(2, 3));
        finds(Violated::EndIsLast, |told| told.journal.push(row(5)));
        finds(Violated::EndIsLast, |told| told.status = "running".to_owned());
        finds(Violated::EpochsGrow, |told| told.journal[2].epoch = 0);
        finds(Violated::AppliedOnce, |told| told.effects.insert(1, effect(0, "run", CameTo::Applied)));
        finds(Violated::CompensatedOnce, |told| told.effects.push(effect(0, "compensate", CameTo::Applied)));
        finds(Violated::EndedHoldsNothing, |told| told.is_live = true);
        let completed = |told: &mut Told| {
            *told = completed();
            told.effects.truncate(1);
        };
        finds(Violated::CompletedStands, |told| {
            completed(told);
            told.effects.push(effect(1, "run", CameTo::Nothing));
        });
        finds(Violated::CompletedStands, completed);
        finds(Violated::FailedLeavesNothing, |told| {
            completed(told);
            told.effects.push(effect(1, "run", CameTo::Applied));
            if let Some((_, verdict)) = &mut told.journal[2].outcome {
                "failed".clone_into(verdict);
            }
        });
        finds(Violated::Reverse, |told| {
            told.journal[2].intent = Some(key(0, "compensate"));
        });
        finds(Violated::AttemptsCounted, |told| told.journal[0].intent = Some((0, "run".to_owned(), 2)));
        finds(Violated::InTheirTurn, |told| told.journal[1].outcome = None);
        finds(Violated::InTheirTurn, |told| told.journal[1].intent = Some(key(2, "run")));
        finds(Violated::OneOutcome, |told| {
            told.journal[1].intent = Some((0, "run".to_owned(), 2));
        });
        finds(Violated::OneOutcome, |told| {
            told.journal[2].outcome = None;
            told.journal[3].outcome = Some((key(1, "run"), "succeeded".to_owned()));
        });
        finds(Violated::OnlyWhatIsOwed, |told| told.journal[2].turn = None);
        finds(Violated::OnlyWhatIsOwed, |told| {
            told.journal[3].intent = Some((1, "compensate".to_owned(), 2));
        });
        finds(Violated::OnlyWhatIsOwed, |told| told.journal[3].intent = Some(key(7, "compensate")));
        finds(Violated::NothingOwed, |told| told.journal[4].outcome = None);
        finds(Violated::NothingOwed, |told| {
            completed(told);
            told.journal[2].outcome = None;
        });
        finds(Violated::NeverForwardAgain, |told| told.journal[4].turn = Some("completed".to_owned()));
        finds(Violated::PivotHolds, |told| told.journal[0].backward = Some("pivot".to_owned()));
        finds(Violated::NeverGivenUp, |told| {
            told.journal[3].outcome = Some((key(1, "compensate"), "failed".to_owned()));
        });
        finds(Violated::NeverGivenUp, |told| {
            told.journal[0].backward = Some("pivot".to_owned());
            told.journal[2].outcome = Some((key(1, "run"), "failed".to_owned()));
        });
        finds(Violated::TurnsOnce, |told| told.journal[3].turn = Some("unwinding".to_owned()));
        finds(Violated::TurnsOnce, |told| told.journal[2].turn = None);
    }

    /// Two steps that completed as they should.
    fn completed() -> Told {
        let mut told = sound();
        told.status = "completed".to_owned();
        told.journal.truncate(2);
        told.journal.push(turn(then(row(2), 1, "run"), "completed"));
        told.effects.truncate(2);
        told.script = Some(Script { steps: 2, said: Some(vec![Value::from(1), Value::from(1)]) });
        told
    }

    #[test]
    fn a_script_that_completed_has_done_all_of_it_and_says_what_it_did() {
        assert_eq!(faults(&completed()), []);
        let what = |spoil: fn(&mut Script)| {
            let mut told = completed();
            spoil(told.script.as_mut().unwrap());
            faults(&told).iter().map(|fault| fault.what).collect::<Vec<_>>()
        };
        assert_eq!(what(|script| script.steps = 3), [Violated::SaysWhatItDid]);
        assert_eq!(what(|script| script.said = Some(vec![Value::from(1)])), [Violated::SaysWhatItDid]);
        assert_eq!(
            what(|script| script.said = Some(vec![Value::from(1), Value::from(2)])),
            [Violated::SaysWhatItDid]
        );
        assert_eq!(
            what(|script| script.said = Some(vec![Value::from(1), Value::Null])),
            [Violated::SaysWhatItDid]
        );
        // Whoever was asked says what an operator said.
        let mut told = completed();
        told.journal[1].resolves = Some((0, true));
        told.script = Some(Script { steps: 2, said: Some(vec![Value::Null, Value::from(1)]) });
        assert_eq!(faults(&told), []);
    }

    #[test]
    fn a_pivot_may_reject_as_long_as_nothing_can_have_come_of_it() {
        let rejected = |attempt| Some(((0, "run".to_owned(), attempt), "rejected".to_owned()));
        let pivot = Row { backward: Some("pivot".to_owned()), ..began(0, 0, "run") };
        let mut told = sound();
        told.effects.clear();
        told.journal = vec![
            pivot.clone(),
            turn(Row { outcome: rejected(1), ..row(1) }, "unwinding"),
            turn(row(2), "compensated"),
        ];
        assert_eq!(faults(&told), []);
        // After an attempt of which nobody knows.
        told.journal = vec![
            pivot,
            Row { intent: Some((0, "run".to_owned(), 2)), ..row(1) },
            turn(Row { outcome: rejected(2), ..row(2) }, "unwinding"),
            turn(row(3), "compensated"),
        ];
        assert!(faults(&told).iter().any(|fault| fault.what == Violated::NeverGivenUp));
    }

    #[test]
    fn what_an_operator_took_upon_themselves_may_stand() {
        let mut told = sound();
        told.effects.pop();
        told.journal[4].skips = Some(0);
        assert!(!faults(&told).iter().any(|fault| fault.what == Violated::CompensatedLeavesNothing));
    }
}
