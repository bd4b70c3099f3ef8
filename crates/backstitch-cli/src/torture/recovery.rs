//! How soon did the others come to what the dead had left?

use std::collections::HashMap;

use backstitch_testkit::world;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;

use super::Came;
use super::crew::Death;
use super::share::Share;
use super::stage::Outage;

/// Within this time a killed worker's workflows must be free: its lease, and two seconds.
const IN_TIME: TimeDelta = TimeDelta::milliseconds(world::TIMING.lease.as_millis() as i64 + 2000);

/// What followed the deaths of a round.
#[derive(Debug, Default)]
pub struct Recovery {
    /// How long after its death a killed process was buried, in milliseconds.
    pub buried_after_ms: Vec<u64>,
    /// How long after its death others had claimed each workflow that a killed process had in hand, in milliseconds.
    pub taken_over_after_ms: Vec<u64>,
    /// Of the killed workers that were buried while nothing kept the others from it: how many in time.
    pub buried_in_time: Share,
    /// Of the workflows that they had in hand: how many others had claimed by then.
    pub taken_over_in_time: Share,
    /// Those that were not.
    pub late: Vec<Late>,
}

/// A killed worker that was buried late, or a workflow of it that was taken over late, with what may have been the cause.
#[derive(Debug, Clone, Serialize)]
pub struct Late {
    /// `burial` or `takeover`.
    pub what: &'static str,
    /// Of which process.
    pub pid: i32,
    /// When that was killed.
    pub died_at: String,
    /// How long after its death it came, in milliseconds. Null: it has not come.
    pub after_ms: Option<u64>,
    /// Which faults had their turn while it should have come, in the order in which they began.
    pub beside: Vec<String>,
}

/// What must follow the death of a process, and when it did. None: it has not yet.
pub type Followed = (i32, Option<DateTime<Utc>>);

/// What happened in a round.
pub struct Round<'a> {
    /// Who died of what.
    pub deaths: &'a [Death],
    /// Whose death it must be that something followed in time: gateway daemons have leases of another length.
    pub killed_workers: &'a [Death],
    /// When nobody could rely on Postgres or on the machine.
    pub outages: &'a [Outage],
    /// Which faults had their turn.
    pub faults: &'a [Came],
    /// When it was over, and looked at.
    pub now: DateTime<Utc>,
}

impl Round<'_> {
    /// What the others made of it.
    pub fn recovery(&self, burials: &[Followed], takeovers: &[Followed]) -> Recovery {
        let mut late = Vec::new();
        let buried_in_time = self.share_in_time("burial", burials, &mut late);
        let taken_over_in_time = self.share_in_time("takeover", takeovers, &mut late);
        Recovery {
            buried_after_ms: self.all_lags(burials),
            taken_over_after_ms: self.all_lags(takeovers),
            buried_in_time,
            taken_over_in_time,
            late,
        }
    }

    fn all_lags(&self, rows: &[Followed]) -> Vec<u64> {
        after_deaths(rows, self.deaths).filter_map(|(_, lag)| lag.map(in_milliseconds)).collect()
    }

    fn share_in_time(&self, what: &'static str, rows: &[Followed], late: &mut Vec<Late>) -> Share {
        let mut share = Share::default();
        for (death, lag) in after_deaths(rows, self.killed_workers) {
            let is_held_up = self.outages.iter().any(|outage| falls_after(death.at, *outage));
            // What has not come about yet is late once its time is over.
            let is_open = lag.is_none() && self.now - death.at <= IN_TIME;
            if is_held_up || is_open {
                continue;
            }
            let is_in_time = lag.is_some_and(|lag| lag <= IN_TIME);
            share.add(is_in_time);
            if !is_in_time {
                late.push(Late {
                    what,
                    pid: death.pid,
                    died_at: death.at.to_rfc3339_opts(SecondsFormat::Millis, true),
                    after_ms: lag.map(in_milliseconds),
                    beside: self.beside(death.at),
                });
            }
        }
        share
    }

    /// Which faults had their turn in the time after a death, and at which worker.
    fn beside(&self, died_at: DateTime<Utc>) -> Vec<String> {
        let mut beside: Vec<&Came> =
            self.faults.iter().filter(|came| falls_after(died_at, (came.from, came.to))).collect();
        beside.sort_by_key(|came| came.from);
        beside.iter().map(|came| format!("{} ({})", came.aimed.fault.name(), came.aimed.worker)).collect()
    }
}

