//! When does a workflow that may have killed its process get its turn, and who else is driven meanwhile?
//!
//! A suspect is driven alone: then only its own deaths are charged to it, and nobody dies with it. But what is under way
//! beside it may take hours, and so may it. Neither keeps its worker from the others for longer than the bounds here; they are
//! in leases, as everything that a worker does for the sake of the dead.

use std::time::Duration;

use backstitch_core::limits::{CRASH_BUDGET, SUSPECT_CHARGES};
use tokio::time::Instant;

use crate::claim::{Claimed, Hold};
use crate::database::Database;
use crate::error::Error;

/// How long what is under way has to come to its next boundary, once a suspect is claimed: the grace of a shutdown, where
/// nothing else is said, for what takes longer is cut short by every deploy as well. So long a worker claims nothing.
const ROOM_LEASES: u32 = 2;

/// How long a worker that came to no room asks for no suspect, unless nothing is in flight: trying in vain keeps it from
/// claiming for a sixth of its time at most.
const PAUSE_LEASES: u32 = 10;

/// How long a suspect is driven alone before others may join it: the timeout of an attempt that names none. So whoever has
/// others die with it either takes its time before it kills, or is innocent and has a long attempt.
const ALONE_LEASES: u32 = 6;

/// How many turns a suspect may have in vain, whatever workers they were of, before running attempts are cut short for it. A
/// few, for another worker may have room; not many, for where long attempts are always under way none ever has.
const TURNS_IN_VAIN_MAX: u32 = 5;

/// The suspect of a worker: one at a time, or nobody could tell which of them killed it.
#[derive(Default)]
pub(crate) enum Suspect {
    /// There is none.
    #[default]
    None,
    /// Claimed, and waiting to be alone. `may_cut`: running attempts may be cut short for it.
    Waits { claimed: Box<Claimed>, since: Instant, may_cut: bool },
    /// Driven: alone, or with others that are no suspects. It is looked after again at this time.
    Driven { hold: Hold, alone: bool, look_at: Instant },
}

impl Suspect {
    /// It is driven so from now on, for a while.
    pub(crate) fn driven(hold: Hold, alone: bool, now: Instant, lease: Duration) -> Self {
        Self::Driven { hold, alone, look_at: now + lease * ALONE_LEASES }
    }

    /// Nothing else may begin.
    pub(crate) fn needs_the_worker(&self) -> bool {
        matches!(self, Self::Waits { .. } | Self::Driven { alone: true, .. })
    }

    /// When something is to be decided about it, if nothing happens before. None: never.
    pub(crate) fn look_at(&self, now: Instant, lease: Duration) -> Option<Instant> {
        let room = lease * ROOM_LEASES;
        match self {
            Self::None => None,
            Self::Waits { since, .. } if now < *since + room => Some(*since + room),
            Self::Waits { since, .. } => Some(*since + 2 * room),
            Self::Driven { look_at, .. } => Some(*look_at),
        }
    }
}

/// What becomes of a suspect that waits to be alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is driven, for nothing else is under way.
    Alone,
    /// What is under way has time to come to a boundary.
    Wait,
    /// Running attempts are cut short and handed back, as at the end of a shutdown.
    CutOthers,
    /// It is let go: another worker may have room, or this one later.
    GiveBack,
}

/// Decides about a suspect that has `waited` so long beside so many others.
pub(crate) fn turn(others: usize, waited: Duration, lease: Duration, may_cut: bool) -> Turn {
    let room = lease * ROOM_LEASES;
    if others == 0 {
        Turn::Alone
    } else if waited < room {
        Turn::Wait
    } else if may_cut && waited < 2 * room {
        Turn::CutOthers
    } else {
        Turn::GiveBack
    }
}

/// Whether running attempts may be cut short for a suspect. None: nobody knows how it stands. Not for one with `attention`, which
/// is tried on until a person comes, and kills each time: unless the person came.
pub(crate) fn may_cut(standing: Option<Standing>, attention: bool) -> bool {
    standing.is_some_and(|standing| {
        standing.turns_in_vain >= TURNS_IN_VAIN_MAX && (!attention || standing.retried)
    })
}

/// How long a worker that gave a suspect back asks for none.
pub(crate) fn pause(lease: Duration) -> Duration {
    lease * PAUSE_LEASES
}

/// What the database knows of a suspect that this worker holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) crash_charges: u32,
    /// How often it was claimed before since the last record of its journal. One that dies without a record counts its deaths
    /// as well, of which it has few.
    pub(crate) turns_in_vain: u32,
    /// The last record of its journal is an operator's `retry`.
    pub(crate) retried: bool,
    /// The last record of its journal begins an attempt under this very claim: if the process dies, a burial charges it for
    /// that, whoever else there is.
    pub(crate) begun: bool,
}

/// Who may be driven beside a suspect that was alone for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Company {
    /// Anybody: it is no suspect any more, or is not here any more.
    Anybody,
    /// Whoever is no suspect.
    NoSuspect,
    /// Nobody, until it is looked after again.
    Nobody,
}

