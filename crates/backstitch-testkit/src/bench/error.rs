//! Why could something not be measured?

/// What went wrong. Its sources say why.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The engine says no.
    #[error(transparent)]
    Engine(#[from] backstitch::Error),
    /// There is no Postgres to measure on, or it makes no database.
    #[error("there is no place to measure on")]
    Place(#[from] backstitch_postgres::Error),
    /// A statement of the benchmark's own failed.
    #[error("{doing} failed")]
    Database {
        /// What it was for.
        doing: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// A worker process could not be started or heard.
    #[error("{doing} failed")]
    Process {
        /// What was tried.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// A daemon that was measured did not answer as it should.
    #[error("{doing} over HTTP failed")]
    Http {
        /// What was tried.
        doing: &'static str,
        /// What the client said.
        source: reqwest::Error,
    },
    /// What ran is not what was to be measured, so its time says nothing.
    #[error("nothing was measured: {0}")]
    Run(String),
}

impl Error {
    pub(super) fn database(doing: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { doing, source }
    }

    pub(super) fn process(doing: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Process { doing, source }
    }
}
