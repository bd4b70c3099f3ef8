//! When a worker looks for due workflows, how many it takes, and which one it drives alone.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use backstitch_core::limits::SLOW_RETRY;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::claim::{Claimed, Departure, Want, claim};
use crate::drive::drive;
use crate::future::catch_panic;
use crate::journal::{After, Attention};
use crate::life::{Life, Plan, Shop};
use crate::outage::Outage;
use crate::park;
use crate::strays;
use crate::timing::jittered;

/// When a woken worker looks again: what was announced may not be committed yet.
const LOOKS_AFTER_A_WAKE: [Duration; 3] =
    [Duration::from_millis(2), Duration::from_millis(8), Duration::from_millis(32)];

/// How long after an error of the database the next look comes.
const LOOK_AFTER_AN_ERROR: Duration = Duration::from_millis(250);

/// While there is a backlog, slots that come free within this time are filled by one claim: short beside what a step on
/// a network takes, long beside what a claim costs the database.
const GATHER: Duration = Duration::from_millis(2);

/// Or as soon as this share of all slots is free.
const GATHER_SHARE: usize = 8;

/// How often strays are looked for though every claim was answered, in leases: one that the server carried out long after we
/// gave it up is rare, and so is this look beside the claims.
const LEASES_BETWEEN_STRAYS: u32 = 3;

/// The most workflows of one claim: it brings their inputs and short journals along, and a worker that takes over from a dead one
/// would be sent one for each of its slots at once. Beyond a hundred a claim costs no less for each.
const CLAIM_MAX: usize = 128;

/// The workflows that this worker drives, and what it knows of its next look.
struct Work<'a, S> {
    shop: &'a Arc<Shop<S>>,
    life: &'a Arc<Life>,
    plan: &'a Plan,
    driving: JoinSet<Departure>,
    /// One that may kill its process: claimed, and waiting to be alone.
    suspect: Option<Claimed>,
    next_look: Instant,
    looks_soon: VecDeque<Duration>,
    /// The last claim got all that it asked for.
    backlog: bool,
    /// Until when a claim without an answer may still be carried out. None: every claim was answered.
    in_doubt_until: Option<Instant>,
    /// When strays are looked for whatever the claims were answered.
    strays_due: Instant,
    outage: Outage,
}

/// Claims and drives until `stop` or until this incarnation is dead; then hands everything back.
pub(crate) async fn work<S: Send + Sync + 'static>(
    shop: &Arc<Shop<S>>,
    life: &Arc<Life>,
    plan: &Plan,
    wake: &Notify,
    stop: &CancellationToken,
) {
    let mut work = Work {
        shop,
        life,
        plan,
        driving: JoinSet::new(),
        suspect: None,
        next_look: Instant::now(),
        looks_soon: VecDeque::new(),
        backlog: false,
        in_doubt_until: None,
        strays_due: Instant::now() + shop.timing.lease * LEASES_BETWEEN_STRAYS,
        outage: Outage::default(),
    };
    let mut alone = life.alone.subscribe();
    loop {
        // Whatever has left meanwhile makes room for one claim, not for one each.
        while let Some(left) = work.driving.try_join_next() {
            work.left(left);
        }
        if work.may_look() && Instant::now() >= work.next_look {
            work.look().await;
        }
        work.drive_suspect_alone();
        tokio::select! {
            () = stop.cancelled() => break,
            () = life.lease.died() => break,
            Some(left) = work.driving.join_next() => work.left(left),
            () = wake.notified() => {
                work.next_look = Instant::now();
                work.looks_soon = LOOKS_AFTER_A_WAKE.into();
            }
            _ = alone.changed() => {}
            () = sleep_until(work.next_look), if work.may_look() => {}
        }
    }
    work.finish().await;
}

impl<S: Send + Sync + 'static> Work<'_, S> {
    fn free(&self) -> usize {
        self.plan.concurrency.saturating_sub(self.driving.len())
    }

    /// Until a suspect has had its turn nothing else is begun.
    fn may_look(&self) -> bool {
        self.free() > 0 && self.suspect.is_none() && !*self.life.alone.borrow()
    }

    /// Lets go of what an unanswered claim took: as long as one may still be carried out, and now and then, for one that was
    /// given up may be carried out much later.
    async fn let_strays_go(&mut self) {
        let now = Instant::now();
        if self.in_doubt_until.is_none() && now < self.strays_due {
            return;
        }
        self.strays_due = now + self.shop.timing.lease * LEASES_BETWEEN_STRAYS;
        let mut known: Vec<_> =
            self.life.in_flight.workflows().into_iter().map(|workflow| workflow.0).collect();
        known.extend(self.suspect.as_ref().map(|suspect| suspect.workflow.0));
        if let Err(error) = strays::let_go(self.shop, self.life, known).await {
            // Where the database is away, the claim that follows says so; one that is kept by somebody is found again.
            tracing::debug!(%error, "looking for workflows held without knowing failed");
        }
        self.in_doubt_until = self.in_doubt_until.filter(|until| Instant::now() < *until);
    }

