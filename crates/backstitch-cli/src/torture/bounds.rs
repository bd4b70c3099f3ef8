//! What must a run have shown, beside that nothing was violated?

use super::report::{Report, Weight};
use super::share::Share;

/// A run this long, in seconds, is held to all of it; a shorter one only to what needs no hour.
const LONG_SECONDS: u64 = 3600;

/// How often each fault must have come about in a long run.
const FAULT_MIN: u64 = 20;

/// How many of all workflows must have been taken back in a long run.
const COMPENSATED_MIN: f64 = 0.30;

/// How many of them must have been starts and stops of gateways, where there are any.
const GATEWAYS_MIN: f64 = 0.10;

/// How many of the starts must have failed or been withdrawn, and been taken back on the real servers.
const STARTS_TAKEN_BACK_MIN: f64 = 0.30;

/// How many must have completed of those in which nothing was scripted to go wrong.
const COMPLETED_MIN: f64 = 0.60;

/// How many killed workers must have been buried in time, of those that died while nothing else kept the others from it.
const IN_TIME_MIN: f64 = 0.95;

/// How many starts must have been looked at everywhere as they ended: what was away then hides what it left.
const LOOKED_AT_MIN: f64 = 0.50;

/// How many of the workflows that they had in hand others must have claimed in time. Free at once, one may wait for its turn: the
/// load has more to do than the workers that are left have room for.
const TAKEN_OVER_MIN: f64 = 0.98;

/// How many of the workflows that a worker handed back as it shut down others must have claimed within a second. As above: all are
/// free at once.
const HANDED_OVER_MIN: f64 = 0.95;

/// How many worker processes must have died of SIGKILL in a long run, and how much must have been asked for meanwhile.
const SIGKILLS_MIN: u64 = 1_000;
const WORKFLOWS_MIN: u64 = 10_000;

/// What is held for good grows with every death. By so much of it what a process or Postgres holds may differ between the second
/// quarter of a long run and the last: less than what a leak of a session or a descriptor for each of a thousand deaths comes to.
const GROWTH_MAX: f64 = 0.25;

/// With fewer cases a share says nothing: a long run must have more.
const CASES_MIN: u64 = 40;

/// What it is short of, each in words.
pub fn short_of(report: &Report) -> Vec<String> {
    let mut short = Vec::new();
    let is_long = report.seconds >= LONG_SECONDS;
    let mut at_least = |what: &str, share: Share, wanted: f64| {
        if is_long && share.of < CASES_MIN {
            short.push(format!("{what}: {} cases, not {CASES_MIN}", share.of));
        } else if share.of >= CASES_MIN && share.part() < wanted {
            let (reached, wanted) = (share.part() * 100.0, wanted * 100.0);
            short
                .push(format!("{what}: {reached:.1} %, not {wanted:.0} % ({} of {})", share.count, share.of));
        }
    };
    at_least("killed workers buried in time", report.buried_in_time, IN_TIME_MIN);
    at_least("workflows of killed workers taken over in time", report.taken_over_in_time, TAKEN_OVER_MIN);
    at_least("workflows handed over by shutdowns in time", report.handed_over_in_time, HANDED_OVER_MIN);
    at_least("completed where nothing was scripted to go wrong", report.unfailing, COMPLETED_MIN);
    if let Some(gateways) = &report.gateways {
        at_least("starts looked at everywhere as they ended", gateways.looked_at, LOOKED_AT_MIN);
        let taken_back = Share { count: gateways.failed, of: gateways.started + gateways.failed };
        at_least("starts taken back", taken_back, STARTS_TAKEN_BACK_MIN);
    }
    if !is_long {
        return short;
    }
    let ended = |status: &str| report.ended.get(status).copied().unwrap_or(0);
    let of_all = |count| Share { count, of: report.workflows };
    at_least("taken back", of_all(ended("compensated")), COMPENSATED_MIN);
    if let Some(gateways) = &report.gateways {
        at_least("starts and stops of gateways", of_all(gateways.workflows), GATEWAYS_MIN);
    }
    for (what, reached, wanted) in
        [("SIGKILLs", report.sigkills, SIGKILLS_MIN), ("workflows", report.workflows, WORKFLOWS_MIN)]
    {
        if reached < wanted {
            short.push(format!("{what}: {reached}, not {wanted}"));
        }
    }
    let of_the_veteran = |what: fn(&Weight) -> u64| report.veteran.iter().map(what).collect();
    for (what, held) in [
        ("memory of a worker", of_the_veteran(|weight| weight.resident_kib)),
        ("descriptors of a worker", of_the_veteran(|weight| weight.descriptors)),
        ("sessions of Postgres", report.sessions.clone()),
    ] {
        short.extend(growth(&held).filter(|growth| *growth > GROWTH_MAX).map(|growth| {
            format!("{what}: {:.0} % more in the last quarter than in the second", growth * 100.0)
        }));
    }
    for (name, why) in &report.not_possible {
        short.push(format!("{name}: not possible here: {why}"));
    }
    for (name, count) in report.faults.iter().filter(|(_, count)| count.fired < FAULT_MIN) {
        short.push(format!("{name}: came about {} times of {}, not {FAULT_MIN}", count.fired, count.aimed));
    }
    short
}

