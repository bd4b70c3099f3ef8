//! How the engine reaches Postgres: a small pool, and a deadline on every call.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::types::PgInterval;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, Row};
use tokio::time::timeout;

use crate::error::{Error, is_of_the_session};
use crate::places::Places;
use crate::way::{Bounds, Way};

/// How many connections transactional steps, recovery and a client share. The claims, the heartbeat and the listener of a
/// worker have one each beside, its appender one or two: so no more than eleven in all, and five or six while no step is
/// transactional. A client has one beside while anybody waits.
const CONNECTIONS_MAX: u32 = 6;

/// How many of them are never lent to transactional steps, which have theirs for as long as their code runs: one, for
/// recovery and for what is parked.
const CONNECTIONS_SPARED: u32 = 1;

/// Postgres, with a deadline on every call.
#[derive(Debug, Clone)]
pub struct Database {
    /// For its own calls.
    own: PgPool,
    /// For the caller's own statements: what is left behind in a connection there, such as a transaction whose `begin` was
    /// dropped before its answer came, meets nothing of the engine's.
    pool: PgPool,
    way: Way,
    deadline: Duration,
    /// From which is looked through much.
    looks: Places,
}

impl Database {
    /// Connects to the database at `url` (`postgres://…`), within the deadline.
    ///
    /// # Errors
    /// When it can't be reached.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|source| Error::Database { doing: "reading the database's url", source })?;
        Self::connect_with(options).await
    }

    /// Connects with these options.
    ///
    /// # Errors
    /// When the database can't be reached.
    pub async fn connect_with(options: PgConnectOptions) -> Result<Self, Error> {
        let database = Self::connect_lazily(options);
        database.run("connecting to the database", async |connection| connection.ping().await).await?;
        Ok(database)
    }

    /// Connects when the first call is made.
    #[must_use]
    pub fn connect_lazily(options: PgConnectOptions) -> Self {
        Self::by(Way::Direct, options)
    }

    /// Connects when the first call is made, through a pooler that lends out a session for one transaction, such as `PgBouncer`
    /// with `pool_mode = transaction`. Any version will do, and none of its settings matters but that.
    ///
    /// Nothing is left on a session that the next one who is lent it would meet: each call is a transaction, and what was
    /// prepared in it goes with it. That makes five round trips of one, and two more where a type of the schema is to be looked
    /// up again. Nothing can be announced on such a way: what is enqueued or ended elsewhere is found by the next poll, after
    /// up to 250 ms; that a running attempt is cancelled, with the next beat, after up to 2.5 s.
    ///
    /// `PgBouncer` from 1.21 on, with `max_prepared_statements`, and `extra_float_digits` and `options` among its
    /// `ignore_startup_parameters`, follows what is prepared: then the other ways to connect work, too, at their usual price; but
    /// the server does not know how long it may wait for a lock. What is announced does not come through there either.
    ///
    /// Migrations lock for a session: [`migrate`](crate::migrate) wants the database itself.
    #[must_use]
    pub fn behind_transaction_pooler(options: PgConnectOptions) -> Self {
        // A pooler refuses parameters that it can't set anew for whoever is lent the session. Since Postgres 12 this one
        // changes nothing: floats are written in full.
        Self::by(Way::TransactionPooler, options.extra_float_digits(None))
    }

    fn by(way: Way, options: PgConnectOptions) -> Self {
        let options = match options.get_application_name() {
            Some(_) => options,
            None => options.application_name("backstitch"),
        };
        // Slow statements are the caller's to see by their deadline, not ours to log twice.
        let options = options.disable_statement_logging();
        let deadline = backstitch_core::limits::DATABASE_DEADLINE;
        let pool = |options| {
            PgPoolOptions::new()
                .max_connections(CONNECTIONS_MAX)
                .acquire_timeout(deadline)
                // A round trip per call; a broken connection shows itself in the call.
                .test_before_acquire(false)
                .connect_lazy_with(options)
        };
        let own = way.waits_for_locks(options.clone(), Bounds::of(deadline).lock_wait);
        Self { own: pool(own), pool: pool(options), way, deadline, looks: Places::of(CONNECTIONS_MAX) }
    }

    /// Uses this pool, whose connections are sessions, and shares it with the caller. How long their statements wait for a lock
    /// is the pool's to say (`lock_timeout`): better a little less than a worker's `database_deadline`.
    #[must_use]
    pub fn from_pool(pool: PgPool) -> Self {
        Self {
            own: pool.clone(),
            looks: Places::of(pool.options().get_max_connections()),
            pool,
            way: Way::Direct,
            deadline: backstitch_core::limits::DATABASE_DEADLINE,
        }
    }

    /// The same database, reached the same way, with connections of its own.
    #[must_use]
    pub fn apart(&self) -> Self {
        Self { deadline: self.deadline, ..Self::by(self.way, self.connect_options()) }
    }

    /// A pool for the caller's own statements, of up to six connections: none is open before it is used. Behind a transaction
    /// pooler they are better made by [`call`](Self::call).
    #[must_use]
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// How many connections its calls share now, beside [`pool`](Self::pool), and beside those that workers and whoever waits
    /// have for themselves.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.own.size()
    }

    /// Closes its connections, and those of [`pool`](Self::pool), once they are given back. Calls that follow fail.
    pub async fn close(&self) {
        tokio::join!(self.own.close(), self.pool.close());
    }

    /// With what it connects.
    pub(crate) fn connect_options(&self) -> PgConnectOptions {
        (*self.pool.connect_options()).clone()
    }

    /// With what a connection for its own calls connects.
    fn own_options(&self) -> PgConnectOptions {
        self.way.waits_for_locks(self.connect_options(), Bounds::of(self.deadline).lock_wait)
    }

    /// A connection that its calls share, for a call of several parts.
    pub(crate) async fn lend(&self) -> sqlx::Result<Lent> {
        Ok(Lent(Some(self.own.acquire().await?)))
    }

    /// Makes a call of the caller's own as the engine makes its calls; behind a transaction pooler, in a transaction, so that a
    /// statement that fails there takes those before it along, whatever the call makes of its error. How long
    /// that may take is the caller's to say, but no statement waits for a lock for longer than 3.5 s, nor such a transaction for
    /// its next statement for longer than 4 s. Where it is dropped before its end, its connection is closed: what is still on its
    /// way on it must not meet the next borrower. So is one whose session can only read, found out when a call on it fails.
    ///
    /// # Errors
    /// Those of the call, and when there is no connection.
    pub async fn call<T, E: From<sqlx::Error>>(
        &self,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> Result<T, E> {
        let (mut lent, answer) = self.make(call).await?;
        // What the caller makes of an error need not tell of its session: that one is asked.
        if answer.is_ok() || self.is_of_use(lent.connection()).await {
            lent.give_back();
        }
        answer
    }

    /// Makes a call on a connection that its calls share.
    async fn make<T, E: From<sqlx::Error>>(
        &self,
        call: impl AsyncFnOnce(&mut PgConnection) -> Result<T, E>,
    ) -> sqlx::Result<(Lent, Result<T, E>)> {
        let mut lent = self.lend().await?;
        // On the heap: whoever awaits it is one of hundreds of workflows, and small.
        let answer = Box::pin(self.way.make(lent.connection(), Bounds::of(self.deadline), call)).await;
        Ok((lent, answer))
    }

    /// Whether the next call can be made on this connection, too: it answers, and not as one that can only read.
    async fn is_of_use(&self, connection: &mut PgConnection) -> bool {
        let asked = sqlx::raw_sql("show transaction_read_only").fetch_one(connection);
        match timeout(self.deadline, asked).await {
            Ok(Ok(shown)) => shown.try_get::<String, _>(0).is_ok_and(|only_reads| only_reads == "off"),
            _ => false,
        }
    }

    /// Whether a connection is a session: only then can it hear what is announced, or hold a lock beyond a transaction.
    pub(crate) fn has_sessions(&self) -> bool {
        self.way == Way::Direct
    }

    /// To be called at the end of a transaction, before its COMMIT: what was prepared on its session must not meet whoever
    /// is lent it next.
    pub(crate) async fn leave(&self, transaction: &mut PgConnection) -> sqlx::Result<()> {
        self.way.leave(transaction).await
    }

    /// How many transactional steps may run at once.
    pub(crate) fn transactions_max(&self) -> usize {
        let lent = self.own.options().get_max_connections().saturating_sub(CONNECTIONS_SPARED);
        usize::try_from(lent.max(1)).unwrap_or(1)
    }

    pub(crate) fn with_deadline(self, deadline: Duration) -> Self {
        Self { deadline, ..self }
    }

    /// Makes one call, within the deadline.
    pub(crate) async fn run<T>(
        &self,
        doing: &'static str,
        call: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        within(self.deadline, doing, async {
            let (lent, answer) = self.make(call).await?;
            lent.give_back_after(&answer);
            answer
        })
        .await
    }

    /// Looks through what may be much: within the deadline, from one of few places, and no longer in the server than here. It
    /// costs two round trips more. Of what is written none may be made so: a commit that is cancelled while it waits for a
    /// standby is acknowledged all the same.
    pub(crate) async fn look<T>(
        &self,
        doing: &'static str,
        call: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        let bounds = Bounds::of(self.deadline);
        let Ok(place) = timeout(self.deadline, self.looks.take(bounds.lock_wait)).await else {
            return Err(Error::TooManyLooks { doing, at_once: self.looks.all(), after: self.deadline });
        };
        let answer = within(self.deadline, doing, async {
            let mut lent = self.lend().await?;
            let answer = Box::pin(self.way.look(lent.connection(), bounds, call)).await;
            lent.give_back_after(&answer);
            answer
        })
        .await;
        match &answer {
            // It may still be under way.
            Err(Error::Deadline { .. }) => drop(place),
            _ => place.leave(),
        }
        answer.map_err(|error| match is_given_up(&error) {
            true => Error::LookTooSlow { doing, after: bounds.lock_wait },
            false => error,
        })
    }

    /// Awaits a call that is made elsewhere than in the pool, within the deadline.
    pub(crate) async fn within<T>(
        &self,
        doing: &'static str,
        call: impl Future<Output = sqlx::Result<T>>,
    ) -> Result<T, Error> {
        within(self.deadline, doing, call).await
    }

    /// A connection of its own that hears what is announced on these channels: it is kept, and the pool's are the journal's.
    pub(crate) async fn listener(&self, channels: &[&str]) -> Result<PgListener, Error> {
        let own = PgPoolOptions::new().max_connections(1).connect_lazy_with(self.own_options());
        let listening = async {
            let mut listener = PgListener::connect_with(&own).await?;
            // Whoever lost it decides when to listen again, and what else there is to do then.
            listener.eager_reconnect(false);
            listener.listen_all(channels.iter().copied()).await?;
            Ok(listener)
        };
        self.within("beginning to listen", listening).await
    }
}

