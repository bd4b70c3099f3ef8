//! The protocol's interleavings, two connections at a time, and what its statements cost on large tables.
//!
//! Everything here is raw SQL against a real Postgres. An interleaving is held in place by open transactions and by
//! looking who waits for whom, never by time.

mod announcements;
mod answers;
mod attention;
mod burials;
mod catalog;
mod claims;
mod deadlocks;
mod decisions;
mod documented;
mod enqueues;
mod hostile;
mod journals;
mod keys;
mod operators;
mod order;
mod plans;
mod races;
mod record;
mod retention;
mod roles;
mod stage;
mod stale;
mod tokens;
mod transactions;
