//! What can be done with a Postgres of our own?

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::binaries::{Binaries, find_binaries, find_binaries_of};
use crate::error::Error;
use crate::initialise::initialise;
use crate::layout::Layout;
use crate::lock::lock;
use crate::modes::{Durability, Stop};
use crate::owner::Owner;
use crate::pid_file;
use crate::running::Running;
use crate::server;

/// A directory that is or becomes a Postgres: its data, its socket, its log. It is a name; holding it runs
/// nothing.
///
/// ```no_run
/// # async fn example() -> Result<(), backstitch_postgres::Error> {
/// use backstitch_postgres::{Cluster, default_directory};
///
/// let server = Cluster::at(default_directory()).start().await?;
/// server.ensure_database("backstitch").await?;
/// println!("{}", server.url("backstitch"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Cluster {
    directory: PathBuf,
    durability: Durability,
}

/// What became of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// There is no data yet.
    NotInitialised,
    /// There is data, and no server.
    Stopped {
        /// The major version that made the data.
        version: u32,
    },
    /// There is a server; it may still be recovering.
    Running {
        /// The process id of the postmaster.
        pid: u32,
        /// The major version that made the data.
        version: u32,
        /// Where the socket is; `None` in the first moments of a start.
        socket_directory: Option<PathBuf>,
        /// Where the data is.
        data_directory: PathBuf,
        /// Since the postmaster started, in whole seconds.
        uptime: Duration,
    },
}

impl Cluster {
    /// The cluster in `directory`, durable.
    ///
    /// The directory need not exist; if it does it is empty or has been a cluster before. Root hands it over
    /// to user `postgres` (or else `nobody`), as Postgres refuses to run as root.
    pub fn at(directory: impl Into<PathBuf>) -> Cluster {
        Cluster { directory: directory.into(), durability: Durability::Full }
    }

    /// The same cluster, started with this durability from now on.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> Cluster {
        self.durability = durability;
        self
    }

    /// The directory as it was given.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The directory of its logs, a file for each day of the week.
    ///
    /// # Errors
    /// If the directory can't be one of a cluster, as for [`start`](Self::start).
    pub fn logs(&self) -> Result<PathBuf, Error> {
        Ok(Layout::new(&self.directory)?.log())
    }

    /// Makes the data if there is none, starts the server unless it runs, and waits until it answers.
    ///
    /// May be called by any number of processes at once: one makes and starts, all get the same server. The
    /// server outlives them all, whichever way they die, until [`Cluster::stop`].
    ///
    /// # Errors
    /// [`Error::NoBinaries`] and [`Error::NoBinariesOfVersion`] if a server has to be started and cannot be;
    /// [`Error::UnfitDirectory`] below root's home, for someone else's directory and the like;
    /// [`Error::Throwaway`];
    /// [`Error::Tool`] with the end of the log; [`Error::Silent`] after two minutes.
    pub async fn start(&self) -> Result<Running, Error> {
        let layout = Layout::new(&self.directory)?;
        let owner = Owner::of(&layout.directory)?;
        owner.make_directory(&layout.directory)?;
        let _lock = lock(&layout, &owner).await?;
        self.start_locked(&layout, &owner).await
    }

    async fn start_locked(&self, layout: &Layout, owner: &Owner) -> Result<Running, Error> {
        if version(layout)?.is_none() {
            initialise(layout, owner, &find_binaries()?, self.durability).await?;
        }
        server::start(layout, owner, || binaries(layout), self.durability).await
    }

    /// Stops the server and waits until it is gone. Fine if none runs.
    ///
    /// # Errors
    /// As [`Cluster::start`], where they apply.
    pub async fn stop(&self, how: Stop) -> Result<(), Error> {
        let layout = Layout::new(&self.directory)?;
        if version(&layout)?.is_none() {
            return Ok(());
        }
        let owner = Owner::of(&layout.directory)?;
        let _lock = lock(&layout, &owner).await?;
        server::stop(&layout, &owner, &binaries(&layout)?, how).await
    }

    /// Stops and starts, while nobody else can.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub async fn restart(&self, how: Stop) -> Result<Running, Error> {
        let layout = Layout::new(&self.directory)?;
        let owner = Owner::of(&layout.directory)?;
        owner.make_directory(&layout.directory)?;
        let _lock = lock(&layout, &owner).await?;
        if version(&layout)?.is_some() {
            server::stop(&layout, &owner, &binaries(&layout)?, how).await?;
        }
        self.start_locked(&layout, &owner).await
    }

    /// Looks, and changes nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is closed to us, or if `PG_VERSION` makes no sense.
    pub async fn status(&self) -> Result<Status, Error> {
        let layout = Layout::new(&self.directory)?;
        let Some(version) = version(&layout)? else {
            return Ok(Status::NotInitialised);
        };
        let Some(server) = pid_file::live(&layout.data())? else {
            return Ok(Status::Stopped { version });
        };
        Ok(Status::Running {
            pid: server.pid,
            version,
            uptime: server.uptime(),
            socket_directory: server.socket_directory,
            data_directory: layout.data(),
        })
    }

    /// The URL of a database of this cluster, whether the server runs or not.
    ///
    /// # Errors
    /// [`Error::UnfitDirectory`] if no socket can be in that directory.
    pub fn url(&self, database: &str) -> Result<String, Error> {
        let layout = Layout::new(&self.directory)?;
        Ok(Running::behind(&layout.socket_directory())?.url(database))
    }

    /// The process to kill for a crash of Postgres; `None` if none runs.
    ///
    /// # Errors
    /// [`Error::Io`] if the directory is closed to us.
    pub fn postmaster_pid(&self) -> Result<Option<u32>, Error> {
        let layout = Layout::new(&self.directory)?;
        Ok(pid_file::live(&layout.data())?.map(|server| server.pid))
    }
}

/// The programs that can serve this data.
fn binaries(layout: &Layout) -> Result<Binaries, Error> {
    match version(layout)? {
        Some(major) => find_binaries_of(major, &layout.data()),
        None => find_binaries(),
    }
}

/// The major version that made the data; `None` if there is none yet.
fn version(layout: &Layout) -> Result<Option<u32>, Error> {
    let path = layout.data().join("PG_VERSION");
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("reading", &path)(error)),
    };
    let nonsense =
        || std::io::Error::new(std::io::ErrorKind::InvalidData, format!("{text:?} is no major version"));
    text.trim().parse().map(Some).map_err(|_| Error::io("reading", &path)(nonsense()))
}
