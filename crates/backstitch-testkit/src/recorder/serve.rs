//! The recorder's process: hears calls at a socket, writes each down for good, then answers.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot};

use super::target::{Lacking, Target, Verdict};
use super::{Answered, Asked, Call, LATE, Line, Misbehave, read_whole};

/// The longest that a call takes where nothing is wrong: as long as some, so that many are under way when their worker dies.
const WORK_MAX: Duration = Duration::from_millis(60);

/// Serves until its process ends.
///
/// # Errors
/// When the socket or the log can't be used.
pub async fn serve(socket: &Path, log: &Path, lacking: Lacking) -> std::io::Result<()> {
    // A line that a crash cut short must not become a part of what follows it.
    let (lines, whole) = read_whole(log)?;
    let file = File::options().create(true).append(true).open(log)?;
    file.set_len(whole)?;
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    let desk = Arc::new(Desk {
        state: Mutex::new(State { target: Target::after(lacking, &lines), aims: VecDeque::new() }),
        under_way: AtomicU64::new(0),
        write: writer(file),
    });
    loop {
        let (stream, _) = listener.accept().await?;
        let desk = Arc::clone(&desk);
        tokio::spawn(async move {
            // A caller that is gone needs no answer.
            let _ = desk.attend(stream).await;
        });
    }
}

struct Desk {
    state: Mutex<State>,
    under_way: AtomicU64,
    write: mpsc::UnboundedSender<(Line, oneshot::Sender<()>)>,
}

struct State {
    target: Target,
    aims: VecDeque<Aim>,
}

#[derive(Debug)]
struct Aim {
    aim: u64,
    misbehave: Misbehave,
    direction: String,
    /// The process whose calls it is not meant for.
    spares: Option<i32>,
}

impl Desk {
    async fn attend(self: Arc<Self>, stream: UnixStream) -> std::io::Result<()> {
        let (from, mut to) = stream.into_split();
        let mut asked = String::new();
        BufReader::new(from).read_line(&mut asked).await?;
        let answer = match serde_json::from_str(&asked)? {
            Asked::Call(call) => {
                self.under_way.fetch_add(1, Ordering::SeqCst);
                let answer = Arc::clone(&self).called(call).await;
                self.under_way.fetch_sub(1, Ordering::SeqCst);
                answer
            }
            Asked::Aim { aim, misbehave, direction, spares } => {
                self.lock().aims.push_back(Aim { aim, misbehave, direction, spares });
                Some(Answered::Aimed)
            }
            Asked::Look { workflow, position, key } => {
                let standing = self.lock().target.standing(workflow, position, &key);
                Some(standing.map_or(Answered::Gone, Answered::Stands))
            }
            // This one is none.
            Asked::UnderWay => Some(Answered::Count(self.under_way.load(Ordering::SeqCst))),
            Asked::Waits { aim } => {
                let waits = self.lock().aims.iter().any(|waiting| waiting.aim == aim);
                Some(if waits { Answered::Aimed } else { Answered::NotAimed })
            }
            Asked::Forget { aim } => {
                self.lock().aims.retain(|waiting| waiting.aim != aim);
                Some(Answered::NotAimed)
            }
        };
        let Some(answer) = answer else { return Ok(()) };
        let mut said = serde_json::to_vec(&answer)?;
        said.push(b'\n');
        to.write_all(&said).await
    }

