//! What a worker does with the workflow it holds: the core's decisions, made as the engine makes them.

use std::time::Duration;

use backstitch_core::decide::{
    Circumstances, Ended, Forward, Unwind, forward, judge, later, must_unwind, unwind,
};
use backstitch_core::failure::StepFailed;
use backstitch_core::history::{History, Slot};
use backstitch_core::id::{Direction, Position, WorkflowId};
use backstitch_core::json::Json;
use backstitch_core::record::{AttemptId, Cause, Intent, Operator, Outcome, Stitch, Turn, Verdict};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::protocol::{Defect, LATE_TICKS, Protocol, TICK};
use crate::state::{Answer, Call, Hand, Hold, Life, Park, Rule, Stage, State, Statement, Told, Written};

/// The workflow.
const WORKFLOW: WorkflowId = WorkflowId(Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001));

/// When the first tick was. Any time does.
const BEGINNING: Duration = Duration::from_secs(1_000_000);

/// Further than this no tick leads: what is due then waits for a person.
const HORIZON: Duration = Duration::from_secs(24 * 60 * 60);

enum Next {
    Attempt(AttemptId),
    Park(Park),
    End(Turn),
}

/// Decides what comes next, and sends its row on its way. `row`: what was noted and is not written yet.
pub(crate) fn go_on(protocol: &Protocol, state: &mut State, life: usize, mut hold: Hold, mut row: Stitch) {
    let Ok(next) = decide(protocol, state.now, &mut hold, &mut row) else {
        return state.breaks(Rule::DecisionRefused);
    };
    let stops = state.lives[life].silent && !protocol.has(Defect::SelfStopMissing);
    let mut park = None;
    match next {
        Next::Attempt(_) if stops && row.is_empty() => {
            state.lives[life].hand = Hand::Waiting(hold);
            return;
        }
        Next::Attempt(_) if stops => {}
        Next::Attempt(attempt) => row.intent = Some(intent(protocol, &hold.history, attempt)),
        Next::Park(until) => park = Some(until),
        // Nothing was owed: the turn back stands in a row of its own, before the end.
        Next::End(Turn::Compensated) if row.turn.is_some() => {}
        Next::End(turn) => row.turn = Some(turn),
    }
    send(state, life, hold, row, park);
}

/// An attempt is over: its outcome travels with what comes next.
pub(crate) fn end_attempt(protocol: &Protocol, state: &mut State, life: usize, ended: Ended) {
    let Hand::Attempting(mut hold, attempt, _) = std::mem::replace(&mut state.lives[life].hand, Hand::Idle)
    else {
        unreachable!("only an attempt under way ends")
    };
    let AttemptId { position, direction, .. } = attempt;
    let retry = protocol.conduct(position.0 as usize).retry;
    let mut verdict = judge(ended, &hold.history, position, direction, &retry);
    if protocol.has(Defect::CompensationSwallowed)
        && direction == Direction::Compensate
        && verdict.failure().is_some()
    {
        verdict = Verdict::Succeeded(null());
    }
    let row = Stitch { outcome: Some(Outcome { attempt, verdict }), ..Stitch::default() };
    match note(&mut hold, &row, state.now) {
        Ok(()) => go_on(protocol, state, life, hold, row),
        Err(_) => state.breaks(Rule::DecisionRefused),
    }
}

