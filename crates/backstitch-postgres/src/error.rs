//! What can go wrong with a Postgres of our own, and what to do about it.

use std::path::PathBuf;
use std::time::Duration;

/// Why a Postgres could not be found, started, reached or stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No directory holds `initdb`, `pg_ctl` and `postgres`.
    #[error(
        "no postgres binaries found; looked in: {}; \
         run `apt-get install postgresql` (or `brew install postgresql@17`), \
         or set BACKSTITCH_PG_BIN to the directory that holds initdb",
        .looked.join(", ")
    )]
    NoBinaries {
        /// Every place looked at, in order.
        looked: Vec<String>,
    },

    /// The data was made by a major version that is not installed.
    #[error(
        "the data in {} was made by postgres {wanted}, and only {} is installed; \
         run `apt-get install postgresql-{wanted}`, \
         or set BACKSTITCH_PG_BIN to its directory",
        .data.display(),
        .found.join(", ")
    )]
    NoBinariesOfVersion {
        /// The data directory.
        data: PathBuf,
        /// The major version that made it.
        wanted: u32,
        /// The major versions installed.
        found: Vec<String>,
    },

    /// The directory cannot hold a cluster, for what it is called or where it lies.
    #[error("{} cannot hold a postgres: {why}", .directory.display())]
    UnfitDirectory {
        /// The directory asked for.
        directory: PathBuf,
        /// What stands against it, and what to do.
        why: String,
    },

    /// Postgres refuses to run as root, and there is nobody else to run it as.
    #[error(
        "postgres refuses to run as root, and /etc/passwd has neither a user postgres nor a user nobody; \
         run `useradd --system postgres`"
    )]
    NoUser,

    /// Someone else has been starting or stopping this cluster for too long.
    #[error(
        "waited {} s for {}: another process is starting or stopping this postgres; see who with `fuser {}`",
        .waited.as_secs(), .lock.display(), .lock.display()
    )]
    Locked {
        /// The lock file.
        lock: PathBuf,
        /// How long it was waited for.
        waited: Duration,
    },

    /// A file or a program could not be used.
    #[error("{doing} {}", .path.display())]
    Io {
        /// What was being done, as "reading" or "running".
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },

    /// `initdb` or `pg_ctl` said no.
    #[error("{program} failed for {}: {said}", .directory.display())]
    Tool {
        /// `initdb`, `pg_ctl start` or `pg_ctl stop`.
        program: &'static str,
        /// The cluster's directory.
        directory: PathBuf,
        /// The end of its output or of the server's log.
        said: String,
    },

    /// The server's process is there but does not answer.
    #[error(
        "postgres in {} (process {pid}) does not answer after {} s; its log is in {}",
        .directory.display(), .waited.as_secs(), .directory.join("log").display()
    )]
    Silent {
        /// The cluster's directory.
        directory: PathBuf,
        /// The postmaster.
        pid: u32,
        /// How long it was asked.
        waited: Duration,
        /// Its last answer.
        source: sqlx::Error,
    },

    /// The running server may lose what it acknowledged, and the caller asked for one that does not.
    #[error(
        "postgres in {} runs with fsync off, as a throwaway, and durability was asked for; \
         stop it first, or choose another directory",
        .directory.display()
    )]
    Throwaway {
        /// The cluster's directory.
        directory: PathBuf,
    },

    /// The server answered with an error.
    #[error("{doing}")]
    Database {
        /// What was being done, and to which database.
        doing: String,
        /// The server's answer.
        source: sqlx::Error,
    },

    /// A name Postgres would cut short or refuse.
    #[error("{name:?} cannot name a database: use 1 to 63 bytes without a zero byte")]
    DatabaseName {
        /// The name.
        name: String,
    },

    /// A connection URL that cannot be read.
    #[error("the postgres url cannot be read; write it as postgres://user:password@host:5432/database")]
    Url {
        /// What the parser said.
        source: sqlx::Error,
    },
}

impl Error {
    /// Puts what was being done, and to which path, before an I/O error.
    pub(crate) fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.into();
        move |source| Error::Io { doing, path, source }
    }

    pub(crate) fn unfit(directory: impl Into<PathBuf>, why: impl Into<String>) -> Error {
        Error::UnfitDirectory { directory: directory.into(), why: why.into() }
    }
}
