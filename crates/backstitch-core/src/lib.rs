//! What a workflow, a step and a journal are, and what comes next.
//!
//! Nothing here does I/O, reads a clock or draws a random number: times come in as data from the database, and every
//! decision is a function of a [`History`](history::History) and the [`Circumstances`](decide::Circumstances) around
//! it. The engine (crate `backstitch`) folds a journal, asks what comes next, and does it.
//!
//! Read in this order: [`record`] (what is written), [`history`] (what it amounts to), [`decide`] (what comes next).

pub mod decide;
pub mod failure;
pub mod history;
pub mod id;
pub mod json;
pub mod limits;
pub mod record;
pub mod report;
pub mod retry;
