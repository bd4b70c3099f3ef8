//! How is the database reached, and what is said when it is not?

use std::str::FromStr;
use std::time::Duration;

use backstitch::{Client, Database};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, PgConnection};

use crate::arguments::LogFormat;
use crate::exit::{Exit, Failed};
use crate::output::note;
use crate::settings::Settings;

/// The database in the Postgres of this user's own.
const DATABASE: &str = "backstitch";

/// A Postgres that is well answers within milliseconds, a far one within a second.
const CONNECT_TIME: Duration = Duration::from_secs(5);

/// The database to work with, migrated.
pub async fn client(settings: &Settings) -> Result<Client, Failed> {
    let database = connect(settings).await?;
    backstitch::check_migrated(&database).await?;
    Ok(Client::new(database))
}

/// The database that was named, else the one of this user's own, which is started if need be.
pub async fn connect(settings: &Settings) -> Result<Database, Failed> {
    // Somebody who named a server would be surprised to be answered by whatever database is beside it.
    if settings.server().is_some() {
        return Err(not_over_http("what this command does"));
    }
    let (url, is_pooled) = match settings.database_url() {
        Some(url) => (url.to_owned(), settings.transaction_pooler()),
        None => (own(settings).await?, false),
    };
    let options = options(&url).ok_or_else(|| {
        // Not repeated: it may hold a password.
        Failed::usage("the database URL can't be read; write it as postgres://user@host:5432/database")
    })?;
    let database = match is_pooled {
        true => Database::behind_transaction_pooler(options),
        false => Database::connect_lazily(options),
    };
    look(&database.pool().connect_options()).await?;
    Ok(database)
}

/// None: it is no URL of a Postgres.
fn options(url: &str) -> Option<PgConnectOptions> {
    // sqlx takes any scheme.
    let is_postgres = ["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme));
    is_postgres.then(|| PgConnectOptions::from_str(url).ok())?
}

async fn own(settings: &Settings) -> Result<String, Failed> {
    let cluster = settings.cluster();
    // Whoever forgot to name a database would not know why all is empty. Beside the output, so that programs read on.
    let remark = "no database is named (--database-url, DATABASE_URL, database_url): using the Postgres of this user's own";
    let directory = cluster.directory().display();
    match settings.log_format() {
        LogFormat::Text => note(&format!("backstitch: {remark}, in {directory}")),
        LogFormat::Json => tracing::warn!(postgres.directory = %directory, "{remark}"),
    }
    let starting = backstitch_postgres::database_url(&cluster, DATABASE);
    let started = crate::progress::waiting("starting the Postgres of this user's own …", starting).await;
    started.map_err(|error| Failed::because(&error, "or name a database with DATABASE_URL"))
}

/// Asks once, outside of any pool: a pool keeps trying, and in the end says only that it took too long.
async fn look(options: &PgConnectOptions) -> Result<(), Failed> {
    let asked = async {
        let mut connection = PgConnection::connect_with(&options.clone().disable_statement_logging()).await?;
        connection.ping().await?;
        connection.close().await
    };
    let place = place(options);
    match tokio::time::timeout(CONNECT_TIME, asked).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(explain(&place, &error)),
        Err(_) => Err(Failed::new(
            Exit::Error,
            format!(
                "the database {place} does not answer within {} s; look whether Postgres is well and the network lets us through",
                CONNECT_TIME.as_secs()
            ),
        )),
    }
}

fn explain(place: &str, error: &sqlx::Error) -> Failed {
    let code = error.as_database_error().and_then(|error| error.code());
    let what_to_do = match code.as_deref() {
        Some("3D000") => "make it with `createdb`, or name another with DATABASE_URL",
        Some(code) if code.starts_with("28") => "check the user and the password (DATABASE_URL, PGPASSWORD)",
        Some("57P03") => "it is starting or stopping: try again in a moment",
        // `extra_float_digits`, which any other way to connect sets.
        Some("08P01") => {
            "if a pooler is between that lends a session for one transaction, say --transaction-pooler"
        }
        Some("53300") => "too many are connected: raise max_connections, or disconnect somebody",
        _ => {
            "check that Postgres runs there, and DATABASE_URL, --database-url or database_url in backstitch.toml"
        }
    };
    let cause = Failed::because(error, what_to_do);
    Failed::new(Exit::Error, format!("the database {place} can't be reached: {cause}"))
}

/// Where it is, without the password.
fn place(options: &PgConnectOptions) -> String {
    let database = options.get_database().unwrap_or_else(|| options.get_username());
    match options.get_socket() {
        Some(socket) => format!("{database} at {}", socket.display()),
        None => format!("{database} at {}:{}", options.get_host(), options.get_port()),
    }
}

/// What only the database can be asked for.
pub fn not_over_http(what: &str) -> Failed {
    Failed::usage(format!(
        "{what} can't be asked over HTTP: leave --server, BACKSTITCH_SERVER and server in backstitch.toml away, and \
         name the database"
    ))
}
