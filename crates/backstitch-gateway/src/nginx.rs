//! How does a route come into the running nginx and out again, without breaking anybody else's?
//!
//! A file on the disk is not a route: nginx serves what its master read last. So each change is tested before and after
//! it is written, a reload is awaited until the old workers take no more requests, and in the end the running nginx
//! itself is asked, through a marker that each vhost serves. Reloads are coalesced: one that began after you asked
//! answers you too, in this process or in another on the same host.

mod binary;
mod drain;
mod error;
mod ledger;
mod lock;
mod private;
mod probe;
mod processes;
mod reload;
mod room;
mod sites;
mod vhost;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::confirm;
use crate::found::Found;
use crate::identifiers::{Hostname, OrganizationId, Owner};
use crate::networks::AllowedNetworks;
use binary::{Binary, TestResult};
pub use error::{NAMES_BUCKET, NginxError, SHUTDOWN_TIMEOUT};
use ledger::Ledger;
use lock::HostLock;
pub use probe::PROBE_TIMEOUT;
pub use reload::Reload;
use sites::{Sites, Standing};
pub use vhost::{MARKER_PATH, Vhost};

/// A change waits for others that test and write. With its own tests, of which nearly all end in a tenth of their 2 s, it fits
/// into the 5 s of an attempt; one that does not is in doubt, and what it wrote is there whole or not at all.
const LOCK_TIMEOUT: Duration = Duration::from_secs(3);
/// Old workers were seen to answer for up to 106 ms after a reload that somebody made by hand.
const LOOK_PAUSE: Duration = Duration::from_millis(300);
const LOOKS_WITHOUT_RELOAD: u32 = 2;

/// Which nginx, and where it keeps what we touch.
#[derive(Debug, Clone)]
pub struct NginxConfig {
    /// The program, `/usr/sbin/nginx`.
    pub binary: PathBuf,
    /// Its prefix directory, given as `-p`.
    pub prefix: PathBuf,
    /// Its configuration, given as `-c`; relative to the prefix or absolute.
    pub conf: PathBuf,
    /// Its error log, given as `-e`; relative to the prefix or absolute. A refused reload is explained only there.
    pub error_log: PathBuf,
    /// The file in which the running master keeps its process id.
    pub pid_file: PathBuf,
    /// The directory that the configuration includes as `*.conf`.
    pub sites: PathBuf,
    /// Locks and the reload counter, shared by all workers on this host.
    pub state: PathBuf,
    /// What the vhosts listen on.
    pub listen: SocketAddr,
    /// Where the running nginx is asked for a route; usually the same as `listen`.
    pub probe: SocketAddr,
    /// Asked again before an upstream is written into a file.
    pub allowed_networks: AllowedNetworks,
}

/// What removing a vhost came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It was this owner's and is gone from the disk; the running nginx serves it until the next reload.
    Removed,
    /// There was no file. The running nginx may serve the route all the same.
    Absent,
    /// It is someone else's and was left as it is.
    NotOurs {
        /// Who wrote it, as far as the file says.
        holder: String,
    },
}

/// One nginx on this host.
#[derive(Debug)]
pub struct Nginx {
    config: NginxConfig,
    binary: Binary,
    sites: Sites,
    ledger: Ledger,
    /// Held while a file is tested, written and tested again, so that a failing test can be blamed on one change.
    writing: HostLock,
    /// Held while reloading. Apart from `writing`, or every write would wait for old workers to leave.
    reloading: HostLock,
}

impl Nginx {
    /// Takes the configuration; makes the state directory if it is not there, and closes it to other users.
    pub fn new(config: NginxConfig) -> Result<Self, NginxError> {
        private::directory(&config.state).map_err(|e| NginxError::disk(&config.state, e))?;
        Ok(Self {
            binary: Binary::new(&config),
            sites: Sites::new(&config.sites),
            ledger: Ledger::new(&config.state),
            writing: HostLock::new(config.state.join("writing.lock")),
            reloading: HostLock::new(config.state.join("reloading.lock")),
            config,
        })
    }