/// Decides who joins a suspect. None: this worker does not hold it any more.
///
/// What dies with it may not be its doing, so the charge that uses up its budget is one that it got alone. And its
/// death has to be charged at all: an attempt that leaves no intent is charged to one who is alone, and to nobody else.
pub(crate) fn company(standing: Option<Standing>) -> Company {
    match standing {
        None => Company::Anybody,
        Some(standing) if standing.crash_charges < SUSPECT_CHARGES => Company::Anybody,
        Some(standing) if standing.begun && standing.crash_charges + 1 < CRASH_BUDGET => Company::NoSuspect,
        Some(_) => Company::Nobody,
    }
}

/// Asks how a suspect stands. None: this claim of it is over.
pub(crate) async fn standing(database: &Database, hold: &Hold) -> Result<Option<Standing>, Error> {
    let (workflow, epoch) = (hold.workflow.0, hold.epoch.0);
    let row = database
        .run("looking after a workflow that may kill its process", async |connection| {
            sqlx::query!(
                r#"
                select r.crash_charges,
                    r.epoch - coalesce(j.epoch, 0) - 1 as "turns_in_vain!",
                    coalesce(j.turn = 'retry', false) as "retried!",
                    coalesce(
                        j.epoch = r.epoch
                            and j.intent_position is not null
                            and (j.outcome_position, j.outcome_direction, j.outcome_attempt)
                                is distinct from (j.intent_position, j.intent_direction, j.intent_attempt),
                        false
                    ) as "begun!"
                from backstitch.ready r
                    left join lateral (
                        select j.*
                        from backstitch.journal j
                        where j.workflow_id = r.workflow_id
                        order by j.seq desc
                        limit 1
                    ) j on true
                where r.workflow_id = $1
                    and r.epoch = $2
                "#,
                workflow,
                epoch
            )
            .fetch_optional(connection)
            .await
        })
        .await?;
    Ok(row.map(|row| Standing {
        crash_charges: u32::from(row.crash_charges.unsigned_abs()),
        turns_in_vain: u32::try_from(row.turns_in_vain).unwrap_or(0),
        retried: row.retried,
        begun: row.begun,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    const FRESH: Standing = Standing { crash_charges: 2, turns_in_vain: 0, retried: false, begun: false };

    fn after(seconds: u64, may_cut: bool) -> Turn {
        turn(3, Duration::from_secs(seconds), LEASE, may_cut)
    }

    #[test]
    fn a_suspect_waits_for_two_leases_and_is_given_back() {
        assert_eq!(turn(0, Duration::ZERO, LEASE, false), Turn::Alone);
        assert_eq!([after(0, false), after(19, false)], [Turn::Wait; 2]);
        assert_eq!(after(20, false), Turn::GiveBack);
        assert_eq!(turn(0, Duration::from_secs(20), LEASE, false), Turn::Alone, "there is room after all");
    }

    #[test]
    fn where_others_may_be_cut_short_they_have_the_same_time_before() {
        assert_eq!(after(19, true), Turn::Wait, "whoever ends in time is not cut short");
        assert_eq!([after(20, true), after(39, true)], [Turn::CutOthers; 2]);
        assert_eq!(after(40, true), Turn::GiveBack, "what can't be handed back is not waited for");
    }

    #[test]
    fn others_are_cut_short_after_five_turns_in_vain_and_not_for_one_that_waits_for_a_person() {
        let in_vain = |turns_in_vain, retried| Some(Standing { turns_in_vain, retried, ..FRESH });
        assert_eq!([4, 5, 9].map(|turns| may_cut(in_vain(turns, false), false)), [false, true, true]);
        assert!(!may_cut(in_vain(9, false), true));
        assert!(may_cut(in_vain(5, true), true), "the person came");
        assert!(!may_cut(None, false));
    }

    #[test]
    fn nobody_joins_a_suspect_whose_next_charge_is_the_last_or_would_not_count() {
        let beside = |crash_charges, begun| company(Some(Standing { crash_charges, begun, ..FRESH }));
        assert_eq!([beside(2, true), beside(3, true)], [Company::NoSuspect; 2]);
        assert_eq!([beside(4, true), beside(5, true), beside(9, true)], [Company::Nobody; 3]);
        assert_eq!(beside(2, false), Company::Nobody, "it leaves no intent: only alone it is charged");
        assert_eq!([beside(0, true), beside(1, false), company(None)], [Company::Anybody; 3]);
    }

    #[test]
    fn it_is_looked_after_when_its_room_is_over_and_when_it_was_alone_for_long_enough() {
        let now = Instant::now();
        let hold = Hold {
            workflow: backstitch_core::id::WorkflowId(uuid::Uuid::nil()),
            kind: "k".to_owned(),
            epoch: backstitch_core::id::Epoch(1),
        };
        let driven = |alone| Suspect::driven(hold.clone(), alone, now, LEASE);
        assert!(driven(true).needs_the_worker() && !driven(false).needs_the_worker());
        assert_eq!(driven(true).look_at(now, LEASE), Some(now + Duration::from_secs(60)));
        assert_eq!(Suspect::None.look_at(now, LEASE), None);
        assert!(!Suspect::None.needs_the_worker());
    }
}
