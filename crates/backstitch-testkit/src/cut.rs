//! A line to Postgres that can be cut in the middle of a word: a fault made for tests, and nothing else.
//!
//! It listens on a socket of its own and passes every byte on, until a cut that is armed meets its statement. Then the
//! connection ends on both sides: before Postgres has heard the statement, or after Postgres has carried it out and
//! before the worker has heard the answer. And it counts what passes.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// Which side never hears of the statement's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Postgres never hears the statement.
    BeforeStatement,
    /// Postgres has carried the statement out, the worker never hears so.
    BeforeAnswer,
}

/// Where to cut.
#[derive(Debug, Clone)]
struct Cut {
    moment: Moment,
    /// Part of the statement's text.
    statement: &'static str,
    /// How many of them pass before.
    pass: u32,
}

/// A line to one server. Ends with its drop.
#[derive(Debug)]
pub struct Line {
    directory: TempDir,
    armed: Arc<Armed>,
    listening: tokio::task::JoinHandle<()>,
}

#[derive(Debug, Default)]
struct Armed {
    cuts: Mutex<VecDeque<Cut>>,
    made: watch::Sender<u32>,
    /// How many statements of each text have begun.
    begun: Mutex<HashMap<String, u64>>,
}

impl Line {
    /// A line to the server whose socket is in `directory`.
    ///
    /// # Panics
    /// When no socket can be made.
    #[must_use]
    pub fn to(directory: &Path) -> Self {
        let server = directory.join(".s.PGSQL.5432");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let listener =
            UnixListener::bind(directory.path().join(".s.PGSQL.5432")).expect("a socket can be made");
        let armed = Arc::new(Armed::default());
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

    /// Cuts the next connection on which this statement comes; before that, `pass` such statements pass.
    pub fn cut(&self, moment: Moment, statement: &'static str, pass: u32) {
        *self.armed.lock() = VecDeque::from([Cut { moment, statement, pass }]);
    }

    /// After the cuts that are waiting, cuts the next connection on which this statement comes.
    pub fn then_cut(&self, moment: Moment, statement: &'static str) {
        self.armed.lock().push_back(Cut { moment, statement, pass: 0 });
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

    /// Whether this message is where to cut.
    fn meets(&self, message: &Message, prepared: &Prepared) -> Option<Moment> {
        let text = prepared.text_begun_by(message)?;
        *self.begun.lock().unwrap_or_else(PoisonError::into_inner).entry(text.clone()).or_default() += 1;
        let mut armed = self.lock();
        let cut = armed.front_mut()?;
        if !text.contains(cut.statement) {
            return None;
        }
        if cut.pass > 0 {
            cut.pass -= 1;
            return None;
        }
        let moment = cut.moment;
        armed.pop_front();
        self.made.send_modify(|made| *made += 1);
        Some(moment)
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
    let answer_is_lost = watch::Sender::new(false);
    let forward = async {
        let mut prepared = Prepared::default();
        loop {
            let message = next(&mut from_client).await?;
            prepared.note(&message);
            match armed.meets(&message, &prepared) {
                Some(Moment::BeforeStatement) => return Err::<(), _>(cut()),
                Some(Moment::BeforeAnswer) => {
                    answer_is_lost.send_replace(true);
                }
                None => {}
            }
            to_server.write_all(&message.bytes).await?;
        }
    };
    let back = async {
        loop {
            let message = next(&mut from_server).await?;
            if !*answer_is_lost.borrow() {
                to_client.write_all(&message.bytes).await?;
            } else if message.kind == b'Z' {
                // Ready for the next one: this one is carried out.
                return Err::<(), _>(cut());
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
