//! What holds: flag over environment over file over default?

use std::path::{Path, PathBuf};
use std::time::Duration;

use backstitch::Keyring;
use backstitch_gateway::EdgeConfig;
use backstitch_postgres::Cluster;
use backstitch_server::{Access, BearerToken, NoOrigin, Origin, Place, Tls};
use reqwest::Url;

use crate::arguments::{DaemonArguments, EdgeArguments, Everywhere, LogFormat, WorkerArguments};
use crate::config::{self, Config, Whence};
use crate::edge;
use crate::exit::{Exit, Failed};
use crate::time::parse_span;
use crate::whose;

/// Where the daemon answers unless said.
const LISTEN: &str = "127.0.0.1:7410";

/// How long a caller is kept waiting unless said: longer than any start takes that is not in trouble.
const ANSWER_WITHIN_SECONDS: u64 = 120;

/// The least time for which the daemon keeps what has ended: whoever waits for a workflow must still find it, through an
/// outage too.
const KEEP_FINISHED_MIN: Duration = Duration::from_secs(3_600);

/// Never a flag: on a command line every user of the host could read it.
const TOKEN: &str = "BACKSTITCH_TOKEN";

/// How many workflows a worker drives at once unless said; the engine's own number.
const CONCURRENCY: u32 = 512;

/// Everything that is not said by the command itself.
#[derive(Debug)]
pub struct Settings {
    everywhere: Everywhere,
    config: Config,
    whence: Whence,
}

/// How a worker works.
#[derive(Debug)]
pub struct WorkerSettings {
    pub state_directory: PathBuf,
    pub concurrency: usize,
    pub queues: Vec<String>,
}

/// What the daemon needs beside its worker.
#[derive(Debug)]
pub struct ServeSettings {
    pub listen: Place,
    /// Whom the routes under `/v1` believe.
    pub access: Access,
    /// Whose pages may ask there.
    pub allowed_origins: Vec<Origin>,
    pub alert_webhook: Option<Url>,
    pub answer_within: Duration,
    /// None: for ever.
    pub keep_finished: Option<Duration>,
}

impl Settings {
    /// Reads the configuration file. clap has settled flag over environment already.
    pub fn read(everywhere: Everywhere) -> Result<Self, Failed> {
        let (config, whence) = config::read(everywhere.config.as_deref())?;
        if config.server.is_some() && config.database_url.is_some() {
            let why =
                "the configuration says server and database_url: a command asks one of them, so say one";
            return Err(Failed::usage(why));
        }
        Ok(Self { everywhere, config, whence })
    }

    /// The URL that was said. None: the Postgres of this user's own.
    pub fn database_url(&self) -> Option<&str> {
        self.database_said().or(self.config.database_url.as_ref().map(|url| url.0.as_str()))
    }

    /// Whether a pooler that lends a session for one transaction is between here and the database.
    pub fn transaction_pooler(&self) -> bool {
        self.everywhere.transaction_pooler || self.config.transaction_pooler.unwrap_or(false)
    }

    /// How what is not output is written.
    pub fn log_format(&self) -> LogFormat {
        self.everywhere.log_format
    }

    /// The daemon to ask instead of the database. None: none was named.
    pub fn server(&self) -> Option<&str> {
        self.server_said().or_else(|| self.server_of_the_file())
    }

