//! What a journal amounts to: one slot per step, and which way the workflow goes.

use chrono::{DateTime, Utc};

use crate::failure::Failure;
use crate::id::{Direction, Position, Seq};
use crate::json::Json;
use crate::record::{
    AttemptId, Backward, Cause, Intent, Operator, Outcome, Resolution, Skip, Stitch, Turn, Verdict,
};

/// Everything that a journal says, folded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    slots: Vec<Slot>,
    rows: u32,
    unwinding: Option<Cause>,
    /// Whether an attempt was answered since it turned back: that has cleared the deaths which may have turned it.
    pub(crate) answered_since_turn: bool,
    end: Option<Turn>,
    /// The failure that the row in the making tells of.
    failure_noted: Option<AttemptId>,
    /// When the last row was written, by the database's clock as it was then.
    last_written_at: Option<DateTime<Utc>>,
}

/// One step: what was asked, and how it went in both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its name.
    pub step: String,
    /// Its version when it began.
    pub version: u32,
    /// Its fields.
    pub input: Json,
    /// How it is taken back.
    pub backward: Backward,
    /// Whether effect and outcome were one transaction in every attempt forward. Then it happened if and only if it
    /// succeeded. One attempt of another kind, by newer code, and that is no longer known.
    pub transactional: bool,
    /// The attempts forward.
    pub run: Side,
    /// The attempts back.
    pub compensate: Side,
    /// Who said that it need not be taken back any more. None: nobody.
    pub skipped: Option<Operator>,
}

/// The attempts of one step in one direction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// How many have begun.
    pub begun: u32,
    /// How many ended in an error, a timeout or a panic.
    pub failed: u32,
    /// Whether the last one has no outcome: it is under way, or its process died.
    pub open: bool,
    /// The final verdict: succeeded, failed or rejected. A rejected that can't be believed stands here as failed.
    pub settled: Option<Verdict>,
    /// The error of the last attempt that had one.
    pub failure: Option<Failure>,
    /// When the first one began, by the database's clock. None before.
    pub first_begun_at: Option<DateTime<Utc>>,
    /// When the last one began; none before, and none again once an operator said "retry".
    pub last_begun_at: Option<DateTime<Utc>>,
    /// When the last attempt with an unknown effect began. None where no effect is unknown.
    pub unknown_since: Option<DateTime<Utc>>,
    /// When the last failed one ended; none before, and none again once an operator said "retry".
    pub failed_at: Option<DateTime<Utc>>,
    /// What `unknown_since` was before the last attempt, and is again when that one ends in a known way.
    pub(crate) unknown_before: Option<DateTime<Utc>>,
}

/// A journal that breaks the rules. Nobody guesses what it means: the workflow waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the journal is corrupt at seq {seq}: {what}")]
pub struct Corrupt {
    /// Which row.
    pub seq: Seq,
    /// Which rule.
    pub what: &'static str,
}

impl History {
    /// Adds the next row, which the database wrote `at`.
    ///
    /// # Errors
    /// When the row breaks one of the journal's rules (I1, I3, I4, I5, I6, I7). The history is then of no further use.
    pub fn apply(&mut self, seq: Seq, stitch: &Stitch, at: DateTime<Utc>) -> Result<(), Corrupt> {
        self.add(seq, stitch, at).map_err(|what| Corrupt { seq, what })
    }

    /// Folds a whole journal.
    ///
    /// # Errors
    /// At the first row that breaks a rule.
    pub fn fold<'a>(
        rows: impl IntoIterator<Item = (Seq, &'a Stitch, DateTime<Utc>)>,
    ) -> Result<Self, Corrupt> {
        let mut history = Self::default();
        for (seq, stitch, at) in rows {
            history.apply(seq, stitch, at)?;
        }
        Ok(history)
    }

    /// The seq of the next row.
    #[must_use]
    pub fn seq_next(&self) -> Seq {
        Seq(self.rows)
    }

    /// Every step begun, in the order of positions.
    pub fn slots(&self) -> impl DoubleEndedIterator<Item = (Position, &Slot)> {
        self.slots.iter().enumerate().map(|(index, slot)| (position(index), slot))
    }

    /// The step at this position, if it has begun.
    #[must_use]
    pub fn slot(&self, position: Position) -> Option<&Slot> {
        self.slots.get(position.0 as usize)
    }

    /// How many steps have begun.
    #[must_use]
    pub fn steps_begun(&self) -> u32 {
        position(self.slots.len()).0
    }

    /// Why the workflow is on its way back; none while it goes forward.
    #[must_use]
    pub fn unwinding(&self) -> Option<&Cause> {
        self.unwinding.as_ref()
    }

