//! The fuzzer that asks the HTTP API: a Python package, in a directory of its own below `target`.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::command;

/// Pinned: what it asks is a part of the suite.
const PACKAGE: &str = "schemathesis==4.32.5";

/// Where the test looks for it.
const HOME: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/schemathesis");

/// Installs it from PyPI unless it is there.
pub fn ensure() -> Result<()> {
    let home = Path::new(HOME);
    if home.join("bin/schemathesis").is_file() {
        println!("nothing to install: {PACKAGE} is here");
        return Ok(());
    }
    println!("installing {PACKAGE} from PyPI");
    command::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(home))?;
    command::run(Command::new(home.join("bin/pip")).args([
        "install",
        "--quiet",
        "--disable-pip-version-check",
        PACKAGE,
    ]))
    .context("PyPI could not be asked, or has it no more")
}