    /// What is shown to that daemon. None: nothing.
    pub fn server_token(&self) -> Result<Option<BearerToken>, Failed> {
        let in_file = |name: &str, path: &Path| {
            let whence = format!("{name} {}", path.display());
            match std::fs::read_to_string(path) {
                Ok(text) => Ok((whence, text)),
                Err(error) => Err(Failed::usage(format!("{whence}: {error}"))),
            }
        };
        // What the file has is for the daemon that the file names: another may not learn it.
        let server_of_the_file = self.server_of_the_file().filter(|_| self.server_said().is_none());
        // And a daemon that a directory names learns no token but what lies there, too: somebody else may have made it up.
        let server_of_here = server_of_the_file.filter(|_| self.whence == Whence::Here);
        let of_the_file = self.config.server_token_file.as_deref().filter(|_| server_of_the_file.is_some());
        let not_for = |name: &str, server: &str| {
            Failed::usage(format!(
                "{name} is not shown to {server:?}, which the backstitch.toml of this directory names, and anybody may have \
                 written: name the server by --server or BACKSTITCH_SERVER, or the file by --config"
            ))
        };
        let token = std::env::var_os(TOKEN).filter(|token| !token.is_empty());
        let (whence, text) = match (&self.everywhere.server_token_file, token, of_the_file, server_of_here) {
            (Some(_), _, _, Some(server)) => return Err(not_for("--server-token-file", server)),
            (Some(path), _, _, None) => in_file("--server-token-file", path)?,
            (None, Some(_), _, Some(server)) => return Err(not_for(TOKEN, server)),
            (None, Some(token), _, None) => (TOKEN.to_owned(), token.to_string_lossy().into_owned()),
            (None, None, Some(path), None) => in_file("server_token_file", path)?,
            (None, None, Some(path), Some(_)) => in_file("server_token_file", &beside(path)?)?,
            (None, None, None, _) => return Ok(None),
        };
        // Not repeated: it may be a secret of somebody else.
        let wrong = || {
            Failed::usage(format!(
                "{whence}: give what `backstitch token create` printed: bst_ and 64 digits"
            ))
        };
        BearerToken::shown(text.trim()).ok_or_else(wrong).map(Some)
    }

    fn database_said(&self) -> Option<&str> {
        self.everywhere.database_url.as_deref().filter(|url| !url.is_empty())
    }

    fn server_said(&self) -> Option<&str> {
        self.everywhere.server.as_deref().filter(|url| !url.is_empty())
    }

    /// A database that is said for this one command goes before it.
    fn server_of_the_file(&self) -> Option<&str> {
        self.config.server.as_deref().filter(|_| self.database_said().is_none())
    }

    /// The keys that seal secrets.
    pub fn keyring(&self, said: Option<&Path>) -> Result<Keyring, Failed> {
        let Some(path) = said.or(self.config.keyring_file.as_deref()) else {
            let ways = "--keyring-file, BACKSTITCH_KEYRING_FILE or keyring_file in backstitch.toml";
            return Err(Failed::usage(format!("there is no keyring to seal with: name one by {ways}")));
        };
        let whence = format!("the keyring {}", path.display());
        let wrong = |problem: String| Failed::usage(format!("{whence}: {problem}"));
        let text = std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        Keyring::parse(&text).map_err(|error| wrong(error.to_string()))
    }

    /// The Postgres of this user's own.
    pub fn cluster(&self) -> Cluster {
        let said =
            self.everywhere.postgres_directory.clone().or_else(|| self.config.postgres.directory.clone());
        Cluster::at(said.unwrap_or_else(backstitch_postgres::default_directory))
    }

    /// How a worker works.
    pub fn worker(&self, arguments: WorkerArguments) -> WorkerSettings {
        let state_directory = arguments.state_directory.or_else(|| self.config.state_directory.clone());
        let concurrency = arguments.concurrency.or(self.config.concurrency).unwrap_or(CONCURRENCY);
        WorkerSettings {
            state_directory: state_directory.unwrap_or_else(default_state_directory),
            concurrency: usize::try_from(concurrency).unwrap_or(usize::MAX),
            queues: arguments
                .queues
                .or_else(|| self.config.queues.clone())
                .unwrap_or_else(|| vec!["default".to_owned()]),
        }
    }

