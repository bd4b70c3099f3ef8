//! How a worker lives: a life from its registration to its end, and after a burial the next one.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use backstitch_core::id::IncarnationId;
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::appender::Appender;
use crate::claims;
use crate::database::Kept;
use crate::error::Error;
use crate::future::catch_panic;
use crate::heartbeat;
use crate::incarnation;
use crate::lease::Lease;
use crate::life::{InFlight, Life, Plan, Shop};
use crate::listen;
use crate::lock_file::LockFile;
use crate::recovery;
use crate::watchdog::Watchdog;

/// How long to wait before a life that could not begin is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// Which part of a lease a runtime may be silent: half. Longer than a busy machine keeps a thread waiting; and, being silent, it
/// can't stop its effects: with the beat before it and the look after it, that is over before the lease is.
const SILENCE_SHARE: u32 = 2;

/// Tells whether a worker may begin effects, through all its lives. Cheap to clone and to ask.
#[derive(Debug, Clone)]
pub struct Pulse(Arc<watch::Sender<Option<Arc<Lease>>>>);

impl Pulse {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Whether the worker holds its lease: its heartbeat got through to the database not long ago, and it takes up work.
    #[must_use]
    pub fn holds_lease(&self) -> bool {
        self.0.borrow().as_ref().is_some_and(|lease| lease.is_usable())
    }
}

/// A life that has begun: registered, its heart beating.
pub(crate) struct Birth {
    life: Life,
    in_flight: Arc<InFlight>,
    lock_file: Option<LockFile>,
    /// The heart beats until this is dropped: never for longer than somebody works.
    heart: DropGuard,
}

/// A life that is to begin. However often that must be tried, it has one token and one file: registered again, it is the same.
struct Unborn {
    token: Uuid,
    lock_file: Option<LockFile>,
}

impl Unborn {
    fn new(plan: &Plan) -> Result<Self, Error> {
        let token = Uuid::new_v4();
        // Locked before it is registered: a look in between finds the file held.
        let lock_file =
            plan.state_directory.as_deref().map(|directory| LockFile::hold(directory, token)).transpose()?;
        Ok(Self { token, lock_file })
    }

    /// It does not begin after all. If it was registered and we were not told, it holds nothing, and is buried after its lease.
    fn give_up(self) {
        if let Some(lock_file) = self.lock_file {
            lock_file.remove();
        }
    }
}

/// Begins the first life.
pub(crate) async fn begin<S>(shop: &Shop<S>, plan: &Plan) -> Result<Birth, Error> {
    bear(shop, Unborn::new(plan)?).await.map_err(|(unborn, error)| {
        unborn.give_up();
        error
    })
}

/// Begins the next life, however often that must be tried. None: the worker stops.
async fn begin_again<S>(shop: &Shop<S>, plan: &Plan, stop: &CancellationToken) -> Option<Birth> {
    let mut unborn = None;
    while !stop.is_cancelled() {
        let error = match unborn.take().map_or_else(|| Unborn::new(plan), Ok) {
            Ok(known) => match bear(shop, known).await {
                Ok(birth) => return Some(birth),
                Err((known, error)) => {
                    unborn = Some(known);
                    error
                }
            },
            Err(error) => error,
        };
        tracing::warn!(%error, "beginning a new life failed");
        tokio::time::sleep(AGAIN).await;
    }
    if let Some(unborn) = unborn {
        unborn.give_up();
    }
    None
}

async fn bear<S>(shop: &Shop<S>, unborn: Unborn) -> Result<Birth, (Unborn, Error)> {
    match register(shop, unborn.token).await {
        Ok((life, heart)) => {
            let in_flight = Arc::clone(&life.in_flight);
            Ok(Birth { life, in_flight, lock_file: unborn.lock_file, heart })
        }
        Err(error) => Err((unborn, error)),
    }
}

