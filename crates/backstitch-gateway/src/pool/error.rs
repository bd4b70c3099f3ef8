//! What can the pool say no to, and what does it mean for the caller?

use crate::identifiers::InvalidIdentifier;
use crate::verdict::Classified;

/// One variant for each thing a caller or an operator can do. The texts are the schema's own: it knows the names.
#[derive(Debug, thiserror::Error)]
pub enum PoolError {
    /// All gateways are in use, new or quarantined.
    #[error("{0}")]
    NoGatewayAvailable(String),
    /// Another workflow has allocated for this organisation.
    #[error("{0}")]
    OrganizationHasGateway(String),
    /// This workflow had an allocation and released it: it is on its way back, not forward.
    #[error("{0}")]
    AllocationEnded(String),
    /// There is nothing to stop.
    #[error("{0}")]
    OrganizationHasNone(String),
    /// Another stop has taken the allocation over.
    #[error("{0}")]
    BeingStopped(String),
    /// The allocation names another workflow, which alone may release it.
    #[error("{0}")]
    NotTheReleaser(String),
    /// A stop took the allocation over and ended without ending it: a person must see to it.
    #[error("{0}")]
    StopVanished(String),
    /// No gateway has this number.
    #[error("{0}")]
    UnknownGateway(String),
    /// Only a release from quarantine makes it ready.
    #[error("{0}")]
    Quarantined(String),
    /// It can't leave quarantine while somebody has it.
    #[error("{0}")]
    StillAllocated(String),
    /// A name or an upstream that is none, or a call that contradicts an earlier one.
    #[error("{0}")]
    Invalid(String),
    /// The name or the upstream belongs to another gateway.
    #[error("{0}")]
    Taken(String),
    /// A row of the pool holds what it should not.
    #[error("the pool holds a row that cannot be read")]
    Undecodable(#[from] InvalidIdentifier),
    /// A row of a newer schema.
    #[error("an allocation has the status {status}, which this version does not know")]
    UnknownStatus {
        /// What stands there.
        status: String,
    },
    /// The schema can't be brought up to date.
    #[error("the schema gateway cannot be migrated")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The database did not do it, or did not say.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
}

impl From<sqlx::Error> for PoolError {
    fn from(error: sqlx::Error) -> Self {
        let Some(refusal) = error.as_database_error() else {
            return Self::Database(error);
        };
        let message = refusal.message().to_owned();
        match refusal.code().as_deref() {
            Some("BGA01") => Self::NoGatewayAvailable(message),
            Some("BGA02") => Self::OrganizationHasGateway(message),
            Some("BGA03") => Self::OrganizationHasNone(message),
            Some("BGA04") => Self::BeingStopped(message),
            Some("BGA05") => Self::NotTheReleaser(message),
            Some("BGA06") => Self::StopVanished(message),
            Some("BGE01") => Self::AllocationEnded(message),
            Some("BGN01") => Self::UnknownGateway(message),
            Some("BGQ01") => Self::Quarantined(message),
            Some("BGQ02") => Self::StillAllocated(message),
            Some("BGI01" | "BGI03") => Self::Invalid(message),
            Some("BGI02") => Self::Taken(message),
            _ => Self::Database(error),
        }
    }
}

impl Classified for PoolError {
    fn is_transient(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    /// A commit whose answer got lost may have happened; a refusal rolls back.
    fn may_have_happened(&self) -> bool {
        matches!(self, Self::Database(_))
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NoGatewayAvailable(_) => "no_gateway_available",
            Self::OrganizationHasGateway(_) => "organization_has_gateway",
            Self::AllocationEnded(_) => "allocation_ended",
            Self::OrganizationHasNone(_) => "organization_has_no_gateway",
            Self::BeingStopped(_) => "organization_being_stopped",
            Self::NotTheReleaser(_) => "not_the_releaser",
            Self::StopVanished(_) => "stop_vanished",
            Self::UnknownGateway(_) => "unknown_gateway",
            Self::Quarantined(_) => "gateway_quarantined",
            Self::StillAllocated(_) => "gateway_still_allocated",
            Self::Invalid(_) => "invalid_request",
            Self::Taken(_) => "gateway_taken",
            Self::Undecodable(_) | Self::UnknownStatus { .. } => "pool_unreadable",
            Self::Migration(_) => "pool_not_migrated",
            Self::Database(_) => "pool_database_failed",
        }
    }
}
