//! The first workflow: a gateway from the pool, its DNS name, its vhost, its handshake.
//!
//! The adapters ([`powerdns`], [`nginx`], [`agent`]) and the [`pool`] are ordinary clients that know nothing of
//! workflows: they take parsed [`identifiers`] and an [`identifiers::Owner`], and say with every error what a caller
//! may conclude from it ([`verdict`]). [`steps`] make workflows of them ([`StartGateway`], [`StopGateway`]), a [`worker`]
//! runs these on an [`Edge`], and [`request`] asks for them, one at a time per organisation. [`probes`] look at what one of
//! them left, [`orphans`] for what none of them has any more. [`sandbox`] runs the real servers privately, for tests and the
//! demo.

pub mod agent;
mod answer;
mod checkup;
mod confirm;
mod edge;
pub mod found;
pub mod identifiers;
pub mod networks;
pub mod nginx;
pub mod orphans;
pub mod pool;
pub mod powerdns;
pub mod request;
pub mod sandbox;
pub mod steps;
pub mod verdict;
mod worker;
mod workflows;

pub use crate::checkup::{Checkup, check};
pub use crate::edge::{ANSWER_PATIENCE, Edge, EdgeConfig, EdgeError, RESETS_MAX};
pub use crate::pool::migrate;
pub use crate::worker::{inputs, probes, worker};
pub use crate::workflows::{StartGateway, StopGateway};
