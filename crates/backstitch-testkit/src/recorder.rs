//! What really happened, told by a process that no fault of the engine reaches.
//!
//! The recorder is a target as the design wants them, in a process of its own: every call is a line in its log, flushed to
//! the disk before it is answered. It takes the same key once, a compensation leaves a tombstone that refuses a run
//! arriving later, and of two callers it hears the one with the later epoch. It can be told to behave badly once (see
//! [`Misbehave`]), as the world does; or to lack one of its virtues ([`Lacking`]), to see that the checker notices.
//!
//! - `target` decides, as a function of what it was told before.
//! - `serve` is the process.

mod serve;
mod target;

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstitch::{Attempt, Direction, IdempotencyKey};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use uuid::Uuid;

pub use serve::serve;
pub use target::{Lacking, Verdict};

/// How often a caller knocks where nobody opens: the recorder is killed too, and comes back.
const KNOCK: Duration = Duration::from_millis(10);

/// One call: an attempt's effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// Of which workflow.
    pub workflow: Uuid,
    /// Of which step.
    pub position: u32,
    /// `run` or `compensate`.
    pub direction: String,
    /// The idempotency key.
    pub key: String,
    /// Which attempt.
    pub attempt: u32,
    /// Under which claim.
    pub epoch: i32,
    /// The process that calls.
    pub pid: i32,
}

impl Call {
    fn of(attempt: &Attempt) -> Self {
        let key = attempt.key();
        Self {
            workflow: key.workflow.0,
            position: key.position.0,
            direction: direction(key.direction).to_owned(),
            key: key.to_string(),
            attempt: attempt.number(),
            epoch: attempt.epoch().0,
            pid: i32::try_from(std::process::id()).expect("process ids fit"),
        }
    }
}

pub(crate) fn direction(direction: Direction) -> &'static str {
    match direction {
        Direction::Run => "run",
        Direction::Compensate => "compensate",
    }
}

/// How the target misbehaves, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Misbehave {
    /// It never hears the call.
    LoseCall,
    /// It does what it is asked, and the answer is lost.
    LoseAnswer,
    /// The call is under way until its caller has long given up, then it is done and answered.
    Hold,
    /// The caller hears that the connection broke; the call is done later.
    BeLate,
    /// The network delivers the call twice.
    Twice,
    /// It says that it can't, now.
    Fail,
    /// It does what it is asked, and says that it can't, now.
    FailAfter,
    /// It says that it never will, and has not.
    Reject,
    /// The caller is killed (SIGKILL) when its call arrives; nothing is done.
    KillCallerBefore,
    /// It does what it is asked, and the caller is killed (SIGKILL) before it hears so.
    KillCallerAfter,
    /// The caller is killed (SIGKILL) while its call is under way, which is done later all the same.
    OutliveCaller,
}

/// How long a call is under way where it is held or late: longer than an attempt of a script may take.
pub const LATE: Duration = Duration::from_millis(1200);

/// What is said to the recorder, a line each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Asked {
    Call(Call),
    /// The next call in this direction meets this.
    Aim {
        aim: u64,
        misbehave: Misbehave,
        direction: String,
        spares: Option<i32>,
    },
    /// Which attempt of a step's run stands.
    Look {
        workflow: Uuid,
        position: u32,
        key: String,
    },
    /// How many calls are under way, those included whose callers are gone.
    UnderWay,
    /// Whether an aim still waits.
    Waits {
        aim: u64,
    },
    /// Takes back an aim that nothing has met.
    Forget {
        aim: u64,
    },
}

/// What it answers, a line each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answered {
    /// It is done, by this call or an earlier one.
    Done,
    /// This step was compensated already.
    Tombstone,
    /// Somebody with a later epoch has called.
    StaleEpoch,
    /// Not now.
    Failed,
    /// Never; nothing happened.
    Rejected,
    /// The effect of this attempt stands.
    Stands(u32),
    /// None does.
    Gone,
    /// It will misbehave.
    Aimed,
    /// It does not wait for that: something has met it, or it was forgotten.
    NotAimed,
    /// So many.
    Count(u64),
}

