//! Where torture takes place: a private Postgres, a recorder, workers in processes of their own, and by choice a private edge
//! with its daemons. Nothing of it outlives the run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use backstitch::{Client, Database};
use backstitch_postgres::Durability;
use backstitch_postgres::test::{PrivateCluster, try_private_cluster};
use backstitch_testkit::cut::Line;
use backstitch_testkit::harm::TORTURER;
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::process::faketime;
use backstitch_testkit::recorder::Recorder;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::process::{Child, Command};

use super::crew::{Launch, Slot};
use super::edge::Edge;
use super::plan::WORKERS;
use crate::arguments::Control;
use crate::exit::{Exit, Failed};

/// The journal's.
pub const DATABASE: &str = "torture";

/// What the torturer itself needs, for its load, its faults and its looks.
const POOL_CONNECTIONS_MAX: u32 = 8;

/// How long its own questions wait for a Postgres that is about to come back.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Everything that can be hurt. Dropped in this order: whoever needs Postgres goes before it.
pub struct Stage {
    /// The workers of scripted workflows.
    pub workers: Vec<Slot>,
    /// Gateways, PowerDNS, nginx, and the daemons that serve them.
    pub edge: Option<Edge>,
    recorder_process: tokio::sync::Mutex<RecorderProcess>,
    /// The way to the target.
    pub recorder: Recorder,
    /// What happened in transactional steps.
    pub inner_ledger: Ledger,
    /// Asks for workflows.
    pub client: Client,
    /// For the torturer's own looks: past every line.
    pub pool: PgPool,
    /// One thing at a time happens to Postgres.
    pub postgres_turn: tokio::sync::Mutex<()>,
    /// To kill and to start again.
    pub postgres: PrivateCluster,
    directory: PathBuf,
}

struct RecorderProcess {
    child: Child,
    socket: PathBuf,
    log: PathBuf,
    lacking: &'static [&'static str],
}

impl Stage {
    /// Sets it up in this directory. `gateways`: how many, if any.
    pub async fn set(directory: &Path, control: Option<Control>, gateways: usize) -> Result<Self, Failed> {
        let postgres = try_private_cluster(Durability::Full).await.map_err(because)?;
        postgres.server.ensure_database(DATABASE).await.map_err(because)?;
        let options = postgres.server.connect_options(DATABASE);
        let options = options.application_name(TORTURER);
        let database = Database::connect_with(options.clone()).await?;
        backstitch::migrate(&database).await?;
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS_MAX)
            .acquire_timeout(ACQUIRE_MAX)
            .connect_with(options)
            .await
            .map_err(because)?;
        let inner_ledger = Ledger::in_database(pool.clone()).await;
        if let Some(control) = control {
            control.spoil(&pool).await.map_err(because)?;
        }
        let socket = directory.join("recorder");
        let lacking = control.map_or(&[][..], Control::lacking);
        let recorder_process = RecorderProcess::spawn(socket.clone(), log_of(directory, 0), lacking)?;
        let edge = match gateways {
            0 => None,
            gateways => Some(Edge::set(directory, &postgres, pool.clone(), gateways).await?),
        };
        let url = postgres.server.url(DATABASE);
        let workers = (0..WORKERS).map(|number| worker(directory, &postgres, &url, &socket, number));
        Ok(Self {
            workers: workers.collect::<Result<_, _>>()?,
            client: Client::new(database),
            recorder: Recorder::at(&socket),
            recorder_process: tokio::sync::Mutex::new(recorder_process),
            postgres,
            postgres_turn: tokio::sync::Mutex::default(),
            pool,
            inner_ledger,
            edge,
            directory: directory.to_owned(),
        })
    }

    /// Kills the recorder, and starts it with what its log says.
    pub async fn restart_recorder(&self) -> Result<(), Failed> {
        self.recorder_process.lock().await.restart(None).await
    }

    /// Gives the recorder a fresh log for this round. Nothing may be under way.
    pub async fn turn_the_page(&self, round: u64) -> Result<(), Failed> {
        self.recorder_process.lock().await.restart(Some(log_of(&self.directory, round))).await
    }

    /// The recorder's log of a round.
    pub fn log(&self, round: u64) -> PathBuf {
        log_of(&self.directory, round)
    }
}

