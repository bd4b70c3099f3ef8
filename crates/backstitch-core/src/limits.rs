//! Which numbers the protocol stands on, and why each has its value.

use std::time::Duration;

/// How long an incarnation may begin effects after its last heartbeat was asked for. Long enough to ride out a failover of a
/// nearby Postgres or a stop-the-world pause, short enough that a caller waiting for a rollback is still there.
pub const LEASE: Duration = Duration::from_secs(10);

/// How often the heartbeat renews the lease: three beats may be lost before it ends.
pub const BEAT: Duration = Duration::from_millis(2_500);

/// How long before the end of its lease a worker stops its own effects, counted from before the beat was asked for.
/// Covers the time that a request already handed to the network may still need.
pub const SELF_STOP: Duration = Duration::from_secs(2);

/// The deadline of every database call of the worker: shorter than what a fresh beat leaves of the lease, so that a
/// frozen primary is noticed while the lease still holds.
pub const DATABASE_DEADLINE: Duration = Duration::from_secs(4);

/// How often recovery looks for incarnations that died.
pub const RECOVERY_LOOK: Duration = Duration::from_secs(1);

/// How long a graceful shutdown lets running attempts finish before they are aborted and handed back.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(20);

/// How long one attempt of a step may take, in both directions, where the step says nothing else.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(60);

/// How long after its timeout an effect may still arrive at a target that can't refuse it; waited out before an attempt
/// in doubt is compensated.
pub const LATE_EFFECT_GRACE: Duration = Duration::from_secs(2);

/// How many failed attempts of a compensation raise an alert.
pub const COMPENSATION_ATTEMPTS_UNTIL_ALERT: u32 = 5;

/// How long a compensation may keep failing before it raises an alert, however few attempts that were.
pub const COMPENSATION_TIME_UNTIL_ALERT: Duration = Duration::from_secs(600);

/// How often a compensation is tried once its alert is raised: rare enough not to hammer a broken target, often enough
/// that a healed one ends the story without an operator.
pub const SLOW_RETRY: Duration = Duration::from_secs(300);

/// How long a step waits whose code said [`halt`](crate::decide::Patience::halt): a hundred years, which is until an operator
/// decides, and a time that every clock can count to.
pub const HALT: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

/// How many deaths of its own process a workflow may cause before it is compensated.
pub const CRASH_BUDGET: u32 = 5;

/// From how many crash charges on a workflow runs alone in its process, so that only its own deaths count.
pub const SUSPECT_CHARGES: u32 = 2;

/// The longest input of a workflow or a step, in bytes of JSON text.
pub const INPUT_BYTES_MAX: usize = 256 * 1024;

/// The longest output of a step or a workflow, in bytes of JSON text.
pub const OUTCOME_BYTES_MAX: usize = 64 * 1024;

/// The deepest nesting of arrays and objects in any JSON value: far below what Postgres and serde_json can parse.
pub const DEPTH_MAX: usize = 64;

/// The longest error message kept in the journal, in bytes; the rest is cut with a mark.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024;

/// The longest name of a kind or a step, in bytes: they stand in every row, log line and table.
pub const NAME_BYTES_MAX: usize = 100;

/// The most steps one workflow may begin. A loop that never ends becomes an error, not a journal that can't be replayed.
pub const POSITIONS_MAX: u32 = 10_000;
