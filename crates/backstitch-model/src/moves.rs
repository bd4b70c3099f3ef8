//! What can happen next: by itself, by mischance, or by a person.

use backstitch_core::id::Direction;
use backstitch_core::record::AttemptId;

use crate::database::{self, Verb};
use crate::outside;
use crate::protocol::{Defect, Protocol};
use crate::state::{Call, Effect, Hand, Life, Process, Stage, State};

/// One move. A number is the life that makes it, or that it befalls.
#[derive(Debug, Clone, PartialEq)]
pub enum Move {
    /// Takes the workflow.
    Claim(usize),
    /// Its statement takes the lock of the fence, and looks.
    Enter(usize),
    /// Its statement writes. The answer is heard, if the process runs.
    Write(usize),
    /// Its statement writes, and the answer is lost.
    WriteUnheard(usize),
    /// Repeats its statement, and hears the first answer.
    Repeat(usize),
    /// Its statement is lost, and taken for written: a defect.
    TakeForWritten(usize),
    /// Makes its call, and the target acts.
    Act(usize),
    /// Makes its call, which stays on its way.
    Send(usize),
    /// Makes the call whose intent is still on its way: a defect.
    ActUnwritten(usize),
    /// Its attempt ends.
    End(usize, Ending),
    /// A call arrives.
    Land(Effect),
    /// A call is lost.
    Lose(Effect),
    /// The process dies.
    Crash(usize),
    /// The process stands still.
    Freeze(usize),
    /// It goes on.
    Thaw(usize),
    /// It renews its lease, or hears that it was buried.
    Beat(usize),
    /// A worker begins.
    Begin,
    /// It is declared dead; gone: because its process is known to be no more.
    Bury {
        /// Who.
        life: usize,
        /// Why.
        gone: bool,
    },
    /// The database's clock jumps over every lease.
    ClockJumps,
    /// A lease's time passes.
    Tick,
    /// A person decides.
    Decide(Verb),
}

/// How an attempt ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// With an answer, and well.
    Succeeds,
    /// With an answer: try again.
    Retries,
    /// With an answer: for good, and something may have happened.
    Fails,
    /// With an answer: for good, and nothing happened.
    Rejects,
    /// Without an answer.
    TimesOut,
}

/// What happens when nothing goes wrong any more and nobody steps in: where this is nothing, the world has come to rest.
pub(crate) fn own_moves(protocol: &Protocol, state: &State, moves: &mut Vec<Move>) {
    let ready = &state.ready;
    let due = ready.holder.is_none() && ready.due.is_some_and(|due| due <= state.now);
    for (index, life) in state.lives.iter().enumerate() {
        let runs = life.process == Process::Runs;
        let well = runs && !life.silent && !life.expired && !life.buried;
        match &life.hand {
            // Of several that are alike it makes no difference which one does.
            Hand::Idle if due && well && !state.has_ended() && !state.lives[..index].contains(life) => {
                moves.push(Move::Claim(index));
            }
            // What has reached the database is done there, whatever became of its sender.
            Hand::Writing(_, _, Stage::Sent) => moves.push(Move::Enter(index)),
            Hand::Writing(_, _, Stage::Entered { .. }) => moves.push(Move::Write(index)),
            Hand::Writing(_, _, Stage::Done(_)) if runs => moves.push(Move::Repeat(index)),
            Hand::Attempting(_, _, Call::Unsent) if runs => {
                moves.push(Move::Act(index));
                // If nothing goes wrong any more, that is the same as a call that arrives.
                if state.faults < protocol.faults {
                    moves.push(Move::Send(index));
                }
            }
            Hand::Attempting(_, _, Call::Landed) if runs => moves.push(Move::End(index, Ending::Succeeds)),
            Hand::Attempting(_, _, Call::Refused) if runs => moves.push(Move::End(index, Ending::Rejects)),
            _ => {}
        }
        if runs && (life.silent || life.expired) {
            moves.push(Move::Beat(index));
        }
        buries(protocol, state, index, moves);
    }
    for &effect in &state.flight {
        moves.push(Move::Land(effect));
        if !outside::awaits(state, effect) {
            moves.push(Move::Lose(effect));
        }
    }
    if !state.has_ended() && !state.lives.iter().any(|life| life.process == Process::Runs) {
        moves.push(Move::Begin);
    }
    if time_is_awaited(state) && outside::may_tick(state) {
        moves.push(Move::Tick);
    }
}

