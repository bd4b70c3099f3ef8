//! The core, tested by generating journals: exhaustively up to a length, and at random beyond.
//!
//! [`drive`] writes journals as an engine would, through the public functions of the core alone. [`ledger`] reads the
//! raw rows and checks the invariants without any help from the core. [`explore`] enumerates what may go wrong. The
//! other modules are the claims.

mod deadly;
mod decisions;
mod drive;
mod exhaustive;
mod explore;
mod late;
mod ledger;
mod mutated;
mod operators;
mod prefixes;
mod random;
mod refusals;
mod reports;
mod stitches;
