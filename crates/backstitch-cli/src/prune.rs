//! Which finished workflows are removed: by `backstitch prune`, and by the daemon that keeps them for a time only?

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use backstitch::{Client, Removed};
use tokio_util::sync::CancellationToken;

use crate::arguments::Prune;
use crate::connect;
use crate::exit::{Exit, Failed};
use crate::output::{say, say_json};
use crate::settings::Settings;

/// How often a daemon removes what has become old enough. A run that finds little costs little; one that finds a day's
/// worth would be seen on the disk.
const EVERY: Duration = Duration::from_secs(3_600);

/// Removes once.
pub async fn run(settings: &Settings, arguments: Prune) -> Result<Exit, Failed> {
    let client = connect::client(settings).await?;
    let removing = client.remove_finished(arguments.older_than);
    let removed = crate::progress::waiting("removing finished workflows …", removing).await?;
    if arguments.json {
        say_json(&removed)?;
        return Ok(if removed.left_to_another { Exit::Refused } else { Exit::Done });
    }
    if removed.left_to_another {
        return Err(Failed::refused(format!(
            "{}; another run is at work, or was cut off less than half a minute ago: let it end, or try again then",
            told(&removed)
        )));
    }
    say(&told(&removed)).map(|()| Exit::Done)
}

fn told(removed: &Removed) -> String {
    let workflows = |count| if count == 1 { "1 workflow".to_owned() } else { format!("{count} workflows") };
    let stayed = match removed.stayed {
        0 => String::new(),
        stayed => {
            let verb = if stayed == 1 { "is" } else { "are" };
            format!("; {} as old {verb} live, or ended later, and stayed", workflows(stayed))
        }
    };
    format!("removed {}{stayed}", workflows(removed.removed))
}

/// Removes what ended longer than `keep` ago, now and every so often, until `stop`.
pub async fn keep_removing(client: Client, keep: Duration, stop: CancellationToken) {
    loop {
        match stop.run_until_cancelled(client.remove_finished(keep)).await {
            None => return,
            Some(Ok(removed)) if removed.removed > 0 => {
                tracing::info!(
                    removed = removed.removed,
                    stayed = removed.stayed,
                    "removed finished workflows"
                );
            }
            Some(Ok(removed)) => {
                tracing::debug!(left_to_another = removed.left_to_another, "no finished workflow to remove");
            }
            Some(Err(error)) => {
                tracing::warn!(%error, "removing finished workflows failed, the next run goes on")
            }
        }
        if stop.run_until_cancelled(tokio::time::sleep(jittered(EVERY))).await.is_none() {
            return;
        }
    }
}

/// Up to a quarter less, so that daemons started together don't all look at once.
fn jittered(every: Duration) -> Duration {
    // A fresh RandomState is seeded by the system.
    let random = u8::try_from(RandomState::new().hash_one(0_u8) % 256).unwrap_or(0);
    every - every / 4 * u32::from(random) / 256
}