/// A line of the log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// What was asked.
    pub call: Call,
    /// What it came to.
    pub verdict: Verdict,
    /// By which aim it was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aim: Option<u64>,
}

/// The lines of a log, the first one first. What a crash left half written at the end was never answered, and is not one.
///
/// # Errors
/// When the file can't be read, or a whole line of it is none.
pub fn read_log(log: &Path) -> std::io::Result<Vec<Line>> {
    read_whole(log).map(|(lines, _)| lines)
}

/// The same, and how many bytes they are: what follows these was never answered.
fn read_whole(log: &Path) -> std::io::Result<(Vec<Line>, u64)> {
    let text = match std::fs::read_to_string(log) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
    let lines = whole.lines().map(|line| serde_json::from_str(line).map_err(std::io::Error::from));
    Ok((lines.collect::<Result<_, _>>()?, whole.len() as u64))
}

/// The way to a recorder.
#[derive(Debug, Clone)]
pub struct Recorder {
    socket: PathBuf,
}

impl Recorder {
    /// The recorder that listens at this socket.
    #[must_use]
    pub fn at(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Makes the effect of this attempt.
    ///
    /// # Errors
    /// When the connection breaks: nobody knows whether it happened.
    pub async fn call(&self, attempt: &Attempt) -> std::io::Result<Answered> {
        self.ask(&Asked::Call(Call::of(attempt))).await
    }

    /// Which attempt of this step's run stands there, without touching it.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn look(&self, run: IdempotencyKey) -> std::io::Result<Option<u32>> {
        let (workflow, position) = (run.workflow.0, run.position.0);
        match self.ask(&Asked::Look { workflow, position, key: run.to_string() }).await? {
            Answered::Stands(attempt) => Ok(Some(attempt)),
            Answered::Gone => Ok(None),
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }

    /// The next call in this direction meets this, unless it is of the process that is spared. `aim`: by which number the log
    /// says so.
    ///
    /// # Errors
    /// When the recorder is gone.
    pub async fn aim(
        &self,
        aim: u64,
        misbehave: Misbehave,
        at: Direction,
        spares: Option<i32>,
    ) -> std::io::Result<()> {
        let direction = direction(at).to_owned();
        self.ask(&Asked::Aim { aim, misbehave, direction, spares }).await.map(|_| ())
    }

    /// How many calls are under way, those included whose callers have long given up.
    ///
    /// # Errors
    /// When the recorder is gone.
    pub async fn under_way(&self) -> std::io::Result<u64> {
        match self.ask(&Asked::UnderWay).await? {
            Answered::Count(count) => Ok(count),
            _ => Err(std::io::ErrorKind::InvalidData.into()),
        }
    }

    /// Whether this aim still waits for its call. The log says what was met: a recorder that was killed has forgotten it.
    ///
    /// # Errors
    /// When the recorder is gone.
    pub async fn waits(&self, aim: u64) -> std::io::Result<bool> {
        Ok(self.ask(&Asked::Waits { aim }).await? == Answered::Aimed)
    }

    /// Takes back an aim, if it still waits.
    ///
    /// # Errors
    /// When the recorder is gone.
    pub async fn forget(&self, aim: u64) -> std::io::Result<()> {
        self.ask(&Asked::Forget { aim }).await.map(|_| ())
    }

    async fn ask(&self, asked: &Asked) -> std::io::Result<Answered> {
        let mut stream = loop {
            // Nothing was said yet: to knock again can't make it happen twice. The attempt's own time ends it.
            match UnixStream::connect(&self.socket).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(KNOCK).await,
            }
        };
        let mut said = serde_json::to_vec(asked)?;
        said.push(b'\n');
        stream.write_all(&said).await?;
        let mut answer = String::new();
        if BufReader::new(stream).read_line(&mut answer).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(serde_json::from_str(&answer)?)
    }
}
