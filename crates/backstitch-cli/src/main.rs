//! The daemon and the operator's hand: one binary, `backstitch`. Here the command is chosen and the end is told.

mod alerts;
mod arguments;
mod bench;
mod bulk;
mod cancel;
mod complete;
mod config;
mod connect;
mod crew;
mod decide;
mod doctor;
mod edge;
mod enqueue;
mod errors;
mod exit;
mod explain;
mod fleet;
mod gateway;
mod gateway_http;
mod list;
mod log;
mod migrate;
mod output;
mod outside;
mod pg;
mod progress;
mod prune;
mod reach;
mod recover;
mod redraw;
mod seal;
mod seen;
mod serve;
mod settings;
mod show;
mod signals;
mod time;
mod token;
mod torture;
mod verify;
mod wait;
mod whose;

use std::process::ExitCode;

use clap::FromArgMatches;
use clap::error::{ContextKind, ContextValue};

use crate::arguments::{Arguments, Command, command_line};
use crate::exit::{Exit, Failed};
use crate::settings::Settings;

#[tokio::main]
async fn main() -> ExitCode {
    let parsed = command_line().try_get_matches().and_then(|matches| Arguments::from_arg_matches(&matches));
    let arguments = parsed.unwrap_or_else(|error| misread(error));
    log::begin(&arguments);
    match run(arguments).await {
        Ok(exit) => exit.into(),
        Err(failed) => {
            output::complain(&failed.to_string());
            failed.exit.into()
        }
    }
}

/// Says what is wrong with the command line, or shows its help, and ends.
fn misread(error: clap::Error) -> ! {
    let is_control = |argument: std::ffi::OsString| argument.to_string_lossy().contains(char::is_control);
    let error = with_plain_usage(error);
    if error.use_stderr() && std::env::args_os().any(is_control) {
        // It quotes what was given, which may come from elsewhere: it may not move the cursor.
        output::note(output::clean(&error.to_string()).trim_end());
        std::process::exit(error.exit_code());
    }
    error.exit()
}

/// With the usage of the command itself: clap's own has in it, as if it were required, whatever an environment variable says.
fn with_plain_usage(mut error: clap::Error) -> clap::Error {
    if error.remove(ContextKind::Usage).is_some() {
        let mut root = command_line();
        let mut command = &mut root;
        for argument in std::env::args_os().skip(1) {
            if command.find_subcommand(&argument).is_some() {
                command = command.find_subcommand_mut(&argument).expect("it was found");
            }
        }
        error.insert(ContextKind::Usage, ContextValue::StyledStr(command.render_usage()));
    }
    error
}

async fn run(arguments: Arguments) -> Result<Exit, Failed> {
    let settings = Settings::read(arguments.everywhere)?;
    match arguments.command {
        Command::Serve(arguments) => serve::run(&settings, arguments).await,
        Command::Recover(arguments) => recover::run(&settings, arguments).await,
        Command::Migrate(arguments) => migrate::run(&settings, &arguments).await,
        Command::Enqueue(arguments) => enqueue::run(&settings, arguments).await,
        Command::Seal(arguments) => seal::run(&settings, &arguments),
        Command::Wait(arguments) => wait::run(&settings, arguments).await,
        Command::List(arguments) => list::run(&settings, arguments).await,
        Command::Errors(arguments) => errors::run(&settings, arguments).await,
        Command::Show(arguments) => show::run(&settings, arguments).await,
        Command::Explain(arguments) => explain::run(&settings, arguments).await,
        Command::Workers(arguments) => fleet::workers(&settings, arguments).await,
        Command::Kinds(arguments) => fleet::kinds(&settings, arguments).await,
        Command::Stats(arguments) => fleet::stats(&settings, arguments).await,
        Command::Verify(arguments) => verify::run(&settings, *arguments).await,
        Command::Doctor(arguments) => doctor::run(&settings, *arguments).await,
        Command::Cancel(arguments) => cancel::cancel(&settings, arguments).await,
        Command::Retry(arguments) => cancel::retry(&settings, arguments).await,
        Command::SkipStep(arguments) => decide::skip_step(&settings, arguments).await,
        Command::Resolve(arguments) => decide::resolve(&settings, arguments).await,
        Command::Abandon(arguments) => decide::abandon(&settings, arguments).await,
        Command::Pause(arguments) => decide::pause(&settings, arguments).await,
        Command::Resume(arguments) => decide::resume(&settings, arguments).await,
        Command::Prune(arguments) => prune::run(&settings, arguments).await,
        Command::Gateway(command) => gateway::run(&settings, command).await,
        Command::Token(command) => token::run(&settings, command).await,
        Command::Bench(command) => bench::run(&settings, command).await,
        Command::Torture(command) => torture::run(command).await,
        Command::Pg(command) => pg::run(&settings, command).await,
        Command::Completions(arguments) => complete::completions(&arguments),
        Command::Man(arguments) => complete::man(&arguments),
    }
}
