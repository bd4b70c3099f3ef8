//! Postgres in a box: find binaries, start, reuse, stop.
//!
//! Backstitch needs a Postgres, and whoever tries it out should not have to set one up. A [`Cluster`] is a
//! directory;
//! [`Cluster::start`] makes it one with data in it, starts a server there unless one runs, and answers with
//! how to reach it. What holds:
//!
//! - **Nothing listens on the network.** The only way in is a Unix socket in a directory only its owner (and
//!   root) enters.
//! - **The server outlives whoever started it**, killed or not. A worker that dies takes no database with it.
//! - **What is acknowledged is kept**, unless [`Durability::Throwaway`] was asked for.
//! - **Any number of processes may start at once**; a file lock lets one do the work. A kill at any moment
//!   leaves either no data or finished data.
//! - **It runs as root too**, which Postgres itself refuses: root hands the directory to user `postgres` or
//!   `nobody`.
//!
//! For tests there is [`mod@test`]: a fresh database in one shared server, or a server of one's own to kill.

mod binaries;
mod cluster;
mod error;
mod evidence;
mod initialise;
mod layout;
mod lock;
mod modes;
mod owner;
mod pid_file;
mod running;
mod server;
pub mod test;

use std::env;
use std::path::PathBuf;

pub use binaries::{Binaries, find_binaries};
pub use cluster::{Cluster, Status};
pub use error::Error;
pub use modes::{Durability, Stop};
pub use running::{Running, SUPERUSER};

/// Where the Postgres of this machine's user lies: `/var/lib/backstitch/postgres` for root, otherwise
/// `backstitch/postgres` below `$XDG_STATE_HOME` or `~/.local/state`.
#[must_use]
pub fn default_directory() -> PathBuf {
    if owner::is_root() {
        return PathBuf::from("/var/lib/backstitch/postgres");
    }
    let stated = env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let state = stated.or_else(|| env::home_dir().map(|home| home.join(".local/state")));
    // A user without a home has at least a place for what may be lost.
    state.unwrap_or_else(env::temp_dir).join("backstitch/postgres")
}

/// The URL of the database to work with: `DATABASE_URL` where it is set, as it is; otherwise `database` in
/// `cluster`, which is started, and in which the database is made, if need be.
///
/// # Errors
/// As [`Cluster::start`] and [`Running::ensure_database`].
pub async fn database_url(cluster: &Cluster, database: &str) -> Result<String, Error> {
    match env::var("DATABASE_URL") {
        Ok(url) if !url.is_empty() => Ok(url),
        _ => {
            let server = cluster.start().await?;
            server.ensure_database(database).await?;
            Ok(server.url(database))
        }
    }
}
