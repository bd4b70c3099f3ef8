//! Who looks at what workflows left outside, for whoever asks over HTTP?
//!
//! Only the code of a kind knows what its steps leave, so the daemon that has the code hands it in, and this crate knows none
//! of the kinds.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use axum::http::StatusCode;
use backstitch::{Error, Verified, WorkflowId};
use serde::Serialize;
use serde_json::Value;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use utoipa::ToSchema;

use crate::refusal::Refusal;

/// How many look at once. Each asks everything outside that its steps touch, which has other work to do.
const LOOKS_MAX: usize = 4;

/// In how many seconds it is worth asking again when too many look already, or the outside does not answer.
const ASK_AGAIN_SECONDS: u32 = 1;

/// What comes of a look, later.
pub type Looking<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Looks at what workflows left outside, and changes nothing.
pub trait Outside: Send + Sync {
    /// The kinds whose steps leave something that it can look for.
    fn kinds(&self) -> &[&str];

    /// Looks for each step that this workflow began.
    fn verify(&self, workflow: WorkflowId) -> Looking<'_, Result<Verified, Error>>;

    /// Looks for what is there of those kinds and belongs to no workflow.
    fn orphans(&self) -> Looking<'_, Result<Orphans, Unseen>>;
}

/// What stands outside that is nobody's. What kinds of things there are, the daemon's kinds know.
#[derive(Debug, Serialize, ToSchema)]
pub struct Orphans {
    /// How much was looked at, by what it is
    #[schema(value_type = Object)]
    pub looked_at: Value,
    /// Of each: `thing`, what it is; `workflow`, which made it; `why` it is nobody's; `mend`, what to do; and which it is
    #[schema(value_type = Vec<Object>)]
    pub orphans: Vec<Value>,
}

/// Why it can't be said what is there.
#[derive(Debug)]
pub enum Unseen {
    /// The engine does not say.
    Engine(Error),
    /// Somebody outside does not: who, why, and what to do.
    Outside(String),
}

/// The one who looks, if there is one, and how many may have it look at once.
#[derive(Clone)]
pub(crate) struct Looks {
    outside: Option<Arc<dyn Outside>>,
    free: Arc<Semaphore>,
}

impl Looks {
    pub(crate) fn new(outside: Option<Arc<dyn Outside>>) -> Self {
        Self { outside, free: Arc::new(Semaphore::new(LOOKS_MAX)) }
    }

    /// The one who looks.
    pub(crate) fn outside(&self) -> Result<&dyn Outside, Refusal> {
        self.outside.as_deref().ok_or_else(|| {
            let why = "this daemon serves no workflows, so it can't look for what they left: ask one that does, or run \
                       `backstitch verify` with the database, where what they touch is reached";
            Refusal::new(StatusCode::CONFLICT, "not_served_here", why)
        })
    }

    /// A place to look from. Free again when it is dropped.
    pub(crate) fn take(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        Arc::clone(&self.free).try_acquire_owned().map_err(|_| {
            let why =
                format!("{LOOKS_MAX} callers have the outside looked at already: ask again in a moment");
            Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_looks", why)
                .retry_after(ASK_AGAIN_SECONDS)
        })
    }
}

impl From<Unseen> for Refusal {
    fn from(unseen: Unseen) -> Self {
        match unseen {
            Unseen::Engine(error) => Self::of_engine(&error),
            Unseen::Outside(why) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "not_seen", why).retry_after(ASK_AGAIN_SECONDS)
            }
        }
    }
}

impl fmt::Debug for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Looks").field("outside", &self.outside.is_some()).field("free", &self.free).finish()
    }
}