    /// What the daemon needs beside its worker.
    pub fn serve(&self, arguments: &DaemonArguments) -> Result<ServeSettings, Failed> {
        let webhook = arguments.alert_webhook.as_deref().or(self.config.alert_webhook.as_deref());
        let answer_within = arguments.answer_within.or(self.config.answer_within);
        let access = match arguments.without_tokens || self.config.without_tokens.unwrap_or(false) {
            true => Access::EverybodyHere,
            false => Access::Tokens,
        };
        let listen = arguments.listen.as_deref().or(self.config.listen.as_deref()).unwrap_or(LISTEN);
        let tls = self.tls(arguments)?;
        let keep_finished = arguments.keep_finished.as_deref().or(self.config.keep_finished.as_deref());
        Ok(ServeSettings {
            listen: Place::new(listen, tls, access)
                .map_err(|error| Failed::usage(format!("--listen: {error}")))?,
            access,
            allowed_origins: self.allowed_origins(access)?,
            alert_webhook: webhook.filter(|url| !url.is_empty()).map(webhook_url).transpose()?,
            answer_within: Duration::from_secs(answer_within.unwrap_or(ANSWER_WITHIN_SECONDS)),
            keep_finished: keep_finished.filter(|span| !span.is_empty()).map(kept_for).transpose()?,
        })
    }

    /// Only the file says it: a decision that stays, and no slip of a hand.
    fn allowed_origins(&self, access: Access) -> Result<Vec<Origin>, Failed> {
        let said = self.config.allowed_origins.as_deref().unwrap_or_default();
        if !said.is_empty() && access == Access::EverybodyHere {
            let why =
                "allowed_origins: without tokens the pages of other places could do everything: use tokens";
            return Err(Failed::usage(why));
        }
        let refuse = |error: NoOrigin| Failed::usage(format!("allowed_origins: {error}"));
        said.iter().map(|origin| origin.parse().map_err(refuse)).collect::<Result<_, Failed>>()
    }

    fn tls(&self, arguments: &DaemonArguments) -> Result<Option<Tls>, Failed> {
        let certificate = arguments.tls_certificate.as_ref().or(self.config.tls_certificate.as_ref());
        let key = arguments.tls_key.as_ref().or(self.config.tls_key.as_ref());
        match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let what_to_do = "give both as PEM files that this user may read";
                Tls::read(certificate, key).map(Some).map_err(|error| Failed::because(&error, what_to_do))
            }
            (None, None) => Ok(None),
            _ => Err(Failed::usage("--tls-certificate and --tls-key: give both, or none")),
        }
    }

    /// The edge that gateways are put behind.
    pub fn edge(&self, arguments: EdgeArguments, worker: &WorkerSettings) -> Result<EdgeConfig, Failed> {
        edge::settle(arguments, &self.config.gateway, &worker.state_directory, Some("--without-gateway"))
    }

    /// What the file says about gateways.
    pub fn gateway_config(&self) -> &config::GatewayConfig {
        &self.config.gateway
    }
}

/// The token's file that the file of the current directory names.
fn beside(path: &Path) -> Result<PathBuf, Failed> {
    let refuse = |problem: String| Failed::usage(format!("server_token_file {}: {problem}", path.display()));
    let beside = whose::beside(path).map_err(|error| refuse(error.to_string()))?;
    beside.ok_or_else(|| {
        let why = "it lies elsewhere, and the backstitch.toml of this directory, which anybody may have written, can have only what \
                   lies beside it shown to its server: move it here, or name that file by --config";
        refuse(why.to_owned())
    })
}

fn kept_for(text: &str) -> Result<Duration, Failed> {
    let refuse = |problem| Failed::usage(format!("--keep-finished {text:?}: {problem}"));
    match parse_span(text) {
        Ok(span) if span < KEEP_FINISHED_MIN => Err(refuse(
            "give 1h or more, or whoever waits for a workflow may not find it; `backstitch prune` removes them sooner".to_owned(),
        )),
        Ok(span) => Ok(span),
        Err(problem) => Err(refuse(problem)),
    }
}

fn webhook_url(text: &str) -> Result<Url, Failed> {
    // Not repeated: the paths of webhooks are secrets.
    let refuse = |problem| Failed::new(Exit::Usage, format!("--alert-webhook: {problem}"));
    let url: Url = text.parse().map_err(|_| refuse("give a URL such as http://127.0.0.1:9000/alerts"))?;
    match url.scheme() {
        "http" => Ok(url),
        _ => Err(refuse("only plain http is spoken: give a relay on this host or in a private network")),
    }
}

/// Beside the Postgres of this user's own.
fn default_state_directory() -> PathBuf {
    backstitch_postgres::default_directory().with_file_name("state")
}
