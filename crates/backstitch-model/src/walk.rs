//! What comes of a move: the protocol as the checker sees it.

use backstitch_core::decide::Ended;
use backstitch_core::failure::StepError;
use backstitch_core::record::{AttemptId, Stitch};
use stateright::{Model, Property};

use crate::database;
use crate::moves::{Ending, Move, chances, own_moves, time_is_awaited};
use crate::outside;
use crate::protocol::Protocol;
use crate::rules;
use crate::state::{Answer, Call, Hand, Life, Process, Rule, Stage, State, Written};
use crate::worker;

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
        worker::go_on(protocol, state, index, hold, Stitch::default());
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
