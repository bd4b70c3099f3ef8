//! Who is dead: which incarnations are buried, and when.
//!
//! Two ways to know. On the same host: the lock file of a process that is gone can be taken. From anywhere: the
//! database's clock says that the lease is over, *and* this process saw the same beat in an unbroken series of its own
//! looks that spans a whole lease. The second half keeps an outage of the database, or a jump of its clock, from burying
//! the living: they get to beat before anyone has looked long enough.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::id::IncarnationId;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::database::Database;
use crate::error::Error;
use crate::incarnation::{self, Seen};
use crate::lock_file;
use crate::outage::Outage;
use crate::timing::Timing;

/// How many missed looks break a series: one may be late, three are an outage.
const LOOKS_MISSED_MAX: u32 = 3;

/// Looks for the dead and buries them, until it is dropped. `buried` is told whenever workflows came free.
pub(crate) async fn recover(
    database: Database,
    own: IncarnationId,
    state_directory: Option<PathBuf>,
    timing: Timing,
    buried: Arc<Notify>,
) {
    let (mut series, mut outage) = (Series::default(), Outage::default());
    let mut ticks = interval(timing.recovery_look);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match look(&database, own, state_directory.as_deref(), timing, &mut series).await {
            Ok(freed) => {
                outage.ends();
                if freed > 0 {
                    buried.notify_one();
                }
            }
            Err(error) => {
                series = Series::default();
                if outage.is_news() {
                    tracing::warn!(%error, "looking for dead workers failed, looking on");
                }
            }
        }
    }
}

/// One look. Says how many workflows came free.
async fn look(
    database: &Database,
    own: IncarnationId,
    state_directory: Option<&std::path::Path>,
    timing: Timing,
    series: &mut Series,
) -> Result<u32, Error> {
    let mut living = incarnation::living(database).await?;
    living.retain(|seen| seen.incarnation != own);
    let mut freed = 0;
    if let Some(directory) = state_directory {
        for abandoned in lock_file::abandoned(directory, living.iter().map(|seen| seen.token)) {
            let dead = living.iter().find(|seen| seen.token == abandoned.token);
            let dead = *dead.expect("only tokens of the living were looked for");
            freed += bury(database, dead, true).await?;
            abandoned.remove();
            living.retain(|seen| seen.incarnation != dead.incarnation);
        }
    }
    for dead in series.look(Instant::now(), timing, &living) {
        freed += bury(database, dead, false).await?;
    }
    Ok(freed)
}

async fn bury(database: &Database, dead: Seen, gone: bool) -> Result<u32, Error> {
    let orphans = incarnation::bury(database, dead, gone).await?;
    if let Some(orphans) = orphans {
        let how = if gone { "its process is gone" } else { "its lease expired" };
        tracing::warn!(incarnation = %dead.incarnation, orphans, "buried a worker: {how}");
    }
    Ok(orphans.unwrap_or(0))
}

/// This process's own unbroken series of looks.
#[derive(Debug, Default)]
struct Series {
    looked_at: Option<Instant>,
    same_beat_since: HashMap<IncarnationId, (i64, Instant)>,
}

impl Series {
    /// Takes in a successful look, and says who has been expired and silent for long enough.
    fn look(&mut self, now: Instant, timing: Timing, living: &[Seen]) -> Vec<Seen> {
        let gap_max: Duration = timing.recovery_look * LOOKS_MISSED_MAX;
        if self.looked_at.is_some_and(|looked_at| now - looked_at > gap_max) {
            self.same_beat_since.clear();
        }
        self.looked_at = Some(now);
        self.same_beat_since
            .retain(|incarnation, _| living.iter().any(|seen| seen.incarnation == *incarnation));
        let mut dead = Vec::new();
        for seen in living {
            let since = self.same_beat_since.entry(seen.incarnation).or_insert((seen.beat, now));
            if since.0 != seen.beat {
                *since = (seen.beat, now);
            }
            if seen.expired && now - since.1 >= timing.lease {
                dead.push(*seen);
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMING: Timing = Timing::DEFAULT;

    fn seen(beat: i64, expired: bool) -> Seen {
        Seen { incarnation: IncarnationId(1), token: uuid::Uuid::nil(), beat, expired }
    }

    /// Looks every second from `from` to `to`, and says in which second the burial came.
    fn looks(series: &mut Series, start: Instant, from: u64, to: u64, seen: Seen) -> Option<u64> {
        (from..to).find(|second| {
            !series.look(start + Duration::from_secs(*second), TIMING, std::slice::from_ref(&seen)).is_empty()
        })
    }

    #[tokio::test]
    async fn a_burial_needs_both_the_databases_clock_and_a_lease_of_silence() {
        let start = Instant::now();
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 30, seen(4, false)), None, "silent, but its lease holds");
        assert_eq!(
            looks(&mut series, start, 30, 31, seen(4, true)),
            Some(30),
            "silent for long, and expired"
        );
        let mut series = Series::default();
        assert_eq!(
            looks(&mut series, start, 0, 30, seen(4, true)),
            Some(10),
            "expired, then a lease of looks"
        );
    }

    #[tokio::test]
    async fn a_beat_or_a_gap_begins_the_series_anew() {
        let start = Instant::now();
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 9, seen(4, true)), None);
        assert_eq!(looks(&mut series, start, 9, 30, seen(5, true)), Some(19), "it beat once more");
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 9, seen(4, true)), None);
        assert_eq!(looks(&mut series, start, 60, 90, seen(4, true)), Some(70), "nobody looked for 51 s");
    }
}
