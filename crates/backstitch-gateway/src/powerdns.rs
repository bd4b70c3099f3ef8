//! How does a hostname come into the zone and out again, without touching what is someone else's?
//!
//! PowerDNS has no compare-and-set, so each change reads first and refuses what is not ours. Ownership is a TXT record
//! that travels in the same change as the address. Changes by this client are made one at a time; between two
//! processes the last one wins, and the read-back tells.

mod api;
mod error;
mod records;

use std::net::IpAddr;
use std::time::Duration;

use backstitch::Plaintext;
use tokio::sync::{Mutex, MutexGuard};

use crate::confirm;
use crate::found::Found;
use crate::identifiers::{Domain, Hostname, Owner};
use api::Api;
pub use error::PowerDnsError;
pub use records::Record;
use records::Standing;

/// A registration is a read, a change and a read-back; three of these fit into the 5 s of an attempt.
pub const REQUEST_TIMEOUT: Duration = Duration::from_millis(1500);
/// Together with the read that follows it is over before the 5 s of an attempt are: one that is in doubt has sent its change.
const WRITER_TIMEOUT: Duration = Duration::from_secs(3);
/// How long resolvers may remember an address: a route that moved must be found again within a minute.
pub const TTL_SECONDS: u32 = 60;

/// Where PowerDNS is and what may be changed there.
#[derive(Debug, Clone)]
pub struct PowerDnsConfig {
    /// The root of the HTTP API, `http://127.0.0.1:8081`. Plain HTTP: the API belongs on loopback or a private network.
    pub url: reqwest::Url,
    /// Sent as `X-API-Key`, shown nowhere.
    pub api_key: Plaintext,
    /// The zone, which is also the domain below which the names of organisations stand.
    pub zone: Domain,
    /// Bound of one request; [`REQUEST_TIMEOUT`] unless told otherwise.
    pub request_timeout: Duration,
}

/// What removing a name came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// It was this owner's and is gone.
    Removed,
    /// Nothing stood there.
    Absent,
    /// It is someone else's and was left as it is.
    NotOurs {
        /// Who holds the name, as far as its records say.
        holder: String,
    },
}

/// A client of one zone.
#[derive(Debug)]
pub struct PowerDns {
    api: Api,
    zone: Domain,
    /// One writer per zone at a time: a check and its change must not interleave with another's.
    writing: Mutex<()>,
}

impl PowerDns {
    /// A client for the zone of this configuration; connects only when asked something.
    pub fn new(config: PowerDnsConfig) -> Result<Self, PowerDnsError> {
        Ok(Self { zone: config.zone.clone(), api: Api::new(config)?, writing: Mutex::new(()) })
    }

    /// Points the name to the address and marks it as this owner's, in one change; reads it back.
    ///
    /// Asking again is cheap and changes nothing. A name that is someone else's is refused.
    pub async fn register(
        &self,
        hostname: &Hostname,
        address: IpAddr,
        owner: Owner,
    ) -> Result<(), PowerDnsError> {
        self.check_zone(hostname)?;
        let _writer = self.writer().await?;
        let before = self.api.records(hostname).await?;
        match records::standing(&before, owner) {
            Standing::SomeoneElses { holder } => {
                return Err(PowerDnsError::SomeoneElses { hostname: hostname.clone(), holder });
            }
            Standing::Ours if records::points_to(&before, address) => return Ok(()),
            Standing::Ours | Standing::Absent => {}
        }
        self.api.change(&records::registration(hostname, address, owner)).await?;
        let after = self.api.records(hostname).await.map_err(PowerDnsError::after_change)?;
        if records::standing(&after, owner) != Standing::Ours || !records::points_to(&after, address) {
            return Err(PowerDnsError::ReadBackDiffers { hostname: hostname.clone() });
        }
        Ok(())
    }

