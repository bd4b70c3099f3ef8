//! Effect ledger, fault injection and the helpers that wait for facts.
//!
//! - [`ledger`]: where every run and compensation of a test's steps is written down, in a database of its own.
//! - [`hostile`]: texts that do harm where they are pasted in as they are.
//! - [`script`]: workflows whose steps do as they are told, faults included.
//! - [`world`]: a database, a ledger, workers in this process and in others.
//! - [`wait`]: waits for facts; [`clock`]: lets the time pass that nobody wants to wait.
//! - [`harm`]: what can be done to workers through the database; [`looks`]: what is to be seen of them there.
//! - [`process`]: what a worker process does that is there to be killed; [`stuck`]: how a thread of it is blocked for ever.
//! - [`sweep`]: every boundary of a workflow of yours × every hurt.
//! - [`cut`]: a line to Postgres that can be cut in the middle of a word, or fall silent.
//! - [`pooler`]: a pooler between workers and Postgres.
//! - [`recorder`]: a target in a process of its own, which can misbehave.
//! - [`judge`]: what must hold after every case; [`oracle`]: reads what there is to judge; [`violation`]: what did not hold.
//! - [`mod@bench`]: how fast the engine is, and what a workflow costs.

pub mod bench;
pub mod clock;
pub mod cut;
pub mod harm;
pub mod hostile;
pub mod judge;
pub mod ledger;
pub mod looks;
pub mod oracle;
mod perform;
pub mod pooler;
pub mod process;
pub mod recorder;
pub mod script;
pub mod stuck;
pub mod sweep;
pub mod violation;
pub mod wait;
pub mod world;

#[cfg(doctest)]
#[doc = include_str!("../../../docs/testing.md")]
struct Testing;
