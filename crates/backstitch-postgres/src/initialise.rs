//! How does an empty directory become one with data in it, wholly or not at all?

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use crate::binaries::Binaries;
use crate::error::Error;
use crate::layout::Layout;
use crate::modes::Durability;
use crate::owner::Owner;
use crate::running::SUPERUSER;

/// What an operator may change with `alter system`; what must hold is given at each start instead.
const SETTINGS: &str = "
# From here on: backstitch.
max_connections = 200              # several workers with a pool each, and the tests of a whole workspace
timezone = 'UTC'
log_timezone = 'UTC'
logging_collector = on             # a week of logs, a file a day
log_directory = '../log'
log_filename = 'postgres-%a.log'
log_truncate_on_rotation = on
log_rotation_age = 1d
log_rotation_size = 0
log_line_prefix = '%m [%p] %q%u@%d %a '
log_lock_waits = on                # who waited for a row longer than deadlock_timeout
log_checkpoints = off
";

/// Makes the data directory. The lock is held.
///
/// A kill at any moment leaves either no data directory or a finished one: `initdb` works under another name,
/// which is a new one each time, since the `initdb` of a killed process may live on for a while.
pub(crate) async fn initialise(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    durability: Durability,
) -> Result<(), Error> {
    sweep(layout);
    let making = layout.data_in_the_making();
    initdb(layout, owner, binaries, durability, &making).await?;
    configure(&making, durability)?;
    let data = layout.data();
    fs::rename(&making, &data).map_err(Error::io("naming", &data))?;
    if durability == Durability::Full {
        sync(&layout.directory)?;
    }
    tracing::info!(postgres.data = %data.display(), postgres.version = binaries.major, "postgres data made");
    Ok(())
}

async fn initdb(
    layout: &Layout,
    owner: &Owner,
    binaries: &Binaries,
    durability: Durability,
    making: &Path,
) -> Result<(), Error> {
    let program = binaries.program("initdb");
    let mut command = owner.command(program.clone());
    command.args(["--username", SUPERUSER]);
    // Whoever gets through the directory, which is private, is let in; nobody else gets that far.
    command.args(["--auth-local", "trust", "--auth-host", "reject"]);
    // Sorted by bytes: the same on every machine, and after every upgrade of libc.
    command.args(["--encoding", "UTF8", "--locale", "C"]);
    // A disk that returns what was not written is found out.
    command.arg("--data-checksums");
    if durability == Durability::Throwaway {
        command.arg("--no-sync");
    }
    command.arg("--pgdata").arg(making).stderr(Stdio::piped());
    let output = command.output().await.map_err(Error::io("running", program))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::Tool {
        program: "initdb",
        directory: layout.directory.clone(),
        said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    })
}

fn configure(making: &Path, durability: Durability) -> Result<(), Error> {
    let path = making.join("postgresql.conf");
    let nofollow = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let mut file = OpenOptions::new()
        .append(true)
        .custom_flags(nofollow)
        .open(&path)
        .map_err(Error::io("opening", &path))?;
    file.write_all(SETTINGS.as_bytes()).map_err(Error::io("writing", &path))?;
    if durability == Durability::Full {
        file.sync_all().map_err(Error::io("syncing", &path))?;
    }
    Ok(())
}

/// A rename lasts once the directory it happened in is on disk.
fn sync(directory: &Path) -> Result<(), Error> {
    let opened = File::open(directory).map_err(Error::io("opening", directory))?;
    opened.sync_all().map_err(Error::io("syncing", directory))
}

/// Removes what killed processes left unfinished. What cannot go now goes the next time.
fn sweep(layout: &Layout) {
    let Ok(entries) = fs::read_dir(&layout.directory) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(Layout::IN_THE_MAKING) {
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}
