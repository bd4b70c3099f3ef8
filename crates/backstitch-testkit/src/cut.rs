//! A line to Postgres that can be cut in the middle of a word: a fault made for tests, and nothing else.
//!
//! It listens on a socket of its own and passes every byte on, until a cut that is armed meets its statement. Then the
//! connection ends on both sides: before Postgres has heard the statement, or after Postgres has carried it out and
//! before the worker has heard the answer. Instead of being cut it can be [held](Line::hold) there, while its worker is
//! killed, or for a while. A whole line can fall silent, as networks do: nothing is refused, nothing arrives, not even that
//! somebody hung up. Or it can be shut in one direction, or let no answer through. And it counts what passes, and what Postgres
//! says no to. Behind it is a server at a socket or over TCP; it speaks in the clear, as it has to understand what is said.

mod message;

use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

use self::message::{Message, Prepared, next, startup};

/// The port by which a line's socket is named; nothing listens there.
const PORT: u16 = 5432;

/// Which side never hears of the statement's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Postgres never hears the statement.
    BeforeStatement,
    /// Postgres has carried the statement out, the worker never hears so.
    BeforeAnswer,
}

/// Which statement is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// Each of them part of a text: one that has any of them is meant.
    pub texts: Vec<&'static str>,
    /// A text that is one whole field of the records it carries, as `unwinding`. None: whatever it carries.
    pub carries: Option<&'static str>,
}

/// Where to cut, or to hold.
#[derive(Debug)]
struct Cut {
    moment: Moment,
    statement: Statement,
    /// How many of them pass before.
    pass: u32,
    /// Who decides what becomes of it. None: it is cut.
    held_by: Option<oneshot::Sender<Held>>,
}

/// A statement, or its answer, that waits in the line. Dropped, it is cut.
#[derive(Debug)]
pub struct Held(oneshot::Sender<Onwards>);

/// How far a statement may go that was held.
#[derive(Debug)]
enum Onwards {
    /// All the way.
    Through,
    /// Until Postgres has answered: there it is held again.
    ToItsAnswer(oneshot::Sender<Held>),
}

impl Held {
    /// Lets it pass, as if nothing had been.
    pub fn pass(self) {
        // Its connection may have ended meanwhile.
        let _ = self.0.send(Onwards::Through);
    }

    /// Lets Postgres carry the statement out, and holds its answer. An answer that was held itself passes.
    #[must_use]
    pub fn pass_to_its_answer(self) -> oneshot::Receiver<Held> {
        let (held_by, held) = oneshot::channel();
        let _ = self.0.send(Onwards::ToItsAnswer(held_by));
        held
    }
}

/// What gets through a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Everything.
    Open,
    /// Postgres hears the worker, the worker does not hear Postgres.
    AnswersHeld,
    /// Nothing, and nobody hears that the other side has hung up.
    Frozen,
    /// The half in which the worker speaks is shut: Postgres hears that it says nothing more, and can still answer what it was
    /// asked.
    WorkerShut,
    /// The half in which Postgres speaks is shut: the worker hears that it answers nothing more, and is still heard.
    PostgresShut,
}

/// A line to one server. Ends with its drop.
#[derive(Debug)]
pub struct Line {
    directory: TempDir,
    armed: Arc<Armed>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Debug)]
struct Armed {
    cuts: Mutex<VecDeque<Cut>>,
    holds: Mutex<Vec<Cut>>,
    made: watch::Sender<u32>,
    passage: watch::Sender<Passage>,
    /// How many statements of each text have begun.
    begun: Mutex<HashMap<String, u64>>,
    /// How many errors of each code (SQLSTATE) came back.
    refused: Mutex<HashMap<String, u64>>,
    /// How many connections were shut in one direction.
    half_shut: AtomicU64,
}

