//! What can go wrong at PowerDNS, and what does it mean for the caller?

use std::time::Duration;

use crate::identifiers::{Domain, Hostname};
use crate::verdict::Classified;

/// One variant for each thing a caller or an operator can do.
#[derive(Debug, thiserror::Error)]
pub enum PowerDnsError {
    /// The configuration names no usable API.
    #[error("powerdns url {url} is not usable: give one such as http://127.0.0.1:8081 (plain http)")]
    BadUrl {
        /// What was configured.
        url: String,
    },
    /// The key does not open the API.
    #[error("powerdns at {url} refused the api key (401): set the key that its `api-key` setting has")]
    KeyRefused {
        /// Who was asked.
        url: String,
    },
    /// The zone is not served there.
    #[error(
        "powerdns at {url} does not serve the zone {zone} (404): create it, or configure the zone it serves"
    )]
    ZoneMissing {
        /// Who was asked.
        url: String,
        /// The configured zone.
        zone: Domain,
    },
    /// The name does not stand below the zone of this client.
    #[error("{hostname} is not a name of the zone {zone}")]
    OtherZone {
        /// The name asked for.
        hostname: Hostname,
        /// The zone of this client.
        zone: Domain,
    },
    /// The name is taken; it was left as it is.
    #[error("{hostname} is someone else's and was left alone: it belongs to {holder}")]
    SomeoneElses {
        /// The name asked for.
        hostname: Hostname,
        /// Who holds it, as far as its records say.
        holder: String,
    },
    /// PowerDNS understood and said no (409, 422 and the like).
    #[error("powerdns refused the request ({status}): {detail}")]
    Refused {
        /// Its HTTP status.
        status: u16,
        /// Its own words.
        detail: String,
    },
    /// Other changes to the zone take too long; this one was not sent.
    #[error("other changes to the zone {zone} did not end within {} s, and nothing was sent", waited.as_secs())]
    Busy {
        /// The zone.
        zone: Domain,
        /// How long they were waited for.
        waited: Duration,
    },
    /// No connection was made.
    #[error("powerdns at {url} cannot be reached")]
    Unreachable {
        /// Who was asked.
        url: String,
        /// Whether a change had been made before.
        change_sent: bool,
        /// What the connection attempt said.
        source: reqwest::Error,
    },
    /// The connection was there, the answer was not: a timeout or a connection that broke.
    #[error("powerdns at {url} did not answer in time or broke the connection")]
    NoAnswer {
        /// Who was asked.
        url: String,
        /// Whether a change may have been made.
        change_sent: bool,
        /// What the connection said.
        source: reqwest::Error,
    },
    /// PowerDNS had trouble of its own (5xx).
    #[error("powerdns failed ({status}): {detail}")]
    Failed {
        /// Its HTTP status.
        status: u16,
        /// Its own words.
        detail: String,
        /// Whether a change may have been made.
        change_sent: bool,
    },
    /// The answer was not what the API promises.
    #[error("powerdns answered something unexpected: {detail}")]
    Unexpected {
        /// What could not be read.
        detail: String,
        /// Whether a change may have been made.
        change_sent: bool,
    },
    /// The change was accepted, and the zone says otherwise: somebody else wrote at the same time.
    #[error("the records of {hostname} are not what was just written")]
    ReadBackDiffers {
        /// The name that was changed.
        hostname: Hostname,
    },
    /// The name was deleted and came back, again and again.
    #[error("{hostname} comes back after each deletion: somebody still registers it for this workflow")]
    ComesBack {
        /// The name that was deleted.
        hostname: Hostname,
    },
}

impl PowerDnsError {
    /// The same error, when it hit the read that follows a change: the change itself was accepted.
    pub(super) fn after_change(mut self) -> Self {
        match &mut self {
            Self::Unreachable { change_sent, .. }
            | Self::NoAnswer { change_sent, .. }
            | Self::Failed { change_sent, .. }
            | Self::Unexpected { change_sent, .. } => {
                *change_sent = true;
                self
            }
            other => Self::Unexpected { detail: format!("reading back: {other}"), change_sent: true },
        }
    }
}

impl Classified for PowerDnsError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Busy { .. }
            | Self::Unreachable { .. }
            | Self::NoAnswer { .. }
            | Self::Failed { .. }
            | Self::Unexpected { .. }
            | Self::ReadBackDiffers { .. }
            | Self::ComesBack { .. } => true,
            Self::BadUrl { .. }
            | Self::KeyRefused { .. }
            | Self::ZoneMissing { .. }
            | Self::OtherZone { .. }
            | Self::SomeoneElses { .. }
            | Self::Refused { .. } => false,
        }
    }

    fn may_have_happened(&self) -> bool {
        match self {
            Self::Unreachable { change_sent, .. }
            | Self::NoAnswer { change_sent, .. }
            | Self::Failed { change_sent, .. }
            | Self::Unexpected { change_sent, .. } => *change_sent,
            Self::ReadBackDiffers { .. } | Self::ComesBack { .. } => true,
            Self::Busy { .. }
            | Self::BadUrl { .. }
            | Self::KeyRefused { .. }
            | Self::ZoneMissing { .. }
            | Self::OtherZone { .. }
            | Self::SomeoneElses { .. }
            | Self::Refused { .. } => false,
        }
    }

    fn may_still_arrive(&self) -> bool {
        matches!(self, Self::NoAnswer { change_sent: true, .. })
    }

    fn code(&self) -> &'static str {
        match self {
            Self::BadUrl { .. } => "powerdns_url_unusable",
            Self::KeyRefused { .. } => "powerdns_key_refused",
            Self::ZoneMissing { .. } => "powerdns_zone_missing",
            Self::OtherZone { .. } => "hostname_of_another_zone",
            Self::SomeoneElses { .. } => "hostname_taken",
            Self::Refused { .. } => "powerdns_refused",
            Self::Busy { .. } => "powerdns_busy",
            Self::Unreachable { .. } => "powerdns_unreachable",
            Self::NoAnswer { .. } => "powerdns_no_answer",
            Self::Failed { .. } => "powerdns_failed",
            Self::Unexpected { .. } => "powerdns_unexpected_answer",
            Self::ReadBackDiffers { .. } => "dns_record_differs",
            Self::ComesBack { .. } => "dns_record_comes_back",
        }
    }
}
