//! What does an adapter find of what it was once asked to make?

use backstitch::Sighting;

/// What stands of one owner's thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// All of it, as it was made.
    AsMade,
    /// It is this owner's, but not as it was made: how it differs.
    Changed(String),
    /// Nothing that is this owner's; another's may be in its place.
    Nothing,
}

impl Found {
    /// What whoever made it sees.
    pub(crate) fn made(self) -> Sighting<()> {
        match self {
            Self::AsMade => Sighting::Stands(()),
            Self::Changed(how) => Sighting::Partly(how),
            Self::Nothing => Sighting::Gone,
        }
    }

    /// What whoever removed it sees: the removal stands where nothing does.
    pub(crate) fn removed(self) -> Sighting<()> {
        match self {
            Self::AsMade | Self::Changed(_) => Sighting::Gone,
            Self::Nothing => Sighting::Stands(()),
        }
    }
}
