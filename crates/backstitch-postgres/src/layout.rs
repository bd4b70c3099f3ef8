//! Where in a cluster's directory lies what?

use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The name of the socket Postgres makes for port 5432, which no TCP port stands behind.
const SOCKET: &str = ".s.PGSQL.5432";

/// What `sun_path` holds without its closing zero: 108 bytes on Linux, 104 on macOS and the BSDs.
const SOCKET_PATH_BYTES_MAX: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// The paths of one cluster.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// What the caller named, made absolute. Holds the rest, private to the server's user.
    pub directory: PathBuf,
}

impl Layout {
    /// Checks that the name survives the shell command `pg_ctl` makes of it, the URL and `postmaster.pid`.
    pub fn new(directory: &Path) -> Result<Layout, Error> {
        let absolute = std::path::absolute(directory).map_err(Error::io("finding", directory))?;
        match absolute.to_str() {
            None => Err(Error::unfit(directory, "its name is not UTF-8")),
            Some(name) if name.contains(['"', '`', '$', '\\']) || name.contains(char::is_control) => {
                Err(Error::unfit(
                    directory,
                    "its name has a quote, a dollar, a backslash or a control character, \
                     which pg_ctl would hand to a shell; choose another",
                ))
            }
            Some(_) => Ok(Layout { directory: absolute }),
        }
    }

    /// The data directory.
    pub fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// What `initdb` fills before it becomes the data; a new one each time, as an orphaned `initdb` may still
    /// be writing.
    pub fn data_in_the_making(&self) -> PathBuf {
        let unique = uuid::Uuid::new_v4().simple().to_string();
        self.directory.join(format!("{}{unique}", Layout::IN_THE_MAKING))
    }

    /// How the names of data directories start that never were finished.
    pub const IN_THE_MAKING: &str = "data.making-";

    /// Held while the cluster is made, started or stopped.
    pub fn lock(&self) -> PathBuf {
        self.directory.join(Layout::LOCK)
    }

    /// The name of the lock, by which a directory is known to be a cluster's.
    pub const LOCK: &str = "lock";

    /// What the server says before it opens its log, the last time it was started.
    pub fn start_log(&self) -> PathBuf {
        self.directory.join("start.log")
    }

    /// A week of logs, a file a day. `postgresql.conf` names it as `../log`.
    pub fn log(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// The only way in. Beside the data, or below `/tmp` where that would be too long for a socket.
    pub fn socket_directory(&self) -> PathBuf {
        let beside = self.directory.join("socket");
        let bytes = beside.join(SOCKET).as_os_str().len();
        if bytes <= SOCKET_PATH_BYTES_MAX && !beside.to_string_lossy().contains(['\'', ',']) {
            return beside;
        }
        // Not XDG_RUNTIME_DIR: it goes away when its user logs out, and the server stays.
        PathBuf::from(format!("/tmp/backstitch-{:016x}", hash(&self.directory)))
    }
}

/// The same in every process of this build; another build finds the socket in `postmaster.pid`.
fn hash(path: &Path) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_too_long_for_a_socket_gets_a_short_one() {
        let long = Layout::new(Path::new(&format!("/var/lib/{}", "x".repeat(90)))).unwrap();
        assert!(long.socket_directory().starts_with("/tmp"));
        let short = Layout::new(Path::new("/var/lib/backstitch/postgres")).unwrap();
        assert!(short.socket_directory().starts_with("/var/lib/backstitch/postgres"));
    }

    #[test]
    fn a_name_the_shell_would_read_is_refused() {
        for name in ["/tmp/$(reboot)", "/tmp/`x`", "/tmp/a\"b", "/tmp/a\nb"] {
            let refused = Layout::new(Path::new(name)).unwrap_err();
            assert!(matches!(refused, Error::UnfitDirectory { .. }), "{refused}");
        }
    }
}
