//! How many look through much at once, so that whoever looks up one thing, or writes, keeps connections?

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

/// How many of a pool's connections such looks may have: half. The others are for what is over in a moment.
const OF_CONNECTIONS: u32 = 2;

/// The places from which is looked.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    all: usize,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Place {
    held: Option<OwnedSemaphorePermit>,
    given_up_after: Duration,
}

impl Places {
    /// For looks that share so many connections with everything else.
    pub(crate) fn of(connections_max: u32) -> Self {
        let all = usize::try_from((connections_max / OF_CONNECTIONS).max(1)).unwrap_or(1);
        Self { free: Arc::new(Semaphore::new(all)), all }
    }

    /// How many there are.
    pub(crate) fn all(&self) -> usize {
        self.all
    }

    /// Waits for a place, for a look that the server gives up after this time at the latest.
    pub(crate) async fn take(&self, given_up_after: Duration) -> Place {
        let held = Arc::clone(&self.free).acquire_owned().await.expect("it is never closed");
        Place { held: Some(held), given_up_after }
    }
}

impl Place {
    /// The server has answered: the next may look.
    pub(crate) fn leave(mut self) {
        self.held = None;
    }
}

/// A look whose caller left goes on in the server until it gives it up: until then its place is taken. Else whoever asks and
/// hangs up, again and again, would have all of the server's connections.
impl Drop for Place {
    fn drop(&mut self) {
        let (held, given_up_after) = (self.held.take(), self.given_up_after);
        if let (Some(held), Ok(runtime)) = (held, Handle::try_current()) {
            runtime.spawn(async move {
                sleep(given_up_after).await;
                drop(held);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    const LOOK: Duration = Duration::from_secs(4);

    #[test]
    fn half_of_the_connections_are_for_looks_and_one_at_least() {
        let places = |connections_max| Places::of(connections_max).all();
        assert_eq!([6, 5, 2, 1].map(places), [3, 2, 1, 1]);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_answered_makes_room_and_who_leaves_early_does_when_the_server_gave_up() {
        let places = Places::of(1);
        let place = places.take(LOOK).await;
        assert!(timeout(LOOK, places.take(LOOK)).await.is_err(), "it is taken for as long as it is held");
        place.leave();
        let place = timeout(Duration::ZERO, places.take(LOOK)).await.expect("it is free");
        let began = Instant::now();
        drop(place);
        places.take(LOOK).await.leave();
        assert_eq!(began.elapsed(), LOOK);
    }
}
