//! What workers and databases do to workflows: leases, outages, poison, cancels and deadlines. Cases by name, as in
//! `journeys`.

/// The worker's binary, to be run as a process of its own.
#[allow(dead_code)]
const WORKER: &str = env!("CARGO_BIN_EXE_script-worker");
