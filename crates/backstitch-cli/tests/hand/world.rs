//! What does each test stand on: a database of its own, a directory of its own, and nothing of the environment.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use backstitch::{Client, Database};
use backstitch_postgres::test::TestDatabase;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

pub struct World {
    pub database: TestDatabase,
    pub directory: TempDir,
}

/// What a run of the binary came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl World {
    /// With an empty database.
    pub async fn empty() -> Self {
        let directory = tempfile::tempdir().unwrap();
        Self { database: backstitch_postgres::test::database().await, directory }
    }

    /// With a database that the binary has migrated.
    pub async fn new() -> Self {
        let world = Self::empty().await;
        world.run(&["migrate"]).await.expect(0);
        world
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The binary on this database, and nothing else of the environment.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = bare(self.directory.path(), arguments);
        command.env("DATABASE_URL", &self.database.url);
        command
    }

    pub async fn run(&self, arguments: &[&str]) -> Ran {
        end(self.command(arguments)).await
    }

    pub async fn client(&self) -> Client {
        Client::new(Database::connect(&self.database.url).await.unwrap())
    }
}

/// The binary without a database.
pub fn bare(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstitch"));
    command
        .args(arguments)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", directory)
        .env("BACKSTITCH_STATE_DIRECTORY", directory.join("state"))
        .current_dir(directory)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs it to its end.
pub async fn end(mut command: Command) -> Ran {
    let output = command.output().await.unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs it to its end, with this on its standard input.
pub async fn end_with_input(mut command: Command, input: &[u8]) -> Ran {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // It may have read enough before all is written.
    let _ = stdin.write_all(input).await;
    drop(stdin);
    let output = child.wait_with_output().await.unwrap();
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ran {
    /// It ended with this code.
    #[track_caller]
    pub fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        self
    }

    /// It complained in one line that says all of this, and wrote nothing else.
    #[track_caller]
    pub fn complains(self, code: i32, said: &[&str]) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert_eq!(self.out, "", "an error leaves the output alone: {self:#?}");
        assert_eq!(self.err.trim_end().lines().count(), 1, "one line: {self:#?}");
        for part in said {
            assert!(self.err.contains(part), "{part:?} is not said: {self:#?}");
        }
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}