    /// How it ended; none before.
    #[must_use]
    pub fn end(&self) -> Option<&Turn> {
        self.end.as_ref()
    }

    /// Whether there is no way back any more. A pivot in doubt counts as passed.
    #[must_use]
    pub fn past_pivot(&self) -> bool {
        self.past_pivot_before(position(self.slots.len()))
    }

    /// Whether a step before this position is a pivot that may have happened.
    #[must_use]
    pub fn past_pivot_before(&self, position: Position) -> bool {
        let before = &self.slots[..self.slots.len().min(position.0 as usize)];
        before.iter().any(|slot| slot.backward == Backward::Pivot && slot.may_have_happened())
    }

    fn add(&mut self, seq: Seq, stitch: &Stitch, at: DateTime<Utc>) -> Result<(), &'static str> {
        check(seq.0 == self.rows, "seq has a gap or a repetition (I1)")?;
        check(!stitch.is_empty(), "the row says nothing")?;
        self.note(stitch, at)?;
        self.row_written(at);
        Ok(())
    }

    /// Takes in what the next row will say, or a part of it, before that row is written: the engine decides on it, and
    /// nothing that follows has an effect before [`row_written`](Self::row_written).
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn note(&mut self, part: &Stitch, at: DateTime<Utc>) -> Result<(), &'static str> {
        check(self.end.is_none(), "a row follows the end (I7)")?;
        match part {
            Stitch { outcome: Some(outcome), intent: Some(intent), turn } if part.is_transactional() => {
                check(turn.is_none(), "a transactional row turns")?;
                self.begin(intent, at, true)?;
                self.settle(outcome, at)
            }
            Stitch { outcome, turn, intent } => {
                if let Some(outcome) = outcome {
                    self.settle(outcome, at)?;
                }
                if let Some(turn) = turn {
                    self.turn(turn)?;
                }
                if let Some(intent) = intent {
                    check(self.end.is_none(), "an intent follows the end (I7)")?;
                    self.begin(intent, at, false)?;
                }
                Ok(())
            }
        }
    }

    /// The row whose parts were noted stands in the journal, since `at`. What it tells of a failure counts from then on,
    /// here as for whoever reads it.
    pub fn row_written(&mut self, at: DateTime<Utc>) {
        self.rows += 1;
        if let Some(AttemptId { position, direction, .. }) = self.failure_noted.take()
            && let Some(slot) = self.slots.get_mut(position.0 as usize)
        {
            slot.side_mut(direction).failed_at = Some(at);
        }
        if self.last_written_at.is_some_and(|before| at < before) {
            self.nothing_was_later_than(at);
        }
        self.last_written_at = Some(at);
    }

    /// The clock was set back: what earlier rows tell of was before this one, whatever they say. Else it would be waited for
    /// until the clock is there again.
    fn nothing_was_later_than(&mut self, at: DateTime<Utc>) {
        for side in self.slots.iter_mut().flat_map(|slot| [&mut slot.run, &mut slot.compensate]) {
            let times = [
                &mut side.first_begun_at,
                &mut side.last_begun_at,
                &mut side.unknown_since,
                &mut side.unknown_before,
                &mut side.failed_at,
            ];
            for time in times.into_iter().flatten() {
                *time = at.min(*time);
            }
        }
    }

    fn begin(&mut self, intent: &Intent, at: DateTime<Utc>, transactional: bool) -> Result<(), &'static str> {
        let AttemptId { position, direction, attempt } = intent.attempt;
        let index = position.0 as usize;
        match direction {
            Direction::Run => {
                check(self.unwinding.is_none(), "a step runs after unwinding began (I4)")?;
                check(
                    self.slots[..index.min(self.slots.len())].iter().all(Slot::is_delivered),
                    "an earlier step is open",
                )?;
                if index == self.slots.len() {
                    let input = intent.input.clone().ok_or("the first attempt carries no input")?;
                    self.slots.push(Slot {
                        step: intent.step.clone(),
                        version: intent.version,
                        input,
                        backward: intent.backward,
                        transactional,
                        run: Side::default(),
                        compensate: Side::default(),
                        skipped: None,
                    });
                }
            }
            Direction::Compensate => {
                let later = self.slots.get(index + 1..).ok_or("a step that never began is compensated")?;
                let independent =
                    self.slots.get(index).is_some_and(|slot| slot.backward == Backward::Independent);
                check(
                    independent && self.unwinding.is_some() || !later.iter().any(Slot::owes_compensation),
                    "a step is compensated before a later one (I6)",
                )?;
            }
        }
        let unwinding = self.unwinding.is_some();
        let slot = self.slots.get_mut(index).ok_or("a position is left out")?;
        check(slot.step == intent.step, "an attempt names another step than the first one did")?;
        if direction == Direction::Compensate {
            check(slot.owes_compensation(), "a step that owes nothing is compensated")?;
            check(
                unwinding || slot.has_failed(),
                "a step that did not fail is compensated before unwinding",
            )?;
        }
        let side = slot.side_mut(direction);
        check(side.settled.is_none(), "a settled step is tried again (I3)")?;
        check(attempt == side.begun + 1, "attempts are not counted one by one")?;
        side.begun = attempt;
        side.open = true;
        side.first_begun_at.get_or_insert(at);
        side.last_begun_at = Some(at);
        side.unknown_before = side.unknown_since;
        if !transactional {
            side.unknown_since = Some(at);
            slot.transactional &= direction == Direction::Compensate;
        }
        Ok(())
    }

    fn settle(&mut self, outcome: &Outcome, at: DateTime<Utc>) -> Result<(), &'static str> {
        let AttemptId { position, direction, attempt } = outcome.attempt;
        let past_pivot_before = self.past_pivot_before(position);
        let slot = self.slots.get_mut(position.0 as usize).ok_or("an outcome of a step that never began")?;
        let side = slot.side(direction);
        check(side.open && attempt == side.begun, "an outcome without its intent, or a second one (I3)")?;
        if direction == Direction::Run {
            check(slot.compensate.begun == 0, "a run ends after its compensation began")?;
        }
        let verdict = slot.believe(direction, &outcome.verdict);
        self.answered_since_turn |= self.unwinding.is_some() && verdict != Verdict::HandedBack;
        let fails = matches!(verdict, Verdict::Failed(_) | Verdict::FailedInDoubt(_));
        if fails || matches!(verdict, Verdict::Rejected(_)) {
            check(direction == Direction::Run, "a compensation gives up (I12)")?;
            let pivot_in_doubt = slot.backward == Backward::Pivot && !slot.transactional && fails;
            check(!past_pivot_before && !pivot_in_doubt, "a step fails for good past the pivot")?;
        }
        let side = slot.side_mut(direction);
        side.open = false;
        if let Some(failure) = verdict.failure() {
            side.failure = Some(failure.clone());
        }
        if !matches!(verdict, Verdict::InDoubt(_) | Verdict::FailedInDoubt(_) | Verdict::HandedBack) {
            // It was answered: nothing of this attempt is still on its way.
            side.unknown_since = side.unknown_before;
        }
        if fails || matches!(verdict, Verdict::Retry(_) | Verdict::InDoubt(_)) {
            side.failed += 1;
            side.failed_at = Some(at);
            self.failure_noted = Some(outcome.attempt);
        }
        if fails || matches!(verdict, Verdict::Succeeded(_) | Verdict::Rejected(_)) {
            side.settled = Some(verdict);
        }
        Ok(())
    }

    /// Whether the course may turn so now.
    ///
    /// # Errors
    /// The rule that it would break.
    pub fn may_turn(&self, turn: &Turn) -> Result<(), &'static str> {
        check(self.end.is_none(), "a row follows the end (I7)")?;
        match turn {
            Turn::Unwinding(_) => {
                check(self.unwinding.is_none(), "unwinding began twice")?;
                check(!self.past_pivot(), "unwinding began past the pivot")
            }
            Turn::Retry(_) | Turn::Pause(_) | Turn::Resume(_) | Turn::Abandoned(_) => Ok(()),
            Turn::SkipStep(skip) => {
                check(self.unwinding.is_some(), "a step is skipped before unwinding began")?;
                check(self.slot(skip.position).is_some(), "a step that never began is skipped")
            }
            Turn::Resolve(found) => {
                let slot = self.slot(found.position).ok_or("a step that never began is resolved")?;
                check(!slot.is_known(), "a step is resolved that is not in doubt")
            }
            Turn::Completed => {
                check(self.unwinding.is_none(), "a workflow completes after unwinding began (I4)")?;
                check(self.slots.iter().all(Slot::is_delivered), "a workflow completes with an open step")
            }
            Turn::Compensated => {
                check(self.unwinding.is_some(), "compensated without unwinding")?;
                let owed = self.slots.iter().any(Slot::owes_compensation);
                check(!owed, "compensated with a step still owed (I5)")
            }
        }
    }

    fn turn(&mut self, turn: &Turn) -> Result<(), &'static str> {
        self.may_turn(turn)?;
        match turn {
            Turn::Unwinding(cause) => self.unwinding = Some(cause.clone()),
            Turn::Retry(_) => self.nothing_waits(),
            Turn::Pause(_) | Turn::Resume(_) => {}
            Turn::SkipStep(Skip { position, operator }) => {
                if let Some(slot) = self.slots.get_mut(position.0 as usize) {
                    slot.skipped = Some(operator.clone());
                }
                self.nothing_waits();
            }
            Turn::Resolve(found) => {
                let unwinding = self.unwinding.is_some();
                if let Some(slot) = self.slots.get_mut(found.position.0 as usize) {
                    slot.resolve(found, unwinding);
                }
                self.nothing_waits();
            }
            Turn::Completed | Turn::Compensated | Turn::Abandoned(_) => self.end = Some(turn.clone()),
        }
        Ok(())
    }

    /// A person decided something: what waited after a failure is tried now.
    fn nothing_waits(&mut self) {
        for slot in &mut self.slots {
            for side in [&mut slot.run, &mut slot.compensate] {
                side.failed_at = None;
                side.last_begun_at = None;
            }
        }
    }
}