/// What followed how long after the death of its process; what happened before it has nothing to do with it.
fn after_deaths<'a>(
    rows: &'a [Followed],
    deaths: &'a [Death],
) -> impl Iterator<Item = (Death, Option<TimeDelta>)> + 'a {
    let died: HashMap<i32, Death> = deaths.iter().map(|death| (death.pid, *death)).collect();
    let after = move |(pid, at): &Followed| {
        died.get(pid).map(|death| (*death, at.map(|followed_at| followed_at - death.at)))
    };
    rows.iter().filter_map(after).filter(|(_, lag)| lag.is_none_or(|lag| lag >= TimeDelta::zero()))
}

fn in_milliseconds(lag: TimeDelta) -> u64 {
    lag.num_milliseconds().unsigned_abs()
}

/// Whether any of it falls into the time in which others must take over.
fn falls_after(died_at: DateTime<Utc>, (from, to): (DateTime<Utc>, DateTime<Utc>)) -> bool {
    from <= died_at + IN_TIME && to >= died_at
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds(milliseconds)
    }

    #[test]
    fn only_what_falls_into_the_time_after_a_death_holds_others_up() {
        let in_time = IN_TIME.num_milliseconds();
        assert!(falls_after(at(1000), (at(0), at(1000))), "it was down, and back as it died");
        assert!(falls_after(at(1000), (at(1000 + in_time), at(9000))));
        assert!(!falls_after(at(1000), (at(0), at(999))));
        assert!(!falls_after(at(1000), (at(1001 + in_time), at(9000))));
    }

    #[test]
    fn what_happened_before_a_death_is_not_counted_for_it() {
        let deaths = [Death { pid: 7, at: at(10_000), signal: Some(9) }];
        let rows = [(7, Some(at(9_000))), (7, Some(at(12_000))), (7, None), (8, Some(at(12_000))), (8, None)];
        let after: Vec<Option<TimeDelta>> = after_deaths(&rows, &deaths).map(|(_, lag)| lag).collect();
        assert_eq!(after, [Some(TimeDelta::seconds(2)), None]);
    }

    #[test]
    fn what_comes_late_is_told_with_what_went_on_beside_it() {
        use crate::torture::fault::{Fault, OnProcess};
        use crate::torture::plan::Aimed;

        let death = |pid, at| Death { pid, at, signal: Some(9) };
        let deaths = [death(7, at(1000)), death(8, at(50_000))];
        let came = |how, from, to| Came {
            aimed: Aimed { fault: Fault::Process(how), worker: 2, after_permille: 0 },
            number: 0,
            fired: true,
            from: at(from),
            to: at(to),
        };
        let faults = [came(OnProcess::Frozen, 1500, 4000), came(OnProcess::Killed, 500, 1000)];
        let faults = [faults[0], faults[1], came(OnProcess::Terminated, 100, 900)];
        let round = Round {
            deaths: &deaths,
            killed_workers: &deaths,
            outages: &[],
            faults: &faults,
            now: at(99_000),
        };
        let late = IN_TIME.num_milliseconds() + 1;
        let recovery = round.recovery(&[(7, Some(at(1000 + late))), (8, Some(at(50_100)))], &[(7, None)]);
        assert_eq!(recovery.buried_in_time, Share { count: 1, of: 2 });
        assert_eq!(recovery.taken_over_in_time, Share { count: 0, of: 1 });
        assert_eq!(recovery.taken_over_after_ms, [0_u64; 0]);
        let told: Vec<_> = recovery.late.iter().map(|late| (late.what, late.pid, late.after_ms)).collect();
        assert_eq!(told, [("burial", 7, Some(late.unsigned_abs())), ("takeover", 7, None)]);
        assert_eq!(recovery.late[0].beside, ["worker killed (2)", "worker frozen past its lease (2)"]);
        let held_up = Round { outages: &[(at(2000), at(2500))], ..round };
        assert_eq!(held_up.recovery(&[(7, None)], &[]).buried_in_time, Share::default());
    }
}
