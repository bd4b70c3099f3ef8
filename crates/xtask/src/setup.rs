//! What a machine must have for the tests and the demo, and how it gets what is missing.

use std::cmp::Reverse;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command;
use crate::parts::seconds;

/// A program of the machine that something of ours stands on.
pub struct Need {
    name: &'static str,
    why: &'static str,
    /// Debian's names for it.
    packages: &'static [&'static str],
    is_here: fn() -> bool,
    /// Without it some tests say that they were left out; nothing else suffers.
    optional: bool,
}

pub const POSTGRES: Need = Need {
    name: "Postgres",
    why: "keeps the journal",
    packages: &["postgresql"],
    is_here: || postgres_binaries().is_some(),
    optional: false,
};

pub const NGINX: Need = Need {
    name: "nginx",
    why: "carries the routes that gateway.start writes",
    packages: &["nginx"],
    is_here: || program("nginx").is_some(),
    optional: false,
};

pub const POWERDNS: Need = Need {
    name: "PowerDNS with SQLite",
    why: "answers for the names that gateway.start registers",
    packages: &["pdns-server", "pdns-backend-sqlite3", "sqlite3"],
    is_here: || {
        ["pdns_server", "sqlite3"].into_iter().all(|name| program(name).is_some())
            && library("pdns/libgsqlite3backend.so")
    },
    optional: false,
};

pub const PGBOUNCER: Need = Need {
    name: "PgBouncer",
    why: "stands between worker and Postgres in one test",
    packages: &["pgbouncer"],
    is_here: || program("pgbouncer").is_some(),
    optional: false,
};

pub const FAKETIME: Need = Need {
    name: "libfaketime",
    why: "sets the clock of one process wrong in one test",
    packages: &["libfaketime"],
    is_here: || library("faketime/libfaketime.so.1"),
    optional: false,
};

pub const PYTHON: Need = Need {
    name: "Python with venv",
    why: "runs the fuzzer that asks the HTTP API",
    packages: &["python3-venv"],
    is_here: || command::succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"])),
    optional: false,
};

/// What `cargo xtask demo` shows.
pub const DEMO: &[Need] = &[POSTGRES, NGINX, POWERDNS];
/// What the whole suite stands on.
pub const TESTS: &[Need] = &[POSTGRES, NGINX, POWERDNS, PGBOUNCER, FAKETIME, PYTHON];

/// Installs what is missing; a look at a few files when nothing is.
pub fn ensure(needs: &[Need]) -> Result<()> {
    let missing: Vec<&Need> = needs.iter().filter(|need| !(need.is_here)()).collect();
    if missing.is_empty() {
        println!("nothing to install: {} here", listed(needs.iter().map(|need| need.name)));
        return Ok(());
    }
    if let Some(chosen) = env::var_os("BACKSTITCH_PG_BIN").filter(|_| !(POSTGRES.is_here)()) {
        bail!("BACKSTITCH_PG_BIN is {}, and there is no initdb, postgres, pg_ctl and psql", chosen.display());
    }
    for need in &missing {
        println!("missing: {}, which {} ({})", need.name, need.why, need.packages.join(", "));
    }
    let installed = if on_debian() { install(&missing) } else { by_hand(&missing) };
    if let Err(error) = installed {
        if missing.iter().any(|need| !need.optional) {
            return Err(error);
        }
        println!("going on without: {error:#}");
    }
    let absent: Vec<&&Need> = missing.iter().filter(|need| !need.optional && !(need.is_here)()).collect();
    if !absent.is_empty() {
        bail!("installed, and still not found: {}", listed(absent.iter().map(|need| need.name)));
    }
    Ok(())
}

