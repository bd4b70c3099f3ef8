//! Which number does the program end with, and what does it say when it fails?

use std::fmt;
use std::process::ExitCode;

use backstitch::Failure;

/// How the program ends. The numbers are a promise to scripts; every `--help` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; the workflow completed.
    Done = 0,
    /// Something failed: the database, the configuration, a server.
    Error = 1,
    /// The command line, or an input, can't be taken.
    Usage = 2,
    /// The workflow failed, and everything was taken back.
    Compensated = 3,
    /// Something still stands outside, or a person must look.
    NeedsAttention = 4,
    /// There is no such thing, or it can't be done as it stands.
    Refused = 5,
    /// The time to wait is over, and it is still under way.
    StillUnderWay = 6,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command came to nothing: what, where and what to do, and the number to end with.
#[derive(Debug)]
pub struct Failed {
    /// The number.
    pub exit: Exit,
    pub message: String,
}

impl Failed {
    /// An end of this kind.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into() }
    }

    /// The command line, or an input, can't be taken.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// It can't be done as things stand.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(Exit::Refused, message)
    }

    /// An error of something outside, with the chain of its causes, and what to do.
    pub fn because(error: &dyn std::error::Error, what_to_do: &str) -> Self {
        let mut message = Failure::from_error("", error).message;
        if !what_to_do.is_empty() {
            message.push_str("; ");
            message.push_str(what_to_do);
        }
        Self::new(Exit::Error, message)
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<backstitch::Error> for Failed {
    fn from(error: backstitch::Error) -> Self {
        use backstitch::Error;
        let exit = match &error {
            Error::InvalidInput { .. } | Error::Refused(_) => Exit::Usage,
            Error::KeyTaken { .. } | Error::NotFound(_) => Exit::Refused,
            _ => Exit::Error,
        };
        let what_to_do = match &error {
            Error::KeyTaken { .. } => "choose another key, or `backstitch show` the first",
            Error::NotFound(_) => "`backstitch list` shows those there are",
            error if error.is_transient() => "look whether Postgres is well, and try again",
            _ => "",
        };
        Self { exit, ..Self::because(&error, what_to_do) }
    }
}