    async fn look(&mut self) {
        self.let_strays_go().await;
        let free = self.free();
        let limit = free.min(CLAIM_MAX);
        let want = Want {
            queues: self.plan.queues.clone(),
            kinds: self.shop.kinds.keys().map(|kind| (*kind).to_owned()).collect(),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
            suspect: true,
        };
        let claimed =
            match claim(&mut *self.life.claims.lock().await, self.life.lease.incarnation, want).await {
                Ok(claimed) => claimed,
                Err(error) => {
                    if self.outage.is_news() {
                        tracing::warn!(%error, "claiming failed, looking on");
                    }
                    self.next_look = Instant::now() + LOOK_AFTER_AN_ERROR;
                    self.in_doubt_until = Some(Instant::now() + self.shop.timing.lease);
                    return;
                }
            };
        self.outage.ends();
        self.backlog = claimed.len() >= limit;
        self.next_look = Instant::now()
            + match self.backlog {
                true if limit < free => Duration::ZERO,
                true => GATHER,
                false => self.looks_soon.pop_front().unwrap_or_else(|| jittered(self.shop.timing.poll)),
            };
        for claimed in claimed {
            if claimed.is_suspect() {
                self.suspect = Some(claimed);
            } else {
                self.drive(claimed);
            }
        }
    }

    fn drive_suspect_alone(&mut self) {
        // Bounded by an attempt: whatever else is in flight lets go at its next boundary, and is claimed again later.
        self.life.makes_room.store(self.suspect.is_some() && !self.driving.is_empty(), Ordering::Relaxed);
        if self.driving.is_empty() {
            // Told only if it changes: it wakes this very loop.
            let is_alone = self.suspect.is_some();
            self.life.alone.send_if_modified(|alone| std::mem::replace(alone, is_alone) != is_alone);
            if let Some(suspect) = self.suspect.take() {
                tracing::warn!(
                    workflow.id = %suspect.workflow, workflow.kind = suspect.kind, deaths = suspect.crash_charges,
                    "driving a workflow alone: its process died with it"
                );
                self.drive(suspect);
            }
        }
    }

    fn drive(&mut self, claimed: Claimed) {
        let hold = claimed.hold();
        let Some(cancelled) = self.life.in_flight.enter(&hold) else {
            // Whoever drives it goes on by its right, or has been told that it has none: then this is a stray.
            self.in_doubt_until = Some(Instant::now() + self.shop.timing.lease);
            return;
        };
        let (shop, life) = (Arc::clone(self.shop), Arc::clone(self.life));
        self.driving.spawn(async move {
            // On the heap by itself: in this future it would stand as often as it is handed on.
            let driven = Box::pin(drive(Arc::clone(&shop), Arc::clone(&life), claimed, cancelled));
            let departure = match catch_panic(driven).await {
                Ok(departure) => departure,
                // A defect of ours parks one workflow: held by nobody who drives it, it would be lost for this life.
                Err(message) => {
                    let after = After::raising(Attention::new("engine_panicked", message));
                    Box::pin(park::park(&shop, &life, &hold, SLOW_RETRY, after)).await
                }
            };
            life.in_flight.leave(&hold);
            departure
        });
    }

    fn left(&mut self, left: Result<Departure, tokio::task::JoinError>) {
        if self.backlog && self.free() >= self.plan.concurrency / GATHER_SHARE {
            self.next_look = Instant::now();
        }
        match left {
            Ok(Departure::Parked(wait)) => self.next_look = self.next_look.min(Instant::now() + wait),
            Ok(Departure::Ended | Departure::Fenced) => {}
            Err(error) => tracing::error!(%error, "a workflow was not driven to its departure"),
        }
    }

    /// Gives running attempts their grace, then cuts them short; all is handed back.
    async fn finish(&mut self) {
        self.life.draining.cancel();
        if let Some(suspect) = self.suspect.take() {
            // Among those that are waited for, or a database that does not answer would keep us here.
            let (shop, life) = (Arc::clone(self.shop), Arc::clone(self.life));
            self.driving.spawn(async move {
                park::park(&shop, &life, &suspect.hold(), Duration::ZERO, After::default()).await
            });
        }
        let grace_ends = Instant::now() + self.shop.timing.shutdown_grace;
        // Without a database nothing can be handed back: a lease later others find it by themselves.
        let end = grace_ends + self.shop.timing.lease;
        while !self.driving.is_empty() {
            tokio::select! {
                Some(left) = self.driving.join_next() => self.left(left),
                () = sleep_until(grace_ends), if !self.life.abort.is_cancelled() => self.life.abort.cancel(),
                () = sleep_until(end) => {
                    tracing::warn!(workflows = self.driving.len(), "leaving what could not be handed back");
                    self.driving.shutdown().await;
                }
            }
        }
        self.let_strays_go().await;
    }
}