/// Registers a life, and has its heart beat until the guard is dropped.
async fn register<S>(shop: &Shop<S>, token: Uuid) -> Result<(Life, DropGuard), Error> {
    let timing = shop.timing;
    let mut kinds: Vec<String> = shop.kinds.values().map(|kind| kind.name.to_owned()).collect();
    kinds.sort_unstable();
    let asked_at = Instant::now();
    let incarnation = incarnation::register(&shop.database, token, kinds, timing.lease).await?;
    let lease = Arc::new(Lease::new(incarnation, asked_at, timing.lease - timing.self_stop));
    let in_flight = Arc::new(InFlight::default());
    let end = CancellationToken::new();
    let heart = end.clone().drop_guard();
    let watchdog = Watchdog::start(timing.lease / SILENCE_SHARE)?;
    let (beats_for, hears_of) = (Arc::clone(&lease), Arc::clone(&in_flight));
    heartbeat::start(shop.database.clone(), beats_for, hears_of, timing, &watchdog, end)?;
    tracing::info!(%incarnation, "the worker begins to work");
    let claims = Arc::new(Mutex::new(Kept::of(shop.database.clone())));
    let (appends_for, appends_on) = (Arc::clone(&lease), Arc::clone(&claims));
    let life = Life {
        appender: Appender::start(shop.database.clone(), appends_for, appends_on, watchdog.clone())?,
        claims,
        watchdog,
        lease,
        draining: CancellationToken::new(),
        abort: CancellationToken::new(),
        makes_room: AtomicBool::new(false),
        alone: watch::Sender::new(false),
        in_flight,
        parking: std::sync::Mutex::default(),
    };
    Ok((life, heart))
}

/// Lives until `stop`, with as many lives as it takes.
pub(crate) async fn live<S: Send + Sync + 'static>(
    shop: Arc<Shop<S>>,
    plan: Plan,
    birth: Birth,
    pulse: Pulse,
    stop: CancellationToken,
) {
    let mut birth = Some(birth);
    while let Some(life) = birth.take() {
        pulse.0.send_replace(Some(Arc::clone(&life.life.lease)));
        if let Err(panic) = catch_panic(spend(&shop, &plan, life, &stop)).await {
            tracing::error!(
                panic,
                "the worker's life ended with a defect of the engine, beginning a new one"
            );
        }
        birth = begin_again(&shop, &plan, &stop).await;
    }
}

/// One life, to its end.
async fn spend<S: Send + Sync + 'static>(
    shop: &Arc<Shop<S>>,
    plan: &Plan,
    birth: Birth,
    stop: &CancellationToken,
) {
    let Birth { life, in_flight, lock_file, heart } = birth;
    let life = Arc::new(life);
    let incarnation = life.lease.incarnation;
    let wake = Arc::new(Notify::new());
    // They end with this life, however it ends: one that recovers for the dead would take the next life for a stranger.
    let listening = AbortOnDropHandle::new(tokio::spawn(listen::listen(
        shop.database.clone(),
        Arc::clone(&in_flight),
        Arc::clone(&wake),
    )));
    let recovering = AbortOnDropHandle::new(tokio::spawn(recovery::recover(
        shop.database.clone(),
        incarnation,
        plan.state_directory.clone(),
        shop.timing,
        Arc::clone(&wake),
    )));
    claims::work(shop, &life, plan, &wake, stop).await;
    // The heart too: a beat after the retirement would take it for a burial.
    drop((listening, recovering, heart));
    let retired = !life.lease.is_dead() && retire(shop, incarnation).await;
    // Left behind, free, it has this one buried at once instead of a lease later.
    if let Some(lock_file) = lock_file.filter(|_| retired || life.lease.is_dead()) {
        lock_file.remove();
    }
}

async fn retire<S>(shop: &Shop<S>, incarnation: IncarnationId) -> bool {
    match incarnation::retire(&shop.database, incarnation).await {
        Ok(true) => {
            tracing::info!(%incarnation, "the worker has handed everything back and is gone");
            return true;
        }
        Ok(false) => tracing::warn!(%incarnation, "the worker still holds something, recovery will find it"),
        Err(error) => tracing::warn!(%incarnation, %error, "the worker could not say that it is gone"),
    }
    false
}