    /// Says whether nginx runs its test and finds the configuration, as it stands on the disk, whole.
    pub async fn test(&self) -> Result<(), NginxError> {
        match self.binary.test().await? {
            TestResult::Whole => Ok(()),
            TestResult::Broken { detail } => Err(NginxError::SomeoneElsesConfig { detail }),
        }
    }

    /// Says whether nginx can be worked with as it is configured: the configuration is whole, has room for a name as long as this
    /// one, and lets go of old sockets. Changes nothing.
    pub async fn check(&self, hostname: &Hostname) -> Result<(), NginxError> {
        self.test().await?;
        // None: somebody broke it this moment.
        let Some(configuration) = self.binary.configuration().await? else { return self.test().await };
        room::check(&self.binary, &configuration, &self.config.state, hostname).await?;
        drain::check(&configuration)
    }

    /// Writes the vhost of an organisation, tested before and after. The running nginx is not touched yet.
    ///
    /// Nothing is written over a file that is not this owner's, and a vhost that breaks the configuration is withdrawn.
    pub async fn write_vhost(&self, vhost: &Vhost) -> Result<(), NginxError> {
        self.config.allowed_networks.admit(vhost.upstream).map_err(NginxError::UpstreamRefused)?;
        let organization = vhost.hostname.organization();
        let lock = Arc::new(self.writing.acquire(LOCK_TIMEOUT).await?);
        let before = self.sites.standing(organization, vhost.owner)?;
        if let Standing::SomeoneElses { holder } = before {
            return Err(NginxError::SomeoneElsesFile { path: self.sites.path(organization), holder });
        }
        if let (Standing::Absent, TestResult::Broken { detail }) = (before, self.binary.test().await?) {
            return Err(NginxError::SomeoneElsesConfig { detail });
        }
        self.sites.write(organization, vhost.render(self.config.listen), &lock).await?;
        let broken = match self.binary.test().await.map_err(NginxError::after_change)? {
            TestResult::Whole => return Ok(()),
            TestResult::Broken { detail } => detail,
        };
        // Whose fault is it? Without ours the configuration is whole again, or it is not.
        self.sites.remove(organization, &lock).await.map_err(NginxError::after_change)?;
        match self.binary.test().await? {
            TestResult::Whole => Err(NginxError::OurVhostRefused { organization, detail: broken }),
            TestResult::Broken { detail } => Err(NginxError::SomeoneElsesConfig { detail }),
        }
    }

    /// Removes the vhost of an organisation if it is this owner's. The route stands until a reload has left it behind:
    /// follow with [`Nginx::reload_until_gone`], whatever this says, or call [`Nginx::withdraw`].
    pub async fn remove_vhost(
        &self,
        organization: OrganizationId,
        owner: Owner,
    ) -> Result<Removal, NginxError> {
        let lock = Arc::new(self.writing.acquire(LOCK_TIMEOUT).await?);
        match self.sites.standing(organization, owner)? {
            Standing::SomeoneElses { holder } => Ok(Removal::NotOurs { holder }),
            standing => {
                // Also when absent: the remains of an interrupted write go too.
                self.sites.remove(organization, &lock).await?;
                Ok(if standing == Standing::Ours { Removal::Removed } else { Removal::Absent })
            }
        }
    }

    /// Removes an organisation's vhost if it is this owner's, and makes sure that the running nginx has forgotten it. Whatever
    /// removing the file says, the running nginx has the last word: it may serve one that is long gone.
    pub async fn withdraw(&self, hostname: &Hostname, owner: Owner) -> Result<Removal, NginxError> {
        let removal = self.remove_vhost(hostname.organization(), owner).await?;
        self.reload_until_gone(hostname, owner).await?;
        Ok(removal)
    }