/// A connection of one's own, outside the pool: always there, its plans made and its caches warm.
///
/// After a call that failed, did not end in time or was dropped, the next one makes a new connection; after one that the server
/// refused, only if it refused that to the session.
pub(crate) struct Kept {
    database: Database,
    connection: Option<PgConnection>,
}

impl Kept {
    /// Connects with the first call.
    pub(crate) fn of(database: Database) -> Self {
        Self { database, connection: None }
    }

    /// How long a call lasts at most: within its deadline, after a connection was made within another.
    pub(crate) fn lasts_max(&self) -> Duration {
        2 * self.database.deadline
    }

    /// Makes one call, within the deadline.
    pub(crate) async fn run<T>(
        &mut self,
        doing: &'static str,
        call: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        let (way, bounds) = (self.database.way, Bounds::of(self.database.deadline));
        self.with(doing, async |connection| way.make(connection, bounds, call).await).await
    }

    /// Makes one call, within the deadline, that waits for a lock no longer than this. It costs two round trips more.
    pub(crate) async fn run_waiting<T>(
        &mut self,
        lock_wait: Duration,
        doing: &'static str,
        call: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        let (way, bounds) = (self.database.way, Bounds { lock_wait, ..Bounds::of(self.database.deadline) });
        self.with(doing, async |connection| way.make_in_transaction(connection, bounds, call).await).await
    }

