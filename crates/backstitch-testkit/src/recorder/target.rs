//! What a good target makes of a call, given all it was told before.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Answered, Call, Line};

/// What a call came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The effect happened.
    Applied,
    /// It had happened, under the same key.
    Repeated,
    /// Refused: the step was compensated before.
    Tombstone,
    /// Refused: somebody with a later epoch has called.
    StaleEpoch,
    /// Not heard, or said to be impossible now; nothing happened.
    Nothing,
}

impl Verdict {
    pub(super) fn answer(self) -> Answered {
        match self {
            Self::Applied | Self::Repeated => Answered::Done,
            Self::Tombstone => Answered::Tombstone,
            Self::StaleEpoch => Answered::StaleEpoch,
            Self::Nothing => Answered::Failed,
        }
    }
}

/// What a target lacks, to see that the checker notices. Nothing of it is for use.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lacking {
    /// It does not know a key again.
    pub keys: bool,
    /// It lets a run arrive after its compensation.
    pub tombstones: bool,
    /// It hears everybody, however stale.
    pub epochs: bool,
    /// It says that it took back what it did not, one time in eight.
    pub honesty: bool,
}

/// What a target remembers.
#[derive(Debug, Default)]
pub(super) struct Target {
    lacking: Lacking,
    /// Which attempt took effect under each key.
    taken: HashMap<String, u32>,
    compensated: HashSet<(Uuid, u32)>,
    epochs: HashMap<Uuid, i32>,
}

impl Target {
    /// As it is after all of this.
    pub(super) fn after(lacking: Lacking, lines: &[Line]) -> Self {
        let mut target = Self { lacking, ..Self::default() };
        for line in lines {
            target.remember(&line.call, line.verdict);
        }
        target
    }

    /// Decides, and remembers.
    pub(super) fn hear(&mut self, call: &Call) -> Verdict {
        let verdict = self.judge(call);
        self.remember(call, verdict);
        verdict
    }

    /// Whether it lies about this compensation.
    pub(super) fn swallows(&self, call: &Call) -> bool {
        self.lacking.honesty
            && call.direction == "compensate"
            && call.workflow.as_bytes()[15].is_multiple_of(8)
    }

    /// Which attempt of this step's run stands.
    pub(super) fn standing(&self, workflow: Uuid, position: u32, key: &str) -> Option<u32> {
        let is_compensated = self.compensated.contains(&(workflow, position));
        self.taken.get(key).copied().filter(|_| !is_compensated)
    }

    fn judge(&self, call: &Call) -> Verdict {
        if self.epochs.get(&call.workflow).is_some_and(|latest| call.epoch < *latest) && !self.lacking.epochs
        {
            Verdict::StaleEpoch
        } else if self.taken.contains_key(&call.key) && !self.lacking.keys {
            Verdict::Repeated
        } else if call.direction == "run"
            && self.compensated.contains(&(call.workflow, call.position))
            && !self.lacking.tombstones
        {
            Verdict::Tombstone
        } else {
            Verdict::Applied
        }
    }

    fn remember(&mut self, call: &Call, verdict: Verdict) {
        if matches!(verdict, Verdict::Applied | Verdict::Repeated) {
            let latest = self.epochs.entry(call.workflow).or_insert(call.epoch);
            *latest = call.epoch.max(*latest);
        }
        if verdict == Verdict::Applied {
            self.taken.entry(call.key.clone()).or_insert(call.attempt);
            if call.direction == "compensate" {
                self.compensated.insert((call.workflow, call.position));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(direction: &str, epoch: i32) -> Call {
        let workflow = Uuid::from_u128(8);
        let key = format!("{workflow}/0/{direction}");
        Call { workflow, position: 0, direction: direction.to_owned(), key, attempt: 1, epoch, pid: 1 }
    }

    #[test]
    fn a_key_is_taken_once_a_compensation_leaves_a_tombstone_and_a_stale_caller_is_refused() {
        let mut target = Target::default();
        assert_eq!(target.hear(&call("run", 1)), Verdict::Applied);
        assert_eq!(target.hear(&call("run", 2)), Verdict::Repeated);
        assert_eq!(target.hear(&call("run", 1)), Verdict::StaleEpoch);
        assert_eq!(target.hear(&call("compensate", 3)), Verdict::Applied);
        assert_eq!(target.hear(&call("compensate", 3)), Verdict::Repeated);
        let mut target = Target::default();
        assert_eq!(target.hear(&call("compensate", 1)), Verdict::Applied, "nothing to take back is no error");
        assert_eq!(target.hear(&call("run", 1)), Verdict::Tombstone);
    }

    #[test]
    fn what_stands_is_what_was_run_first_and_not_compensated() {
        let mut target = Target::default();
        let (workflow, key) = (call("run", 1).workflow, call("run", 1).key);
        let standing = |target: &Target| target.standing(workflow, 0, &key);
        assert_eq!(standing(&target), None);
        target.hear(&call("run", 1));
        target.hear(&Call { attempt: 2, ..call("run", 2) });
        assert_eq!(standing(&target), Some(1));
        target.hear(&call("compensate", 3));
        assert_eq!(standing(&target), None);
    }

    #[test]
    fn what_it_lacks_it_lacks() {
        let mut target =
            Target { lacking: Lacking { keys: true, ..Lacking::default() }, ..Target::default() };
        target.hear(&call("run", 1));
        assert_eq!(target.hear(&call("run", 1)), Verdict::Applied);
        let mut target =
            Target { lacking: Lacking { tombstones: true, ..Lacking::default() }, ..Target::default() };
        target.hear(&call("compensate", 1));
        assert_eq!(target.hear(&call("run", 1)), Verdict::Applied);
        let mut target =
            Target { lacking: Lacking { epochs: true, ..Lacking::default() }, ..Target::default() };
        target.hear(&call("compensate", 5));
        assert_eq!(target.hear(&call("run", 1)), Verdict::Tombstone, "by its tombstone, not by its epoch");
        let target = Target { lacking: Lacking { honesty: true, ..Lacking::default() }, ..Target::default() };
        assert!(target.swallows(&call("compensate", 1)) && !target.swallows(&call("run", 1)));
    }

    #[test]
    fn after_a_crash_it_remembers_what_its_log_says() {
        let mut target = Target::default();
        let lines: Vec<Line> = [call("run", 4), call("compensate", 4)]
            .into_iter()
            .map(|call| Line { verdict: target.hear(&call), call, aim: None })
            .collect();
        let mut again = Target::after(Lacking::default(), &lines);
        assert_eq!(again.hear(&call("compensate", 3)), Verdict::StaleEpoch);
        assert_eq!(again.hear(&call("compensate", 4)), Verdict::Repeated);
    }
}
