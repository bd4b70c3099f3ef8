//! The protocol of leases, fences and compensations, as a model that a checker walks through state by state.
//!
//! Tests with real crashes show that the engine survives the moments at which somebody thought of killing it. Here the
//! [checker](stateright) takes every order in which a few things can go wrong, and looks at every state on the way.
//!
//! # What is the product's own, and what is modelled
//!
//! The journal in a [`State`](state::State) is a [`History`](backstitch_core::history::History), folded row by row by the core; and what
//! a worker does next is what `must_unwind`, `forward`, `unwind` and `judge` of [`backstitch_core::decide`] say, with the
//! product's limits for late effects. So a mistake in the shipped decisions is a counterexample here.
//!
//! Around them is modelled, as small as it can be and still go wrong:
//!
//! - two worker processes, and one more whenever none is left. Each can die or stand still at any point of its work, and
//!   go on later; it has a lease by its own clock and one by the database's, stops itself, revives, is buried: at once if its
//!   process is known to be gone, or when the clock says so *and* its beat was seen standing still over a lease;
//! - the statements of `migrations/`: a claim; an append that takes the fence's lock in one move and writes in the next, whose
//!   sender may be dead by then, and whose answer may be lost and is asked for again; a burial; the verbs of an operator;
//! - one workflow of two steps, each upon a target that either knows keys and keeps tombstones, or takes whatever arrives and has to be
//!   waited out; calls on their way, that arrive after their worker's death, after its burial, or never;
//! - time, a lease at a tick: it passes when somebody waits for it, or, as one of the things that go wrong, when nobody does.
//!
//! # What is shown
//!
//! Safety is a list in [`rules`], most of it read off the targets and not off the journal. Liveness is two rules of that
//! list: every move raises a measure, so no path leads in a circle; and where nothing moves by itself any more, the workflow has
//! ended or a person was told. Together they say more than an *eventually* of the checker, which looks only at the first way
//! it came to a state: however things go wrong, and as soon as they stop, every path has such an end.
//!
//! A model that finds nothing may be blind. Each [`Defect`](protocol::Defect) leaves one part of the protocol out; for each
//! a test demands the counterexample, and the rule that it breaks.
//!
//! # What is not
//!
//! Transactional steps (Postgres makes effect and outcome one), deadlines, shutdowns, many workflows in one statement, a claim
//! whose answer is lost, code that changed. More than two faults at a time: the tests with real processes go there, at random.
//! And the assumption below everything: a call to a target that takes anything arrives within the attempt's timeout and its
//! grace, or never. A process that is stopped between looking at its lease and sending, for longer than that, breaks it.

pub mod database;
pub mod moves;
mod outside;
pub mod protocol;
pub mod rules;
pub mod state;
mod walk;
mod worker;
