//! How long a worker, or a client, waits for what.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use backstitch_core::limits;

/// The times of a worker, each of at most a day. The default is what every figure in the documentation is measured at; tests shorten
/// them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How long an incarnation may begin effects after its last heartbeat was asked for.
    pub lease: Duration,
    /// How often the heartbeat renews the lease: shorter than lease less `self_stop`.
    pub beat: Duration,
    /// How long before the end of the lease the worker stops its own effects.
    pub self_stop: Duration,
    /// The deadline of every database call: shorter than lease less `self_stop`, so that a silent database is noticed before.
    pub database_deadline: Duration,
    /// How often recovery looks for the dead.
    pub recovery_look: Duration,
    /// The longest time between two looks: of a worker for due workflows, of a client for those that it waits for.
    pub poll: Duration,
    /// How long a shutdown lets running attempts finish.
    pub shutdown_grace: Duration,
}

impl Timing {
    /// The numbers of the design.
    pub const DEFAULT: Self = Self {
        lease: limits::LEASE,
        beat: limits::BEAT,
        self_stop: limits::SELF_STOP,
        database_deadline: limits::DATABASE_DEADLINE,
        recovery_look: limits::RECOVERY_LOOK,
        poll: Duration::from_millis(250),
        shutdown_grace: limits::SHUTDOWN_GRACE,
    };
}

/// The longest of these times: longer than anybody waits for a process, and short enough to be counted on from any moment. One
/// that stands for ever is no moment at all.
const TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

impl Timing {
    /// What is wrong with these times, in words. None: a worker can keep them.
    pub(crate) fn fault(&self) -> Option<String> {
        // The others end before the lease does.
        let unbounded = [
            ("lease", self.lease),
            ("recovery_look", self.recovery_look),
            ("poll", self.poll),
            ("shutdown_grace", self.shutdown_grace),
        ];
        if let Some((name, time)) = unbounded.into_iter().find(|(_, time)| *time > TIME_MAX) {
            return Some(format!("{name} is {time:?}, and may be at most a day"));
        }
        let times = [
            ("lease", self.lease),
            ("beat", self.beat),
            ("database_deadline", self.database_deadline),
            ("recovery_look", self.recovery_look),
            ("poll", self.poll),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Some(format!("{name} is zero, and must be longer"));
        }
        let usable = self.lease.saturating_sub(self.self_stop);
        let within = [("beat", self.beat), ("database_deadline", self.database_deadline)];
        let (name, time) = within.into_iter().find(|(_, time)| *time >= usable)?;
        Some(format!(
            "{name} is {time:?}, and must be shorter than what is left of a lease of {:?} without a self_stop of {:?}",
            self.lease, self.self_stop
        ))
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A look for thousands takes milliseconds, and thousands a second may happen: all looks of one sort together take this part
/// of the time, so that a fifth of one processor of the database is the most that waiting costs, or following.
pub(crate) const LOOKS_SHARE: u32 = 5;

/// Up to a quarter less, so that many do not look at the same moment.
pub(crate) fn jittered(poll: Duration) -> Duration {
    // A fresh RandomState is seeded by the system: the cheapest number that no two workers share.
    let random = RandomState::new().hash_one(0_u8) % 256;
    #[allow(clippy::cast_possible_truncation)]
    let share = random as u32;
    poll - poll / 4 * share / 256
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_no_worker_can_keep_are_named() {
        assert_eq!(Timing::DEFAULT.fault(), None);
        let said = |timing: Timing| timing.fault().expect("it can't be kept");
        let zero = said(Timing { recovery_look: Duration::ZERO, ..Timing::DEFAULT });
        assert!(zero.contains("recovery_look is zero"), "{zero}");
        let long = said(Timing { self_stop: Duration::from_secs(11), ..Timing::DEFAULT });
        assert!(long.contains("beat is 2.5s") && long.contains("self_stop of 11s"), "{long}");
        let deaf = said(Timing { database_deadline: Duration::from_secs(8), ..Timing::DEFAULT });
        assert!(deaf.contains("database_deadline is 8s"), "{deaf}");
        let endless = said(Timing { shutdown_grace: Duration::MAX, ..Timing::DEFAULT });
        assert!(endless.contains("shutdown_grace is ") && endless.contains("at most a day"), "{endless}");
        let for_ever = Duration::MAX;
        let unbounded = said(Timing { lease: for_ever, self_stop: Duration::ZERO, ..Timing::DEFAULT });
        assert!(unbounded.contains("lease is "), "{unbounded}");
    }
}