    async fn with<T>(
        &mut self,
        doing: &'static str,
        call: impl AsyncFnOnce(&mut PgConnection) -> sqlx::Result<T>,
    ) -> Result<T, Error> {
        let deadline = self.database.deadline;
        // Not in its place meanwhile: a call that is dropped takes it along.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let options = self.database.own_options();
                within(deadline, doing, PgConnection::connect_with(&options)).await?
            }
        };
        // On the heap, as above.
        let answer = within(deadline, doing, Box::pin(call(&mut connection))).await;
        match &answer {
            Ok(_) => self.connection = Some(connection),
            // The server said no, and not to this session: the connection is as good as before.
            Err(Error::Database { source: source @ sqlx::Error::Database(_), .. })
                if !is_of_the_session(source) =>
            {
                self.connection = Some(connection);
            }
            // Its call may still be under way, or no call on it will succeed: not to be used again.
            Err(_) => drop(connection.close_hard()),
        }
        answer
    }
}

/// A borrowed connection that is closed unless it is given back in order.
pub(crate) struct Lent(Option<sqlx::pool::PoolConnection<sqlx::Postgres>>);

impl Lent {
    pub(crate) fn connection(&mut self) -> &mut PgConnection {
        self.0.as_mut().expect("a connection is given back only at its end")
    }

    pub(crate) fn give_back(mut self) {
        drop(self.0.take());
    }

    /// Gives it back, unless its call was answered with what every call on it will be.
    fn give_back_after<T>(self, answer: &sqlx::Result<T>) {
        if !answer.as_ref().is_err_and(is_of_the_session) {
            self.give_back();
        }
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// Whether the server gave up a statement: it took too long, or somebody cancelled it there.
fn is_given_up(error: &Error) -> bool {
    let Error::Database { source, .. } = error else { return false };
    source.as_database_error().and_then(|error| error.code()).as_deref() == Some("57014")
}

/// Awaits a call to the database, but not longer than `deadline`.
async fn within<T>(
    deadline: Duration,
    doing: &'static str,
    call: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, Error> {
    timeout(deadline, call)
        .await
        .map_err(|_| Error::Deadline { doing, after: deadline })?
        .map_err(|source| Error::Database { doing, source })
}

/// A span of time as Postgres takes it, in whole microseconds.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    PgInterval { months: 0, days: 0, microseconds: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX) }
}
