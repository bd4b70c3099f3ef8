//! How often an error that repeats is said: once, and then rarely, so that an outage is a line in the log and not the log.

use std::time::Duration;

use tokio::time::Instant;

/// How often it is said again.
const AGAIN: Duration = Duration::from_secs(30);

/// One thing that keeps failing, or does not.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    said_at: Option<Instant>,
}

impl Outage {
    /// It failed. Whether that is to be said.
    pub(crate) fn is_news(&mut self) -> bool {
        let news = self.said_at.is_none_or(|said_at| said_at.elapsed() >= AGAIN);
        if news {
            self.said_at = Some(Instant::now());
        }
        news
    }

    /// It works: its next failure is news.
    pub(crate) fn ends(&mut self) {
        self.said_at = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_error_is_said_once_and_then_rarely() {
        let mut outage = Outage::default();
        let mut said = 0;
        for _ in 0..100 {
            said += u32::from(outage.is_news());
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        assert_eq!(said, 4, "at 0, 30, 60 and 90 s");
        outage.ends();
        assert!(outage.is_news());
    }
}
