//! What the database does: claims, appends behind the fence, burials, and what a person decides.
//!
//! Each function is one statement of `migrations/`, as one move or, where a lock is taken before anything is looked at, as
//! two. The rules that a single statement can break are noticed here.

use backstitch_core::decide::Orphaned;
use backstitch_core::history::Slot;
use backstitch_core::id::Direction;
use backstitch_core::record::{Backward, Cause, Intent, Resolution, Skip, Stitch, Turn, Verdict};

use crate::protocol::{Defect, Protocol};
use crate::state::{Answer, Hand, Hold, Rule, Stage, State, Statement, Told, Written};
use crate::worker::{at, go_on, operator, position};

/// What a person may decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Take it back.
    Cancel,
    /// Try again now.
    Retry,
    /// This step need not be taken back.
    SkipStep(usize),
    /// This step did happen, or did not: told as it is.
    Resolve(usize),
    /// Let it be.
    Abandon,
}

/// A worker takes the workflow.
pub(crate) fn claim(protocol: &Protocol, state: &mut State, life: usize) {
    state.ready.epoch += 1;
    state.ready.holder = Some(life);
    let ready = &state.ready;
    let hold = Hold {
        epoch: ready.epoch,
        history: state.journal.clone(),
        cancel: ready.cancel,
        orphaned: ready.orphaned,
        charges: ready.charges,
    };
    go_on(protocol, state, life, hold, Stitch::default());
}

/// A statement takes the lock of the fence, and looks.
pub(crate) fn enter(protocol: &Protocol, state: &mut State, life: usize) {
    let holds = holds(state, life) || protocol.has(Defect::FenceOff);
    let leased = !state.lives[life].buried && !state.lives[life].expired;
    if let Hand::Writing(_, _, stage) = &mut state.lives[life].hand {
        *stage = Stage::Entered { holds, leased };
    }
}

/// It writes, and lets go of the lock.
pub(crate) fn write(protocol: &Protocol, state: &mut State, life: usize) -> Answer {
    let Hand::Writing(_, statement, Stage::Entered { holds: may, leased }) = state.lives[life].hand.clone()
    else {
        unreachable!("only who has entered writes")
    };
    let cancel_wins = state.ready.cancel && !state.ready.past_pivot;
    let mut kept = statement.stitch.clone();
    if kept.turn == Some(Turn::Completed) && cancel_wins {
        kept.turn = None;
    }
    if kept.intent.as_ref().is_some_and(|intent| !keeps_intent(protocol, intent, leased, cancel_wins)) {
        kept.intent = None;
    }
    let written = if !may {
        Written::Fenced
    } else if statement.stitch.is_empty() {
        Written::Whole
    } else if kept.is_empty() || seq_is_taken(state, life) {
        Written::Nothing
    } else if kept == statement.stitch {
        Written::Whole
    } else {
        Written::InPart
    };
    if matches!(written, Written::Whole | Written::InPart) {
        if !holds(state, life) {
            state.breaks(Rule::StaleRecord);
        }
        notice(protocol, state, &kept);
        append(state, &kept);
        follow(state, &statement, &kept);
    }
    Answer { written, leased, cancel: state.ready.cancel, at: state.now }
}

/// Declares an incarnation dead, and frees what it holds. `gone`: its process is known to be no more.
pub(crate) fn bury(protocol: &Protocol, state: &mut State, life: usize, gone: bool) {
    if !gone && !state.lives[life].silent {
        state.breaks(Rule::LivingBuried);
    }
    state.lives[life].buried = true;
    if protocol.has(Defect::BurialKeepsHolder) {
        return;
    }
    let open = state.journal.slots().any(|(_, slot)| slot.run.open || slot.compensate.open);
    let begun = state.journal.steps_begun() > 0;
    let ready = &mut state.ready;
    ready.holder = None;
    if begun {
        ready.orphaned = Some(if gone { Orphaned::Gone } else { Orphaned::Expired });
    }
    ready.charges += u8::from(open);
    // One that waits for a person anyway is tried slowly.
    ready.due = Some(state.now + u8::from(ready.attention));
}

/// Whether this verb is accepted now.
pub(crate) fn accepts(state: &State, verb: Verb) -> bool {
    if state.has_ended() {
        return false;
    }
    let ready = &state.ready;
    let called = ready.attention && ready.holder.is_none();
    match verb {
        Verb::Cancel => state.journal.unwinding().is_none() && !ready.past_pivot && !ready.cancel,
        Verb::SkipStep(index) => {
            called
                && state.journal.slot(position(index)).is_some_and(Slot::owes_compensation)
                && state.journal.unwinding().is_some()
        }
        // A person looks where nothing is on its way any more, and says what is there.
        Verb::Resolve(index) => {
            let on_its_way = state.flight.iter().any(|effect| effect.attempt.position == position(index));
            called && !on_its_way && state.journal.may_turn(&turn_of(state, verb)).is_ok()
        }
        Verb::Retry | Verb::Abandon => called,
    }
}

