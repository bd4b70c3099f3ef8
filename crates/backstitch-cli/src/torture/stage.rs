//! Where torture takes place: a private Postgres, a recorder, workers in processes of their own, and by choice a private edge
//! with its daemons. Nothing of it outlives the run.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use backstitch::{Client, Database};
use backstitch_postgres::test::{PrivateCluster, SmallDisk, try_private_cluster};
use backstitch_postgres::{Durability, Stop};
use backstitch_testkit::clock;
use backstitch_testkit::cut::Line;
use backstitch_testkit::harm::{self, TORTURER};
use backstitch_testkit::ledger::Ledger;
use backstitch_testkit::pooler::Pooler;
use backstitch_testkit::recorder::Recorder;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::postgres::{PgConnection, PgPoolOptions};
use sqlx::{AssertSqlSafe, ConnectOptions, PgPool};
use tokio::process::{Child, Command};

use super::crew::{POOLED, Slot, WORKERS};
use super::edge::Edge;
use super::fault::{Fault, OnEdge, OnPostgres, Whose};
use super::launch::{Clocks, DATABASE, because, line_to, log_file, own_program};
use crate::arguments::Control;
use crate::exit::Failed;
use crate::output::note;

/// What the torturer itself needs, for its load, its faults and its looks.
const POOL_CONNECTIONS_MAX: u32 = 8;

/// What the pooler may take of Postgres for the worker behind it: fewer than that has of its own where there is none.
const POOLER_SESSIONS: u32 = 4;

/// More than the journals of a day; memory is taken only as it is used.
const DISK_BYTES: u64 = 8 * 1024 * 1024 * 1024;

/// How often it is looked whether the machine runs, and from when on it stood still: a worker beats more seldom than the one,
/// and is late for its lease by the other.
const TICK: Duration = Duration::from_millis(50);
const STANDSTILL: TimeDelta = TimeDelta::milliseconds(500);

/// How long its own questions wait for a Postgres that is about to come back.
const ACQUIRE_MAX: Duration = Duration::from_secs(5);

/// Everything that can be hurt. Dropped in this order: whoever needs Postgres goes before it.
pub struct Stage {
    /// The workers of scripted workflows.
    pub workers: Vec<Slot>,
    /// Between one of the workers and Postgres; or why nothing is.
    pub pooler: Result<tokio::sync::Mutex<Pooler>, String>,
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
    /// And to its clock.
    pub clock_turn: tokio::sync::Mutex<()>,
    /// From when to when nobody could rely on Postgres, or on the machine.
    outages: Mutex<Vec<Outage>>,
    /// To kill and to start again.
    pub postgres: PrivateCluster,
    /// The disk of the journal's database; or why there is none that could be full.
    pub postgres_disk: Result<SmallDisk, String>,
    directory: PathBuf,
}

