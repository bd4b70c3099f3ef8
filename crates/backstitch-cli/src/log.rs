//! Where does the log go, and how much of it?

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use crate::arguments::{Arguments, Command, LogFormat};

/// Begins to log on the standard error: the story of every workflow for the daemon, only what is wrong for the hand.
pub fn begin(arguments: &Arguments) {
    let level = match arguments.command {
        Command::Serve(_) => LevelFilter::INFO,
        // Its workflows fail on purpose, by the ten thousand: telling of each would be what is measured.
        Command::Bench(_) => LevelFilter::ERROR,
        _ => LevelFilter::WARN,
    };
    let filter = EnvFilter::builder()
        .with_default_directive(level.into())
        .with_env_var("BACKSTITCH_LOG")
        .from_env_lossy();
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !plain);
    match arguments.everywhere.log_format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}
