//! How much is left of what may be done at once, and how fast does it come back?

use tokio::time::Instant;

/// How often something may be done.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    /// For as long as one likes.
    pub per_second: f64,
    /// At once, after a pause.
    pub at_once: f64,
}

/// What is left of an allowance.
#[derive(Debug)]
pub struct Bucket {
    allowance: Allowance,
    left: f64,
    at: Instant,
}

impl Bucket {
    /// All of it is left.
    pub fn full(allowance: Allowance, now: Instant) -> Self {
        Self { allowance, left: allowance.at_once, at: now }
    }

    /// Takes one. False: there is none left.
    pub fn take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }

    /// Gives one back that was taken in vain.
    pub fn give_back(&mut self) {
        self.left = (self.left + 1.0).min(self.allowance.at_once);
    }

    /// Whether all of it is left: then it is as a new one.
    pub fn is_full(&mut self, now: Instant) -> bool {
        self.fill(now);
        self.left >= self.allowance.at_once
    }

    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * self.allowance.per_second).min(self.allowance.at_once);
        self.at = now;
    }
}