/// From when to when.
pub type Outage = (DateTime<Utc>, DateTime<Utc>);

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
        let postgres_disk = prepare(&postgres).await?;
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
        clock::take(&pool).await.map_err(because)?;
        harm::note_stale_claims(&pool).await.map_err(because)?;
        harm::note_takeovers(&pool).await.map_err(because)?;
        let inner_ledger = Ledger::in_database(pool.clone()).await;
        if let Some(control) = control {
            control.spoil(&pool).await.map_err(because)?;
        }
        let socket = directory.join("recorder");
        let lacking = control.map_or(&[][..], Control::lacking);
        let recorder_process = RecorderProcess::spawn(socket.clone(), log_of(directory, 0), lacking)?;
        let edge = match control.map_or(gateways, |control| control.gateways(gateways)) {
            0 => None,
            gateways => {
                let lies = control == Some(Control::Removal);
                Some(Edge::set(directory, &postgres, pool.clone(), gateways, lies).await?)
            }
        };
        let pooler = Pooler::try_before(&postgres.server, POOLER_SESSIONS).map_err(|error| {
            note(&format!("no worker is behind a pooler: PgBouncer can't be started: {error}"));
            format!("PgBouncer can't be started: {error}")
        });
        let workers = (0..WORKERS).map(|number| {
            let pooler = pooler.as_ref().ok().filter(|_| number == POOLED);
            worker(directory, &postgres, pooler, &socket, number)
        });
        Ok(Self {
            workers: workers.collect::<Result<_, _>>()?,
            pooler: pooler.map(tokio::sync::Mutex::new),
            client: Client::new(database),
            recorder: Recorder::at(&socket),
            recorder_process: tokio::sync::Mutex::new(recorder_process),
            postgres,
            postgres_disk,
            postgres_turn: tokio::sync::Mutex::default(),
            clock_turn: tokio::sync::Mutex::default(),
            outages: Mutex::default(),
            pool,
            inner_ledger,
            edge,
            directory: directory.to_owned(),
        })
    }

    /// Why a fault can't happen on this machine. None: it can.
    pub fn impossible(&self, fault: Fault) -> Option<&str> {
        let why = match fault {
            Fault::Postgres(OnPostgres::DiskFull) => self.postgres_disk.as_ref().err(),
            Fault::Edge(OnEdge::VhostDiskFull) => self.edge.as_ref()?.vhost_disk.as_ref().err(),
            Fault::Pooler(_) => self.pooler.as_ref().err(),
            _ => None,
        };
        why.map(String::as_str)
    }

    /// The process that a fault is aimed at. None: there are no daemons.
    pub fn slot(&self, whose: Whose, number: usize) -> Option<&Slot> {
        match whose {
            Whose::Worker => self.workers.get(number),
            Whose::Daemon => {
                let daemons = self.edge.as_ref()?.daemons();
                daemons.get(number % daemons.len())
            }
        }
    }

    /// Everything that lives and dies here.
    pub fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.workers.iter().chain(self.edge.iter().flat_map(|edge| edge.daemons()))
    }

    /// How many times Postgres has said no with this code (SQLSTATE) to those who work.
    pub fn refused(&self, code: &str) -> u64 {
        self.slots().map(|slot| slot.line.refused(code)).sum()
    }

    /// From when to when nobody could rely on Postgres.
    pub fn note_outage(&self, from: DateTime<Utc>, to: DateTime<Utc>) {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).push((from, to));
    }

    /// Notes, for as long as it is polled, when the machine stood still: what does not let this process run does not let others.
    pub async fn note_standstills(&self) {
        loop {
            let before = Utc::now();
            tokio::time::sleep(TICK).await;
            let now = Utc::now();
            if now - before > STANDSTILL {
                self.note_outage(before, now);
            }
        }
    }

    /// When nobody could rely on Postgres or on the machine, so far.
    pub fn outages(&self) -> Vec<Outage> {
        self.outages.lock().unwrap_or_else(PoisonError::into_inner).clone()
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

/// Has the cluster keep the times of commits, which no jump of its clock changes, and makes the journal's database, on a disk
/// of its own that can be full. Error: why there is none.
async fn prepare(postgres: &PrivateCluster) -> Result<Result<SmallDisk, String>, Failed> {
    let maintenance = async || postgres.server.connect_options("postgres").connect().await.map_err(because);
    let run = async |connection: &mut PgConnection, statement: String| {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await.map(|_| ()).map_err(because)
    };
    let keep_times = "alter system set track_commit_timestamp = on".to_owned();
    run(&mut maintenance().await?, keep_times).await?;
    postgres.cluster.restart(Stop::Fast).await.map_err(because)?;
    postgres.server.ensure_database(DATABASE).await.map_err(because)?;
    let (directory, disk) = match postgres.small_disk(DISK_BYTES) {
        Ok(mounted) => mounted,
        Err(error) => {
            note(&format!("the disk of Postgres will never be full: {error}"));
            return Ok(Err(error.to_string()));
        }
    };
    let connection = &mut maintenance().await?;
    let location = directory.display().to_string().replace('\'', "''");
    run(connection, format!("create tablespace small_disk location '{location}'")).await?;
    run(connection, format!("alter database {DATABASE} set tablespace small_disk")).await?;
    Ok(Ok(disk))
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
    pooler: Option<&Pooler>,
    recorder: &Path,
    number: usize,
) -> Result<Slot, Failed> {
    let line = match pooler {
        Some(pooler) => Line::to_socket(pooler.socket()),
        None => line_to(postgres),
    };
    let url = line.url(&postgres.server.url(DATABASE));
    let is_pooled = pooler.is_some();
    let state = number.is_multiple_of(2).then(|| directory.join("state"));
    let recorder = recorder.to_owned();
    let log = directory.join(format!("worker-{number}.log"));
    let (program, clocks) = (own_program()?, Clocks::find()?);
    Ok(Slot::open(line, move |launch| {
        let mut command = Command::new(&program);
        command
            .args(["torture", "worker"])
            // Whatever else this process was started with is not meant for it.
            .env_remove("LEDGER_URL")
            .env_remove("TRANSACTION_POOLER")
            .env_remove("CONCURRENCY")
            .env("DATABASE_URL", &url)
            .env("RECORDER", &recorder)
            .env("BACKSTITCH_LOG", "backstitch=warn")
            .stderr(log_file(&log));
        if is_pooled {
            command.env("TRANSACTION_POOLER", "1");
        }
        if let Some(state) = &state {
            command.env("STATE_DIRECTORY", state);
        }
        clocks.set(&mut command, launch);
        command
    }))
}
