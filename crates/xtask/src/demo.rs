//! The demo's way to the screen: set-up, build, and the program that shows it.

use anyhow::Result;

use crate::command::{self, cargo};
use crate::parts::Parts;
use crate::setup;

/// What the reader chose.
#[derive(clap::Args)]
pub struct Choices {
    /// Keep everything up at the end, until Ctrl-C
    #[arg(long)]
    stay: bool,
}

/// Sets up, builds, shows.
pub fn demo(choices: &Choices) -> Result<()> {
    let mut parts = Parts::default();
    parts.then("set-up", || setup::ensure(setup::DEMO));
    parts.then("build", || {
        // All of them: the demo starts the daemon and the gateways that lie beside it.
        command::run(
            cargo(&["build", "--locked", "-p", "backstitch-cli", "-p", "backstitch-gateway", "--bins"])
                .env("SQLX_OFFLINE", "true"),
        )
    });
    parts.then("demo", || {
        let mut show =
            cargo(&["run", "--quiet", "--locked", "-p", "backstitch-cli", "--bin", "backstitch-demo", "--"]);
        show.args(choices.stay.then_some("--stay"));
        command::run(show.env("SQLX_OFFLINE", "true"))
    });
    parts.finish()
}
