//! What can go wrong at nginx, and what does it mean for the caller?

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use crate::identifiers::{Hostname, InvalidIdentifier, OrganizationId, Owner};
use crate::verdict::Classified;

/// The `server_names_hash_bucket_size` with which nginx has room for any name that DNS has, in bytes.
pub const NAMES_BUCKET: u32 = 512;

/// The `worker_shutdown_timeout` that is advised. Long enough for what is answered in the ordinary way to be answered; short
/// enough that a reload each second leaves ten generations of old workers, and that whoever was connected to a route is off it
/// soon after. Longer spares nobody: each reload ends all sockets of the reload before, sooner or later.
pub const SHUTDOWN_TIMEOUT: &str = "10s";

/// One variant for each thing a caller or an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum NginxError {
    /// The program can't be started.
    #[error("nginx cannot be run as {binary}: install it, or configure where it is")]
    NotRunnable {
        /// The configured program.
        binary: PathBuf,
        /// What starting it said.
        source: io::Error,
    },
    /// There is no master to reload.
    #[error("nginx is not running: {detail}; start it, or configure its pid file")]
    NotRunning {
        /// What was looked for.
        detail: String,
    },
    /// The master belongs to someone this process may not signal.
    #[error("no permission to signal nginx (process {pid}): run the worker as root or as the user of nginx")]
    NotAllowed {
        /// The master's process id.
        pid: i32,
    },
    /// The configuration was broken without us; this workflow is not to blame and its vhost is not on the disk.
    #[error(
        "the nginx configuration is broken by someone else, and nothing can be changed until it is mended: {detail}"
    )]
    SomeoneElsesConfig {
        /// What `nginx -t` said.
        detail: String,
    },
    /// The names of organisations are longer than nginx has room for.
    #[error(
        "nginx has no room for names such as {hostname}: set `server_names_hash_bucket_size {};` in the http section of its configuration ({detail})",
        NAMES_BUCKET
    )]
    NameTooLong {
        /// One of them.
        hostname: Hostname,
        /// What `nginx -t` said.
        detail: String,
    },
    /// Old workers are never ended, nor the sockets that they keep.
    #[error(
        "nginx keeps old workers for as long as anybody holds a socket through them, also one of a route that is gone: set `worker_shutdown_timeout {};` in the main section of its configuration, outside http",
        SHUTDOWN_TIMEOUT
    )]
    SocketsOutliveRoutes,
    /// The vhost of this organisation broke the configuration and was withdrawn.
    #[error("nginx refused the vhost of organisation {organization}, which was withdrawn: {detail}")]
    OurVhostRefused {
        /// Whose vhost it was.
        organization: OrganizationId,
        /// What `nginx -t` said.
        detail: String,
    },
    /// The file is taken; it was left as it is.
    #[error("{} is someone else's and was left alone: it belongs to {holder}", path.display())]
    SomeoneElsesFile {
        /// The file.
        path: PathBuf,
        /// Who wrote it, as far as it says.
        holder: String,
    },
    /// The address may not be routed to.
    #[error("nothing is routed there")]
    UpstreamRefused(#[source] InvalidIdentifier),
    /// A file could not be read or written: full, read-only, no permission.
    #[error("cannot read or write {}", path.display())]
    Disk {
        /// The file or its directory.
        path: PathBuf,
        /// Whether the change was made all the same.
        changed: bool,
        /// What the system said.
        source: io::Error,
    },
    /// Someone else tests, writes or reloads for too long.
    #[error("waited too long for {}, which another worker on this host holds", path.display())]
    Busy {
        /// The lock.
        path: PathBuf,
    },
    /// `nginx -t` hangs, for example on a name that does not resolve.
    #[error("nginx -t did not finish in time")]
    TestTimedOut {
        /// Whether the vhost was already written.
        changed: bool,
    },
    /// The master was told to reload and kept its old configuration, or its old workers.
    #[error("nginx did not reload: {detail}")]
    ReloadFailed {
        /// Its own words, where it had any.
        detail: String,
        /// Whether it had: then it goes on with what it had, and nothing comes later.
        is_refused: bool,
    },
    /// Nobody listens where the vhosts are served.
    #[error("nginx does not answer on {edge}")]
    EdgeSilent {
        /// The probed address.
        edge: SocketAddr,
        /// Whether a reload went before.
        changed: bool,
        /// What the connection said.
        source: io::Error,
    },
    /// The reload went well, and the route is another one or none: a second vhost may claim the same name.
    #[error("nginx was reloaded and serves {hostname} for {}", found.map_or("nobody".to_owned(), |o| format!("workflow {o}")))]
    RouteNotLive {
        /// The name that was asked for.
        hostname: Hostname,
        /// Whose route the running nginx serves instead, if anybody's.
        found: Option<Owner>,
    },
    /// The reload went well, and the route is still there.
    #[error("nginx was reloaded and still serves the route of {hostname}")]
    RouteStillStands {
        /// The name that was asked for.
        hostname: Hostname,
    },
    /// The vhost was removed and came back, again and again.
    #[error(
        "the route of {hostname} comes back after each removal: somebody still writes it for this workflow"
    )]
    ComesBack {
        /// The name that it answers to.
        hostname: Hostname,
    },
}

