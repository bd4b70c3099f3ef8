//! Why is there no sandbox, and what should be done?

use std::io;
use std::path::PathBuf;

use crate::identifiers::Hostname;
use crate::nginx::NginxError;
use crate::powerdns::PowerDnsError;

/// What can go wrong with a sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A program is not there.
    #[error(
        "{program} is not installed: `cargo xtask test` and `cargo xtask demo` install it (Debian: {package})"
    )]
    Missing {
        /// Which program or file.
        program: String,
        /// What brings it.
        package: &'static str,
    },
    /// A server ended or stayed silent.
    #[error("{server} did not start; its log ends with:\n{log}")]
    DidNotStart {
        /// Which server.
        server: String,
        /// The end of its log.
        log: String,
    },
    /// The directory can't be used.
    #[error("the sandbox directory {} cannot be used", directory.display())]
    Directory {
        /// Which directory.
        directory: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A server can't be signalled.
    #[error("{server} cannot be signalled")]
    Signal {
        /// Which server.
        server: String,
        /// What the system said.
        source: io::Error,
    },
    /// No DNS answer.
    #[error("asking the sandbox's PowerDNS for {hostname}")]
    Dns {
        /// What was asked for.
        hostname: Hostname,
        /// What went wrong.
        source: io::Error,
    },
    /// No HTTP answer.
    #[error("asking a server of the sandbox")]
    Http(#[from] reqwest::Error),
    /// The client of PowerDNS.
    #[error(transparent)]
    PowerDns(#[from] PowerDnsError),
    /// The client of nginx.
    #[error(transparent)]
    Nginx(#[from] NginxError),
}
