//! A `PgBouncer` between workers and Postgres, which lends out a session for one transaction.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::str::FromStr;

use backstitch_postgres::Running;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{Connection, Row};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::wait::until;

/// In the name of its socket only.
const PORT: u16 = 6432;

/// How long it waits, in seconds, before it tries a server again that could not be reached; its own default lets nobody through for 15 s
/// after each restart of Postgres.
const LOGIN_RETRY_SECONDS: u32 = 1;

/// A pooler that runs until it is dropped.
#[derive(Debug)]
pub struct Pooler {
    directory: TempDir,
    /// Who it is, where it must not be whoever asks for it.
    identity: Option<(u32, u32)>,
    child: Child,
}

/// What a pooler lends, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lending {
    /// Connections of its own to Postgres.
    pub sessions: i64,
    /// Connections of others to it.
    pub clients: i64,
}

impl Pooler {
    /// Stands before every database of a server, with at most so many sessions for each.
    ///
    /// # Panics
    /// When there is no `PgBouncer`, or it does not start.
    pub async fn before(server: &Running, sessions_max: u32) -> Self {
        Self::ignoring("", server, sessions_max).await
    }

    /// The same, and takes no notice of these parameters of whoever connects, where it would refuse him.
    ///
    /// # Panics
    /// As [`before`](Self::before).
    pub async fn ignoring(parameters: &str, server: &Running, sessions_max: u32) -> Self {
        let pooler = Self::spawn(parameters, server, sessions_max).expect("PgBouncer runs");
        until("the pooler answers", async || pooler.lending().await.ok()).await;
        pooler
    }

    /// As [`before`](Self::before), and does not wait until it answers.
    ///
    /// # Errors
    /// When there is no `PgBouncer`.
    pub fn try_before(server: &Running, sessions_max: u32) -> io::Result<Self> {
        Self::spawn("", server, sessions_max)
    }

    fn spawn(ignored_parameters: &str, server: &Running, sessions_max: u32) -> io::Result<Self> {
        let options = server.connect_options("postgres");
        let socket = options
            .get_socket()
            .map_or_else(|| options.get_host().to_owned(), |socket| socket.display().to_string());
        let directory = tempfile::tempdir()?;
        let here = directory.path().display();
        // `any`: whoever gets at the socket is let in, as with the server behind it.
        let configuration = format!(
            "[databases]\n* = host={socket} port={} user={}\n\
             [pgbouncer]\nunix_socket_dir = {here}\nlisten_port = {PORT}\nlogfile = {here}/log\npidfile = {here}/pid\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions_max}\n\
             server_login_retry = {LOGIN_RETRY_SECONDS}\nignore_startup_parameters = {ignored_parameters}\n",
            options.get_port(),
            options.get_username(),
        );
        fs::write(configuration_in(directory.path()), configuration)?;
        let mut identity = None;
        if rustix::process::geteuid().is_root() {
            // It refuses to be root: it is whoever the server is.
            let server = fs::metadata(&socket)?;
            fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755))?;
            chown(directory.path(), Some(server.uid()), Some(server.gid()))?;
            identity = Some((server.uid(), server.gid()));
        }
        let child = command(directory.path(), identity).spawn()?;
        Ok(Self { directory, identity, child })
    }

    /// Kills it with SIGKILL, and starts it again in the same place. False: it had ended by itself.
    ///
    /// # Errors
    /// When it can't be started.
    pub async fn kill_and_start(&mut self) -> io::Result<bool> {
        let lived = self.child.try_wait()?.is_none();
        self.child.kill().await?;
        // Beside what a dead one leaves it does not start.
        for left in [self.socket(), self.directory.path().join("pid")] {
            fs::remove_file(left).or_else(|error| match error.kind() {
                io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            })?;
        }
        self.child = command(self.directory.path(), self.identity).spawn()?;
        Ok(lived)
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Option<i32> {
        self.child.id().and_then(|pid| i32::try_from(pid).ok())
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join(format!(".s.PGSQL.{PORT}"))
    }

    /// How a database is reached through it.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        let here = self.directory.path().display().to_string().replace('/', "%2F");
        format!("postgres:///{database}?host={here}&port={PORT}&user=anybody&sslmode=disable")
    }

    /// What it lends now, of all databases but its own.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn lending(&self) -> sqlx::Result<Lending> {
        let console = PgConnectOptions::from_str(&self.url("pgbouncer"))?.extra_float_digits(None);
        let mut console = PgConnection::connect_with(&console).await?;
        // It speaks the simple protocol only.
        let pools = sqlx::raw_sql("show pools").fetch_all(&mut console).await?;
        console.close().await?;
        let mut lending = Lending { sessions: 0, clients: 0 };
        for pool in pools.iter().filter(|pool| pool.get::<&str, _>("database") != "pgbouncer") {
            let count = |column| i64::from(pool.get::<i32, _>(column));
            lending.sessions +=
                ["sv_active", "sv_idle", "sv_used", "sv_tested"].map(count).iter().sum::<i64>();
            lending.clients += ["cl_active", "cl_waiting"].map(count).iter().sum::<i64>();
        }
        Ok(lending)
    }

    /// What it says of itself.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }
}

fn configuration_in(directory: &Path) -> PathBuf {
    directory.join("pgbouncer.ini")
}

fn command(directory: &Path, identity: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program());
    command
        .arg(configuration_in(directory))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    if let Some((user, group)) = identity {
        command.uid(user).gid(group);
    }
    command
}

/// Debian keeps it where only root looks.
fn program() -> PathBuf {
    let candidates = ["/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"].map(Path::new);
    candidates
        .into_iter()
        .find(|program| program.is_file())
        .map_or_else(|| "pgbouncer".into(), Path::to_owned)
}
