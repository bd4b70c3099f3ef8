//! Effect ledger, fault injection and the helpers that wait for facts.
//!
//! - [`ledger`]: where every run and compensation of a test's steps is written down, in a database of its own.
//! - [`hostile`]: texts that do harm where they are pasted in as they are.
//! - [`script`]: workflows whose steps do as they are told, faults included.
//! - [`world`]: a database, a ledger, workers in this process and in others.
//! - [`wire`]: a wire to Postgres that can fall silent.
//! - [`cut`]: a line to Postgres that can be cut in the middle of a word.
//! - [`oracle`]: what must hold after every case.
//! - [`mod@bench`]: how fast the engine is, and what a workflow costs.

pub mod bench;
pub mod cut;
pub mod hostile;
pub mod ledger;
pub mod oracle;
mod perform;
pub mod script;
pub mod wait;
pub mod wire;
pub mod world;
