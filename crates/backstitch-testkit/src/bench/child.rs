//! How does a worker process of the benchmark's speak with its parent?
//!
//! The child says `ready`, waits for a line, starts its worker, says `working`, and then, whenever they have changed, how
//! many steps wait and how many workflows have run the last code they need. It shuts down when its input ends.

use std::io::Write;
use std::process::Stdio;
use std::time::Duration;

use backstitch::Database;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{mpsc, watch};

use super::Bench;
use super::error::Error;
use super::place::BenchDatabase;
use super::work::{Tally, worker};

/// How often a child tells what has changed.
const TELL: Duration = Duration::from_millis(2);

/// How long a child may take for a word.
const PATIENCE: Duration = Duration::from_secs(30);

/// A worker in a process of its own. Killed when it is dropped.
pub(super) struct WorkerProcess {
    child: Child,
    input: ChildStdin,
    counts: watch::Receiver<Counts>,
}

/// What a child has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// It is at work.
    pub(super) working: bool,
    /// Steps that wait.
    pub(super) waiting: u64,
    /// Workflows that have run the last code they need.
    pub(super) last_ones: u64,
}

impl WorkerProcess {
    /// A process that is ready to begin.
    pub(super) async fn spawn(
        bench: &Bench,
        database: &BenchDatabase,
        in_flight: usize,
    ) -> Result<Self, Error> {
        let starting = || Error::process("starting a worker process");
        let mut child = Command::new(&bench.program)
            .args(["bench", "worker", "--in-flight", &in_flight.to_string()])
            // Not as an argument: it may hold a password.
            .env("DATABASE_URL", &database.url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(starting())?;
        let gone = || std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let input = child.stdin.take().ok_or_else(gone).map_err(starting())?;
        let output = child.stdout.take().ok_or_else(gone).map_err(starting())?;
        let mut lines = BufReader::new(output).lines();
        let ready = tokio::time::timeout(PATIENCE, lines.next_line()).await;
        if !matches!(&ready, Ok(Ok(Some(word))) if word == "ready") {
            return Err(Error::Run(
                "a worker process does not get ready; its own words are above".to_owned(),
            ));
        }
        let (tell, counts) = watch::channel(Counts::default());
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                tell.send_modify(|counts| counts.hear(&line));
            }
        });
        Ok(Self { child, input, counts })
    }

    /// Lets it begin.
    pub(super) async fn go(&mut self) -> Result<(), Error> {
        let sent = self.input.write_all(b"go\n").await;
        sent.map_err(Error::process("speaking with a worker process"))
    }

    /// What it has counted, and a way to wait for more.
    pub(super) fn counts(&self) -> watch::Receiver<Counts> {
        self.counts.clone()
    }

    /// Waits until what it has counted is as wanted.
    pub(super) async fn until(&mut self, wanted: impl FnMut(&Counts) -> bool) -> Result<(), Error> {
        let heard = self.counts.wait_for(wanted).await;
        heard
            .map(|_| ())
            .map_err(|_| Error::Run("a worker process has gone; its own words are above".to_owned()))
    }

    /// Its process id. None: it is gone.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub(super) async fn kill(mut self) -> Result<(), Error> {
        self.child.kill().await.map_err(Error::process("killing a worker process"))
    }

    /// Tells it to stop, and waits until it is gone.
    pub(super) async fn shut_down(self) -> Result<(), Error> {
        let Self { mut child, input, .. } = self;
        drop(input);
        child.wait().await.map(|_| ()).map_err(Error::process("waiting for a worker process"))
    }
}

impl Counts {
    fn hear(&mut self, line: &str) {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        match (line, &numbers[..]) {
            ("working", _) => self.working = true,
            (_, [waiting, last_ones]) => (self.waiting, self.last_ones) = (*waiting, *last_ones),
            _ => {}
        }
    }
}

/// What the child does: the whole life of a worker process, until its standard input ends.
///
/// # Errors
/// When the database can't be reached or the parent is gone before the work begins.
pub async fn work_for_parent(database_url: &str, in_flight: usize) -> Result<(), Error> {
    let speaking = || Error::process("speaking with the parent");
    let database = Database::connect(database_url).await?;
    let tally = Tally::new();
    let worker = worker(database, tally.clone()).concurrency(in_flight);
    let mut parent = words_of_the_parent();
    say("ready").map_err(speaking())?;
    if parent.recv().await.is_none() {
        return Ok(());
    }
    let running = worker.start().await?;
    say("working").map_err(speaking())?;
    let told = tokio::spawn(async move {
        let mut before = (0, 0);
        loop {
            tokio::time::sleep(TELL).await;
            let now = (tally.waiting(), tally.last_ones());
            if now != before && say(&format!("{} {}", now.0, now.1)).is_err() {
                return;
            }
            before = now;
        }
    });
    while parent.recv().await.is_some() {}
    running.shut_down().await;
    told.abort();
    Ok(())
}

/// From a thread of its own, which may block on it for as long as the process lives.
fn words_of_the_parent() -> mpsc::UnboundedReceiver<String> {
    let (hear, words) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for word in std::io::stdin().lines().map_while(Result::ok) {
            if hear.send(word).is_err() {
                return;
            }
        }
    });
    words
}

fn say(line: &str) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_hears_what_a_child_says() {
        let mut counts = Counts::default();
        for line in ["working", "3 0", "some other word", "7 5"] {
            counts.hear(line);
        }
        assert_eq!(counts, Counts { working: true, waiting: 7, last_ones: 5 });
    }
}