/// The database has answered.
pub(crate) fn hear(protocol: &Protocol, state: &mut State, life: usize, answer: Answer) {
    let Hand::Writing(mut hold, statement, _) = std::mem::replace(&mut state.lives[life].hand, Hand::Idle)
    else {
        unreachable!("only who has asked hears an answer")
    };
    let Statement { stitch, park, .. } = &*statement;
    if answer.written == Written::Fenced || park.is_some() {
        return;
    }
    hold.cancel |= answer.cancel;
    let is_kept = stitch.outcome.is_some() || matches!(stitch.turn, Some(Turn::Unwinding(_)));
    if answer.written != Written::Nothing {
        hold.history = hold.history.changed(|history| history.row_written(at(answer.at)));
    } else if is_kept {
        return read_again(state, life, hold);
    }
    let whole = answer.written == Written::Whole;
    let unleased = state.lives[life].silent || state.lives[life].expired;
    let turns = must_unwind(&hold.history, &circumstances(protocol, &hold, state.now)).is_some();
    match (&stitch.intent, &stitch.turn) {
        (Some(intent), _) if whole => {
            let begun = Stitch { intent: Some(intent.clone()), ..Stitch::default() };
            // An attempt's time counts from its row, whose answer may have come long after.
            let counted_from = if protocol.has(Defect::TimeFromAnswer) { state.now } else { answer.at };
            if note(&mut hold, &begun, counted_from).is_err() {
                return state.breaks(Rule::DecisionRefused);
            }
            state.lives[life].hand = Hand::Attempting(hold, intent.attempt, Call::Unsent);
            if state.now >= counted_from + LATE_TICKS {
                return end_attempt(protocol, state, life, Ended::CutShort);
            }
            stop_if_silent(protocol, state, life);
        }
        // Until the next beat; unless that has come meanwhile.
        (Some(_), _) if !answer.leased && unleased => state.lives[life].hand = Hand::Waiting(hold),
        (Some(_), _) if !answer.leased => go_on(protocol, state, life, hold, Stitch::default()),
        (_, Some(turn)) if turn.is_terminal() && whole => {}
        (Some(_), _) if !turns => read_again(state, life, hold),
        (_, Some(turn)) if turn.is_terminal() && !turns => read_again(state, life, hold),
        _ => go_on(protocol, state, life, hold, Stitch::default()),
    }
}

/// Whose lease is over by his own clock ends his attempts himself.
pub(crate) fn stop_if_silent(protocol: &Protocol, state: &mut State, life: usize) {
    let Life { silent, hand, .. } = &state.lives[life];
    if *silent && matches!(hand, Hand::Attempting(..)) && !protocol.has(Defect::SelfStopMissing) {
        end_attempt(protocol, state, life, Ended::CutShort);
    }
}

/// The database's clock at this tick.
pub(crate) fn at(tick: u8) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + BEGINNING + TICK * u32::from(tick)
}

/// The first tick that is not before this time. None: beyond the horizon.
pub(crate) fn tick_of(time: DateTime<Utc>) -> Option<u8> {
    if time > later(DateTime::UNIX_EPOCH + BEGINNING, HORIZON) {
        return None;
    }
    (0..u8::MAX).find(|&tick| at(tick) >= time)
}

pub(crate) fn null() -> Json {
    Json::from_journal("null")
}

pub(crate) fn operator() -> Operator {
    Operator { by: "ada".into(), why: "she looked".into() }
}

/// Something stands in the journal that its holder does not know: whoever claims it next reads it.
fn read_again(state: &mut State, life: usize, hold: Hold) {
    let park = Park { due: Some(state.now), attention: false };
    send(state, life, hold, Stitch::default(), Some(park));
}

fn send(state: &mut State, life: usize, mut hold: Hold, stitch: Stitch, park: Option<Park>) {
    let outcome = stitch.outcome.as_ref().map(|outcome| &outcome.verdict);
    let answered = outcome.is_some_and(|verdict| *verdict != Verdict::HandedBack);
    let innocent = answered && (hold.charges > 0 || hold.orphaned.is_some());
    if innocent {
        (hold.charges, hold.orphaned) = (0, None);
    }
    let recovers = hold.history.unwinding().is_none() && matches!(outcome, Some(Verdict::Succeeded(_)));
    let statement = Told::new(Statement { stitch, park, innocent, recovers });
    state.lives[life].hand = Hand::Writing(hold, statement, Stage::Sent);
}

fn decide(protocol: &Protocol, now: u8, hold: &mut Hold, row: &mut Stitch) -> Result<Next, &'static str> {
    let around = circumstances(protocol, hold, now);
    if let Some(cause) = must_unwind(&hold.history, &around) {
        turn_back(hold, row, now, cause)?;
    }
    let stubborn = protocol.has(Defect::ForwardAfterUnwinding) && hold.orphaned.is_some();
    loop {
        if hold.history.unwinding().is_some() && !stubborn {
            return Ok(back(protocol, hold, &around));
        }
        match ahead(protocol, hold, &around) {
            Ok(next) => return Ok(next),
            Err(_) if hold.history.past_pivot() => {
                return Ok(Next::Park(Park { due: Some(now + 1), attention: true }));
            }
            Err(cause) => turn_back(hold, row, now, cause)?,
        }
    }
}

