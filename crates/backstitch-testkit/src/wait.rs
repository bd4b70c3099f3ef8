//! How a test waits for a fact: it asks until it is so, and says what it waited for when it never is.

use std::fmt::Debug;
use std::time::{Duration, Instant};

/// How long a fact may take before a test fails. Far beyond anything that works, on a slow machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

const PAUSE: Duration = Duration::from_millis(5);

/// Asks `question` until it answers with something.
///
/// # Panics
/// When it has not within [`PATIENCE`].
pub async fn until<T>(what: &str, mut question: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = question().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited {} s in vain until {what}", PATIENCE.as_secs());
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks `question` until it answers with `expected`.
///
/// # Panics
/// When it has not within [`PATIENCE`]; says what the last answer was.
pub async fn until_equal<T: PartialEq + Debug>(
    what: &str,
    expected: T,
    mut question: impl AsyncFnMut() -> T,
) {
    let began = Instant::now();
    loop {
        let answer = question().await;
        if answer == expected {
            return;
        }
        assert!(
            began.elapsed() < PATIENCE,
            "waited {} s in vain until {what}: it is {answer:?}, not {expected:?}",
            PATIENCE.as_secs()
        );
        tokio::time::sleep(PAUSE).await;
    }
}
