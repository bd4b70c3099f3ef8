//! What does each process of torture need to be started: which program, over which line to Postgres, and where it complains?

use std::path::{Path, PathBuf};
use std::process::Stdio;

use backstitch_postgres::test::PrivateCluster;
use backstitch_testkit::cut::Line;
use backstitch_testkit::process::faketime;
use tokio::process::Command;

use super::crew::Launch;
use crate::exit::{Exit, Failed};

/// The journal's.
pub const DATABASE: &str = "torture";

/// A line to this Postgres, which a fault can take hold of.
pub fn line_to(postgres: &PrivateCluster) -> Line {
    Line::to(&postgres.server.connect_options(DATABASE))
}

/// Where a process complains, one life after the other; nowhere if that can't be written.
pub fn log_file(log: &Path) -> Stdio {
    std::fs::File::options().create(true).append(true).open(log).map_or_else(|_| Stdio::null(), Stdio::from)
}

/// This very program.
pub fn own_program() -> Result<PathBuf, Failed> {
    std::env::current_exe().map_err(because)
}

/// Gives a process another clock than the machine's.
pub struct Clocks {
    faketime: PathBuf,
}

impl Clocks {
    /// With what is installed here.
    pub fn find() -> Result<Self, Failed> {
        let missing = "libfaketime is not here: install it (Debian: apt-get install libfaketime)";
        Ok(Self { faketime: faketime().ok_or_else(|| Failed::new(Exit::Error, missing))? })
    }

    /// The clock with which a life begins.
    pub fn set(&self, command: &mut Command, launch: Launch) {
        if let Some(clock) = launch.clock {
            command.env("LD_PRELOAD", &self.faketime).env("FAKETIME", clock);
            // What waits must not wait for an hour, nor be in a hurry.
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
    }
}

/// An error of something outside.
pub fn because(error: impl std::error::Error) -> Failed {
    Failed::because(&error, "")
}