impl NginxError {
    pub(super) fn disk(path: &Path, source: io::Error) -> Self {
        Self::Disk { path: path.to_owned(), changed: false, source }
    }

    /// Whether a reload ended so that nothing came into the running nginx, nor will: it was not told to reload, or it refused.
    /// Our vhosts are tested before they stay, so what it found is somebody else's.
    pub(super) fn leaves_nginx_as_it_was(&self) -> bool {
        matches!(
            self,
            Self::SomeoneElsesConfig { .. }
                | Self::TestTimedOut { .. }
                | Self::ReloadFailed { is_refused: true, .. }
        )
    }

    /// The same error, when it came after something had been changed.
    pub(super) fn after_change(mut self) -> Self {
        match &mut self {
            Self::Disk { changed, .. }
            | Self::TestTimedOut { changed }
            | Self::EdgeSilent { changed, .. } => {
                *changed = true;
                self
            }
            // The program was there a moment ago; what it was to test is written and untested.
            Self::NotRunnable { .. } => Self::TestTimedOut { changed: true },
            _ => self,
        }
    }
}

impl Classified for NginxError {
    fn is_transient(&self) -> bool {
        match self {
            Self::NotRunning { .. }
            | Self::SomeoneElsesConfig { .. }
            | Self::Disk { .. }
            | Self::Busy { .. }
            | Self::TestTimedOut { .. }
            | Self::ReloadFailed { .. }
            | Self::EdgeSilent { .. }
            | Self::RouteNotLive { .. }
            | Self::RouteStillStands { .. }
            | Self::ComesBack { .. } => true,
            Self::NotRunnable { .. }
            | Self::NotAllowed { .. }
            | Self::NameTooLong { .. }
            | Self::SocketsOutliveRoutes
            | Self::OurVhostRefused { .. }
            | Self::SomeoneElsesFile { .. }
            | Self::UpstreamRefused(_) => false,
        }
    }

    fn may_have_happened(&self) -> bool {
        match self {
            Self::Disk { changed, .. }
            | Self::TestTimedOut { changed }
            | Self::EdgeSilent { changed, .. } => *changed,
            Self::ReloadFailed { .. }
            | Self::RouteNotLive { .. }
            | Self::RouteStillStands { .. }
            | Self::ComesBack { .. } => true,
            Self::NotRunnable { .. }
            | Self::NotRunning { .. }
            | Self::NotAllowed { .. }
            | Self::SomeoneElsesConfig { .. }
            | Self::NameTooLong { .. }
            | Self::SocketsOutliveRoutes
            | Self::OurVhostRefused { .. }
            | Self::SomeoneElsesFile { .. }
            | Self::UpstreamRefused(_)
            | Self::Busy { .. } => false,
        }
    }

    fn code(&self) -> &'static str {
        match self {
            Self::NotRunnable { .. } => "nginx_not_runnable",
            Self::NotRunning { .. } => "nginx_not_running",
            Self::NotAllowed { .. } => "nginx_not_ours_to_signal",
            Self::SomeoneElsesConfig { .. } => "nginx_config_broken_by_someone_else",
            Self::NameTooLong { .. } => "nginx_name_too_long",
            Self::SocketsOutliveRoutes => "nginx_sockets_outlive_routes",
            Self::OurVhostRefused { .. } => "nginx_refused_vhost",
            Self::SomeoneElsesFile { .. } => "vhost_taken",
            Self::UpstreamRefused(_) => "upstream_not_allowed",
            Self::Disk { .. } => "nginx_directory_failed",
            Self::Busy { .. } => "nginx_busy",
            Self::TestTimedOut { .. } => "nginx_test_timed_out",
            Self::ReloadFailed { .. } => "nginx_reload_failed",
            Self::EdgeSilent { .. } => "nginx_silent",
            Self::RouteNotLive { .. } => "route_not_live",
            Self::RouteStillStands { .. } => "route_still_stands",
            Self::ComesBack { .. } => "route_comes_back",
        }
    }
}
