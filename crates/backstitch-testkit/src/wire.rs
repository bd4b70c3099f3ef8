//! A wire between a worker and Postgres that can fall silent, as networks do: nothing is refused, nothing arrives.

use std::path::PathBuf;

use backstitch::Database;
use backstitch_postgres::test::TestDatabase;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// The port by which a socket's file is named; nothing listens there.
const PORT: u16 = 5432;

/// What gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passage {
    Open,
    /// Everything until the worker says this, then no answers.
    OpenUntil(&'static str),
    /// Postgres hears the worker, the worker does not hear Postgres.
    AnswersHeld,
    Frozen,
}

/// A socket before the server of a database. What is held back arrives once it is thawed.
#[derive(Debug)]
pub struct Wire {
    options: PgConnectOptions,
    passage: watch::Sender<Passage>,
    accepting: JoinHandle<()>,
    _directory: tempfile::TempDir,
}

impl Wire {
    /// A wire to this database, open.
    ///
    /// # Panics
    /// When it can't listen, as everything here.
    #[must_use]
    pub fn to(database: &TestDatabase) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let options = database.server.connect_options(&database.name);
        let upstream = Upstream::of(&options);
        let socket = directory.path().join(format!(".s.PGSQL.{PORT}"));
        let listener = UnixListener::bind(socket).expect("a socket can be made");
        let passage = watch::Sender::new(Passage::Open);
        let accepting = tokio::spawn(accept(listener, upstream, passage.clone()));
        let options = options.socket(directory.path()).port(PORT);
        Self { options, passage, accepting, _directory: directory }
    }

    /// The database at its other end.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn connect(&self) -> Database {
        Database::connect_with(self.options.clone()).await.expect("the database at the wire's end answers")
    }

    /// Nothing passes any more, in either direction.
    pub fn freeze(&self) {
        self.passage.send_replace(Passage::Frozen);
    }

    /// From the moment that the worker sends this word (a step's name, in the intent of its attempt), Postgres hears the
    /// worker and the worker does not hear Postgres.
    pub fn hold_answers_after(&self, word: &'static str) {
        self.passage.send_replace(Passage::OpenUntil(word));
    }

    /// Everything passes, what was held back first.
    pub fn thaw(&self) {
        self.passage.send_replace(Passage::Open);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Where the server really is.
#[derive(Clone)]
enum Upstream {
    Socket(PathBuf),
    Host(String, u16),
}

impl Upstream {
    fn of(options: &PgConnectOptions) -> Self {
        let port = options.get_port();
        match options.get_socket() {
            Some(directory) => Self::Socket(directory.join(format!(".s.PGSQL.{port}"))),
            None => Self::Host(options.get_host().to_owned(), port),
        }
    }
}

async fn accept(listener: UnixListener, upstream: Upstream, passage: watch::Sender<Passage>) {
    while let Ok((worker, _)) = listener.accept().await {
        let (upstream, passage) = (upstream.clone(), passage.clone());
        tokio::spawn(async move {
            // A server that is down: the worker's connection ends at once, as it would without us.
            match upstream {
                Upstream::Socket(path) => {
                    if let Ok(server) = UnixStream::connect(path).await {
                        join(worker, server.into_split(), passage).await;
                    }
                }
                Upstream::Host(host, port) => {
                    if let Ok(server) = TcpStream::connect((host, port)).await {
                        join(worker, server.into_split(), passage).await;
                    }
                }
            }
        });
    }
}

async fn join(
    worker: UnixStream,
    (answers, questions): (impl AsyncRead + Unpin, impl AsyncWrite + Unpin),
    passage: watch::Sender<Passage>,
) {
    let (from_worker, to_worker) = worker.into_split();
    let hear = |said: &[u8]| {
        passage.send_if_modified(|passage| match *passage {
            Passage::OpenUntil(word) if said.windows(word.len()).any(|said| said == word.as_bytes()) => {
                *passage = Passage::AnswersHeld;
                true
            }
            _ => false,
        });
    };
    let hears = |passage| passage != Passage::Frozen;
    let answers_pass = |passage| matches!(passage, Passage::Open | Passage::OpenUntil(_));
    tokio::select! {
        () = pass_on(from_worker, questions, passage.subscribe(), hears, hear) => {}
        () = pass_on(answers, to_worker, passage.subscribe(), answers_pass, |_| {}) => {}
    }
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut passage: watch::Receiver<Passage>,
    passes: impl Fn(Passage) -> bool,
    hear: impl Fn(&[u8]),
) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        hear(&buffer[..read]);
        // An end is held back too: a silent wire does not say that somebody hung up.
        let passing = passage.wait_for(|passage| passes(*passage)).await.is_ok();
        if !passing || read == 0 || to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
