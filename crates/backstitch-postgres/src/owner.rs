//! As which user does the server run, and can that user get at its directory?
//!
//! Postgres refuses to run as root. Root therefore hands the directory to user `postgres`, or else `nobody`,
//! and runs the programs as that user; a plain user runs them as himself.

use std::fs;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;

use crate::error::Error;
use crate::layout::Layout;

/// Who root lets run the server, first choice first.
const USERS: [&str; 2] = ["postgres", "nobody"];

/// The user that owns the data and runs the server.
#[derive(Debug, Clone)]
pub(crate) struct Owner {
    pub uid: u32,
    pub gid: u32,
}

impl Owner {
    /// Who runs the server of `directory`: whoever it belongs to, if that is someone we can act as.
    pub fn of(directory: &Path) -> Result<Owner, Error> {
        let me = Owner::me();
        // Look inside first: another who makes it hands it over before he puts anything in.
        let empty = is_empty(directory);
        let found = match fs::symlink_metadata(directory) {
            Ok(found) if !found.is_dir() => return Err(not_a_directory(directory)),
            Ok(found) => Some(found),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(Error::io("looking at", directory)(error)),
        };
        let owner = match found {
            None if me.uid == 0 => return first(users()?),
            None => return Ok(me),
            Some(found) if me.uid != 0 && found.uid() == me.uid => me,
            Some(found) if me.uid != 0 => return Err(belongs_to(directory, found.uid())),
            // New to us, or left between mkdir and chown.
            Some(found) if found.uid() == 0 && empty => first(users()?)?,
            Some(found) => {
                let known = users()?.into_iter().find(|user| user.uid == found.uid());
                known.ok_or_else(|| belongs_to(directory, found.uid()))?
            }
        };
        // The first thing ever put into it is the lock.
        if !empty && !directory.join(Layout::LOCK).exists() {
            return Err(Error::unfit(
                directory,
                "it holds something else; choose an empty or a new directory",
            ));
        }
        Ok(owner)
    }

    fn me() -> Owner {
        Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    /// Makes `directory` if need be, private to this user. Others may have made it at the same time.
    pub fn make_directory(&self, directory: &Path) -> Result<(), Error> {
        self.must_reach(directory)?;
        if let Some(parent) = directory.parent() {
            make_ancestors(parent)?;
        }
        match fs::DirBuilder::new().mode(0o700).create(directory) {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                return Err(Error::io("making", directory)(error));
            }
            _ => {}
        }
        let found = fs::symlink_metadata(directory).map_err(Error::io("looking at", directory))?;
        if !found.is_dir() {
            return Err(not_a_directory(directory));
        }
        if found.uid() != self.uid {
            if Owner::me().uid != 0 || found.uid() != 0 {
                return Err(belongs_to(directory, found.uid()));
            }
            std::os::unix::fs::lchown(directory, Some(self.uid), Some(self.gid))
                .map_err(Error::io("handing over", directory))?;
        }
        if found.mode() & 0o077 != 0 {
            let private = fs::Permissions::from_mode(0o700);
            fs::set_permissions(directory, private).map_err(Error::io("making private", directory))?;
        }
        Ok(())
    }

    /// Refuses a directory the server's user cannot walk to.
    pub fn must_reach(&self, directory: &Path) -> Result<(), Error> {
        if Owner::me().uid != 0 {
            return Ok(()); // the kernel will say
        }
        for ancestor in existing_ancestors(directory) {
            let real = ancestor.canonicalize().map_err(Error::io("looking at", &ancestor))?;
            if real.starts_with(root_home()) {
                return Err(Error::unfit(
                    directory,
                    "root's home is closed to the user postgres runs as; \
                     choose a directory outside, as /var/lib/backstitch/postgres",
                ));
            }
            let found = fs::metadata(&real).map_err(Error::io("looking at", &real))?;
            if !self.may_enter(&found) {
                return Err(Error::unfit(
                    directory,
                    format!(
                        "user {} cannot enter {}; choose another directory, or run `chmod a+x {}`",
                        self.uid,
                        real.display(),
                        real.display()
                    ),
                ));
            }
        }
        Ok(())
    }

    fn may_enter(&self, found: &fs::Metadata) -> bool {
        let bit = match found {
            found if found.uid() == self.uid => 0o100,
            found if found.gid() == self.gid => 0o010,
            _ => 0o001,
        };
        found.mode() & bit != 0
    }

    /// A program of Postgres, run as this user, away from our terminal, our pipes and our settings.
    pub fn command(&self, program: PathBuf) -> Command {
        let mut command = std::process::Command::new(program);
        if Owner::me().uid == 0 {
            command.uid(self.uid).gid(self.gid); // this also drops root's supplementary groups
        }
        // A Ctrl-C meant for our process group must not reach the server while it starts.
        command.process_group(0);
        // The directory we are in may be closed to that user.
        command.current_dir("/");
        // PGPORT, PGDATA and the like are for clients, and would bend the server too.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PG") {
                command.env_remove(name);
            }
        }
        command.env("LC_ALL", "C");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Command::from(command)
    }
}

/// Whether files below `directory` could be used by the user root would run a server as.
pub(crate) fn can_reach(directory: &Path) -> bool {
    let first = if Owner::me().uid == 0 { users().and_then(first) } else { Ok(Owner::me()) };
    first.is_ok_and(|owner| owner.must_reach(&directory.join("x")).is_ok())
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    Owner::me().uid == 0
}

fn first(users: Vec<Owner>) -> Result<Owner, Error> {
    users.into_iter().next().ok_or(Error::NoUser)
}

/// Those of [`USERS`] this machine has, first choice first.
fn users() -> Result<Vec<Owner>, Error> {
    let passwd = fs::read_to_string("/etc/passwd").map_err(Error::io("reading", "/etc/passwd"))?;
    Ok(USERS.iter().filter_map(|name| user(&passwd, name)).collect())
}

fn user(passwd: &str, name: &str) -> Option<Owner> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let gid = fields.next()?.parse().ok()?;
    Some(Owner { uid, gid })
}

fn root_home() -> &'static Path {
    Path::new(if cfg!(target_os = "macos") { "/private/var/root" } else { "/root" })
}

/// Makes what is missing above a directory, open to be walked through whatever the umask.
fn make_ancestors(directory: &Path) -> Result<(), Error> {
    if directory.exists() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        make_ancestors(parent)?;
    }
    match fs::create_dir(directory) {
        Ok(()) => fs::set_permissions(directory, fs::Permissions::from_mode(0o755))
            .map_err(Error::io("opening", directory)),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(Error::io("making", directory)(error)),
    }
}

fn existing_ancestors(directory: &Path) -> impl Iterator<Item = PathBuf> {
    directory.ancestors().skip(1).filter(|ancestor| ancestor.exists()).map(Path::to_owned)
}

/// Whether nothing is in it, because it is not there or for want of anything; not if we may not look.
fn is_empty(directory: &Path) -> bool {
    match fs::read_dir(directory) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

fn not_a_directory(directory: &Path) -> Error {
    Error::unfit(directory, "it is not a directory; of a symbolic link, name what it leads to")
}

fn belongs_to(directory: &Path, uid: u32) -> Error {
    Error::unfit(
        directory,
        format!("it belongs to user {uid}; run this as that user, or choose another directory"),
    )
}