/// A person decides.
pub(crate) fn decide(state: &mut State, verb: Verb) {
    if verb == Verb::Cancel {
        state.ready.cancel = true;
        if state.ready.holder.is_none() {
            state.ready.due = Some(state.ready.due.map_or(state.now, |due| due.min(state.now)));
        }
        return;
    }
    let turn = turn_of(state, verb);
    append(state, &Stitch { turn: Some(turn), ..Stitch::default() });
    state.ready.due = Some(state.now);
    state.ready.epoch = state.ready.epoch.max(1);
}

fn turn_of(state: &State, verb: Verb) -> Turn {
    match verb {
        Verb::Cancel => Turn::Unwinding(Cause::Cancelled(operator())),
        Verb::Retry => Turn::Retry(operator()),
        Verb::SkipStep(index) => Turn::SkipStep(Skip { position: position(index), operator: operator() }),
        Verb::Resolve(index) => Turn::Resolve(Resolution {
            position: position(index),
            happened: state.outside[index].stands > 0,
            output: None,
            by: operator().by,
            why: operator().why,
        }),
        Verb::Abandon => Turn::Abandoned(operator()),
    }
}

/// Whether this life is alive for the database, and holds the workflow under the epoch of its claim.
fn holds(state: &State, life: usize) -> bool {
    let hold = state.lives[life].hand.hold();
    !state.has_ended()
        && !state.lives[life].buried
        && state.ready.holder == Some(life)
        && hold.is_some_and(|hold| hold.epoch == state.ready.epoch)
}

/// An effect begins only under a lease, and none forward that was cancelled.
fn keeps_intent(protocol: &Protocol, intent: &Intent, leased: bool, cancel_wins: bool) -> bool {
    let loses = protocol.has(Defect::CancelLosesToPivot) && intent.backward == Backward::Pivot;
    leased && (intent.attempt.direction == Direction::Compensate || !cancel_wins || loses)
}

fn seq_is_taken(state: &State, life: usize) -> bool {
    let hold = state.lives[life].hand.hold();
    hold.is_none_or(|hold| hold.history.seq_next() != state.journal.seq_next())
}

/// The rules that this row breaks, worked out without the fold.
fn notice(protocol: &Protocol, state: &mut State, row: &Stitch) {
    if state.has_ended() {
        state.breaks(Rule::AfterTheEnd);
    }
    let Some(intent) = &row.intent else { return };
    let unwinding = state.journal.unwinding().is_some() || matches!(row.turn, Some(Turn::Unwinding(_)));
    let index = intent.attempt.position.0 as usize;
    match intent.attempt.direction {
        Direction::Run if unwinding => state.breaks(Rule::ForwardAfterUnwinding),
        Direction::Run => {}
        Direction::Compensate => {
            let stands = (index + 1..protocol.steps.len()).any(|later| {
                let skipped = state.journal.slot(position(later)).is_some_and(|slot| slot.skipped.is_some());
                state.outside[later].stands > 0 && !skipped
            });
            if stands && intent.backward != Backward::Independent {
                state.breaks(Rule::OutOfOrder);
            }
        }
    }
}

fn append(state: &mut State, row: &Stitch) {
    if row.is_empty() {
        return;
    }
    let mut history = (*state.journal).clone();
    match history.apply(state.journal.seq_next(), row, at(state.now)) {
        Ok(()) => state.journal = Told::new(history),
        Err(_) => state.breaks(Rule::JournalCorrupt),
    }
}

/// What follows from a record beside the journal.
fn follow(state: &mut State, statement: &Statement, kept: &Stitch) {
    let (now, unwinding) = (state.now, state.journal.unwinding().is_some());
    let ended = state.has_ended();
    let rejected = kept.outcome.as_ref().is_some_and(|it| matches!(it.verdict, Verdict::Rejected(_)));
    let reopened = rejected && !state.journal.past_pivot();
    let ready = &mut state.ready;
    // Of the pivot that is believed: there is a way back again.
    ready.past_pivot &= !reopened;
    ready.past_pivot |= kept.intent.as_ref().is_some_and(|intent| {
        intent.backward == Backward::Pivot && intent.attempt.direction == Direction::Run
    });
    if statement.innocent {
        (ready.charges, ready.orphaned) = (0, None);
    }
    if statement.recovers {
        ready.attention = false;
    }
    if let Some(park) = statement.park {
        ready.holder = None;
        ready.attention |= park.attention;
        // A cancel that came while the attempt ran is not made to wait for the backoff.
        let hurries = ready.cancel && !unwinding && !park.attention;
        ready.due = if hurries { Some(now) } else { park.due };
    }
    if ended {
        ready.holder = None;
    }
}
