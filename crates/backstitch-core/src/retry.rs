//! When a failed attempt is tried again.

use std::time::Duration;

use crate::id::{IdempotencyKey, Position, WorkflowId};

/// How often and how patiently a step is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// How many attempts that end in an error, a timeout or a panic make the step fail for good. At least 1.
    /// Attempts cut short by a shutdown or a death do not count.
    pub attempts_max: u32,
    /// The wait after the first failed attempt; it doubles with each further one.
    pub delay_first: Duration,
    /// The longest wait.
    pub delay_max: Duration,
}

impl RetryPolicy {
    /// Ten attempts over about seven minutes: 1 s, 2 s, 4 s … 60 s.
    pub const DEFAULT: Self =
        Self { attempts_max: 10, delay_first: Duration::from_secs(1), delay_max: Duration::from_secs(60) };

    /// One attempt, no second.
    pub const ONCE: Self = Self { attempts_max: 1, ..Self::DEFAULT };

    /// This policy with another number of attempts.
    #[must_use]
    pub const fn attempts(self, attempts_max: u32) -> Self {
        Self { attempts_max, ..self }
    }

    /// This policy with other waits.
    #[must_use]
    pub const fn delays(self, delay_first: Duration, delay_max: Duration) -> Self {
        Self { delay_first, delay_max, ..self }
    }

    /// How long to wait after the `failed`-th failed attempt (from 1): `delay_first · 2^(failed-1)`, at most
    /// `delay_max`, less up to a fifth.
    ///
    /// The jitter is drawn from the step's identity instead of a random number: it spreads a thousand workflows that
    /// failed together, and gives the same answer whoever asks and however often.
    #[must_use]
    pub fn delay(&self, key: &IdempotencyKey, failed: u32) -> Duration {
        let doublings = failed.saturating_sub(1).min(31);
        let full = self.delay_first.saturating_mul(1 << doublings).min(self.delay_max);
        full - full.mul_f64(0.2 * fraction(key.workflow, key.position, failed))
    }
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// A number in 0..1 that looks random: the finalizer of splitmix64 (Steele, Lea, Flood 2014) over the identity.
fn fraction(workflow: WorkflowId, position: Position, attempt: u32) -> f64 {
    let (high, low) = workflow.0.as_u64_pair();
    let mut z = high ^ low.rotate_left(17) ^ (u64::from(position.0) << 32) ^ u64::from(attempt);
    z = z.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^= z >> 31;
    // The 53 high bits fill a double's mantissa exactly.
    #[allow(clippy::cast_precision_loss)]
    let unit = (z >> 11) as f64 / (1_u64 << 53) as f64;
    unit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Direction;

    fn key(position: u32) -> IdempotencyKey {
        IdempotencyKey {
            workflow: WorkflowId(uuid::Uuid::from_u128(0x0198_0000_0000_7000_8000_0000_0000_0001)),
            position: Position(position),
            direction: Direction::Run,
        }
    }

    #[test]
    fn delays_double_up_to_their_bound_less_a_fifth_at_most() {
        let policy = RetryPolicy::DEFAULT;
        for (failed, full) in [(1, 1), (2, 2), (3, 4), (6, 32), (7, 60), (10, 60), (4_000_000_000, 60)] {
            let full = Duration::from_secs(full);
            let delay = policy.delay(&key(0), failed);
            assert!(delay <= full && delay >= full.mul_f64(0.8), "{failed}: {delay:?}");
        }
    }

    #[test]
    fn neighbours_do_not_wait_the_same_time() {
        let delays: std::collections::BTreeSet<_> =
            (0..100).map(|position| RetryPolicy::DEFAULT.delay(&key(position), 5)).collect();
        assert!(delays.len() > 95);
    }
}