/// Polls the workflow's function: it asks for its two steps, one after the other. Err: it gives up.
fn ahead(protocol: &Protocol, hold: &Hold, around: &Circumstances) -> Result<Next, Cause> {
    for index in 0..protocol.steps.len() {
        let position = position(index);
        match forward(WORKFLOW, &hold.history, position, &protocol.conduct(index), around) {
            Forward::Deliver(_) => {}
            Forward::DeliverFailure(_) if protocol.tolerant => {}
            Forward::DeliverFailure(failure) | Forward::Unwind(failure) => {
                return Err(Cause::Failed(StepFailed { step: name(position), position, failure }.into()));
            }
            Forward::Run { attempt } => {
                return Ok(Next::Attempt(AttemptId { position, direction: Direction::Run, attempt }));
            }
            Forward::Compensate { attempt } => {
                return Ok(Next::Attempt(AttemptId { position, direction: Direction::Compensate, attempt }));
            }
            Forward::WaitUntil(due) => {
                return Ok(Next::Park(Park { due: tick_of(due), attention: false }));
            }
            Forward::Attention(due) => {
                return Ok(Next::Park(Park { due: tick_of(due), attention: true }));
            }
        }
    }
    Ok(Next::End(Turn::Completed))
}

fn back(protocol: &Protocol, hold: &Hold, around: &Circumstances) -> Next {
    let conduct_of = |slot: &Slot| {
        let index = slot.step.strip_prefix("step-")?.parse().ok()?;
        Some(protocol.conduct(index))
    };
    match unwind(WORKFLOW, &hold.history, conduct_of, around) {
        Unwind::Compensate { position, attempt } => {
            let first = hold.history.slots().find(|(_, slot)| slot.owes_compensation());
            let (position, attempt) = match first {
                Some((first, slot)) if protocol.has(Defect::OrderNotReversed) => {
                    (first, slot.compensate.begun + 1)
                }
                _ => (position, attempt),
            };
            Next::Attempt(AttemptId { position, direction: Direction::Compensate, attempt })
        }
        Unwind::WaitUntil(due) => Next::Park(Park { due: tick_of(due), attention: false }),
        Unwind::Attention { .. } if protocol.has(Defect::StuckSilently) => {
            Next::Park(Park { due: None, attention: false })
        }
        Unwind::Attention { due, .. } => Next::Park(Park { due: tick_of(due), attention: true }),
        Unwind::Done => Next::End(Turn::Compensated),
    }
}

fn turn_back(hold: &mut Hold, row: &mut Stitch, now: u8, cause: Cause) -> Result<(), &'static str> {
    let turn = Stitch { turn: Some(Turn::Unwinding(cause)), ..Stitch::default() };
    note(hold, &turn, now)?;
    row.turn = turn.turn;
    Ok(())
}

fn note(hold: &mut Hold, part: &Stitch, tick: u8) -> Result<(), &'static str> {
    let mut noted = Ok(());
    hold.history = hold.history.changed(|history| noted = history.note(part, at(tick)));
    noted
}

fn circumstances(protocol: &Protocol, hold: &Hold, now: u8) -> Circumstances {
    Circumstances {
        now: at(now),
        recovery: protocol.recovery,
        orphaned: hold.orphaned,
        cancel: hold.cancel.then(operator),
        deadline_at: None,
        crash_charges: u32::from(hold.charges),
    }
}

fn intent(protocol: &Protocol, history: &History, attempt: AttemptId) -> Intent {
    let position = attempt.position;
    Intent {
        attempt,
        step: name(position),
        version: 1,
        backward: protocol.steps[position.0 as usize].backward,
        input: history.slot(position).is_none().then(null),
    }
}

fn name(position: Position) -> String {
    format!("step-{position}")
}

pub(crate) fn position(index: usize) -> Position {
    Position(u32::try_from(index).expect("two steps"))
}
