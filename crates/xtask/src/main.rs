//! What can be done with this repository: set up, show, test, lint.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod cases;
mod cluster;
mod command;
mod demo;
mod fuzzer;
mod lint;
mod parts;
mod previous;
mod setup;
mod sqlx;
mod test;

/// Set-up, demo, test and lint of Backstitch. Each does its own set-up first and says what it installs.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what the tests and the demo stand on, where it is missing
    Setup,
    /// Start, fail, kill and stop a gateway on real Postgres, PowerDNS and nginx
    Demo(demo::Choices),
    /// Run the whole suite; what follows goes to `cargo test`
    Test {
        /// With many more random cases, and an hour of torture at the end
        #[arg(long)]
        long: bool,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Check format, lints, documentation and query data
    Lint,
    /// Write `.sqlx` anew from the migrations and the queries
    Sqlx {
        /// Write nothing; fail if it would change
        #[arg(long)]
        check: bool,
    },
}

fn main() -> ExitCode {
    let ended = match Arguments::parse().task {
        Task::Setup => {
            setup::ensure(setup::TESTS).and_then(|()| fuzzer::ensure()).and_then(|()| previous::ensure())
        }
        Task::Demo(choices) => demo::demo(&choices),
        Task::Test { long, arguments } => test::test(long, &arguments),
        Task::Lint => lint::lint(),
        Task::Sqlx { check } => setup::ensure(&[setup::POSTGRES])
            .and_then(|()| if check { sqlx::check() } else { sqlx::regenerate() }),
    };
    let Err(error) = ended else {
        return ExitCode::SUCCESS;
    };
    eprintln!("{error:#}");
    let code = error.downcast_ref::<command::Failed>().map_or(1, |failed| failed.code);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
