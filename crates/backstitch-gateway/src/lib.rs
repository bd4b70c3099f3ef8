//! The first workflow: a gateway from the pool, its DNS name, its vhost, its handshake.
//!
//! The adapters ([`powerdns`], [`nginx`], [`agent`]) and the [`pool`] are ordinary clients that know nothing of
//! workflows: they take parsed [`identifiers`] and an [`identifiers::Owner`], and say with every error what a caller
//! may conclude from it ([`verdict`]). [`sandbox`] runs the real servers privately, for tests and the demo.

pub mod agent;
pub mod identifiers;
pub mod networks;
pub mod nginx;
pub mod pool;
pub mod powerdns;
pub mod sandbox;
pub mod secret;
pub mod verdict;