impl Slot {
    /// What the step handed over, once it succeeded.
    #[must_use]
    pub fn output(&self) -> Option<&Json> {
        match &self.run.settled {
            Some(Verdict::Succeeded(output)) => Some(output),
            _ => None,
        }
    }

    /// Whether it failed for good.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        matches!(
            self.run.settled,
            Some(Verdict::Failed(_) | Verdict::FailedInDoubt(_) | Verdict::Rejected(_))
        )
    }

    /// Whether its effect, or part of it, may be there.
    #[must_use]
    pub fn may_have_happened(&self) -> bool {
        match self.run.settled {
            Some(Verdict::Succeeded(_)) => true,
            Some(Verdict::Rejected(_)) => false,
            _ => self.run.begun > 0 && !self.transactional,
        }
    }

    /// Whether its compensation has succeeded.
    #[must_use]
    pub fn is_compensated(&self) -> bool {
        self.compensate.settled.is_some()
    }

    /// Whether it must still be taken back if the workflow is.
    #[must_use]
    pub fn owes_compensation(&self) -> bool {
        self.may_have_happened()
            && !self.is_compensated()
            && self.skipped.is_none()
            && matches!(self.backward, Backward::AfterAllLater | Backward::Independent)
    }

    /// Whether everybody knows what became of it: its last attempt had an answer, and was final.
    fn is_known(&self) -> bool {
        matches!(self.run.settled, Some(Verdict::Succeeded(_) | Verdict::Failed(_) | Verdict::Rejected(_)))
    }

    /// Somebody looked. What did not happen is tried again going forward, and owes nothing on the way back; a step that had
    /// failed in doubt has failed without residue.
    fn resolve(&mut self, found: &Resolution, unwinding: bool) {
        self.run.open = false;
        self.run.unknown_since = None;
        let failure = match &self.run.settled {
            Some(Verdict::FailedInDoubt(failure)) => Some(failure.clone()),
            _ if unwinding => {
                Some(Failure::new("did_not_happen", format!("says {}: {}", found.by, found.why)))
            }
            _ => None,
        };
        if found.happened {
            let output = found.output.clone().unwrap_or_else(|| Json::from_journal("null"));
            self.run.settled = Some(Verdict::Succeeded(output));
        } else if let Some(failure) = failure {
            self.run.settled = Some(Verdict::Rejected(failure));
        }
    }

    /// Whether the function has, or may be given, its result: it succeeded, or it failed and left no residue.
    fn is_delivered(&self) -> bool {
        self.output().is_some() || self.has_failed() && !self.owes_compensation()
    }

    /// The attempts in this direction.
    #[must_use]
    pub fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Run => &self.run,
            Direction::Compensate => &self.compensate,
        }
    }

    /// A `Rejected` speaks for its own attempt only. Where an earlier one may have happened, it counts as `Failed`,
    /// whoever wrote it (I5).
    fn believe(&self, direction: Direction, verdict: &Verdict) -> Verdict {
        match verdict {
            Verdict::Rejected(failure)
                if direction == Direction::Run && !self.transactional && self.run.begun > 1 =>
            {
                Verdict::Failed(failure.clone())
            }
            _ => verdict.clone(),
        }
    }

    fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Run => &mut self.run,
            Direction::Compensate => &mut self.compensate,
        }
    }
}

fn check(holds: bool, what: &'static str) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err(what) }
}

fn position(index: usize) -> Position {
    Position(u32::try_from(index).expect("a journal has fewer than 2^32 positions"))
}
