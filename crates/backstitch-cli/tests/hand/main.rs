//! Does the real binary keep its word to people and to scripts, on a real database?

#![allow(clippy::unwrap_used, reason = "a test has nothing better to do")]

mod bad_input;
mod bench;
mod configuration;
mod daemon;
mod deciding;
mod doctor;
mod edge;
mod endings;
mod fleet;
mod help;
mod looking;
mod own_postgres;
mod plain;
mod retention;
mod toys;
mod world;
