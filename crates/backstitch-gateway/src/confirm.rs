//! How often, and how far apart, is what was taken back looked for again?
//!
//! A change that is in doubt may land after it was taken back, at a target that can't refuse it. So whoever takes it back looks
//! again, and any sighting begins again.

use std::time::Duration;

/// A late change of a frozen server was seen within this time of the look before it.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);
/// What comes back more often has an owner who is alive.
pub(crate) const ROUNDS_MAX: u32 = 3;