    /// Registers a name of which an earlier registration is in doubt: its change may land late, and must not do so when the
    /// name has been removed again. A second later the name must stand as it is.
    pub async fn register_and_confirm(
        &self,
        hostname: &Hostname,
        address: IpAddr,
        owner: Owner,
    ) -> Result<(), PowerDnsError> {
        self.register(hostname, address, owner).await?;
        tokio::time::sleep(confirm::PAUSE).await;
        self.register(hostname, address, owner).await
    }

    /// Deletes the name if it is this owner's, and reads back that it is gone.
    pub async fn remove(&self, hostname: &Hostname, owner: Owner) -> Result<Removal, PowerDnsError> {
        self.check_zone(hostname)?;
        let _writer = self.writer().await?;
        match records::standing(&self.api.records(hostname).await?, owner) {
            Standing::Absent => return Ok(Removal::Absent),
            Standing::SomeoneElses { holder } => return Ok(Removal::NotOurs { holder }),
            Standing::Ours => {}
        }
        self.api.change(&records::deletion(hostname)).await?;
        let after = self.api.records(hostname).await.map_err(PowerDnsError::after_change)?;
        if records::standing(&after, owner) == Standing::Ours {
            return Err(PowerDnsError::ReadBackDiffers { hostname: hostname.clone() });
        }
        Ok(Removal::Removed)
    }

    /// Removes a name of which an earlier change is in doubt. A late registration may land after the deletion, and a late
    /// deletion would take the name of whoever registers it next: so the name must be seen gone twice, a second apart, and
    /// any sighting begins again.
    pub async fn remove_and_confirm(
        &self,
        hostname: &Hostname,
        owner: Owner,
    ) -> Result<Removal, PowerDnsError> {
        let mut removal = self.remove(hostname, owner).await?;
        for _ in 0..confirm::ROUNDS_MAX {
            tokio::time::sleep(confirm::PAUSE).await;
            match self.remove(hostname, owner).await? {
                Removal::Removed => removal = Removal::Removed,
                Removal::Absent | Removal::NotOurs { .. } => return Ok(removal),
            }
        }
        Err(PowerDnsError::ComesBack { hostname: hostname.clone() })
    }

    /// What stands of this owner's registration.
    pub async fn registered(
        &self,
        hostname: &Hostname,
        address: IpAddr,
        owner: Owner,
    ) -> Result<Found, PowerDnsError> {
        self.check_zone(hostname)?;
        let records = self.api.records(hostname).await?;
        Ok(match records::standing(&records, owner) {
            Standing::Ours if records::points_to(&records, address) => Found::AsMade,
            Standing::Ours => Found::Changed(format!("{hostname} does not point to {address} alone")),
            Standing::Absent | Standing::SomeoneElses { .. } => Found::Nothing,
        })
    }

    /// Every name of the zone that carries an ownership record of ours and nothing of anybody else.
    pub async fn signed(&self) -> Result<Vec<(Hostname, Owner)>, PowerDnsError> {
        Ok(records::signed(self.api.zone().await?))
    }

    /// The records that stand under this name, now.
    pub async fn lookup(&self, hostname: &Hostname) -> Result<Vec<Record>, PowerDnsError> {
        self.check_zone(hostname)?;
        Ok(records::flatten(self.api.records(hostname).await?))
    }

    async fn writer(&self) -> Result<MutexGuard<'_, ()>, PowerDnsError> {
        let writer = tokio::time::timeout(WRITER_TIMEOUT, self.writing.lock()).await;
        writer.map_err(|_| PowerDnsError::Busy { zone: self.zone.clone(), waited: WRITER_TIMEOUT })
    }

    /// A name of another domain is a mistake of ours; PowerDNS would answer with a 422 that explains less.
    fn check_zone(&self, hostname: &Hostname) -> Result<(), PowerDnsError> {
        if hostname.domain() == &self.zone {
            return Ok(());
        }
        Err(PowerDnsError::OtherZone { hostname: hostname.clone(), zone: self.zone.clone() })
    }
}