fn log_of(directory: &Path, round: u64) -> PathBuf {
    directory.join(format!("effects-{round}.jsonl"))
}

impl RecorderProcess {
    fn spawn(socket: PathBuf, log: PathBuf, lacking: &'static [&'static str]) -> Result<Self, Failed> {
        let mut command = Command::new(own_program()?);
        command.args(["torture", "recorder"]).arg(&socket).arg(&log).args(lacking);
        let child = command.stdin(Stdio::piped()).stdout(Stdio::null()).kill_on_drop(true).spawn();
        Ok(Self { child: child.map_err(because)?, socket, log, lacking })
    }

    async fn restart(&mut self, log: Option<PathBuf>) -> Result<(), Failed> {
        self.child.kill().await.map_err(because)?;
        let log = log.unwrap_or_else(|| self.log.clone());
        *self = Self::spawn(self.socket.clone(), log, self.lacking)?;
        Ok(())
    }
}

/// Half of the workers show by a lock file that they live: their death shows at once, that of the others by their lease.
fn worker(
    directory: &Path,
    postgres: &PrivateCluster,
    url: &str,
    recorder: &Path,
    number: usize,
) -> Result<Slot, Failed> {
    let line = line_to(postgres)?;
    let url = through(url, &line);
    let state = number.is_multiple_of(2).then(|| directory.join("state"));
    let recorder = recorder.to_owned();
    let log = directory.join(format!("worker-{number}.log"));
    let program = own_program()?;
    let faketime = faketime().ok_or_else(|| {
        Failed::new(Exit::Error, "libfaketime is not here: install it (Debian: apt-get install libfaketime)")
    })?;
    Ok(Slot::open(line, move |launch: Launch| {
        let mut command = Command::new(&program);
        command
            .args(["torture", "worker"])
            // Whatever else this process was started with is not meant for it.
            .env_remove("LEDGER_URL")
            .env_remove("CONCURRENCY")
            .env("DATABASE_URL", &url)
            .env("RECORDER", &recorder)
            .env("BACKSTITCH_LOG", "backstitch=warn")
            .stderr(log_file(&log));
        if let Some(state) = &state {
            command.env("STATE_DIRECTORY", state);
        }
        if let Some(clock) = launch.clock {
            command.env("LD_PRELOAD", &faketime).env("FAKETIME", clock);
            // What waits must not wait for an hour, nor be in a hurry.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
        command
    }))
}

/// A line to this Postgres, which a fault can take hold of.
pub fn line_to(postgres: &PrivateCluster) -> Result<Line, Failed> {
    let options = postgres.server.connect_options(DATABASE);
    let socket = options.get_socket().ok_or_else(|| Failed::new(Exit::Error, "Postgres has no socket"))?;
    Ok(Line::to(socket))
}

/// This URL, over that line: the last parameter that names a host wins.
pub fn through(url: &str, line: &Line) -> String {
    let and = if url.contains('?') { '&' } else { '?' };
    format!("{url}{and}host={}&port=5432", line.directory().display())
}

/// Where a process complains, one life after the other; nowhere if that can't be written.
pub fn log_file(log: &Path) -> Stdio {
    std::fs::File::options().create(true).append(true).open(log).map_or_else(|_| Stdio::null(), Stdio::from)
}

/// This very program.
pub fn own_program() -> Result<PathBuf, Failed> {
    std::env::current_exe().map_err(because)
}

/// An error of something outside.
pub fn because(error: impl std::error::Error) -> Failed {
    Failed::because(&error, "")
}
