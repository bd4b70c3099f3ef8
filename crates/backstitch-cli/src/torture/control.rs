//! Would it be noticed? Runs in which one part of the protection is missing, and that must not hold.

use backstitch::Direction;
use backstitch_testkit::cut::Moment;
use backstitch_testkit::harm;
use backstitch_testkit::recorder::Misbehave;
use backstitch_testkit::violation::Violated;
use sqlx::PgPool;

use crate::arguments::Control;

use super::fault::{Boundary, Fault, OnPostgres, Then, Whose};

impl Control {
    /// What the recorder is started without.
    pub fn lacking(self) -> &'static [&'static str] {
        match self {
            Self::Fence | Self::Intent | Self::Removal => &[],
            Self::Tombstone => &["--lacks-tombstones"],
            Self::Key => &["--lacks-keys"],
            Self::Undo => &["--lacks-honesty"],
        }
    }

    /// Takes out of the database what is missing there.
    pub async fn spoil(self, pool: &PgPool) -> sqlx::Result<()> {
        match self {
            Self::Fence => harm::take_the_fence_away(pool).await,
            Self::Intent => harm::lie_about_durability(pool).await,
            Self::Tombstone | Self::Key | Self::Undo | Self::Removal => Ok(()),
        }
    }

    /// How many gateways it takes, where so many were wanted.
    pub fn gateways(self, wanted: usize) -> usize {
        if self == Self::Removal { wanted.max(GATEWAYS_MIN) } else { wanted }
    }

    /// What is violated where it is missing: any of these.
    pub fn shows_as(self) -> &'static [Violated] {
        match self {
            Self::Fence => &[Violated::DeadAreSilent],
            Self::Tombstone | Self::Undo => &[
                Violated::CompensatedLeavesNothing,
                Violated::CompletedStands,
                Violated::FailedLeavesNothing,
            ],
            Self::Key => &[Violated::AppliedOnce, Violated::CompensatedOnce],
            Self::Intent => &[Violated::IntentFirst],
            Self::Removal => &[Violated::NothingLeaked],
        }
    }

    /// What happens: that which the missing part protects from, again and again.
    pub fn deck(self) -> Vec<Fault> {
        let buried = |boundary| Fault::Statement {
            whose: Whose::Worker,
            boundary,
            moment: Moment::BeforeStatement,
            then: Then::Buried,
        };
        let kinds = match self {
            // What it was about to say when it was declared dead, it says.
            Self::Fence => vec![buried(Boundary::Intent), buried(Boundary::Outcome)],
            // Its caller dies while a call is under way, which lands after all was taken back.
            Self::Tombstone => vec![Fault::Call(Misbehave::OutliveCaller, Direction::Run)],
            Self::Key => vec![
                Fault::Call(Misbehave::Twice, Direction::Run),
                Fault::Call(Misbehave::LoseAnswer, Direction::Run),
            ],
            Self::Intent => vec![Fault::Postgres(OnPostgres::Killed)],
            // Nothing needs to go wrong.
            Self::Undo | Self::Removal => vec![Fault::Postgres(OnPostgres::StatementCancelled)],
        };
        kinds.into_iter().cycle().take(DECK).collect()
    }
}

/// Enough for some to be started while others are stopped.
const GATEWAYS_MIN: usize = 2;

/// Enough for each of them to meet something.
const DECK: usize = 16;