/// By how much of it what is held has grown from the second quarter of a run to the last: between the middles of both. None: there
/// are too few rounds.
#[allow(clippy::cast_precision_loss, reason = "a part of it is asked for")]
fn growth(held: &[u64]) -> Option<f64> {
    let middle = |of: &[u64]| {
        let mut of = of.to_vec();
        of.sort_unstable();
        of.get(of.len() / 2).copied()
    };
    let quarter = held.len() / 4;
    let (before, after) = (middle(&held[quarter..quarter * 2])?, middle(&held[held.len() - quarter..])?);
    Some(after as f64 / (before as f64).max(1.0) - 1.0)
}

#[cfg(test)]
mod tests {
    use super::super::report::{Fired, Gateways};
    use super::*;

    fn gateways() -> Gateways {
        Gateways {
            workflows: 1000,
            started: 70,
            failed: 30,
            looked_at: Share { count: 50, of: 100 },
            ..Gateways::default()
        }
    }

    /// An hour in which enough was shown.
    fn long() -> Report {
        let mut report = Report::of(1);
        report.seconds = LONG_SECONDS;
        report.sigkills = SIGKILLS_MIN;
        report.workflows = WORKFLOWS_MIN;
        report.ended.extend([("compensated".to_owned(), 3000), ("completed".to_owned(), 7000)]);
        report.sessions = vec![10, 40, 41, 40, 42, 40, 44, 40];
        report.veteran = vec![Weight { pid: 7, resident_kib: 36_000, descriptors: 28 }; 8];
        report.handed_over_in_time = Share { count: 95, of: 100 };
        report.gateways = Some(gateways());
        report.unfailing = Share { count: 600, of: 1000 };
        report.buried_in_time = Share { count: 95, of: 100 };
        report.taken_over_in_time = Share { count: 98, of: 100 };
        report.faults.insert("worker killed".to_owned(), Fired { aimed: 30, fired: 20 });
        report
    }

    #[track_caller]
    fn is_short(what: &str, spoil: impl FnOnce(&mut Report)) {
        let mut report = long();
        spoil(&mut report);
        let short = short_of(&report);
        assert!(matches!(&short[..], [only] if only.starts_with(what)), "{what}: {short:?}");
    }

    #[test]
    fn an_hour_must_have_shown_enough_of_everything() {
        assert_eq!(short_of(&long()), [] as [&str; 0]);
        is_short("taken back", |report| {
            report.ended.insert("compensated".to_owned(), 2999);
        });
        is_short("SIGKILLs", |report| report.sigkills -= 1);
        is_short("workflows: 9999, not 10000", |report| report.workflows -= 1);
        is_short("sessions of Postgres", |report| report.sessions[6..].fill(60));
        is_short("memory of a worker", |report| {
            report.veteran[6..].iter_mut().for_each(|weight| weight.resident_kib += 10_000);
        });
        is_short("descriptors of a worker", |report| {
            report.veteran[6..].iter_mut().for_each(|weight| weight.descriptors += 10);
        });
        is_short("workflows handed over", |report| report.handed_over_in_time.count = 94);
        is_short("postgres disk full: not possible here", |report| {
            report.not_possible.insert("postgres disk full".to_owned(), "no tmpfs".to_owned());
        });
        is_short("starts and stops of gateways", |report| {
            report.gateways = Some(Gateways { workflows: 999, ..gateways() });
        });
        is_short("starts looked at everywhere", |report| {
            report.gateways = Some(Gateways { looked_at: Share { count: 49, of: 100 }, ..gateways() });
        });
        is_short("starts taken back", |report| {
            report.gateways = Some(Gateways { started: 71, failed: 29, ..gateways() });
        });
        is_short("completed where nothing", |report| report.unfailing.count = 599);
        is_short("killed workers buried in time", |report| report.buried_in_time.count = 94);
        is_short("killed workers buried in time", |report| {
            report.buried_in_time = Share { count: 39, of: 39 };
        });
        is_short("workflows of killed workers", |report| report.taken_over_in_time.count = 97);
        is_short("worker killed", |report| {
            report.faults.insert("worker killed".to_owned(), Fired { aimed: 30, fired: 19 });
        });
    }

    #[test]
    fn a_minute_need_not_have_every_fault_twenty_times() {
        let mut report = long();
        report.seconds = 60;
        report.faults.insert("worker killed".to_owned(), Fired { aimed: 1, fired: 1 });
        report.ended.insert("compensated".to_owned(), 1);
        assert_eq!(short_of(&report), [] as [&str; 0]);
        report.buried_in_time.count = 1;
        assert_eq!(short_of(&report).len(), 1);
    }
}
