//! What does `backstitch.toml` say, and where is it?

use std::fmt;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use backstitch::Plaintext;
use serde::Deserialize;

use crate::exit::{Exit, Failed};
use crate::whose;

/// What the file is called, wherever it is.
const NAME: &str = "backstitch.toml";

/// What the file may say. A key that is not here is an error that names it.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub database_url: Option<DatabaseUrl>,
    pub server: Option<String>,
    pub server_token_file: Option<PathBuf>,
    pub transaction_pooler: Option<bool>,
    pub state_directory: Option<PathBuf>,
    pub listen: Option<String>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub without_tokens: Option<bool>,
    pub allowed_origins: Option<Vec<String>>,
    pub alert_webhook: Option<String>,
    pub answer_within: Option<u64>,
    pub keep_finished: Option<String>,
    pub concurrency: Option<u32>,
    pub queues: Option<Vec<String>>,
    pub keyring_file: Option<PathBuf>,
    #[serde(default)]
    pub postgres: PostgresConfig,
    #[serde(default)]
    pub gateway: GatewayConfig,
}

/// `[postgres]`: the Postgres of this user's own.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    pub directory: Option<PathBuf>,
}

/// `[gateway]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    pub domain: Option<String>,
    pub edge_address: Option<IpAddr>,
    pub allowed_networks: Option<Vec<String>>,
    #[serde(default)]
    pub powerdns: PowerDnsConfig,
    #[serde(default)]
    pub nginx: NginxConfig,
}

/// `[gateway.powerdns]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerDnsConfig {
    pub url: Option<String>,
    pub api_key: Option<Plaintext>,
    pub api_key_file: Option<PathBuf>,
}

/// `[gateway.nginx]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NginxConfig {
    pub binary: Option<PathBuf>,
    pub prefix: Option<PathBuf>,
    pub conf: Option<PathBuf>,
    pub error_log: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub sites: Option<PathBuf>,
    pub listen: Option<SocketAddr>,
    pub probe: Option<SocketAddr>,
}

/// A URL that may hold a password, so it is not shown.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct DatabaseUrl(pub String);

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DatabaseUrl(…)")
    }
}

/// Where the configuration is, and so whether whoever calls has chosen it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whence {
    /// It was named, or is the user's or the system's; or there is none.
    Chosen,
    /// It lies in the current directory.
    Here,
}

/// Reads the file that was named, else the first of the usual ones that is there, else none.
pub fn read(named: Option<&Path>) -> Result<(Config, Whence), Failed> {
    if let Some(path) = named {
        let text = text(path)?.ok_or_else(|| {
            Failed::new(
                Exit::Error,
                format!("there is no configuration {}: name one that is there", path.display()),
            )
        })?;
        return Ok((parse(path, &text)?, Whence::Chosen));
    }
    let here = Path::new(NAME);
    if let Some(text) = whose::text(here)? {
        return Ok((parse(here, &text)?, Whence::Here));
    }
    for path in usual() {
        if let Some(text) = text(&path)? {
            return Ok((parse(&path, &text)?, Whence::Chosen));
        }
    }
    Ok((Config::default(), Whence::Chosen))
}

/// Of the user, then of the system.
fn usual() -> Vec<PathBuf> {
    let stated = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let of_user = stated.or_else(|| std::env::home_dir().map(|home| home.join(".config")));
    let directories = of_user.into_iter().chain([PathBuf::from("/etc")]);
    directories.map(|directory| directory.join("backstitch").join(NAME)).collect()
}

/// None: there is no such file.
fn text(path: &Path) -> Result<Option<String>, Failed> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(Failed::new(
            Exit::Error,
            format!("the configuration {} can't be read: {error}", path.display()),
        )),
    }
}

fn parse(path: &Path, text: &str) -> Result<Config, Failed> {
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start).min(text.len());
        let line = text.get(..start).unwrap_or_default().matches('\n').count() + 1;
        // The error's own text shows the line, and the line may hold a secret.
        let key = text.lines().nth(line - 1).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
        let problem = match key {
            Some(key) if error.message().starts_with("invalid") => {
                format!("{key}: {}", quiet(key, error.message()))
            }
            _ => error.message().to_owned(),
        };
        Failed::new(Exit::Error, format!("{}, line {line}: {problem}", path.display()))
    })
}

/// What is wrong with a value, without the value where that is nobody's business.
fn quiet<'m>(key: &str, message: &'m str) -> &'m str {
    if key.contains("key") || key.contains("url") {
        "the value is not of the right type: give a text"
    } else {
        message
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse(Path::new("backstitch.toml"), text).expect_err("it should not be taken").to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let said = refused("listen = \"127.0.0.1:1\"\nlissten = \"a\"\n");
        assert!(said.starts_with("backstitch.toml, line 2: unknown field `lissten`"), "{said}");
        let said = refused("[gateway.nginx]\nbinary = \"a\"\nprefixx = \"b\"\n");
        assert!(said.contains("line 3: unknown field `prefixx`"), "{said}");
    }

    #[test]
    fn the_example_names_only_keys_that_there_are() {
        let example = include_str!("../backstitch.example.toml");
        parse(Path::new("example"), example).expect("as it is");
        let is_setting = |line: &str| line.contains(" = ") || line.starts_with('[');
        let uncommented = |line: &str| match line.strip_prefix("# ") {
            Some(setting) if is_setting(setting) => format!("{setting}\n"),
            _ => format!("{line}\n"),
        };
        let all = parse(Path::new("example"), &example.lines().map(uncommented).collect::<String>());
        assert_eq!(all.expect("with everything said").listen.as_deref(), Some("127.0.0.1:7410"));
    }

    #[test]
    fn a_value_of_the_wrong_type_is_named_with_its_line() {
        let said = refused("[gateway]\nedge_address = \"nowhere\"\n");
        assert!(said.contains("line 2: ") && said.contains("IP address"), "{said}");
    }

    #[test]
    fn a_secret_is_shown_neither_by_an_error_nor_by_debug() {
        for text in ["[gateway.powerdns]\napi_key = 4711\n", "[gateway.powerdns]\napi_key = \"4711\n"] {
            let said = refused(text);
            assert!(!said.contains("4711"), "{said}");
        }
        let text = "database_url = \"postgres://a:4711@b/c\"\n[gateway.powerdns]\napi_key = \"4711\"\n";
        let config = parse(Path::new("backstitch.toml"), text).expect("it is well formed");
        assert!(!format!("{config:?}").contains("4711"));
    }
}
