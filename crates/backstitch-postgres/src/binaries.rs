//! Where on this machine are the programs of Postgres?

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// Names the one directory to take the programs from; nothing else is looked at when it is set.
const OVERRIDE: &str = "BACKSTITCH_PG_BIN";

/// Where packages put versions side by side, as (before the version, after it).
const VERSIONED: [(&str, &str); 5] = [
    ("/usr/lib/postgresql/", "/bin"),                       // Debian, Ubuntu
    ("/usr/pgsql-", "/bin"),                                // Red Hat and its kin
    ("/opt/homebrew/opt/postgresql@", "/bin"),              // Homebrew on Apple silicon
    ("/usr/local/opt/postgresql@", "/bin"),                 // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt/postgresql@", "/bin"), // Homebrew on Linux
];

/// What a cluster is made and run with; a directory that lacks one of them is passed over.
const PROGRAMS: [&str; 3] = ["initdb", "pg_ctl", "postgres"];

/// A directory with the programs of one version of Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The directory that holds `initdb`, `pg_ctl` and `postgres`.
    pub directory: PathBuf,
    /// The major version, as in 15.
    pub major: u32,
}

/// The newest Postgres of the first place that has one.
///
/// In order: the directory named by `BACKSTITCH_PG_BIN` (and then nothing else), the system's packages,
/// Homebrew, `PATH`.
///
/// # Errors
/// [`Error::NoBinaries`] lists every place looked at.
pub fn find_binaries() -> Result<Binaries, Error> {
    let places = places(env::var_os(OVERRIDE).map(PathBuf::from), &path());
    first(&places)
}

/// The first Postgres of major version `major`, which must match the data it is to serve.
pub(crate) fn find_binaries_of(major: u32, data: &Path) -> Result<Binaries, Error> {
    let places = places(env::var_os(OVERRIDE).map(PathBuf::from), &path());
    let newest = first(&places)?;
    let mut found: Vec<Binaries> = places.iter().flat_map(Place::binaries).collect();
    match found.iter().position(|binaries| binaries.major == major) {
        Some(at) => Ok(found.swap_remove(at)),
        None => {
            let mut majors: Vec<u32> = found.iter().map(|binaries| binaries.major).collect();
            majors.push(newest.major);
            majors.sort_unstable();
            majors.dedup();
            Err(Error::NoBinariesOfVersion {
                data: data.to_owned(),
                wanted: major,
                found: majors.iter().map(u32::to_string).collect(),
            })
        }
    }
}

fn first(places: &[Place]) -> Result<Binaries, Error> {
    let found = places.iter().find_map(|place| place.binaries().into_iter().next());
    found.ok_or_else(|| Error::NoBinaries { looked: places.iter().map(Place::to_string).collect() })
}

impl Binaries {
    /// The path of one program, as `initdb`.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What a directory holds; `None` if a program is missing or does not tell its version.
    fn at(directory: &Path) -> Option<Binaries> {
        if !PROGRAMS.iter().all(|name| directory.join(name).is_file()) {
            return None;
        }
        let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
        Some(Binaries {
            directory: directory.to_owned(),
            major: major(&String::from_utf8_lossy(&output.stdout))?,
        })
    }
}

/// The 15 of `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_whitespace().nth(2)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// Somewhere to look.
enum Place {
    /// One directory, and why it is looked at.
    Directory(PathBuf, &'static str),
    /// Versions side by side.
    Versioned(&'static str, &'static str),
}

fn places(chosen: Option<PathBuf>, path: &[PathBuf]) -> Vec<Place> {
    if let Some(chosen) = chosen {
        return vec![Place::Directory(chosen, " (BACKSTITCH_PG_BIN)")];
    }
    let versioned = VERSIONED.iter().map(|(before, after)| Place::Versioned(before, after));
    let path = path.iter().map(|directory| Place::Directory(directory.clone(), " (PATH)"));
    versioned.chain(path).collect()
}

fn path() -> Vec<PathBuf> {
    env::var_os("PATH").map(|path| env::split_paths(&path).collect()).unwrap_or_default()
}

impl Place {
    /// What is there, newest first.
    fn binaries(&self) -> Vec<Binaries> {
        match self {
            // The programs are started from `/`, where a relative path would lead elsewhere.
            Place::Directory(directory, _) => std::path::absolute(directory)
                .ok()
                .and_then(|directory| Binaries::at(&directory))
                .into_iter()
                .collect(),
            Place::Versioned(before, after) => {
                let mut found: Vec<Binaries> = versions(before)
                    .iter()
                    .filter_map(|version| Binaries::at(Path::new(&format!("{before}{version}{after}"))))
                    .collect();
                found.sort_by_key(|binaries| std::cmp::Reverse(binaries.major));
                found
            }
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Directory(directory, why) => write!(f, "{}{why}", directory.display()),
            Place::Versioned(before, after) => write!(f, "{before}*{after}"),
        }
    }
}

/// What stands in the place of the star of `before*`.
fn versions(before: &str) -> Vec<String> {
    let Some((parent, prefix)) = before.rsplit_once('/') else {
        return Vec::new();
    };
    let Ok(entries) = std::fs::read_dir(parent) else {
        return Vec::new();
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix(prefix).map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_lists_every_place_and_what_to_run() {
        let nowhere = [PathBuf::from("/nowhere/bin")];
        let looked = places(None, &nowhere);
        // Nothing but the last, so that what is installed here plays no part.
        let text = first(&looked[looked.len() - 1..]).unwrap_err().to_string();
        assert!(text.contains("/nowhere/bin (PATH)"), "{text}");
        assert!(text.contains("apt-get install postgresql"), "{text}");
        let all: Vec<String> = looked.iter().map(Place::to_string).collect();
        assert!(all.contains(&"/usr/lib/postgresql/*/bin".to_owned()), "{all:?}");
        assert!(all.contains(&"/opt/homebrew/opt/postgresql@*/bin".to_owned()), "{all:?}");
    }

    #[test]
    fn a_chosen_directory_is_the_only_one_looked_at() {
        let chosen = places(Some("/chosen".into()), &["/elsewhere".into()]);
        let text = first(&chosen).unwrap_err().to_string();
        assert!(text.contains("/chosen (BACKSTITCH_PG_BIN);"), "{text}");
        assert!(!text.contains("/elsewhere"), "{text}");
    }

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        assert_eq!(major("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1\n"), Some(18));
        assert_eq!(major("nonsense"), None);
    }
}
