//! Format, lints, documentation and query data: what a change must pass besides its tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::command::{self, cargo};
use crate::parts::Parts;
use crate::{setup, sqlx};

/// Every part runs, whatever the ones before it said: one look shows all that is to do.
pub fn lint() -> Result<()> {
    let mut parts = Parts::default();
    parts.also("set-up", || {
        setup::ensure(&[setup::POSTGRES])?;
        toolchain()
    });
    parts.also("format", || command::run(&mut cargo(&["fmt", "--all", "--check"])));
    parts.also("clippy", || {
        let arguments = ["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"];
        command::run(cargo(&arguments).env("SQLX_OFFLINE", "true"))
    });
    parts.also("documentation", || {
        let mut doc = cargo(&["doc", "--locked", "--workspace", "--no-deps"]);
        command::run(doc.env("SQLX_OFFLINE", "true").env("RUSTDOCFLAGS", "-D warnings"))
    });
    parts.also("query data", sqlx::check);
    parts.finish()
}

/// A minimal toolchain has neither rustfmt nor clippy.
fn toolchain() -> Result<()> {
    if command::succeeds(&mut cargo(&["fmt", "--version"]))
        && command::succeeds(&mut cargo(&["clippy", "--version"]))
    {
        return Ok(());
    }
    let mut add = Command::new("rustup");
    add.args(["component", "add", "rustfmt", "clippy"]).current_dir(command::root());
    if add.status().is_ok_and(|status| status.success()) {
        return Ok(());
    }
    bail!("rustfmt and clippy are missing, and rustup could not add them")
}
