//! Everything that can go wrong, one thing at every place, then two, then three.

use backstitch_core::decide::{Orphaned, Recovery};
use backstitch_core::id::Seq;
use backstitch_core::record::{AttemptId, Backward};

use crate::drive::{Drive, Ending, Event, Kind, Plan, Script};

/// What may happen where; the first is what happens when nothing goes wrong.
const ENDINGS: [Ending; 6] =
    [Ending::Succeeds, Ending::Retries, Ending::Fails, Ending::Rejects, Ending::TimesOut, Ending::IsCutShort];
const EVENTS: [Event; 5] = [
    Event::Nothing,
    Event::Dies(Orphaned::Expired),
    Event::Dies(Orphaned::Gone),
    Event::Cancelled,
    Event::DeadlinePasses,
];

/// One path through all choices: what was chosen, out of how many.
#[derive(Default)]
pub struct Trail {
    choices: Vec<(usize, usize)>,
    at: usize,
    faults_max: usize,
    faults: usize,
}

impl Trail {
    fn choose(&mut self, options: usize) -> usize {
        if self.at == self.choices.len() {
            self.choices.push((0, if self.faults < self.faults_max { options } else { 1 }));
        }
        let (chosen, _) = self.choices[self.at];
        self.at += 1;
        self.faults += usize::from(chosen > 0);
        chosen
    }

    /// Moves to the next path. False: all were taken.
    fn advance(&mut self) -> bool {
        while let Some((chosen, options)) = self.choices.pop() {
            if chosen + 1 < options {
                self.choices.push((chosen + 1, options));
                (self.at, self.faults) = (0, 0);
                return true;
            }
        }
        false
    }
}

impl Script for &mut Trail {
    fn ending(&mut self, _: AttemptId) -> Ending {
        ENDINGS[self.choose(ENDINGS.len())]
    }

    fn event(&mut self, _: Seq) -> Event {
        EVENTS[self.choose(EVENTS.len())]
    }
}

/// Drives every path with at most `faults_max` things going wrong to its end, and shows it. Answers how many.
pub fn explore(kind: &Kind, faults_max: usize, mut see: impl FnMut(&Drive<&mut Trail>)) -> usize {
    let mut trail = Trail { faults_max, ..Trail::default() };
    let mut count = 0;
    loop {
        let mut drive = Drive::new(kind, &mut trail);
        drive.finish();
        see(&drive);
        count += 1;
        if !trail.advance() {
            return count;
        }
    }
}

pub const BACKWARDS: [Backward; 4] =
    [Backward::AfterAllLater, Backward::Independent, Backward::Nothing, Backward::Pivot];

/// Every way a step can be declared.
pub fn plans() -> Vec<Plan> {
    BACKWARDS
        .iter()
        .flat_map(|&backward| [Plan::new(backward), Plan::new(backward).transactional()])
        .collect()
}

/// Every workflow of exactly `steps` of these.
pub fn kinds(steps: usize, plans: &[Plan]) -> Vec<Kind> {
    let mut lists = vec![Vec::new()];
    for _ in 0..steps {
        lists = lists
            .iter()
            .flat_map(|list: &Vec<Plan>| {
                plans.iter().map(move |&plan| list.iter().copied().chain([plan]).collect::<Vec<_>>())
            })
            .collect();
    }
    let recoveries = [Recovery::Compensate, Recovery::Resume];
    lists
        .into_iter()
        .flat_map(|steps| recoveries.map(|recovery| Kind { steps: steps.clone(), recovery, tolerant: false }))
        .collect()
}
