//! The HTTP API over the client: where it may listen, how it serves, and whether the daemon is well.
//!
//! Nothing here asks who is calling, so nothing here is reachable from another machine: [`Loopback`] is the only
//! address that [`serve`] takes. Routes of a particular workflow are merged in by whoever knows that workflow.

mod body;
mod health;
mod listen;
mod refusal;
mod serve;

pub use body::{BODY_BYTES_MAX, BODY_TIME, read_json};
pub use health::health;
pub use listen::{Loopback, NotLoopback};
pub use refusal::Refusal;
pub use serve::{HEAD_TIME, serve};
