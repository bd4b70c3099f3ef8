//! What lies between here and Postgres, and how a call is made over that: within which bounds, and leaving nothing behind.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

/// Which part of its deadline a call has left when the server gives up waiting for a lock: enough for the answer to come
/// back. A client that leaves ends nothing: its statement would wait on in the server, for ever, and the next one beside it.
const LOCK_WAIT_SPARES: u32 = 8;

/// What lies between here and Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Nothing that shows: a connection is a session.
    Direct,
    /// A pooler that lends out a session for one transaction.
    TransactionPooler,
}

impl Way {
    /// Options for connections whose statements wait for a lock no longer than this.
    pub(crate) fn waits_for_locks(self, options: PgConnectOptions, lock_wait: Duration) -> PgConnectOptions {
        match self {
            // Where it is said already, the last one counts.
            Self::Direct => options.options([("lock_timeout", format!("{}ms", lock_wait.as_millis()))]),
            // A session of its own does not begin with them: each transaction does.
            Self::TransactionPooler => options,
        }
    }

    /// Makes a call on a connection that came this way.
    pub(crate) async fn make<T, E: From<sqlx::Error>>(
        self,
        connection: &mut PgConnection,
        bounds: Bounds,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        match self {
            Self::Direct => call(connection).await,
            Self::TransactionPooler => self.make_in_transaction(connection, bounds, call).await,
        }
    }

    /// Makes a call in a transaction of its own.
    pub(crate) async fn make_in_transaction<T, E: From<sqlx::Error>>(
        self,
        connection: &mut PgConnection,
        bounds: Bounds,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.make_after(format!("begin; {}", bounds.set_local()), connection, call).await
    }

    /// Makes a call in a transaction of its own that writes nothing, and whose statements the server gives up.
    pub(crate) async fn look<T, E: From<sqlx::Error>>(
        self,
        connection: &mut PgConnection,
        bounds: Bounds,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let statement = bounds.lock_wait.as_millis();
        let begin =
            format!("begin read only; {}; set local statement_timeout = {statement}", bounds.set_local());
        self.make_after(begin, connection, call).await
    }

    async fn make_after<T, E: From<sqlx::Error>>(
        self,
        begin: String,
        connection: &mut PgConnection,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
        let answer = call(&mut transaction).await;
        // While the session is lent: after the COMMIT another may have it.
        self.leave(&mut transaction).await?;
        match answer {
            Ok(answer) => transaction.commit().await.map(|()| answer).map_err(E::from),
            Err(error) => {
                transaction.rollback().await?;
                Err(error)
            }
        }
    }

    pub(crate) async fn leave(self, transaction: &mut PgConnection) -> sqlx::Result<()> {
        match self {
            Self::Direct => Ok(()),
            Self::TransactionPooler => transaction.clear_cached_statements().await,
        }
    }
}

/// What the server is told of a call, so that nothing of it is left there long after its caller has given it up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// How long a statement may wait for a lock; and how long it may take in all, if it only looks.
    pub(crate) lock_wait: Duration,
    /// How long a transaction may wait for its next statement. Whoever is frozen or cut off in the middle of one holds the
    /// fence, and behind a pooler nobody can tell whose session that is: until it ends he can't be buried.
    pub(crate) silence: Duration,
}

impl Bounds {
    /// Of a call whose caller waits for so long. Zero would be for ever.
    pub(crate) fn of(deadline: Duration) -> Self {
        let lock_wait = deadline - deadline / LOCK_WAIT_SPARES;
        let some = Duration::from_millis(1);
        Self { lock_wait: lock_wait.max(some), silence: deadline.max(some) }
    }

    /// As a transaction is told at its beginning.
    fn set_local(self) -> String {
        let (lock_wait, silence) = (self.lock_wait.as_millis(), self.silence.as_millis());
        format!(
            "set local lock_timeout = {lock_wait}; set local idle_in_transaction_session_timeout = {silence}"
        )
    }
}
