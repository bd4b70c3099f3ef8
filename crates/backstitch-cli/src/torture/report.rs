//! What is told of a run, to people and to programs?

use std::collections::BTreeMap;

use backstitch_testkit::violation::{Violated, Violation};
use serde::Serialize;

use super::audit::Audit;
use super::crew::Death;
use super::recovery::Late;
use super::share::Share;
use crate::output::{cell, lines, table};

/// With fewer completed workflows nothing was shown.
const OPERATIONS_MIN: u64 = 5;

/// How many violations are told; the bundle has all of them.
const VIOLATIONS_TOLD: usize = 20;

/// What a run came to, as programs read it. Keys are only ever added.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// From which everything else follows.
    pub seed: u64,
    /// `held`, `broken`, or `unfinished`: it was interrupted, or could not go on.
    pub verdict: &'static str,
    /// How long it took.
    pub seconds: u64,
    /// How often everything was settled and looked through.
    pub rounds: u64,
    /// How many workflows were acknowledged or asked for by a gateway request.
    pub workflows: u64,
    /// How many ended in each way.
    pub ended: BTreeMap<String, u64>,
    /// The share of those that completed, of those in which no fault was scripted.
    pub completed_of_unfailing: f64,
    /// How many calls reached the target.
    pub calls: u64,
    /// How many worker processes died of SIGKILL.
    pub sigkills: u64,
    /// How many ended themselves, or in order.
    pub other_deaths: u64,
    /// Violations by what they mean.
    pub lost: u64,
    /// Something stands outside that nobody answers for.
    pub leaked: u64,
    /// An effect happened twice.
    pub applied_twice: u64,
    /// It was taken back twice.
    pub compensated_twice: u64,
    /// A workflow that nobody brings to its end.
    pub stranded: u64,
    /// Any other invariant of a journal.
    pub other_violations: u64,
    /// The first violations, in words.
    pub violations: Vec<String>,
    /// Each fault: how often it was aimed, and how often it came about.
    pub faults: BTreeMap<String, Fired>,
    /// Each fault that can't happen on this machine, and why.
    pub not_possible: BTreeMap<String, String>,
    /// Starts and stops on real servers. Null: there was no edge.
    pub gateways: Option<Gateways>,
    /// From a worker's death to its burial, in milliseconds.
    pub buried_after_ms: Spread,
    /// From a worker's death until others had gone on with what it had in hand, in milliseconds.
    pub taken_over_after_ms: Spread,
    /// Of the killed workers that were buried while Postgres was there, its clock right, and the machine not held up: how many
    /// within their lease and two seconds.
    pub buried_in_time: Share,
    /// The same of what they had in hand: how many others had gone on with by then. What waits for its turn is among the late.
    pub taken_over_in_time: Share,
    /// Those that were not, and what went on beside them.
    pub late: Vec<Late>,
    /// From a workflow's being handed back by a worker that shut down until others had claimed it, in milliseconds.
    pub handed_over_after_ms: Spread,
    /// Of those, where nothing kept the others from it: how many within a second.
    pub handed_over_in_time: Share,
    /// Where less was shown than a run like this must, in words. Each is a violation too.
    pub short_of: Vec<String>,
    /// The worker whose process is not killed, at the end of each round.
    pub veteran: Vec<Weight>,
    /// How many sessions Postgres has at the end of each round.
    pub sessions: Vec<u64>,
    #[serde(skip)]
    buried: Vec<u64>,
    #[serde(skip)]
    taken_over: Vec<u64>,
    #[serde(skip)]
    handed_over: Vec<u64>,
    #[serde(skip)]
    /// Of those in which no fault was scripted, how many completed.
    pub unfailing: Share,
    #[serde(skip)]
    /// All of them.
    pub every_violation: Vec<Violation>,
}

/// How often a fault came about.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Fired {
    pub aimed: u64,
    pub fired: u64,
}

/// What became of gateways.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Gateways {
    /// Starts and stops that ended, however often each was asked for.
    pub workflows: u64,
    pub started: u64,
    pub stopped: u64,
    pub failed: u64,
    pub none_available: u64,
    /// Of the starts that were looked at as soon as they had ended: how many everywhere; some server was away for the others.
    pub looked_at: Share,
    /// Those that could not be reset, and that the operator lent again.
    pub quarantined: u64,
}