    /// Withdraws a vhost whose writing is in doubt: a process that was stopped before it had the lock may write it when it goes
    /// on, and the file would come to life with the next reload of anybody. So file and route must be seen gone twice, a second
    /// apart, and any sighting begins again. The second look waits for the lock, too: who has it is writing.
    pub async fn withdraw_and_confirm(
        &self,
        hostname: &Hostname,
        owner: Owner,
    ) -> Result<Removal, NginxError> {
        let mut removal = self.withdraw(hostname, owner).await?;
        for _ in 0..confirm::ROUNDS_MAX {
            tokio::time::sleep(confirm::PAUSE).await;
            let again = self.remove_vhost(hostname.organization(), owner).await?;
            if again != Removal::Removed && self.route(hostname).await? != Some(owner) {
                return Ok(removal);
            }
            removal = Removal::Removed;
            self.reload_until_gone(hostname, owner).await?;
        }
        Err(NginxError::ComesBack { hostname: hostname.clone() })
    }

    /// What stands on the disk of this vhost. The running nginx may serve another route.
    pub fn written(&self, vhost: &Vhost) -> Result<Found, NginxError> {
        let organization = vhost.hostname.organization();
        if !self.is_on_disk(organization, vhost.owner)? {
            return Ok(Found::Nothing);
        }
        Ok(match self.sites.says(organization, &vhost.render(self.config.listen))? {
            true => Found::AsMade,
            false => Found::Changed(format!(
                "{} was edited, or written for another upstream or address to listen on",
                self.sites.path(organization).display()
            )),
        })
    }

    /// Whether the vhost of an organisation is there and this owner's.
    pub fn is_on_disk(&self, organization: OrganizationId, owner: Owner) -> Result<bool, NginxError> {
        Ok(self.sites.standing(organization, owner)? == Standing::Ours)
    }

    /// Every vhost of ours on the disk: its file, whose it is, and who wrote it.
    pub fn vhosts(&self) -> Result<Vec<(PathBuf, OrganizationId, Owner)>, NginxError> {
        self.sites.owned()
    }

    /// Makes the running nginx serve what is on the disk now; shared with everyone who asks at the same time.
    pub async fn reload(&self) -> Result<Reload, NginxError> {
        reload::coalesced(&self.config, &self.binary, &self.ledger, &self.reloading).await
    }

    /// How many reloads were really done on this host, by whomever.
    pub fn reloads_done(&self) -> Result<u64, NginxError> {
        Ok(self.ledger.read()?.done)
    }

    /// Asks the running nginx whose route it serves under this name.
    pub async fn route(&self, hostname: &Hostname) -> Result<Option<Owner>, NginxError> {
        probe::marker(self.config.probe, hostname).await
    }

    /// Reloads and makes sure that the running nginx serves this owner's route.
    pub async fn reload_until_live(&self, hostname: &Hostname, owner: Owner) -> Result<(), NginxError> {
        self.reload().await?;
        match self.route(hostname).await.map_err(NginxError::after_change)? {
            Some(live) if live == owner => Ok(()),
            found => Err(NginxError::RouteNotLive { hostname: hostname.clone(), found }),
        }
    }

    /// Makes sure that the running nginx no longer serves this owner's route. Always reloads: the
    /// probe alone can be answered by one worker while another still has the route.
    ///
    /// Only where somebody else keeps anything from coming into the running nginx, two looks are enough: else each start that
    /// failed meanwhile would keep its gateway until somebody mends it.
    pub async fn reload_until_gone(&self, hostname: &Hostname, owner: Owner) -> Result<(), NginxError> {
        match self.reload().await {
            Err(kept_out) if kept_out.leaves_nginx_as_it_was() => {
                let on_disk = self.sites.standing(hostname.organization(), owner)? == Standing::Ours;
                for look in 0..LOOKS_WITHOUT_RELOAD {
                    if look > 0 {
                        tokio::time::sleep(LOOK_PAUSE).await;
                    }
                    if on_disk || self.route(hostname).await? == Some(owner) {
                        return Err(kept_out);
                    }
                }
                return Ok(());
            }
            reloaded => reloaded?,
        };
        match self.route(hostname).await.map_err(NginxError::after_change)? {
            Some(live) if live == owner => Err(NginxError::RouteStillStands { hostname: hostname.clone() }),
            _ => Ok(()),
        }
    }
}
