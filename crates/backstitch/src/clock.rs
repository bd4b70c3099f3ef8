//! What does the database's clock show, as far as its answers tell?

use std::time::Duration;

use backstitch_core::decide::later;
use chrono::{DateTime, Utc};
use tokio::time::Instant;

/// The database's clock: it shows something between two times, which count on with this process's monotonic clock.
///
/// An answer tells what it showed at some time since the answer was asked for: a moment ago, or, where a write was repeated and gets
/// the answer of the first, long before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Clock {
    earliest: DateTime<Utc>,
    latest: DateTime<Utc>,
    read_at: Instant,
}

impl Clock {
    /// One that showed `at` at some time since `asked_at`.
    pub(crate) fn showed(at: DateTime<Utc>, asked_at: Instant) -> Self {
        Self { earliest: at, latest: later(at, asked_at.elapsed()), read_at: Instant::now() }
    }

    /// It also showed `at` at some time since `asked_at`.
    pub(crate) fn learn(&mut self, at: DateTime<Utc>, asked_at: Instant) {
        let told = Self::showed(at, asked_at);
        let passed = told.read_at - self.read_at;
        let (earliest, latest) = (later(self.earliest, passed), later(self.latest, passed));
        let both = Self { earliest: earliest.max(told.earliest), latest: latest.min(told.latest), ..told };
        // Where both can't be, it was set, or runs at another speed: what was told last counts.
        *self = if both.earliest <= both.latest { both } else { told };
    }

    /// What it shows at least: nothing that must wait for a time comes too soon.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        later(self.earliest, self.read_at.elapsed())
    }

    /// How long ago it showed this, at most.
    pub(crate) fn since(&self, at: DateTime<Utc>) -> Duration {
        (later(self.latest, self.read_at.elapsed()) - at).to_std().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGINNING: DateTime<Utc> = DateTime::UNIX_EPOCH;
    const SECOND: Duration = Duration::from_secs(1);

    /// A clock that shows the beginning, asked and answered in no time.
    fn clock() -> Clock {
        Clock::showed(BEGINNING, Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_tells_of_the_past_does_not_set_it_back() {
        let (mut clock, asked_at) = (clock(), Instant::now());
        tokio::time::advance(8 * SECOND).await;
        clock.learn(BEGINNING + SECOND, asked_at);
        assert_eq!(clock.now(), BEGINNING + 8 * SECOND);
        assert_eq!(clock.since(BEGINNING + SECOND), 7 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_written_late_did_not_happen_when_it_was_asked_for() {
        let (mut clock, asked_at) = (clock(), Instant::now());
        tokio::time::advance(8 * SECOND).await;
        clock.learn(BEGINNING + 8 * SECOND, asked_at);
        assert_eq!(clock.since(BEGINNING + 8 * SECOND), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn of_the_only_answer_the_time_is_not_known_better_than_when_it_was_asked_for() {
        let asked_at = Instant::now();
        tokio::time::advance(3 * SECOND).await;
        let clock = Clock::showed(BEGINNING, asked_at);
        assert_eq!((clock.now(), clock.since(BEGINNING)), (BEGINNING, 3 * SECOND));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_followed_where_it_is_set_forward_and_back() {
        let mut clock = clock();
        for set_to in [BEGINNING + 3600 * SECOND, BEGINNING + 60 * SECOND] {
            let asked_at = Instant::now();
            tokio::time::advance(SECOND).await;
            clock.learn(set_to, asked_at);
            assert_eq!((clock.now(), clock.since(set_to)), (set_to, SECOND));
        }
    }
}
