//! Effect ledger, fault injection and the helpers that wait for facts.
//!
//! - [`ledger`]: where every run and compensation of a test's steps is written down, in a database of its own.
//! - [`script`]: workflows whose steps do as they are told, faults included.
//! - [`world`]: a database, a ledger, workers in this process and in others.
//! - [`oracle`]: what must hold after every case.

pub mod ledger;
pub mod oracle;
pub mod script;
pub mod wait;
pub mod world;
