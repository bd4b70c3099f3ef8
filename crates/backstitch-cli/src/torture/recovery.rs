//! How soon did the others come to what the dead had left?

use std::collections::HashMap;

use backstitch_testkit::looks::Handover;
use backstitch_testkit::world;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::Serialize;

use super::Came;
use super::crew::{Death, Living};
use super::share::Share;
use super::stage::Outage;

/// Within this time a killed worker's workflows must be free: its lease, and two seconds.
const IN_TIME: TimeDelta = TimeDelta::milliseconds(world::TIMING.lease.as_millis() as i64 + 2000);

/// Within this time what a worker that shuts down has handed back must be in other hands.
const HANDED_OVER_WITHIN: TimeDelta = TimeDelta::seconds(1);

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
    /// How long after a worker that shut down had handed it back others had claimed each workflow, in milliseconds.
    pub handed_over_after_ms: Vec<u64>,
    /// Of those, while nothing kept the others from it: how many within [`HANDED_OVER_WITHIN`].
    pub handed_over_in_time: Share,
    /// Those that were not in time.
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

/// When a process began, and how it died. None: it lives.
type Life = (DateTime<Utc>, Option<Death>);

/// What happened in a round.
pub struct Round<'a> {
    /// Who died of what.
    pub deaths: &'a [Death],
    /// The same of the whole run: numbers of processes come again.
    pub everybody: &'a [Death],
    /// Whose death it must be that something followed in time: gateway daemons have leases of another length.
    pub killed_workers: &'a [Death],
    /// Who lives.
    pub living: &'a [Living],
    /// When nobody could rely on Postgres or on the machine.
    pub outages: &'a [Outage],
    /// Which faults had their turn.
    pub faults: &'a [Came],
    /// When it was over, and looked at.
    pub now: DateTime<Utc>,
}

impl Round<'_> {
    /// What the others made of it.
    pub fn recovery(&self, burials: &[Followed], takeovers: &[Followed], handovers: &[Handover]) -> Recovery {
        let mut late = Vec::new();
        let buried_in_time = self.share_in_time("burial", burials, &mut late);
        let taken_over_in_time = self.share_in_time("takeover", takeovers, &mut late);
        Recovery {
            buried_after_ms: self.all_lags(burials),
            taken_over_after_ms: self.all_lags(takeovers),
            buried_in_time,
            taken_over_in_time,
            handed_over_after_ms: handovers.iter().filter_map(lag_of).map(in_milliseconds).collect(),
            handed_over_in_time: self.handed_over_in_time(handovers),
            late,
        }
    }

    fn handed_over_in_time(&self, handovers: &[Handover]) -> Share {
        let mut share = Share::default();
        for handover in handovers {
            let until = handover.freed_at + HANDED_OVER_WITHIN;
            if !self.outages.iter().any(|outage| overlaps((handover.freed_at, until), *outage)) {
                share.add(lag_of(handover).is_some_and(|lag| lag <= HANDED_OVER_WITHIN));
            }
        }
        share
    }

    fn all_lags(&self, rows: &[Followed]) -> Vec<u64> {
        self.after_deaths(rows, self.deaths).filter_map(|(_, lag)| lag.map(in_milliseconds)).collect()
    }

    fn share_in_time(&self, what: &'static str, rows: &[Followed], late: &mut Vec<Late>) -> Share {
        let mut share = Share::default();
        for (death, lag) in self.after_deaths(rows, self.killed_workers) {
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

    /// What followed how long after the death of its process. What happened before it has nothing to do with it, nor has what
    /// happened to a later process of the same number.
    fn after_deaths<'a>(
        &'a self,
        rows: &'a [Followed],
        deaths: &'a [Death],
    ) -> impl Iterator<Item = (Death, Option<TimeDelta>)> + 'a {
        let mut lives: HashMap<i32, Vec<Life>> = HashMap::new();
        for death in self.everybody {
            lives.entry(death.pid).or_default().push((death.born_at, Some(*death)));
        }
        for living in self.living {
            lives.entry(living.pid).or_default().push((living.born_at, None));
        }
        let after = move |(pid, at): &Followed| {
            let born = lives.get(pid)?.iter().filter(|(born_at, _)| *born_at <= at.unwrap_or(self.now));
            let death = born.max_by_key(|(born_at, _)| *born_at)?.1?;
            let is_meant =
                deaths.iter().any(|meant| (meant.pid, meant.born_at) == (death.pid, death.born_at));
            is_meant.then(|| (death, at.map(|followed_at| followed_at - death.at)))
        };
        rows.iter().filter_map(after).filter(|(_, lag)| lag.is_none_or(|lag| lag >= TimeDelta::zero()))
    }

    /// Which faults had their turn in the time after a death, and at which worker.
    fn beside(&self, died_at: DateTime<Utc>) -> Vec<String> {
        let mut beside: Vec<&Came> =
            self.faults.iter().filter(|came| falls_after(died_at, (came.from, came.to))).collect();
        beside.sort_by_key(|came| came.from);
        beside.iter().map(|came| format!("{} ({})", came.aimed.fault.name(), came.aimed.worker)).collect()
    }
}

fn lag_of(handover: &Handover) -> Option<TimeDelta> {
    handover.taken_at.map(|taken_at| taken_at - handover.freed_at)
}

