//! The HTTP API over the client: where it may listen, how it serves, who may ask, and whether the daemon is well.
//!
//! [`api`] answers about workflows of any kind, to whoever shows a token. Routes of a particular workflow are merged in
//! beside it by whoever knows that workflow; beyond loopback they are put behind the same [`Gate`]. What is beyond loopback,
//! [`Place`] knows: there is none without TLS and tokens.

mod access;
mod body;
mod bucket;
mod health;
mod knock;
mod listen;
mod metrics;
mod openapi;
mod origins;
mod outside;
mod patient;
mod places;
mod problem;
mod rate;
mod refusal;
mod scrape;
mod serve;
mod shares;
mod strangers;
mod tls;
mod token;
mod v1;

pub use access::{Access, Gate};
pub use body::{BODY_BYTES_MAX, BODY_TIME, read_json};
pub use health::health;
pub use knock::is_live;
pub use listen::{NoPlace, Place};
pub use metrics::Metrics;
pub use origins::{NoOrigin, Origin};
pub use outside::{Looking, Orphans, Outside, Unseen};
pub use places::{Places, Taken};
pub use problem::PROBLEM_JSON;
pub use rate::{REQUESTS_AT_ONCE, REQUESTS_PER_SECOND};
pub use refusal::Refusal;
pub use serve::{Closing, HEAD_TIME, serve};
pub use strangers::{UNKNOWN_TOKENS_AT_ONCE, UNKNOWN_TOKENS_PER_SECOND};
pub use tls::{Tls, TlsError};
pub use token::BearerToken;
pub use v1::{ApiSettings, DeclaredError, api};
