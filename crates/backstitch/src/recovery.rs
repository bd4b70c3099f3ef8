//! Who is dead: which incarnations are buried, and when.
//!
//! Two ways to know. On the same host: the lock file of a process that is gone can be taken. From anywhere: the
//! database's clock says that the lease is over, *and* this process saw the same beat in an unbroken series of its own
//! looks that spans a whole lease. The second half keeps an outage of the database, or a jump of its clock, from burying
//! the living: they get to beat before anyone has looked long enough. Where the clock was set back, the lease of one who
//! died before ends further ahead than any can; of the living the next beat sets that right, and only the dead stay so.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use backstitch_core::id::IncarnationId;
use tokio::sync::Notify;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use crate::database::Database;
use crate::incarnation::{self, Burial, LeaseSeen, Seen};
use crate::lock_file::{self, Abandoned};
use crate::outage::Outage;
use crate::timing::Timing;

/// How many missed looks break a series: one may be late, three are an outage.
const LOOKS_MISSED_MAX: u32 = 3;

/// How many of its leases one must be silent whose lease ends further ahead than it can. By what the database's clock says it can't
/// be told to be over, so our own clock judges alone: twice, for whichever of ours and its own runs fast or slow.
const LEASES_OF_SILENCE_AHEAD: u32 = 2;

/// Looks for the dead and buries them, until it is dropped. `buried` is told whenever workflows came free.
pub(crate) async fn recover(
    database: Database,
    own: IncarnationId,
    state_directory: Option<PathBuf>,
    timing: Timing,
    buried: Arc<Notify>,
) {
    let (mut series, mut outage) = (Series::default(), Outage::default());
    let mut burying: Option<AbortOnDropHandle<()>> = None;
    let mut ticks = interval(timing.recovery_look);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let mut living = match incarnation::living(&database).await {
            Ok(living) => living,
            Err(error) => {
                series = Series::default();
                if outage.is_news() {
                    tracing::warn!(%error, "looking for dead workers failed, looking on");
                }
                continue;
            }
        };
        outage.ends();
        living.retain(|seen| seen.incarnation != own);
        let silent = series.look(Instant::now(), timing, &living);
        // Beside the looks: one burial that has to wait would break the series of all.
        if burying.as_ref().is_none_or(AbortOnDropHandle::is_finished) {
            let gone = match &state_directory {
                Some(directory) => lock_file::abandoned(directory, living.iter().map(|seen| seen.token)),
                None => Vec::new(),
            };
            if !gone.is_empty() || !silent.is_empty() {
                let burials = bury_all(database.clone(), living, gone, silent, Arc::clone(&buried));
                burying = Some(AbortOnDropHandle::new(tokio::spawn(burials)));
            }
        }
    }
}

/// Buries one after another: those of the living whose lock file could be taken, and those that were silent for long enough.
/// One that can't be buried is not the others' fault, and is found again by a later look.
async fn bury_all(
    database: Database,
    living: Vec<Seen>,
    gone: Vec<Abandoned>,
    mut silent: Vec<Seen>,
    buried: Arc<Notify>,
) {
    for abandoned in gone {
        let dead = living.iter().find(|seen| seen.token == abandoned.token);
        let dead = *dead.expect("only tokens of the living were looked for");
        if bury(&database, dead, true, &buried).await {
            abandoned.remove();
            silent.retain(|seen| seen.incarnation != dead.incarnation);
        }
    }
    for dead in silent {
        bury(&database, dead, false, &buried).await;
    }
}

/// False: it could not be done, or not wholly.
async fn bury(database: &Database, dead: Seen, gone: bool, buried: &Notify) -> bool {
    match incarnation::bury(database, dead, gone).await {
        Ok(Some(Burial { freed, kept })) => {
            if freed > 0 {
                buried.notify_one();
            }
            let (incarnation, orphans) = (dead.incarnation, freed);
            let how = if gone { "its process is gone" } else { "its lease expired" };
            if kept == 0 {
                tracing::warn!(%incarnation, orphans, "buried a worker: {how}");
            } else {
                tracing::warn!(
                    %incarnation, orphans, kept,
                    "burying a worker, {how}: somebody's transaction keeps what it holds still, trying again"
                );
            }
            kept == 0
        }
        // It lives after all, or somebody else was first.
        Ok(None) => true,
        Err(error) => {
            tracing::warn!(incarnation = %dead.incarnation, %error, "burying a dead worker failed, trying again");
            false
        }
    }
}

/// This process's own unbroken series of looks.
#[derive(Debug, Default)]
struct Series {
    looked_at: Option<Instant>,
    same_beat_since: HashMap<IncarnationId, (i64, Instant)>,
}

impl Series {
    /// Takes in a successful look, and says whose lease is over and who was silent for long enough.
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
            let silence = match seen.lease {
                LeaseSeen::Holds => None,
                LeaseSeen::Over => Some(timing.lease),
                // Its own, which nothing but this measures; ours is what the looks are made for.
                LeaseSeen::Ahead(lease) => {
                    Some(lease.max(timing.lease).saturating_mul(LEASES_OF_SILENCE_AHEAD))
                }
            };
            if silence.is_some_and(|silence| now - since.1 >= silence) {
                dead.push(*seen);
            }
        }
        dead
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use LeaseSeen::{Ahead, Holds, Over};

    const TIMING: Timing = Timing::DEFAULT;

    fn seen(beat: i64, lease: LeaseSeen) -> Seen {
        Seen { incarnation: IncarnationId(1), token: uuid::Uuid::nil(), beat, lease }
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
        assert_eq!(looks(&mut series, start, 0, 30, seen(4, Holds)), None, "silent, but its lease holds");
        assert_eq!(
            looks(&mut series, start, 30, 31, seen(4, Over)),
            Some(30),
            "silent for long, and expired"
        );
        let mut series = Series::default();
        assert_eq!(
            looks(&mut series, start, 0, 30, seen(4, Over)),
            Some(10),
            "expired, then a lease of looks"
        );
    }

    #[tokio::test]
    async fn a_beat_or_a_gap_begins_the_series_anew() {
        let start = Instant::now();
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 9, seen(4, Over)), None);
        assert_eq!(looks(&mut series, start, 9, 30, seen(5, Over)), Some(19), "it beat once more");
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 9, seen(4, Over)), None);
        assert_eq!(looks(&mut series, start, 60, 90, seen(4, Over)), Some(70), "nobody looked for 51 s");
    }

    #[tokio::test]
    async fn a_lease_that_ends_further_ahead_than_it_can_is_over_after_two_of_its_own_in_silence() {
        let start = Instant::now();
        let lease = TIMING.lease;
        let silent_for = |lease| looks(&mut Series::default(), start, 0, 90, seen(4, Ahead(lease)));
        assert_eq!(silent_for(lease), Some(20));
        assert_eq!(silent_for(3 * lease), Some(60), "a worker that says itself how long its leases are");
        assert_eq!(silent_for(lease / 10), Some(20), "no shorter than what others are watched for");
        assert_eq!(silent_for(Duration::MAX), None);
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 19, seen(4, Ahead(lease))), None);
        assert_eq!(looks(&mut series, start, 19, 60, seen(5, Holds)), None, "its next beat set it right");
        let mut series = Series::default();
        assert_eq!(looks(&mut series, start, 0, 15, seen(4, Ahead(lease))), None);
        assert_eq!(looks(&mut series, start, 15, 16, seen(4, Over)), Some(15), "the hour came after all");
    }
}
