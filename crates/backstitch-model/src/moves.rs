//! What can happen next, and what comes of it: the protocol as the checker sees it.

use backstitch_core::decide::Ended;
use backstitch_core::failure::StepError;
use backstitch_core::id::Direction;
use backstitch_core::record::AttemptId;
use stateright::{Model, Property};

use crate::database::{self, Verb};
use crate::outside;
use crate::protocol::{Defect, Protocol};
use crate::rules;
use crate::state::{Answer, Call, Effect, Hand, Life, Process, Rule, Stage, State, Written};
use crate::worker;

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

impl Model for Protocol {
    type State = State;
    type Action = Move;

    fn init_states(&self) -> Vec<State> {
        vec![State::start(self)]
    }

    fn actions(&self, state: &State, moves: &mut Vec<Move>) {
        if state.broken.is_none() {
            own_moves(self, state, moves);
            chances(self, state, moves);
        }
    }

    fn next_state(&self, state: &State, the_move: Move) -> Option<State> {
        let mut next = state.clone();
        make(self, &mut next, the_move);
        if next.progress() <= state.progress() {
            next.breaks(Rule::Circle);
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        rules::properties()
    }
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
fn chances(protocol: &Protocol, state: &State, moves: &mut Vec<Move>) {
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
fn time_is_awaited(state: &State) -> bool {
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

fn make(protocol: &Protocol, state: &mut State, the_move: Move) {
    let mishap = |state: &mut State| state.faults += 1;
    match the_move {
        Move::Claim(life) => database::claim(protocol, state, life),
        Move::Enter(life) => database::enter(protocol, state, life),
        Move::Write(life) => {
            let answer = database::write(protocol, state, life);
            if state.lives[life].process == Process::Runs {
                worker::hear(protocol, state, life, answer);
            } else {
                unheard(state, life, answer);
            }
        }
        Move::WriteUnheard(life) => {
            mishap(state);
            let answer = database::write(protocol, state, life);
            unheard(state, life, answer);
        }
        Move::Repeat(life) => {
            if let Hand::Writing(_, _, Stage::Done(answer)) = state.lives[life].hand {
                worker::hear(protocol, state, life, answer);
            }
        }
        Move::TakeForWritten(life) => {
            mishap(state);
            let answer = Answer { written: Written::Whole, leased: true, cancel: false, at: state.now };
            worker::hear(protocol, state, life, answer);
        }
        Move::Act(life) => {
            if let Some(attempt) = attempt_of(&state.lives[life]) {
                let call = outside::act(protocol, state, attempt);
                set_call(state, life, call);
            }
        }
        Move::Send(life) => {
            if let Some(attempt) = attempt_of(&state.lives[life]) {
                outside::send(state, life, attempt);
                set_call(state, life, Call::Sent);
            }
        }
        Move::ActUnwritten(life) => {
            mishap(state);
            if let Hand::Writing(_, statement, _) = state.lives[life].hand.clone()
                && let Some(intent) = &statement.stitch.intent
            {
                outside::act(protocol, state, intent.attempt);
            }
        }
        Move::End(life, ending) => {
            let refused = matches!(state.lives[life].hand, Hand::Attempting(_, _, Call::Refused));
            if ending != Ending::Succeeds && !refused {
                mishap(state);
            }
            worker::end_attempt(protocol, state, life, ended(ending));
        }
        Move::Land(effect) => outside::land(protocol, state, effect),
        Move::Lose(effect) => state.flight.retain(|other| *other != effect),
        Move::Crash(life) => {
            mishap(state);
            dies(&mut state.lives[life]);
        }
        Move::Freeze(life) => {
            mishap(state);
            state.lives[life].process = Process::Frozen;
        }
        Move::Thaw(life) => {
            state.lives[life].process = Process::Runs;
            worker::stop_if_silent(protocol, state, life);
        }
        Move::Beat(life) => beat(protocol, state, life),
        Move::Begin => state.lives.push(Life::new()),
        Move::Bury { life, gone } => database::bury(protocol, state, life, gone),
        Move::ClockJumps => {
            mishap(state);
            state.lives.iter_mut().filter(|life| !life.buried).for_each(|life| life.expired = true);
        }
        Move::Tick => {
            if !time_is_awaited(state) {
                mishap(state);
            }
            outside::tick(state);
        }
        Move::Decide(verb) => {
            state.verbs += 1;
            database::decide(state, verb);
        }
    }
}

fn beat(protocol: &Protocol, state: &mut State, index: usize) {
    let life = &mut state.lives[index];
    if life.buried {
        return dies(life);
    }
    (life.silent, life.expired, life.watched) = (false, false, false);
    if let Hand::Waiting(hold) = life.hand.clone() {
        worker::go_on(protocol, state, index, hold, backstitch_core::record::Stitch::default());
    }
}

/// What it had in memory is lost; what it had sent is not.
fn dies(life: &mut Life) {
    life.process = Process::Gone;
    if !matches!(life.hand, Hand::Writing(_, _, Stage::Sent | Stage::Entered { .. })) {
        life.hand = Hand::Idle;
    }
}

/// Its sender repeats it, if it ever runs again.
fn unheard(state: &mut State, life: usize, answer: Answer) {
    let Life { process, hand, .. } = &mut state.lives[life];
    if *process == Process::Gone {
        *hand = Hand::Idle;
    } else if let Hand::Writing(_, _, stage) = hand {
        *stage = Stage::Done(answer);
    }
}

fn attempt_of(life: &Life) -> Option<AttemptId> {
    match &life.hand {
        Hand::Attempting(_, attempt, _) => Some(*attempt),
        _ => None,
    }
}

fn set_call(state: &mut State, life: usize, to: Call) {
    if let Hand::Attempting(_, _, call) = &mut state.lives[life].hand {
        *call = to;
    }
}

fn ended(ending: Ending) -> Ended {
    match ending {
        Ending::Succeeds => Ended::Succeeded(worker::null()),
        Ending::Retries => Ended::Error(StepError::retry("busy", "not now")),
        Ending::Fails => Ended::Error(StepError::fail("refused", "not ever")),
        Ending::Rejects => Ended::Error(StepError::rejected("rejected", "nothing was done")),
        Ending::TimesOut => Ended::Error(StepError::in_doubt("silence", "no answer")),
    }
}
