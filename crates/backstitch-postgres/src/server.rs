//! How is the server of finished data started and stopped?

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::binaries::Binaries;
use crate::error::Error;
use crate::layout::Layout;
use crate::modes::{Durability, Stop};
use crate::owner::Owner;
use crate::pid_file::{self, PidFile};
use crate::running::Running;

/// Recovery after a crash replays at most a few checkpoints of log; a minute is a lot.
const START_PATIENCE: Duration = Duration::from_secs(120);

/// A fast stop writes a checkpoint.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at a server that is starting.
const PAUSE: Duration = Duration::from_millis(20);

/// How much of a log goes into an error.
const LOG_LINES: usize = 8;

/// What Postgres says while children of a killed server still use its memory; they notice and go.
const CHILDREN_LINGER: &str = "is still in use";

/// A way to the server of `layout`, which is started if it does not run. The lock is held.
///
/// Whoever held the lock before may have been killed in the middle, so a server may be starting that we did
/// not start, and one may appear at any moment: look, act, look again.
pub(crate) async fn start(
    layout: &Layout,
    owner: &Owner,
    binaries: impl Fn() -> Result<Binaries, Error>,
    durability: Durability,
) -> Result<Running, Error> {
    let deadline = Instant::now() + START_PATIENCE;
    loop {
        if let Some(server) = pid_file::live(&layout.data())? {
            if let Some(running) = answer(layout, &server, durability, deadline).await? {
                return Ok(running);
            }
            continue; // it went away while we asked
        }
        if Instant::now() >= deadline {
            // It starts and dies, again and again.
            return Err(failed("pg_ctl start", layout));
        }
        pid_file::forget_the_dead(&layout.data(), &layout.socket_directory())?;
        let started = run_start(layout, owner, &binaries()?, durability).await;
        match started {
            Ok(()) => tracing::info!(postgres.directory = %layout.directory.display(), "postgres started"),
            // Somebody else's is starting.
            Err(_) if pid_file::live(&layout.data())?.is_some() => {}
            Err(Error::Tool { said, .. }) if said.contains(CHILDREN_LINGER) => {
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Waits for a living server to answer; none if it dies instead.
async fn answer(
    layout: &Layout,
    server: &PidFile,
    durability: Durability,
    deadline: Instant,
) -> Result<Option<Running>, Error> {
    loop {
        let directory = pid_file::live(&layout.data())?.map(|now| now.socket_directory);
        let source = match directory {
            None => return Ok(None),
            Some(None) => sqlx::Error::Io(std::io::ErrorKind::NotConnected.into()),
            Some(Some(socket_directory)) => {
                let running = Running::behind(&socket_directory)?;
                match running.setting("fsync").await {
                    Ok(fsync) if fsync != "on" && durability == Durability::Full => {
                        return Err(Error::Throwaway { directory: layout.directory.clone() });
                    }
                    Ok(_) => return Ok(Some(running)),
                    Err(source) => source,
                }
            }
        };
        if Instant::now() >= deadline {
            return Err(Error::Silent {
                directory: layout.directory.clone(),
                pid: server.pid,
                waited: START_PATIENCE,
                source,
            });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn run_start(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    durability: Durability,
) -> Result<(), Error> {
    let socket_directory = layout.socket_directory();
    owner.make_directory(&socket_directory)?;
    // What it says from here on is about this start.
    std::fs::remove_file(layout.start_log()).ok();
    // pg_ctl puts the server into a session of its own, with /dev/null for input and this log for output:
    // neither our end, nor a Ctrl-C, nor a pipe we stand in concerns it.
    let program = binaries.program("pg_ctl");
    let status = owner
        .command(program.clone())
        .arg("start")
        .arg("--pgdata")
        .arg(layout.data())
        .arg("--log")
        .arg(layout.start_log())
        .args(["--wait", "--timeout", &START_PATIENCE.as_secs().to_string()])
        .args(["--options", &options(&socket_directory, durability)])
        .status()
        .await
        .map_err(Error::io("running", program))?;
    if status.success() {
        return Ok(());
    }
    Err(failed("pg_ctl start", layout))
}

/// The settings nobody may change: no way in but the socket, and durability as asked for.
fn options(socket_directory: &Path, durability: Durability) -> String {
    let socket_directory = socket_directory.display();
    let fsync = match durability {
        Durability::Full => "on",
        Durability::Throwaway => "off",
    };
    [
        "-c listen_addresses=".to_owned(),
        "-c port=5432".to_owned(),
        // Quoted for the list Postgres reads, and again for the shell of pg_ctl. Layout allows neither quote.
        format!("-c 'unix_socket_directories=\"{socket_directory}\"'"),
        "-c unix_socket_permissions=0700".to_owned(),
        format!("-c fsync={fsync}"),
        // Also for a throwaway: a crash of Postgres alone takes nothing from it.
        "-c full_page_writes=on".to_owned(),
        "-c synchronous_commit=on".to_owned(),
    ]
    .join(" ")
}

/// Stops the server if it runs. The lock is held.
pub(crate) async fn stop(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    how: Stop,
) -> Result<(), Error> {
    if pid_file::live(&layout.data())?.is_none() {
        return Ok(());
    }
    let mode = match how {
        Stop::Fast => "fast",
        Stop::Immediate => "immediate",
    };
    let program = binaries.program("pg_ctl");
    let status = owner
        .command(program.clone())
        .arg("stop")
        .arg("--pgdata")
        .arg(layout.data())
        .args(["--wait", "--timeout", &STOP_PATIENCE.as_secs().to_string(), "--mode", mode])
        .status()
        .await
        .map_err(Error::io("running", program))?;
    // It may have died before it was told to.
    if status.success() || pid_file::live(&layout.data())?.is_none() {
        if !layout.socket_directory().starts_with(&layout.directory) {
            // Below /tmp, where nothing of ours should stay.
            std::fs::remove_dir(layout.socket_directory()).ok();
        }
        tracing::info!(postgres.directory = %layout.directory.display(), "postgres stopped");
        return Ok(());
    }
    Err(failed("pg_ctl stop", layout))
}

fn failed(program: &'static str, layout: &Layout) -> Error {
    Error::Tool { program, directory: layout.directory.clone(), said: end_of_logs(layout) }
}

/// What the server said last, and in which file: before it opened its log, and there. The log alone would not
/// do, as children of a killed server write to it until they go.
fn end_of_logs(layout: &Layout) -> String {
    let days = std::fs::read_dir(layout.log()).into_iter().flatten().flatten();
    let modified = |log: &PathBuf| std::fs::metadata(log).and_then(|found| found.modified()).ok();
    let today = days.map(|entry| entry.path()).max_by_key(modified);
    let ends: Vec<String> =
        [Some(layout.start_log()), today].into_iter().flatten().filter_map(end_of).collect();
    if ends.is_empty() { "it left no log".to_owned() } else { ends.join("\n") }
}

/// None if there is no such file.
fn end_of(log: PathBuf) -> Option<String> {
    let text = std::fs::read(&log).ok()?;
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines[lines.len().saturating_sub(LOG_LINES)..].join("\n");
    Some(format!("the end of {}:\n{end}", log.display()))
}
