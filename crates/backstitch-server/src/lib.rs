//! The HTTP API over the client: where it may listen, how it serves, who may ask, and whether the daemon is well.
//!
//! [`api`] answers about workflows of any kind, to whoever shows a token. What is merged in beside it, by whoever knows a
//! particular workflow, asks nobody who they are: [`Loopback`] is the only address that [`serve`] takes.

mod access;
mod body;
mod health;
mod listen;
mod openapi;
mod problem;
mod rate;
mod refusal;
mod serve;
mod token;
mod v1;

pub use access::Access;
pub use body::{BODY_BYTES_MAX, BODY_TIME, read_json};
pub use health::health;
pub use listen::{Loopback, NotLoopback};
pub use problem::PROBLEM_JSON;
pub use rate::{REQUESTS_AT_ONCE, REQUESTS_PER_SECOND};
pub use refusal::Refusal;
pub use serve::{HEAD_TIME, serve};
pub use token::BearerToken;
pub use v1::{ApiSettings, DeclaredError, api};