/// What goes wrong, as long as something may; what a person does; and what need not happen.
pub(crate) fn chances(protocol: &Protocol, state: &State, moves: &mut Vec<Move>) {
    for (index, life) in state.lives.iter().enumerate() {
        if life.process == Process::Frozen {
            moves.push(Move::Thaw(index));
        }
    }
    if state.verbs < protocol.verbs {
        let of_steps = (0..protocol.steps.len()).flat_map(|at| [Verb::SkipStep(at), Verb::Resolve(at)]);
        let verbs = [Verb::Cancel, Verb::Retry, Verb::Abandon].into_iter().chain(of_steps);
        moves.extend(verbs.filter(|&verb| database::accepts(state, verb)).map(Move::Decide));
    }
    if state.faults >= protocol.faults || state.has_ended() {
        return;
    }
    for (index, life) in state.lives.iter().enumerate() {
        if life.process != Process::Runs || life.hand == Hand::Idle {
            continue;
        }
        moves.extend([Move::Crash(index), Move::Freeze(index)]);
        match &life.hand {
            Hand::Writing(_, _, Stage::Entered { .. }) => moves.push(Move::WriteUnheard(index)),
            Hand::Writing(_, _, Stage::Sent) if protocol.has(Defect::UnansweredIsWritten) => {
                moves.push(Move::TakeForWritten(index));
            }
            Hand::Writing(_, statement, Stage::Sent)
                if protocol.has(Defect::IntentAfterEffect) && statement.stitch.intent.is_some() =>
            {
                moves.push(Move::ActUnwritten(index));
            }
            Hand::Attempting(_, attempt, call) => {
                moves.extend(bad_endings(*attempt, *call).iter().map(|&ending| Move::End(index, ending)));
            }
            _ => {}
        }
    }
    let holder = state.ready.holder.map(|holder| &state.lives[holder]);
    if holder.is_some_and(|life| life.process == Process::Runs && !life.expired) {
        moves.push(Move::ClockJumps);
        if outside::may_tick(state) {
            moves.push(Move::Tick);
        }
    }
}

/// A burial needs the clock and the beat, or a process known to be gone; and it waits for the writes in flight.
fn buries(protocol: &Protocol, state: &State, life: usize, moves: &mut Vec<Move>) {
    let Life { process, expired, watched, buried, ref hand, .. } = state.lives[life];
    let somebody =
        (0..state.lives.len()).any(|other| other != life && state.lives[other].process == Process::Runs);
    let locked = matches!(hand, Hand::Writing(_, _, Stage::Entered { .. }))
        && !protocol.has(Defect::BurialWithoutLock);
    if buried || locked || !somebody || state.ready.holder != Some(life) || state.has_ended() {
        return;
    }
    if expired && (watched || protocol.has(Defect::BurialByClockAlone)) {
        moves.push(Move::Bury { life, gone: false });
    }
    if process == Process::Gone {
        moves.push(Move::Bury { life, gone: true });
    }
}

/// Whether anything comes of it that time passes: something is due later, or the silent are to be buried.
pub(crate) fn time_is_awaited(state: &State) -> bool {
    if state.has_ended() {
        return false;
    }
    match state.ready.holder {
        None => state.ready.due.is_some_and(|due| due > state.now),
        Some(holder) => {
            let life = &state.lives[holder];
            let seen = state.lives.iter().any(|life| life.process == Process::Runs);
            life.process != Process::Runs && !life.buried && !life.watched && seen
        }
    }
}

fn bad_endings(attempt: AttemptId, call: Call) -> &'static [Ending] {
    match (attempt.direction, call) {
        (Direction::Run, Call::Unsent) => &[Ending::Rejects, Ending::Retries],
        (Direction::Run, Call::Landed) => &[Ending::Fails, Ending::Retries, Ending::TimesOut],
        (_, Call::Sent) => &[Ending::TimesOut],
        (Direction::Compensate, Call::Unsent | Call::Landed) => &[Ending::Retries],
        (_, Call::Refused) => &[],
    }
}