/// A distribution.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct Spread {
    pub count: u64,
    pub p50: u64,
    pub p99: u64,
    pub max: u64,
}

/// What a process weighs.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Weight {
    pub pid: i32,
    pub resident_kib: u64,
    pub descriptors: u64,
}

impl Report {
    /// Nothing yet.
    pub fn of(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// Takes in what a round came to.
    pub fn take(&mut self, audit: Audit, stuck: Vec<Violation>) {
        self.rounds += 1;
        for (status, count) in audit.ended {
            self.workflows += count;
            *self.ended.entry(status).or_default() += count;
        }
        self.unfailing += audit.completed_of_meant;
        let recovery = audit.recovery;
        self.buried_in_time += recovery.buried_in_time;
        self.taken_over_in_time += recovery.taken_over_in_time;
        self.buried.extend(recovery.buried_after_ms);
        self.taken_over.extend(recovery.taken_over_after_ms);
        self.handed_over.extend(recovery.handed_over_after_ms);
        self.handed_over_in_time += recovery.handed_over_in_time;
        self.late.extend(recovery.late);
        self.sessions.push(audit.sessions);
        if let Some(gateways) = &mut self.gateways {
            gateways.workflows += audit.gateway_workflows;
        }
        self.calls += audit.effects;
        for violation in audit.violations.into_iter().chain(stuck) {
            self.note(violation);
        }
    }

    fn note(&mut self, violation: Violation) {
        *match violation.what {
            Violated::NothingLost => &mut self.lost,
            Violated::NothingLeaked | Violated::CompensatedLeavesNothing | Violated::FailedLeavesNothing => {
                &mut self.leaked
            }
            Violated::AppliedOnce => &mut self.applied_twice,
            Violated::CompensatedOnce => &mut self.compensated_twice,
            Violated::NothingStranded => &mut self.stranded,
            _ => &mut self.other_violations,
        } += 1;
        self.every_violation.push(violation);
    }

    /// Counts what died.
    pub fn count(&mut self, deaths: &[Death]) {
        let killed = deaths.iter().filter(|death| death.is_a_kill()).count() as u64;
        self.sigkills += killed;
        self.other_deaths += deaths.len() as u64 - killed;
    }

    /// Comes to its verdict. `short_of`: what the run should have shown, and has not. None: it was interrupted, or failed by
    /// itself.
    pub fn conclude(&mut self, short_of: Option<Vec<String>>) {
        let ended = short_of.is_some();
        let completed = self.ended.get("completed").copied().unwrap_or(0);
        let fired: u64 = self.faults.values().map(|count| count.fired).sum();
        if ended && (completed < OPERATIONS_MIN || fired == 0) {
            let how = format!("{completed} workflows completed, {fired} faults came about");
            self.note(Violated::EnoughShown.by(how));
        }
        self.short_of = short_of.unwrap_or_default();
        for how in self.short_of.clone() {
            self.note(Violated::EnoughShown.by(how));
        }
        self.verdict = match self.every_violation.is_empty() {
            false => "broken",
            true if ended => "held",
            true => "unfinished",
        };
        self.violations =
            self.every_violation.iter().take(VIOLATIONS_TOLD).map(ToString::to_string).collect();
        self.buried_after_ms = spread(&mut self.buried);
        self.taken_over_after_ms = spread(&mut self.taken_over);
        self.handed_over_after_ms = spread(&mut self.handed_over);
        self.completed_of_unfailing = self.unfailing.part();
    }

    /// Whether everything held.
    pub fn holds(&self) -> bool {
        self.verdict == "held"
    }
}

fn spread(of: &mut [u64]) -> Spread {
    of.sort_unstable();
    let at = |permille: usize| of.get((of.len() * permille / 1000).min(of.len().saturating_sub(1))).copied();
    let at = |permille| at(permille).unwrap_or(0);
    Spread { count: of.len() as u64, p50: at(500), p99: at(990), max: at(1000) }
}

/// As text.
pub fn told(report: &Report) -> String {
    let mut faults = table(&["FAULT", "FIRED", "AIMED"]);
    for (name, Fired { aimed, fired }) in &report.faults {
        faults.add_row([cell(name), cell(fired), cell(aimed)]);
    }
    for name in report.not_possible.keys() {
        faults.add_row([cell(name), cell("not possible"), cell("-")]);
    }
    let ended: Vec<String> = report.ended.iter().map(|(status, count)| format!("{count} {status}")).collect();
    let mut text = format!(
        "{}\n\nseed {}, {} s, {} rounds\n{} workflows: {}; {:.0} % of those in which no fault was scripted completed\n\
         {} worker processes killed with SIGKILL, {} ended otherwise; {} calls reached the target\n",
        lines(faults),
        report.seed,
        report.seconds,
        report.rounds,
        report.workflows,
        ended.join(", "),
        report.completed_of_unfailing * 100.0,
        report.sigkills,
        report.other_deaths,
        report.calls,
    );
    if let Some(gateways) = &report.gateways {
        text.push_str(&format!(
            "gateways: {} started, {} stopped, {} taken back, {} found none free, {} quarantined and lent again; \
             {} of {} starts looked at everywhere as they ended\n",
            gateways.started,
            gateways.stopped,
            gateways.failed,
            gateways.none_available,
            gateways.quarantined,
            gateways.looked_at.count,
            gateways.looked_at.of
        ));
    }
    let lag = |name, spread: &Spread| {
        format!(
            "{name}: {} times, p50 {} ms, p99 {} ms, at most {} ms\n",
            spread.count, spread.p50, spread.p99, spread.max
        )
    };
    text.push_str(&lag("from a worker's death to its burial", &report.buried_after_ms));
    text.push_str(&lag("until others had claimed its work", &report.taken_over_after_ms));
    text.push_str(&lag(
        "from a shutdown's handing back until others had claimed it",
        &report.handed_over_after_ms,
    ));
    let share = |share: Share| format!("{:.1} % ({} of {})", share.part() * 100.0, share.count, share.of);
    text.push_str(&format!(
        "while Postgres was there, within a lease and 2 s: {} buried, {} taken over\n\
         within 1 s: {} of what a shutdown handed back\n",
        share(report.buried_in_time),
        share(report.taken_over_in_time),
        share(report.handed_over_in_time)
    ));
    if let (Some(first), Some(last)) = (report.veteran.first(), report.veteran.last()) {
        text.push_str(&format!(
            "the worker that is spared: {} KiB and {} descriptors after the first round, {} KiB and {} after the last; {} and {} sessions\n",
            first.resident_kib,
            first.descriptors,
            last.resident_kib,
            last.descriptors,
            report.sessions.first().copied().unwrap_or(0),
            report.sessions.last().copied().unwrap_or(0),
        ));
    }
    for (name, why) in &report.not_possible {
        text.push_str(&format!("not possible here: {name}: {why}\n"));
    }
    for violation in &report.violations {
        text.push_str(&format!("broken: {violation}\n"));
    }
    text.push_str(&format!(
        "\n{}: {} kills, {} lost, {} leaked, {} applied twice, {} compensated twice, {} stranded, {} other",
        report.verdict,
        report.sigkills,
        report.lost,
        report.leaked,
        report.applied_twice,
        report.compensated_twice,
        report.stranded,
        report.other_violations
    ));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn violations_are_counted_by_what_they_mean() {
        let mut report = Report::default();
        let violations = [
            Violated::NothingLost,
            Violated::NothingLeaked,
            Violated::CompensatedLeavesNothing,
            Violated::CompensatedOnce,
            Violated::AppliedOnce,
            Violated::NothingStranded,
            Violated::IntentFirst,
        ];
        let violations = violations.map(|what| what.by("workflow 1")).to_vec();
        report.take(Audit { violations, ..Audit::default() }, Vec::new());
        report.conclude(Some(Vec::new()));
        assert!(!report.holds());
        assert_eq!((report.lost, report.leaked, report.compensated_twice), (1, 2, 1));
        // One more, for nothing happened.
        assert_eq!((report.applied_twice, report.stranded, report.other_violations), (1, 1, 2));
    }

    #[test]
    fn a_spread_names_its_middle_and_its_worst() {
        let mut of: Vec<u64> = (1..=100).rev().collect();
        let Spread { count, p50, p99, max } = spread(&mut of);
        assert_eq!((count, p50, p99, max), (100, 51, 100, 100));
        assert_eq!(spread(&mut []).max, 0);
    }
}
