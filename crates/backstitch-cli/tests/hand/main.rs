//! Does the real binary keep its word to people and to scripts, on a real database?

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod alerts;
mod api;
mod bad_input;
mod bench;
mod between;
mod beyond;
mod canary;
mod configuration;
mod daemon;
mod deciding;
mod described;
mod doctor;
mod documented;
mod edge;
mod endings;
mod fleet;
mod following;
mod fuzzed;
mod guide;
mod help;
mod holder;
mod hostile;
mod http;
mod looking;
mod metrics;
mod origins;
mod own_postgres;
mod plain;
mod pooled;
mod reach;
mod retention;
mod rights;
mod rush;
mod sealing;
mod shown;
mod torture;
mod toys;
/// The example of the README, whose items the pages use; its `main` is not one of them.
#[allow(dead_code, reason = "the example is more than a test needs")]
#[path = "../../../backstitch/examples/trip.rs"]
mod trip;
mod world;
