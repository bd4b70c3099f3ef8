//! What workers and databases do to workflows: leases, outages, poison, cancels and deadlines. Cases by name, as in
//! `journeys`.

mod batches;
mod cancels;
mod disks;
mod facts;
mod intents;
mod journals;
mod late;
mod leases;
mod locks;
mod looks;
mod outages;
mod pivots;
mod poison;
mod poolers;
mod previous;
mod refusals;
mod requests;
mod servers;
mod shutdowns;
mod versions;
mod zombies;

/// The worker's binary, to be run as a process of its own.
const WORKER: &str = env!("CARGO_BIN_EXE_script-worker");
