//! How workflows go forward, fail and are taken back: cases by name, each over a real Postgres, with the effect ledger in
//! a database of its own and the oracle's word over every workflow that ends.

mod back;
mod counted;
mod failing;
mod following;
mod forward;
mod look;
mod misuse;
mod operators;
mod prefixes;
mod random;
mod report;
mod secrets;
mod settled;
mod severed;
mod stuck;
mod sweep;
mod swept;
mod transactional;
mod trips;
mod verify;
mod waiting;

/// The worker's binary, to be run as a process of its own.
const WORKER: &str = env!("CARGO_BIN_EXE_script-worker");
