//! What can go wrong for a user of the engine, by what they can do about it.

use std::sync::Arc;
use std::time::Duration;

use backstitch_core::id::WorkflowId;
use backstitch_core::json::JsonError;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The database can't be reached, or said no.
    #[error("{doing}: {source}{}", what_to_do(source))]
    Database {
        /// What was being done.
        doing: &'static str,
        /// What the database, or the way to it, said.
        #[source]
        source: sqlx::Error,
    },
    /// The database did not answer in time.
    #[error("{doing}: no answer from the database within {} s", after.as_secs_f64())]
    Deadline {
        /// What was being done.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// A look went through more than it may. The same one would again.
    #[error(
        "{doing}: not done within {} s, and given up: look through less, such as a shorter time (since, until)",
        after.as_secs_f64()
    )]
    LookTooSlow {
        /// What was being done.
        doing: &'static str,
        /// How long.
        after: Duration,
    },
    /// As many look through much as may at once, and none of them was done in time.
    #[error("{doing}: {at_once} look through much already, and none was done within {} s: ask again later", after.as_secs_f64())]
    TooManyLooks {
        /// What was being done.
        doing: &'static str,
        /// How many may.
        at_once: usize,
        /// How long it was waited for one of them.
        after: Duration,
    },
    /// The database lacks migrations of this version.
    #[error(
        "the database is at migration {found} of schema backstitch, this version needs {needed}: run `backstitch migrate`"
    )]
    NotMigrated {
        /// Its newest migration; 0: none.
        found: i64,
        /// The newest that this version knows and the database lacks.
        needed: i64,
    },
    /// The database was migrated by a newer version that says this one can't work with it.
    #[error(
        "the database is at migration {found} of schema backstitch and needs a version that knows {needed}, this one knows {known}: use a newer version"
    )]
    MigratedAhead {
        /// Its newest migration.
        found: i64,
        /// The one that a version must know to work with it.
        needed: i64,
        /// The newest that this version knows.
        known: i64,
    },
    /// Migrations lock for a session, and a transaction pooler lends out none.
    #[error("migrations can't go through a transaction pooler: name the database itself")]
    MigratesThroughPooler,
    /// A migration failed.
    #[error("migrating: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// The journal's sessions must be set otherwise.
    #[error(
        "the session shows {setting} = {found}, the journal needs {needed}: alter the role or the database"
    )]
    Session {
        /// Which setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        needed: &'static str,
    },
    /// The input, or something given with it, can't be taken.
    #[error("kind {kind}: the input {source}")]
    InvalidInput {
        /// The kind.
        kind: String,
        /// Why.
        #[source]
        source: JsonError,
    },
    /// The database refused what was enqueued.
    #[error("{0}")]
    Refused(String),
    /// The key names a workflow with another input.
    #[error("{message}")]
    KeyTaken {
        /// The workflow that the key names.
        first: WorkflowId,
        /// Which kind, key and workflow.
        message: String,
    },
    /// There is no such workflow.
    #[error("there is no workflow {0}")]
    NotFound(WorkflowId),
    /// What the database returned does not fit this version.
    #[error("workflow {workflow}: {message}")]
    Unreadable {
        /// Which workflow.
        workflow: WorkflowId,
        /// What does not fit.
        message: String,
    },
    /// One look was taken for many, and this is what went wrong for each of them.
    #[error("{0}")]
    Shared(#[source] Arc<Error>),
    /// The state directory can't be used.
    #[error("state directory {directory}: {source}")]
    StateDirectory {
        /// Which.
        directory: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The worker could not start its heartbeat.
    #[error("starting a thread of the worker: {0}")]
    Thread(#[source] std::io::Error),
}

impl Error {
    /// Whether it may be gone by itself later: the database was not there.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Deadline { .. } | Self::TooManyLooks { .. } => true,
            Self::Shared(error) => error.is_transient(),
            Self::Database { source, .. } => is_transient(source),
            _ => false,
        }
    }

    /// The same, in the words of the contract where the contract raised it: its errors have codes of their own, class BS.
    /// Class 22 is what Postgres itself says of values that it can't hold, such as 1e999999 in jsonb.
    pub(crate) fn said_by_contract(self) -> Self {
        let Self::Database { source: sqlx::Error::Database(said), .. } = &self else {
            return self;
        };
        match said.code().as_deref() {
            Some("BSK01") => {
                let said = said.downcast_ref::<sqlx::postgres::PgDatabaseError>();
                match said.detail().and_then(|detail| detail.parse().ok()) {
                    Some(first) => Self::KeyTaken { first, message: said.message().to_owned() },
                    None => Self::Refused(said.message().to_owned()),
                }
            }
            Some(code) if code.starts_with("BS") || code.starts_with("22") => {
                Self::Refused(said.message().to_owned())
            }
            _ => self,
        }
    }
}

/// What helps, where it can't be guessed from what the database said.
fn what_to_do(error: &sqlx::Error) -> &'static str {
    match error.as_database_error().and_then(|error| error.code()).as_deref() {
        // No such prepared statement, or one too many: that of another who was lent the session.
        Some("26000" | "42P05") => {
            "; a transaction pooler is between: set transaction_pooler (Database::behind_transaction_pooler)"
        }
        Some("08P01") if error.to_string().contains("startup parameter") => {
            "; a pooler is between: set transaction_pooler (Database::behind_transaction_pooler), or have it ignore this parameter"
        }
        _ => "",
    }
}

/// Whether the same statement may succeed later: the connection, the server's state, or another transaction was at fault.
pub(crate) fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        _ if is_place_taken(error) => true,
        sqlx::Error::Database(error) => error.code().is_none_or(|code| {
            // Connection, authorisation and database (somebody is changing them), transaction rollback (deadlock),
            // resources, operator intervention, system error; a standby, which is no primary yet; and a transaction that
            // its caller left waiting for too long.
            ["08", "28", "3D", "40", "53", "55", "57", "58", "XX"].iter().any(|class| code.starts_with(class))
                || ["25006", "25P03"].contains(&code.as_ref())
        }),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Whether the same statement may succeed later, and the server is well meanwhile: it said so itself, and not of the session or
/// of all that it does. Then it may be one record of a batch that holds up the others.
pub(crate) fn is_of_the_statement(error: &sqlx::Error) -> bool {
    match error {
        _ if !is_transient(error) => false,
        // The session, its rights, its database, the resources of all, a shutdown or a start, a standby, a session that ended.
        sqlx::Error::Database(error) => error.code().is_some_and(|code| {
            !["08", "28", "3D", "53", "57P", "25006", "25P03"].iter().any(|class| code.starts_with(class))
        }),
        // It answered, and this version does not understand the answer.
        sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether it is the session that the server said this of, which is of no use any more, while a new one may be: it can only read,
/// for it began on a standby, on a primary that became one since, or when none could write; or it is about to end.
pub(crate) fn is_of_the_session(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.is_some_and(|code| ["08", "57P", "25006", "25P03"].iter().any(|class| code.starts_with(class)))
}

/// Whether repeating the same batch would only wait again: for a lock, or for whoever wrote the same place of a journal.
pub(crate) fn is_held_up(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    code.as_deref() == Some("55P03") || is_place_taken(error)
}

/// Whether two wrote the same place of a journal at once: the one that came second finds the first's row when it repeats.
fn is_place_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.constraint() == Some("journal_pkey"))
}