impl Line {
    /// A line to the server that these options lead to.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn to(server: &PgConnectOptions) -> Self {
        Self::to_upstream(Upstream::of(server))
    }

    /// A line to whatever speaks Postgres' protocol at this socket, such as a pooler.
    ///
    /// # Panics
    /// As [`to`](Self::to).
    #[must_use]
    pub fn to_socket(server: PathBuf) -> Self {
        Self::to_upstream(Upstream::Socket(server))
    }

    fn to_upstream(server: Upstream) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let socket = socket_in(directory.path(), PORT);
        let listener = UnixListener::bind(socket).expect("a socket can be made");
        let armed = Arc::new(Armed {
            cuts: Mutex::default(),
            holds: Mutex::default(),
            made: watch::Sender::new(0),
            passage: watch::Sender::new(Passage::Open),
            begun: Mutex::default(),
            refused: Mutex::default(),
            half_shut: AtomicU64::new(0),
        });
        let listening = {
            let armed = Arc::clone(&armed);
            tokio::spawn(async move {
                while let Ok((client, _)) = listener.accept().await {
                    let (server, armed) = (server.clone(), Arc::clone(&armed));
                    // However it ends, both sides are closed.
                    tokio::spawn(async move { server.join(client, &armed).await });
                }
            })
        };
        Self { directory, armed, listening }
    }

    /// These options, over this line.
    #[must_use]
    pub fn options(&self, options: PgConnectOptions) -> PgConnectOptions {
        options.socket(self.directory.path()).port(PORT).ssl_mode(PgSslMode::Disable)
    }

    /// This URL, over this line: of what it says twice the last counts.
    #[must_use]
    pub fn url(&self, url: &str) -> String {
        let and = if url.contains('?') { '&' } else { '?' };
        format!("{url}{and}host={}&port={PORT}&sslmode=disable", self.directory.path().display())
    }

    /// Cuts the next connection on which this statement comes; before that, `pass` such statements pass.
    pub fn cut(&self, moment: Moment, text: &'static str, pass: u32) {
        *self.armed.lock() = VecDeque::from([Cut::at(moment, text, pass)]);
    }

    /// After the cuts that are waiting, cuts the next connection on which this statement comes.
    pub fn then_cut(&self, moment: Moment, text: &'static str) {
        self.armed.lock().push_back(Cut::at(moment, text, 0));
    }

    /// Holds the next such statement, or its answer, in the line, whatever else waits there. One that nobody listens for any
    /// more is not held. Before that, `pass` such statements pass.
    pub fn hold(&self, moment: Moment, statement: Statement, pass: u32) -> oneshot::Receiver<Held> {
        let (held_by, held) = oneshot::channel();
        let mut holds = self.armed.holds.lock().unwrap_or_else(PoisonError::into_inner);
        holds.push(Cut { moment, statement, pass, held_by: Some(held_by) });
        held
    }

    /// From now on only this gets through, on every connection. What is held back is late, not lost; a half that is shut stays
    /// shut until its connection ends.
    pub fn let_through(&self, passage: Passage) {
        self.armed.passage.send_replace(passage);
    }

    /// Whether a cut is still waiting for its statement; it does not wait any longer.
    #[must_use]
    pub fn disarm(&self) -> bool {
        !std::mem::take(&mut *self.armed.lock()).is_empty()
    }

    /// How many statements with this in their text have begun.
    #[must_use]
    pub fn begun(&self, statement: &str) -> u64 {
        let begun = self.armed.begun.lock().unwrap_or_else(PoisonError::into_inner);
        begun.iter().filter(|(text, _)| text.contains(statement)).map(|(_, times)| times).sum()
    }

    /// How many times Postgres has said no with this code (SQLSTATE), such as `53100`: its disk is full.
    #[must_use]
    pub fn refused(&self, code: &str) -> u64 {
        let refused = self.armed.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.get(code).copied().unwrap_or(0)
    }

    /// How many connections were shut in one direction.
    #[must_use]
    pub fn half_shut(&self) -> u64 {
        self.armed.half_shut.load(Ordering::Relaxed)
    }

    /// How many cuts were made.
    #[must_use]
    pub fn cuts(&self) -> u32 {
        *self.armed.made.borrow()
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Armed {
    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Cut>> {
        self.cuts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The cut that this message meets.
    fn meets(&self, message: &Message, prepared: &Prepared) -> Option<Cut> {
        let text = prepared.text_begun_by(message)?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner).entry(text.clone()).or_default() += 1;
        let is_meant = |cut: &Cut| {
            cut.statement.texts.iter().any(|part| text.contains(part))
                && cut.statement.carries.is_none_or(|field| message.carries(field))
        };
        // Its turn has come, once as many as were to pass have passed.
        let counts_down = |cut: &mut Cut| {
            let is_next = cut.pass == 0;
            cut.pass = cut.pass.saturating_sub(1);
            is_next
        };
        let held = {
            let mut holds = self.holds.lock().unwrap_or_else(PoisonError::into_inner);
            holds.retain(Cut::is_waited_for);
            let mut met = None;
            for (index, hold) in holds.iter_mut().enumerate().filter(|(_, hold)| is_meant(hold)) {
                if counts_down(hold) && met.is_none() {
                    met = Some(index);
                }
            }
            met.map(|index| holds.remove(index))
        };
        let met = held.or_else(|| {
            let mut armed = self.lock();
            let is_next = armed.front_mut().filter(|cut| is_meant(cut)).is_some_and(counts_down);
            if is_next { armed.pop_front() } else { None }
        });
        self.made.send_modify(|made| *made += u32::from(met.is_some()));
        met
    }

    /// Takes note of an error that comes back.
    fn note_refusal(&self, message: &Message) {
        if let Some(code) = message.error_code() {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            *refused.entry(code).or_default() += 1;
        }
    }

    /// Shuts the half that is written to, once that is what gets through.
    async fn shuts(&self, passage: Passage, half: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
        self.passes(|now| now == passage).await;
        self.half_shut.fetch_add(1, Ordering::Relaxed);
        half.shutdown().await
    }

    async fn passes(&self, wanted: impl Fn(Passage) -> bool) {
        // The sender lives as long as this does.
        let _ = self.passage.subscribe().wait_for(|passage| wanted(*passage)).await;
    }
}

impl Cut {
    fn at(moment: Moment, text: &'static str, pass: u32) -> Self {
        Self { moment, statement: Statement { texts: vec![text], carries: None }, pass, held_by: None }
    }

    fn is_waited_for(&self) -> bool {
        self.held_by.as_ref().is_none_or(|held_by| !held_by.is_closed())
    }
}

/// How far that goes which this one holds, or nobody. None: it is cut.
async fn let_go(held_by: Option<oneshot::Sender<Held>>) -> Option<Onwards> {
    let (go, gone) = oneshot::channel();
    match held_by?.send(Held(go)) {
        Ok(()) => gone.await.ok(),
        // Whoever was to decide has given up meanwhile: then nothing happens to it.
        Err(_) => Some(Onwards::Through),
    }
}

/// Where the server really is.
#[derive(Debug, Clone)]
enum Upstream {
    Socket(PathBuf),
    Host(String, u16),
}

impl Upstream {
    fn of(options: &PgConnectOptions) -> Self {
        let (host, port) = (options.get_host(), options.get_port());
        match options.get_socket() {
            Some(directory) => Self::Socket(socket_in(directory, port)),
            // Who names no host gets the socket that is where they usually are.
            None if host.starts_with('/') => Self::Socket(socket_in(Path::new(host), port)),
            None => Self::Host(host.to_owned(), port),
        }
    }

    async fn join(self, client: UnixStream, armed: &Armed) -> std::io::Result<()> {
        armed.passes(|passage| passage != Passage::Frozen).await;
        // A server that is down: the worker's connection ends at once, as it would without us.
        match self {
            Self::Socket(socket) => {
                pass_on(client, UnixStream::connect(socket).await?.into_split(), armed).await
            }
            Self::Host(host, port) => {
                let server = TcpStream::connect((host, port)).await?;
                // Each message is passed on by itself, and waited for.
                server.set_nodelay(true)?;
                pass_on(client, server.into_split(), armed).await
            }
        }
    }
}

fn socket_in(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

async fn pass_on(
    client: UnixStream,
    (mut from_server, mut to_server): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    armed: &Armed,
) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    to_server.write_all(&startup(&mut from_client).await?).await?;
    let (cut_answer, mut answers_cut) = mpsc::unbounded_channel::<Option<oneshot::Sender<Held>>>();
    let forward = async {
        let mut prepared = Prepared::default();
        loop {
            let message = tokio::select! {
                message = next(&mut from_client) => message,
                // What the worker was about to say is lost with the rest.
                shut = armed.shuts(Passage::WorkerShut, &mut to_server) => return shut,
            };
            armed.passes(|passage| passage != Passage::Frozen).await;
            let message = message?;
            prepared.note(&message);
            if let Some(met) = armed.meets(&message, &prepared) {
                if met.moment == Moment::BeforeAnswer {
                    // Noted before Postgres hears it: its answer can't come first.
                    let _ = cut_answer.send(met.held_by);
                } else {
                    match let_go(met.held_by).await.ok_or_else(cut)? {
                        Onwards::Through => {}
                        Onwards::ToItsAnswer(held_by) => {
                            let _ = cut_answer.send(Some(held_by));
                        }
                    }
                }
            }
            to_server.write_all(&message.bytes).await?;
        }
    };
    let back = async {
        let mut waiting = None;
        loop {
            let message = tokio::select! {
                message = next(&mut from_server) => message,
                shut = armed.shuts(Passage::PostgresShut, &mut to_client) => {
                    shut?;
                    // Read, or Postgres would wait with what it still hears.
                    loop {
                        next(&mut from_server).await?;
                    }
                }
            };
            if let Ok(message) = &message {
                armed.note_refusal(message);
            }
            armed.passes(|passage| !matches!(passage, Passage::AnswersHeld | Passage::Frozen)).await;
            let message = message?;
            if waiting.is_none() {
                waiting = answers_cut.try_recv().ok().map(|held_by| (held_by, Vec::new()));
            }
            let Some((_, answer)) = &mut waiting else {
                to_client.write_all(&message.bytes).await?;
                continue;
            };
            answer.extend_from_slice(&message.bytes);
            // Ready for the next one: this one is carried out.
            if message.kind == b'Z'
                && let Some((held_by, answer)) = waiting.take()
            {
                if let_go(held_by).await.is_none() {
                    return Err::<(), _>(cut());
                }
                to_client.write_all(&answer).await?;
            }
        }
    };
    tokio::try_join!(forward, back).map(|((), ())| ())
}

fn cut() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}
