//! Does a Postgres of our own hold what the crate's first page promises? Against real servers.

// A test may unwrap, and so may what it calls.
#![allow(clippy::unwrap_used)]

mod ask;
mod child;
mod crash;
mod place;
mod start;
mod test_database;
