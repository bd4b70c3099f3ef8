//! How many of how many?

use serde::Serialize;

/// So many of those.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Share {
    pub count: u64,
    pub of: u64,
}

impl Share {
    /// From 0 to 1.
    #[allow(clippy::cast_precision_loss)]
    pub fn part(self) -> f64 {
        self.count as f64 / self.of.max(1) as f64
    }

    /// One more, that is among them or not.
    pub fn add(&mut self, is_among: bool) {
        self.of += 1;
        self.count += u64::from(is_among);
    }
}

impl std::ops::AddAssign for Share {
    fn add_assign(&mut self, other: Self) {
        self.count += other.count;
        self.of += other.of;
    }
}
