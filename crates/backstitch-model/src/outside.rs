//! What happens outside: calls arrive late or never, targets act or refuse, and time passes.

use backstitch_core::id::Direction;
use backstitch_core::record::AttemptId;

use crate::protocol::{Defect, LATE_TICKS, Protocol, Target};
use crate::state::{Call, Effect, Hand, Life, Outside, Process, Rule, Stage, State};
use crate::worker::tick_of;

/// A worker makes its call; the target has acted when this returns.
pub(crate) fn act(protocol: &Protocol, state: &mut State, attempt: AttemptId) -> Call {
    begin(state, attempt);
    arrive(protocol, state, attempt)
}

/// A worker makes its call; it arrives later, or never.
pub(crate) fn send(state: &mut State, life: usize, attempt: AttemptId) {
    begin(state, attempt);
    let gone_at = gone_at(state, life);
    state.flight.push(Effect { attempt, life, gone_at });
    state.flight.sort_unstable();
}

/// A call arrives. Whoever still waits for it hears of it.
pub(crate) fn land(protocol: &Protocol, state: &mut State, effect: Effect) {
    let call = arrive(protocol, state, effect.attempt);
    if awaits(state, effect)
        && let Hand::Attempting(_, _, waiting) = &mut state.lives[effect.life].hand
    {
        *waiting = call;
    }
    state.flight.retain(|other| *other != effect);
}

/// Whether its caller still waits for this call.
pub(crate) fn awaits(state: &State, effect: Effect) -> bool {
    matches!(&state.lives[effect.life].hand,
        Hand::Attempting(_, attempt, Call::Sent) if *attempt == effect.attempt)
}

/// Whether a lease's time may pass: nothing outlives its bound, and who runs has beaten.
pub(crate) fn may_tick(state: &State) -> bool {
    let then = state.now + 1;
    let in_time = |life: usize| match &state.lives[life].hand {
        Hand::Attempting(..) => gone_at(state, life) > then,
        _ => true,
    };
    // What the database has begun it ends before a lease's time.
    let at_work = |life: &Life| matches!(life.hand, Hand::Writing(_, _, Stage::Entered { .. }));
    !state.lives.iter().any(at_work)
        && state.flight.iter().all(|effect| effect.gone_at > then)
        && (0..state.lives.len()).filter(|&life| state.lives[life].process == Process::Runs).all(|life| {
            let Life { silent, expired, .. } = state.lives[life];
            !silent && !expired && in_time(life)
        })
}

/// A lease's time passes: who runs beats in it, who does not falls silent.
pub(crate) fn tick(state: &mut State) {
    state.now += 1;
    let runs = state.lives.iter().any(|life| life.process == Process::Runs);
    for life in &mut state.lives {
        if life.process != Process::Runs && !life.buried {
            life.silent = true;
            life.expired = true;
            life.watched |= runs;
        }
    }
}

fn begin(state: &mut State, attempt: AttemptId) {
    if !state.is_intended(attempt) {
        state.breaks(Rule::EffectWithoutIntent);
    }
    if attempt.direction == Direction::Run && state.journal.unwinding().is_some() {
        state.breaks(Rule::ForwardAfterUnwinding);
    }
}

fn arrive(protocol: &Protocol, state: &mut State, attempt: AttemptId) -> Call {
    let index = attempt.position.0 as usize;
    let keyed = protocol.steps[index].target == Target::KeepsTombstones;
    let outside = &mut state.outside[index];
    match attempt.direction {
        Direction::Run if keyed && outside.tombstone && !protocol.has(Defect::TombstoneOff) => {
            return Call::Refused;
        }
        Direction::Run if keyed && protocol.has(Defect::KeyNotStable) => outside.stands += 1,
        Direction::Run => outside.stands = 1,
        Direction::Compensate => *outside = Outside { stands: 0, tombstone: keyed },
    }
    Call::Landed
}

/// When nothing of the attempt that this life is at can arrive any more.
fn gone_at(state: &State, life: usize) -> u8 {
    let Hand::Attempting(hold, attempt, _) = &state.lives[life].hand else { return u8::MAX };
    let slot = hold.history.slot(attempt.position).expect("its intent stands");
    let begun_at = slot.side(attempt.direction).last_begun_at.expect("it has begun");
    tick_of(begun_at).expect("the past is near") + LATE_TICKS
}