fn in_milliseconds(lag: TimeDelta) -> u64 {
    lag.num_milliseconds().unsigned_abs()
}

/// Whether any of it falls into the time in which others must take over.
fn falls_after(died_at: DateTime<Utc>, what: (DateTime<Utc>, DateTime<Utc>)) -> bool {
    overlaps((died_at, died_at + IN_TIME), what)
}

fn overlaps(one: (DateTime<Utc>, DateTime<Utc>), other: (DateTime<Utc>, DateTime<Utc>)) -> bool {
    other.0 <= one.1 && other.1 >= one.0
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

    fn death(pid: i32, died: i64) -> Death {
        Death { pid, born_at: at(0), at: at(died), signal: Some(9) }
    }

    /// In which these died and these live.
    fn round<'a>(deaths: &'a [Death], living: &'a [Living]) -> Round<'a> {
        Round {
            deaths,
            everybody: deaths,
            killed_workers: deaths,
            living,
            outages: &[],
            faults: &[],
            now: at(99_000),
        }
    }

    #[test]
    fn what_happened_before_a_death_is_not_counted_for_it() {
        let deaths = [death(7, 10_000)];
        let rows = [(7, Some(at(9_000))), (7, Some(at(12_000))), (7, None), (8, Some(at(12_000))), (8, None)];
        let round = round(&deaths, &[]);
        let after: Vec<_> = round.after_deaths(&rows, &deaths).map(|(_, lag)| lag).collect();
        assert_eq!(after, [Some(TimeDelta::seconds(2)), None]);
    }

    #[test]
    fn what_happened_to_a_later_process_of_the_same_number_is_not_counted_for_a_death() {
        let later = Death { born_at: at(20_000), ..death(7, 30_000) };
        let deaths = [death(7, 10_000), later];
        let living = [Living { pid: 7, born_at: at(40_000) }];
        // At 25 s and 45 s it was buried alive.
        let rows = [11_000, 25_000, 30_500, 45_000].map(|milliseconds| (7, Some(at(milliseconds))));
        let round = round(&deaths, &living);
        let after: Vec<_> = round.after_deaths(&rows, &deaths).map(|(death, lag)| (death.at, lag)).collect();
        let milliseconds = |lag| Some(TimeDelta::milliseconds(lag));
        assert_eq!(after, [(at(10_000), milliseconds(1000)), (at(30_000), milliseconds(500))]);
        assert_eq!(round.after_deaths(&[(7, None)], &deaths).count(), 0, "it lives");
        let of_the_first: Vec<_> = round.after_deaths(&rows, &deaths[..1]).map(|(_, lag)| lag).collect();
        assert_eq!(
            of_the_first,
            [milliseconds(1000)],
            "whatever became of a later one that is not asked for"
        );
    }

    #[test]
    fn what_comes_late_is_told_with_what_went_on_beside_it() {
        use crate::torture::fault::{Fault, OnProcess, Whose};
        use crate::torture::plan::Aimed;

        let deaths = [death(7, 1000), death(8, 50_000)];
        let came = |how, from, to| Came {
            aimed: Aimed { fault: Fault::Process(Whose::Worker, how), worker: 2, after_permille: 0 },
            number: 0,
            fired: true,
            from: at(from),
            to: at(to),
        };
        let faults = [came(OnProcess::Frozen, 1500, 4000), came(OnProcess::Killed, 500, 1000)];
        let faults = [faults[0], faults[1], came(OnProcess::Terminated, 100, 900)];
        let round = Round { faults: &faults, ..round(&deaths, &[]) };
        let late = IN_TIME.num_milliseconds() + 1;
        let recovery =
            round.recovery(&[(7, Some(at(1000 + late))), (8, Some(at(50_100)))], &[(7, None)], &[]);
        assert_eq!(recovery.buried_in_time, Share { count: 1, of: 2 });
        assert_eq!(recovery.taken_over_in_time, Share { count: 0, of: 1 });
        assert_eq!(recovery.taken_over_after_ms, [0_u64; 0]);
        let told: Vec<_> = recovery.late.iter().map(|late| (late.what, late.pid, late.after_ms)).collect();
        assert_eq!(told, [("burial", 7, Some(late.unsigned_abs())), ("takeover", 7, None)]);
        assert_eq!(recovery.late[0].beside, ["worker killed (2)", "worker frozen past its lease (2)"]);
        let held_up = Round { outages: &[(at(2000), at(2500))], ..round };
        assert_eq!(held_up.recovery(&[(7, None)], &[], &[]).buried_in_time, Share::default());
    }

    #[test]
    fn what_was_handed_back_must_be_in_other_hands_within_a_second() {
        let handover = |freed, taken: Option<i64>| Handover { freed_at: at(freed), taken_at: taken.map(at) };
        let handovers =
            [handover(0, Some(1000)), handover(0, Some(1001)), handover(0, None), handover(5000, Some(9000))];
        let outages = [(at(5500), at(5600))];
        let round = Round { outages: &outages, ..round(&[], &[]) };
        let recovery = round.recovery(&[], &[], &handovers);
        assert_eq!(recovery.handed_over_in_time, Share { count: 1, of: 3 });
        assert_eq!(recovery.handed_over_after_ms, [1000, 1001, 4000]);
    }
}
