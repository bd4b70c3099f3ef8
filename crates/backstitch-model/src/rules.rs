//! What must hold in every state, what must be where the world comes to rest, and what must be reached at all.

use backstitch_core::history::Slot;
use backstitch_core::id::Position;
use backstitch_core::record::{Backward, Turn};
use stateright::Property;

use crate::moves::own_moves;
use crate::protocol::Protocol;
use crate::state::{Hand, Rule, Stage, State};

/// Completed: what succeeded stands once, what failed left nothing.
pub const COMPLETED_STANDS_ONCE: &str = "what a completed workflow did stands once, and nothing else does";
/// Compensated: nothing is left, but what a person skipped.
pub const COMPENSATED_LEAVES_NOTHING: &str =
    "a compensated workflow leaves nothing but what a person skipped";
/// I2.
pub const NO_EFFECT_WITHOUT_INTENT: &str = "no effect begins before its intent stands";
/// I8.
pub const NO_STALE_RECORD: &str = "nobody writes who was buried or holds the workflow no more";
/// I4.
pub const NOTHING_FORWARD_AFTER_UNWINDING: &str = "nothing runs forward after the workflow turned back";
/// I6.
pub const COMPENSATED_IN_REVERSE: &str = "a step is taken back after what came later";
/// I7.
pub const TERMINAL_IS_TERMINAL: &str = "nothing follows the end";
/// Who runs and beats is not buried, whatever the clock says.
pub const THE_LIVING_ARE_NOT_BURIED: &str = "nobody is buried who runs and beats";
/// A cancel that was accepted always ends compensated, unless a person lets the workflow be.
pub const CANCEL_IS_KEPT: &str = "an accepted cancel is never followed by completed";
/// Past the pivot there is no way back.
pub const THE_PIVOT_STAYS: &str = "where the pivot stands nothing is taken back";
/// All rules of the journal, says the fold.
pub const JOURNAL_IS_SOUND: &str = "the fold of the core takes every row that is written";
/// The decisions never propose what the fold refuses.
pub const DECISIONS_ARE_TAKEN: &str = "the core takes what it decided";
/// With the next, liveness: paths have ends.
pub const EVERY_MOVE_LEADS_ON: &str = "no move leads in a circle";
/// The ends of paths are ends, or a person was told (I12, I18).
pub const REST_IS_AN_END: &str = "where the world comes to rest the workflow has ended, or a person was told";

/// What no state may break.
pub const ALWAYS: [&str; 14] = [
    COMPLETED_STANDS_ONCE,
    COMPENSATED_LEAVES_NOTHING,
    CANCEL_IS_KEPT,
    THE_PIVOT_STAYS,
    REST_IS_AN_END,
    NO_EFFECT_WITHOUT_INTENT,
    NO_STALE_RECORD,
    NOTHING_FORWARD_AFTER_UNWINDING,
    COMPENSATED_IN_REVERSE,
    TERMINAL_IS_TERMINAL,
    THE_LIVING_ARE_NOT_BURIED,
    JOURNAL_IS_SOUND,
    DECISIONS_ARE_TAKEN,
    EVERY_MOVE_LEADS_ON,
];

/// What some state shows, or the checker never went there.
pub const SOMETIMES: [&str; 6] = [
    "a workflow completes",
    "a workflow that was resumed or retried completes",
    "a workflow is compensated, with a step that took effect",
    "a worker is buried whose record is still on its way",
    "a worker is buried whose effect is still on its way",
    "a worker whose lease was over, and who was not buried, waits for its next beat",
];

/// All of them.
pub(crate) fn properties() -> Vec<Property<Protocol>> {
    vec![
        always(COMPLETED_STANDS_ONCE, |_, state| {
            state.journal.end() != Some(&Turn::Completed)
                || slots(state).all(|(slot, stands)| stands == u8::from(slot.output().is_some()))
        }),
        always(COMPENSATED_LEAVES_NOTHING, |_, state| {
            state.journal.end() != Some(&Turn::Compensated)
                || slots(state).all(|(slot, stands)| stands == 0 || slot.skipped.is_some())
        }),
        always(CANCEL_IS_KEPT, |_, state| {
            !(state.ready.cancel && state.journal.end() == Some(&Turn::Completed))
        }),
        always(THE_PIVOT_STAYS, |_, state| {
            state.journal.unwinding().is_none()
                || slots(state).all(|(slot, stands)| slot.backward != Backward::Pivot || stands == 0)
        }),
        always(REST_IS_AN_END, |protocol, state| {
            let mut moves = Vec::new();
            own_moves(protocol, state, &mut moves);
            !moves.is_empty() || state.broken.is_some() || state.has_ended() || state.ready.attention
        }),
        always(NO_EFFECT_WITHOUT_INTENT, |_, state| keeps(state, Rule::EffectWithoutIntent)),
        always(NO_STALE_RECORD, |_, state| keeps(state, Rule::StaleRecord)),
        always(NOTHING_FORWARD_AFTER_UNWINDING, |_, state| keeps(state, Rule::ForwardAfterUnwinding)),
        always(COMPENSATED_IN_REVERSE, |_, state| keeps(state, Rule::OutOfOrder)),
        always(TERMINAL_IS_TERMINAL, |_, state| keeps(state, Rule::AfterTheEnd)),
        always(THE_LIVING_ARE_NOT_BURIED, |_, state| keeps(state, Rule::LivingBuried)),
        always(JOURNAL_IS_SOUND, |_, state| keeps(state, Rule::JournalCorrupt)),
        always(DECISIONS_ARE_TAKEN, |_, state| keeps(state, Rule::DecisionRefused)),
        always(EVERY_MOVE_LEADS_ON, |_, state| keeps(state, Rule::Circle)),
        sometimes(SOMETIMES[0], |_, state| state.journal.end() == Some(&Turn::Completed)),
        sometimes(SOMETIMES[1], |_, state| {
            state.journal.end() == Some(&Turn::Completed) && slots(state).any(|(slot, _)| slot.run.begun > 1)
        }),
        sometimes(SOMETIMES[2], |_, state| {
            state.journal.end() == Some(&Turn::Compensated)
                && slots(state).any(|(slot, _)| slot.is_compensated())
        }),
        sometimes(SOMETIMES[3], |_, state| {
            state
                .lives
                .iter()
                .any(|life| life.buried && matches!(life.hand, Hand::Writing(_, _, Stage::Sent)))
        }),
        sometimes(SOMETIMES[4], |_, state| {
            state.flight.iter().any(|effect| !effect.compensates() && state.lives[effect.life].buried)
        }),
        sometimes(SOMETIMES[5], |_, state| {
            state
                .lives
                .iter()
                .any(|life| life.silent && !life.buried && matches!(life.hand, Hand::Waiting(_)))
        }),
    ]
}

fn always(name: &'static str, condition: fn(&Protocol, &State) -> bool) -> Property<Protocol> {
    Property::always(name, condition)
}

fn sometimes(name: &'static str, condition: fn(&Protocol, &State) -> bool) -> Property<Protocol> {
    Property::sometimes(name, condition)
}

fn keeps(state: &State, rule: Rule) -> bool {
    state.broken != Some(rule)
}

/// Every step begun, and how often its effect stands.
fn slots(state: &State) -> impl Iterator<Item = (&Slot, u8)> {
    state.journal.slots().map(|(Position(at), slot)| (slot, state.outside[at as usize].stands))
}
