//! What does each process of torture need to be started: which program, over which line to Postgres, and where it complains?

use std::path::{Path, PathBuf};
use std::process::Stdio;

use backstitch_postgres::test::PrivateCluster;
use backstitch_testkit::cut::Line;

use crate::exit::Failed;

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

/// An error of something outside.
pub fn because(error: impl std::error::Error) -> Failed {
    Failed::because(&error, "")
}
