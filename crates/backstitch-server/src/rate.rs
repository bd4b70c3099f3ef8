//! How often may one token ask?

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use backstitch::TokenHash;
use tokio::time::Instant;

use crate::bucket::{Allowance, Bucket};

/// How many requests a token may make a second for as long as it likes: far below what would slow the workers down.
pub const REQUESTS_PER_SECOND: f64 = 200.0;

/// How many it may make at once after a pause.
pub const REQUESTS_AT_ONCE: f64 = 400.0;

/// A bucket for each good token that asked since the daemon began. They are made by hand, so there are few.
#[derive(Debug, Default)]
pub struct Rate {
    buckets: Mutex<HashMap<TokenHash, Bucket>>,
}

impl Rate {
    /// Takes one request of this token's.
    ///
    /// # Errors
    /// It asked too often: in how many seconds it may again.
    pub fn take(&self, token: TokenHash, now: Instant) -> Result<(), u32> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let allowance = Allowance { per_second: REQUESTS_PER_SECOND, at_once: REQUESTS_AT_ONCE };
        let bucket = buckets.entry(token).or_insert_with(|| Bucket::full(allowance, now));
        // One is back in milliseconds, but the header counts in seconds.
        if bucket.take(now) { Ok(()) } else { Err(1) }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_token_that_asks_too_often_waits_and_others_do_not() {
        let (rate, now) = (Rate::default(), Instant::now());
        let (busy, other) = ([1; 32], [2; 32]);
        let taken = std::iter::repeat_with(|| rate.take(busy, now)).take_while(Result::is_ok).count();
        assert_eq!(taken, 400);
        assert_eq!(rate.take(other, now), Ok(()));
        let later = now + Duration::from_millis(10);
        let taken = std::iter::repeat_with(|| rate.take(busy, later)).take_while(Result::is_ok).count();
        assert_eq!(taken, 2);
    }
}