    /// None: the connection ends without an answer.
    async fn called(self: Arc<Self>, call: Call) -> Option<Answered> {
        let met = {
            let mut state = self.lock();
            let is_meant = |aim: &Aim| aim.direction == call.direction && aim.spares != Some(call.pid);
            let met = state.aims.iter().position(is_meant);
            met.and_then(|index| state.aims.remove(index))
        };
        let aim = met.as_ref().map(|met| met.aim);
        tokio::time::sleep(work_of(&call)).await;
        match met.map(|met| met.misbehave) {
            None => Some(self.carried_out(&call, aim).await),
            Some(Misbehave::LoseCall) => {
                self.note(&call, Verdict::Nothing, aim).await;
                None
            }
            Some(Misbehave::LoseAnswer) => {
                self.carried_out(&call, aim).await;
                None
            }
            Some(Misbehave::Hold) => {
                tokio::time::sleep(LATE).await;
                Some(self.carried_out(&call, aim).await)
            }
            Some(Misbehave::BeLate) => {
                self.carry_out_late(call, aim);
                None
            }
            Some(Misbehave::OutliveCaller) => {
                let aim = aim.filter(|_| kill(call.pid));
                self.carry_out_late(call, aim);
                None
            }
            Some(Misbehave::Twice) => {
                let first = self.carried_out(&call, aim).await;
                self.carried_out(&call, aim).await;
                Some(first)
            }
            Some(Misbehave::Fail) => {
                self.note(&call, Verdict::Nothing, aim).await;
                Some(Answered::Failed)
            }
            Some(Misbehave::FailAfter) => {
                self.carried_out(&call, aim).await;
                Some(Answered::Failed)
            }
            Some(Misbehave::Reject) => {
                self.note(&call, Verdict::Nothing, aim).await;
                Some(Answered::Rejected)
            }
            Some(Misbehave::KillCallerBefore) => {
                let aim = aim.filter(|_| kill(call.pid));
                self.note(&call, Verdict::Nothing, aim).await;
                None
            }
            Some(Misbehave::KillCallerAfter) => {
                self.carried_out(&call, None).await;
                // Another fault may have been faster: then this one did not come about.
                if kill(call.pid) {
                    self.note(&call, Verdict::Nothing, aim).await;
                }
                None
            }
        }
    }

    /// Whoever has given up by then.
    fn carry_out_late(self: Arc<Self>, call: Call, aim: Option<u64>) {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            tokio::time::sleep(LATE).await;
            self.carried_out(&call, aim).await;
            self.under_way.fetch_sub(1, Ordering::SeqCst);
        });
    }

    async fn carried_out(&self, call: &Call, aim: Option<u64>) -> Answered {
        let (verdict, written) = {
            let mut state = self.lock();
            if state.target.swallows(call) {
                return Answered::Done;
            }
            let verdict = state.target.hear(call);
            // Under the lock: the log has the order in which the target decided.
            (verdict, self.send(call, verdict, aim))
        };
        wait(written).await;
        verdict.answer()
    }

    async fn note(&self, call: &Call, verdict: Verdict, aim: Option<u64>) {
        wait(self.send(call, verdict, aim)).await;
    }

    fn send(&self, call: &Call, verdict: Verdict, aim: Option<u64>) -> oneshot::Receiver<()> {
        let (written, done) = oneshot::channel();
        let _ = self.write.send((Line { call: call.clone(), verdict, aim }, written));
        done
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never answers what was not written: then the process is broken, and its callers may wait.
async fn wait(written: oneshot::Receiver<()>) {
    if written.await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// As long as the workflow's id and the step say: different for its neighbours.
fn work_of(call: &Call) -> Duration {
    let (_, low) = call.workflow.as_u64_pair();
    let share = (low >> (8 * (call.position % 7))) % 256;
    WORK_MAX * u32::try_from(share).expect("below 256") / 256
}

/// Writes lines in the order they come, and flushes as many at once as have come meanwhile.
fn writer(mut file: File) -> mpsc::UnboundedSender<(Line, oneshot::Sender<()>)> {
    let (write, mut lines) = mpsc::unbounded_channel::<(Line, oneshot::Sender<()>)>();
    std::thread::spawn(move || {
        while let Some(first) = lines.blocking_recv() {
            let mut batch = vec![first];
            while let Ok(next) = lines.try_recv() {
                batch.push(next);
            }
            let mut text = Vec::new();
            for (line, _) in &batch {
                serde_json::to_writer(&mut text, line).expect("a line is JSON");
                text.push(b'\n');
            }
            if let Err(error) = file.write_all(&text).and_then(|()| file.sync_data()) {
                eprintln!("the recorder can't write its log: {error}");
                std::process::abort();
            }
            for (_, written) in batch {
                let _ = written.send(());
            }
        }
    });
    write
}

/// False: somebody else has killed it.
fn kill(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
}