/// The directory with `initdb`, `postgres`, `pg_ctl` and `psql`: the chosen one, or the newest of the first place that has one.
pub fn postgres_binaries() -> Option<PathBuf> {
    const VERSIONED: [(&str, &str); 5] = [
        ("/usr/lib/postgresql", ""),                       // Debian, Ubuntu
        ("/usr", "pgsql-"),                                // Red Hat and its kin
        ("/opt/homebrew/opt", "postgresql@"),              // Homebrew on Apple silicon
        ("/usr/local/opt", "postgresql@"),                 // Homebrew on Intel
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql@"), // Homebrew on Linux
    ];
    let complete = |path: &PathBuf| {
        ["initdb", "postgres", "pg_ctl", "psql"].iter().all(|name| path.join(name).is_file())
    };
    if let Some(chosen) = env::var_os("BACKSTITCH_PG_BIN") {
        return Some(PathBuf::from(chosen)).filter(complete);
    }
    let packaged = VERSIONED.iter().flat_map(|(parent, before)| {
        let mut found: Vec<(u32, PathBuf)> = entries(Path::new(parent))
            .filter_map(|path| {
                let version = path.file_name()?.to_str()?.strip_prefix(before)?.parse().ok()?;
                Some((version, path.join("bin")))
            })
            .collect();
        found.sort_by_key(|(version, _)| Reverse(*version));
        found.into_iter().map(|(_, path)| path)
    });
    packaged.chain(search_path()).find(complete)
}

fn install(missing: &[&Need]) -> Result<()> {
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    println!("installing with apt-get: {} (no service is started)", packages.join(" "));
    let began = Instant::now();
    let script = ["sh", "-c", include_str!("install.sh"), "install.sh"];
    let mut apt = if command::succeeds(Command::new("sh").args(["-c", r#"[ "$(id -u)" = 0 ]"#])) {
        Command::new(script[0])
    } else if program("sudo").is_some() {
        println!("as root, with sudo");
        let mut sudo = Command::new("sudo");
        sudo.arg(script[0]);
        sudo
    } else {
        bail!("neither root nor sudo is here; as root: apt-get install {}", packages.join(" "));
    };
    let status = apt.args(&script[1..]).args(&packages).status()?;
    if !status.success() {
        bail!("apt-get failed ({status}); as root: apt-get update && apt-get install {}", packages.join(" "));
    }
    println!("installed in {}", seconds(began.elapsed()));
    Ok(())
}

fn by_hand(missing: &[&Need]) -> Result<()> {
    const ROWS: [(&str, &str, &str, &str); 6] = [
        (POSTGRES.name, "postgresql@17", "postgresql-server", "postgresql"),
        (NGINX.name, "nginx", "nginx", "nginx"),
        (POWERDNS.name, "pdns sqlite", "pdns pdns-backend-sqlite sqlite", "powerdns sqlite"),
        (PGBOUNCER.name, "pgbouncer", "pgbouncer", "pgbouncer"),
        (FAKETIME.name, "libfaketime", "libfaketime", "libfaketime"),
        (PYTHON.name, "python", "python3", "python"),
    ];
    let needed = |name: &str| missing.iter().any(|need| need.name == name);
    let mut lines = ["brew install", "dnf install", "pacman -S"].map(String::from).to_vec();
    for (name, brew, dnf, pacman) in ROWS {
        if needed(name) {
            for (line, package) in lines.iter_mut().zip([brew, dnf, pacman]) {
                line.push(' ');
                line.push_str(package);
            }
        }
    }
    if needed(POSTGRES.name) {
        lines.push("or set BACKSTITCH_PG_BIN to the directory of an initdb that is here already".into());
    }
    bail!("there is no apt-get here; please install it with what you have:\n  {}", lines.join("\n  "));
}

fn on_debian() -> bool {
    Path::new("/etc/debian_version").exists() && program("apt-get").is_some()
}

/// A program on the path, or where distributions keep servers that plain users don't have on theirs.
fn program(name: &str) -> Option<PathBuf> {
    search_path().map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let servers = ["/usr/sbin", "/usr/local/sbin", "/sbin", "/opt/homebrew/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(servers).collect::<Vec<_>>().into_iter()
}

/// A file below a library directory, also where Debian puts it per architecture.
fn library(file: &str) -> bool {
    let roots = ["/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib"].map(PathBuf::from);
    roots
        .iter()
        .any(|root| root.join(file).exists() || entries(root).any(|directory| directory.join(file).exists()))
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.collect::<Vec<_>>().join(", ")
}
