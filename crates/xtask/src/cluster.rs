//! A throwaway Postgres for the length of one task.
//!
//! By plain commands and not through `backstitch-postgres`: xtask must compile in seconds, without sqlx.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::{command, setup};

/// How long a fresh server may take to answer: it takes under a second, a busy machine some more.
const START_MAX: Duration = Duration::from_secs(30);

/// A running Postgres; stopped and removed when dropped.
pub struct Cluster {
    binaries: PathBuf,
    directory: TempDir,
    /// Whom to run as: Postgres refuses root.
    owner: Option<(u32, u32)>,
    server: Child,
}

/// Starts an empty cluster that only listens on a socket in its own directory.
pub fn start() -> Result<Cluster> {
    let binaries = setup::postgres_binaries().context("no Postgres here; `cargo xtask setup` installs it")?;
    // Not the user's own temporary directory: a socket's path has about a hundred bytes to live in.
    let directory = tempfile::Builder::new().prefix("backstitch-").tempdir_in("/tmp")?;
    let owner = if fs::metadata(directory.path())?.uid() == 0 { Some(plain_user()?) } else { None };
    if let Some((user, group)) = owner {
        chown(directory.path(), Some(user), Some(group))?;
    }

    let data = directory.path().join("data");
    let mut initdb = as_owner(&binaries.join("initdb"), directory.path(), owner);
    initdb.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "-D"]).arg(&data);
    let made = initdb.output()?;
    if !made.status.success() {
        bail!("initdb failed: {}", String::from_utf8_lossy(&made.stderr).trim());
    }

    let log = fs::File::create(directory.path().join("log"))?;
    let mut postgres = as_owner(&binaries.join("postgres"), directory.path(), owner);
    postgres.arg("-D").arg(&data).arg("-k").arg(directory.path());
    postgres.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
    let server = postgres.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?;

    let mut cluster = Cluster { binaries, directory, owner, server };
    cluster.wait_until_it_answers()?;
    Ok(cluster)
}

impl Cluster {
    /// Where sqlx finds the database `postgres` of this cluster.
    pub fn url(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.directory.path().display())
    }

    /// Runs a file of SQL, in one transaction unless the file says otherwise in its first line, as sqlx does.
    pub fn apply(&self, file: &Path) -> Result<()> {
        let sql = fs::read_to_string(file)?;
        let mut psql = self.psql();
        if !sql.starts_with("-- no-transaction") {
            psql.arg("--single-transaction");
        }
        let output = psql.arg("-f").arg(file).output()?;
        if !output.status.success() {
            bail!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    fn psql(&self) -> Command {
        let mut psql = Command::new(self.binaries.join("psql"));
        psql.args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", "postgres", "-h"]);
        psql.arg(self.directory.path()).env("PGOPTIONS", "-c client_min_messages=warning");
        psql
    }

    fn wait_until_it_answers(&mut self) -> Result<()> {
        let began = Instant::now();
        while !command::succeeds(self.psql().args(["-c", "select 1"])) {
            if self.server.try_wait()?.is_some() || began.elapsed() > START_MAX {
                let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
                bail!("Postgres did not start: {}", log.trim());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let mut stop = as_owner(&self.binaries.join("pg_ctl"), self.directory.path(), self.owner);
        stop.args(["stop", "-m", "immediate", "-D"]).arg(self.directory.path().join("data"));
        if !command::succeeds(&mut stop) {
            // Never started, or gone already; either way it must not outlive us.
            let _ = self.server.kill();
        }
        let _ = self.server.wait();
    }
}

fn as_owner(program: &Path, directory: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// The ids of `postgres`, or of `nobody` where Postgres came without a user.
fn plain_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd")?;
    let ids = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres")
        .or_else(|| ids("nobody"))
        .context("Postgres refuses root, and there is no user postgres or nobody")
}
