//! The worker of the version before, for the test in which both versions work side by side.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::command::{self, root};

/// The version before: the last commit that knows nothing of the newest migrations. Moved on with every release.
const COMMIT: &str = "f448145531632397b6f0fff1d4b9c80b0feb74ca";

/// Where the test looks for it: `source` with its migrations, and `debug/script-worker`.
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/previous");

/// Builds it unless it is there. What both versions depend on is built once: only their own crates are apart.
pub fn ensure() -> Result<()> {
    let home = Path::new(HOME);
    let is_of = home.join("commit");
    if fs::read_to_string(&is_of).is_ok_and(|commit| commit == COMMIT) {
        println!("nothing to build: the worker of {COMMIT:.8} is here");
        return Ok(());
    }
    println!("building the worker of {COMMIT:.8}");
    fetch()?;
    let source = home.join("source");
    if source.exists() {
        fs::remove_dir_all(&source).with_context(|| format!("removing {}", source.display()))?;
    }
    fs::create_dir_all(&source).with_context(|| format!("making {}", source.display()))?;
    let mut archive = git(&["archive", COMMIT]).stdout(Stdio::piped()).spawn().context("git does not run")?;
    let files = archive.stdout.take().context("it was not piped")?;
    command::run(Command::new("tar").arg("-x").arg("-C").arg(&source).stdin(files))?;
    if !archive.wait()?.success() {
        bail!("git archive {COMMIT} failed");
    }
    let build = ["build", "--quiet", "--locked", "--package", "backstitch-testkit", "--bin", "script-worker"];
    command::run(
        command::cargo(&build)
            .current_dir(&source)
            .env("CARGO_TARGET_DIR", home)
            .env("CARGO_BUILD_BUILD_DIR", root().join("target"))
            .env("SQLX_OFFLINE", "true"),
    )?;
    // At the end: one that was interrupted is begun anew.
    fs::write(&is_of, COMMIT).with_context(|| format!("writing {}", is_of.display()))
}

/// Has the commit in this clone, which may be a shallow one.
fn fetch() -> Result<()> {
    let is_here = || command::succeeds(&mut git(&["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]));
    if is_here()
        || command::succeeds(&mut git(&["fetch", "--quiet", "--depth", "1", "origin", COMMIT])) && is_here()
    {
        return Ok(());
    }
    bail!("commit {COMMIT} is not in this clone, nor to be had from its origin: `git fetch --unshallow`")
}

fn git(arguments: &[&str]) -> Command {
    let mut git = Command::new("git");
    git.args(arguments).current_dir(root());
    git
}
