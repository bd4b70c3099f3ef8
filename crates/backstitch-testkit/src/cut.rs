//! A line to Postgres that can be cut in the middle of a word: a fault made for tests, and nothing else.
//!
//! It listens on a socket of its own and passes every byte on, until a cut that is armed meets its statement. Then the
//! connection ends on both sides: before Postgres has heard the statement, or after Postgres has carried it out and
//! before the worker has heard the answer. Instead of being cut it can be [held](Line::hold) there, while its worker is
//! killed, or for a while. A whole line can be frozen, shut in one direction, or made to let no answer through. And it counts what passes, and what
//! Postgres says no to.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, oneshot, watch};

/// How the socket of a server is called that listens where all do.
const SOCKET: &str = ".s.PGSQL.5432";

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

/// A statement that waits in the line. Dropped, it is cut.
#[derive(Debug)]
pub struct Held(oneshot::Sender<()>);

impl Held {
    /// Lets it pass, as if nothing had been.
    pub fn pass(self) {
        // Its connection may have ended meanwhile.
        let _ = self.0.send(());
    }
}

/// What gets through a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passage {
    /// Everything.
    Open,
    /// Postgres hears the worker, the worker does not hear Postgres.
    AnswersHeld,
    /// Nothing.
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
    /// A line to the server whose socket is in `directory`.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn to(directory: &Path) -> Self {
        Self::to_socket(directory.join(SOCKET))
    }

    /// A line to whatever speaks Postgres' protocol at this socket, such as a pooler.
    ///
    /// # Panics
    /// As [`to`](Self::to).
    #[must_use]
    pub fn to_socket(server: PathBuf) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener = UnixListener::bind(directory.path().join(SOCKET)).expect("a socket can be made");
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
                    tokio::spawn(async move {
                        if let Ok(server) = UnixStream::connect(server).await {
                            // However it ends, both sides are closed.
                            let _ = pass_on(client, server, &armed).await;
                        }
                    });
                }
            })
        };
        Self { directory, armed, listening }
    }

    /// These options, over this line.
    #[must_use]
    pub fn options(&self, options: sqlx::postgres::PgConnectOptions) -> sqlx::postgres::PgConnectOptions {
        options.socket(self.directory.path())
    }

    /// Where the socket is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
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
    async fn shuts(&self, passage: Passage, half: &mut OwnedWriteHalf) -> std::io::Result<()> {
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

    /// Whether it passes after all.
    async fn let_go(self) -> bool {
        let Some(held_by) = self.held_by else { return false };
        let (go, gone) = oneshot::channel();
        // Whoever was to decide has given up meanwhile: then nothing happens to it.
        held_by.send(Held(go)).is_err() || gone.await.is_ok()
    }
}

/// One message of the protocol, as it came.
struct Message {
    kind: u8,
    bytes: Vec<u8>,
}

/// The texts of a connection's prepared statements.
#[derive(Default)]
struct Prepared(HashMap<Vec<u8>, String>);

impl Prepared {
    /// Takes note of a Parse: statement name, text.
    fn note(&mut self, message: &Message) {
        if message.kind == b'P' {
            let mut words = message.body().split(|byte| *byte == 0);
            let (name, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            self.0.insert(name.to_vec(), String::from_utf8_lossy(text).into_owned());
        }
    }

    /// The statement that this message lets begin: a simple query, or a Bind of portal and statement.
    fn text_begun_by(&self, message: &Message) -> Option<String> {
        let mut words = message.body().split(|byte| *byte == 0);
        match message.kind {
            b'Q' => words.next().map(|text| String::from_utf8_lossy(text).into_owned()),
            b'B' => words.nth(1).and_then(|name| self.0.get(name).cloned()),
            _ => None,
        }
    }
}

impl Message {
    fn body(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }

    /// An error is a list of fields, each a letter and a text that ends with a zero; the code's is C.
    fn error_code(&self) -> Option<String> {
        let fields = (self.kind == b'E').then(|| self.body().split(|byte| *byte == 0))?;
        let code = fields.filter_map(|field| field.strip_prefix(b"C")).next()?;
        Some(String::from_utf8_lossy(code).into_owned())
    }

    /// Whether a field of a composite in it is this text: in the binary format its type and length stand before it.
    fn carries(&self, field: &str) -> bool {
        const TEXT: u32 = 25;
        let length = u32::try_from(field.len()).expect("a short word");
        let wanted = [&TEXT.to_be_bytes()[..], &length.to_be_bytes(), field.as_bytes()].concat();
        self.body().windows(wanted.len()).any(|bytes| bytes == wanted)
    }
}

async fn pass_on(client: UnixStream, server: UnixStream, armed: &Armed) -> std::io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    // The first message has no kind: its length, then the rest.
    let mut length = [0; 4];
    from_client.read_exact(&mut length).await?;
    let mut startup = vec![0; rest_of(length)?];
    from_client.read_exact(&mut startup).await?;
    to_server.write_all(&length).await?;
    to_server.write_all(&startup).await?;
    let (cut_answer, mut answers_cut) = mpsc::unbounded_channel::<Cut>();
    let forward = async {
        let mut prepared = Prepared::default();
        loop {
            let message = tokio::select! {
                message = next(&mut from_client) => message?,
                // What the worker was about to say is lost with the rest.
                shut = armed.shuts(Passage::WorkerShut, &mut to_server) => return shut,
            };
            armed.passes(|passage| passage != Passage::Frozen).await;
            prepared.note(&message);
            if let Some(met) = armed.meets(&message, &prepared) {
                if met.moment == Moment::BeforeAnswer {
                    // Noted before Postgres hears it: its answer can't come first.
                    let _ = cut_answer.send(met);
                } else if !met.let_go().await {
                    return Err::<(), _>(cut());
                }
            }
            to_server.write_all(&message.bytes).await?;
        }
    };
    let back = async {
        let mut waiting: Option<(Cut, Vec<u8>)> = None;
        loop {
            let message = tokio::select! {
                message = next(&mut from_server) => message?,
                shut = armed.shuts(Passage::PostgresShut, &mut to_client) => {
                    shut?;
                    // Read, or Postgres would wait with what it still hears.
                    loop {
                        next(&mut from_server).await?;
                    }
                }
            };
            armed.note_refusal(&message);
            armed.passes(|passage| !matches!(passage, Passage::AnswersHeld | Passage::Frozen)).await;
            if waiting.is_none() {
                waiting = answers_cut.try_recv().ok().map(|met| (met, Vec::new()));
            }
            let Some((_, answer)) = &mut waiting else {
                to_client.write_all(&message.bytes).await?;
                continue;
            };
            answer.extend_from_slice(&message.bytes);
            // Ready for the next one: this one is carried out.
            if message.kind == b'Z'
                && let Some((met, answer)) = waiting.take()
            {
                if !met.let_go().await {
                    return Err::<(), _>(cut());
                }
                to_client.write_all(&answer).await?;
            }
        }
    };
    tokio::try_join!(forward, back).map(|_| ())
}

fn cut() -> std::io::Error {
    std::io::ErrorKind::ConnectionReset.into()
}

async fn next(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Message> {
    let kind = from.read_u8().await?;
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = vec![kind];
    bytes.extend(length);
    bytes.resize(5 + rest_of(length)?, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok(Message { kind, bytes })
}

fn rest_of(length: [u8; 4]) -> std::io::Result<usize> {
    usize::try_from(i32::from_be_bytes(length) - 4).map_err(|_| std::io::ErrorKind::InvalidData.into())
}
