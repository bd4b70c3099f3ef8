//! Every step and every fault: each point is a workflow of five steps, one of which fails in one way, once.

use std::os::unix::process::ExitStatusExt;

use backstitch::{Ending, Fate, Handle};
use backstitch_testkit::script::{Act, Compensating, Do, Manner, Resuming, Script};
use backstitch_testkit::wait::until;
use backstitch_testkit::world::World;
use rustix::process::Signal;
use tokio::sync::watch;

use crate::WORKER;
use crate::look::{attempts, compensated, fates, giving_up, retried};

const STEPS: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Fault {
    Retry,
    Fail,
    Reject,
    Panic,
    Hang,
    KillBeforeEffect,
    KillAfterEffect,
}

use Fault::*;

const FAULTS: [Fault; 7] = [Retry, Fail, Reject, Panic, Hang, KillBeforeEffect, KillAfterEffect];

/// Where the fault is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Point {
    step: usize,
    fault: Fault,
    compensating: bool,
    transactional: bool,
}

impl Point {
    fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for step in 0..STEPS {
            for fault in FAULTS {
                for (compensating, transactional) in
                    [(false, false), (false, true), (true, false), (true, true)]
                {
                    all.push(Self { step, fault, compensating, transactional });
                }
            }
        }
        all
    }

    fn kills(self) -> bool {
        matches!(self.fault, KillBeforeEffect | KillAfterEffect)
    }

    /// The workflow with this fault. A kill burns its own fuse, so that it happens once, and is seen to have happened.
    fn script(self, world: &World) -> Compensating {
        let fuse = || Do::Burn(world.lay_fuse(&format!("{self:?}")));
        let attempt = match self.fault {
            Retry => vec![Do::Effect, Do::Retry("fault".into())],
            Fail => vec![Do::Effect, Do::Fail("fault".into())],
            Reject => vec![Do::Reject("fault".into())],
            Panic => vec![Do::Effect, Do::Panic],
            Hang => vec![Do::Effect, Do::Hang],
            KillBeforeEffect => vec![fuse(), Do::Effect],
            KillAfterEffect => vec![Do::Effect, fuse()],
        };
        let mut steps = vec![Act::new(); STEPS];
        let step = &mut steps[self.step];
        step.manner = if self.transactional { Manner::Transactional } else { Manner::Dependent };
        if self.compensating {
            step.compensate.push(attempt)
        } else {
            step.run.push(attempt)
        }
        Script { gives_up: self.compensating.then(|| "enough".into()), ..Script::of(steps) }
    }

    /// What the journal calls the attempt with the fault. None: it knows of no such attempt, its transaction is gone.
    fn outcome(self) -> Option<&'static str> {
        match (self.fault, self.compensating) {
            (Retry, _) | (Fail | Reject, true) => Some("retry"),
            (Fail, false) => Some("failed"),
            (Reject, false) => Some("rejected"),
            (Panic | Hang, _) => Some("in_doubt"),
            (KillBeforeEffect | KillAfterEffect, _) => (!self.transactional).then_some("open"),
        }
    }

    fn expected(self) -> Expected {
        // An attempt that the journal counts makes one more.
        let tries = 1 + u32::from(self.outcome().is_some());
        let completed =
            Expected::Completed((0..STEPS).map(|step| if step == self.step { tries } else { 1 }).collect());
        let taken_back = |code: &str, begun, own: Fate| {
            let fate = |step| if step == self.step { own.clone() } else { compensated(1) };
            Expected::Compensated(code.to_owned(), (0..begun).map(fate).collect())
        };
        match (self.fault, self.compensating) {
            (_, true) => taken_back("enough", STEPS, compensated(tries)),
            (Retry | Panic | Hang, false) => completed,
            (Fail, false) if !self.transactional => taken_back("fault", self.step + 1, compensated(1)),
            (Fail | Reject, false) => taken_back("fault", self.step + 1, Fate::DidNotHappen),
            // Nothing of it stands in the journal: nobody knows that there was a death.
            (_, false) if self.transactional && self.step == 0 => completed,
            (_, false) if self.transactional => taken_back("orphaned", self.step, compensated(1)),
            (_, false) => taken_back("orphaned", self.step + 1, compensated(1)),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Completed(Vec<u32>),
    Compensated(String, Vec<Fate>),
}

impl Expected {
    /// With as many tries, or more: on a busy machine an attempt may time out by itself.
    fn is(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Completed(tries), Self::Completed(at_least)) => {
                tries.len() == at_least.len()
                    && tries.iter().zip(at_least).all(|(tries, at_least)| tries >= at_least)
            }
            (Self::Compensated(code, fates), Self::Compensated(expected, at_least)) => {
                let is = |(fate, at_least): (&Fate, &Fate)| match (fate, at_least) {
                    (Fate::Compensated { attempts }, Fate::Compensated { attempts: at_least }) => {
                        attempts >= at_least
                    }
                    (fate, expected) => fate == expected,
                };
                code == expected && fates.len() == at_least.len() && fates.iter().zip(at_least).all(is)
            }
            _ => false,
        }
    }
}

type Asked = Vec<(Point, Handle<Vec<Option<u32>>>)>;

async fn ask(world: &World, kills: bool) -> Asked {
    let mut asked = Vec::new();
    for point in Point::all().into_iter().filter(|point| point.kills() == kills) {
        asked.push((point, world.enqueue(point.script(world)).await));
    }
    asked
}

/// Holds every workflow against what its fault should have made of it. Says how many points were hit.
async fn hits(world: &World, asked: Asked) -> usize {
    let mut hits = 0;
    for (point, handle) in asked {
        let ended = match world.ending(&handle).await {
            Ending::Completed(outputs) => Expected::Completed(outputs.into_iter().flatten().collect()),
            Ending::Compensated(unfinished) => {
                Expected::Compensated(unfinished.error.failure.code.to_string(), fates(&unfinished))
            }
            Ending::NeedsAttention(unfinished) | Ending::Abandoned(unfinished) => {
                panic!("{point:?} needs attention: {}", unfinished.report)
            }
        };
        let expected = point.expected();
        assert!(ended.is(&expected), "{point:?} ends {ended:?}, not {expected:?}");
        let direction = if point.compensating { "compensate" } else { "run" };
        let attempts = attempts(world, handle.workflow).await;
        let of_the_fault = format!("{} {direction} 1 ", point.step);
        let outcome = attempts.iter().find_map(|attempt| attempt.strip_prefix(&of_the_fault));
        match point.outcome() {
            Some(expected) => assert_eq!(outcome, Some(expected), "{point:?}: {attempts:?}"),
            None => assert!(outcome.is_none_or(|outcome| outcome == "succeeded"), "{point:?}: {attempts:?}"),
        }
        assert!(!world.directory.path().join(format!("{point:?}")).exists(), "{point:?} burnt its fuse");
        hits += 1;
    }
    hits
}

/// Keeps a process at work that drives one workflow at a time, until `done`. Says how often it was killed.
async fn killed_again_and_again(world: &World, done: &watch::Sender<bool>) -> usize {
    let mut killed = 0;
    let mut done = done.subscribe();
    loop {
        let process = world.process(WORKER).with_lock(&world.state_directory()).one_at_a_time();
        let mut process = process.spawn().await;
        tokio::select! {
            status = process.ended() => {
                assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "killed, not aborted: {status}");
                killed += 1;
            }
            _ = done.wait_for(|done| *done) => return killed,
        }
    }
}

#[tokio::test]
async fn every_step_and_every_fault() {
    let alive = async {
        let world = World::new().await;
        let asked = ask(&world, false).await;
        // A few at a time: a hundred on a busy machine are so slow that attempts time out by themselves.
        let worker = world.worker().await.concurrency(16).start().await.expect("it starts");
        let hits = hits(&world, asked).await;
        worker.shut_down().await;
        hits
    };
    let killed = async {
        let world = World::new().await;
        let asked = ask(&world, true).await;
        let done = watch::Sender::new(false);
        let all = async {
            let hits = hits(&world, asked).await;
            done.send_replace(true);
            hits
        };
        let (hits, one, other) =
            tokio::join!(all, killed_again_and_again(&world, &done), killed_again_and_again(&world, &done));
        assert_eq!(one + other, hits, "each point is one death");
        hits
    };
    // 5 steps, 5 faults and 2 kills, both directions, in a transaction and not.
    assert_eq!(tokio::join!(alive, killed), (100, 40));
}

/// How many workers die, and after how many effects the next one.
const DEATHS: u64 = 8;
const EFFECTS_TO_A_DEATH: u64 = 8;

/// Workers die with many workflows in flight, at whatever they are doing just then.
#[tokio::test]
async fn killed_at_any_moment() {
    let world = World::new().await;
    let manners = [Manner::Dependent, Manner::Transactional, Manner::Independent, Manner::Transactional];
    let steps = || manners.map(|manner| retried(&["busy"]).manner(manner));
    let (mut resumed, mut others) = (Vec::new(), Vec::new());
    for _ in 0..12 {
        resumed.push(world.enqueue(Resuming::of(steps())).await);
        others.push(world.enqueue(Compensating::of(steps())).await);
        others.push(world.enqueue(giving_up::<false>(steps())).await);
    }
    let mut processes = std::collections::VecDeque::new();
    for _ in 0..3 {
        processes.push_back(world.spawn_worker_with_lock(WORKER).await);
    }
    for death in 1..=DEATHS {
        until("there were effects", async || {
            (world.ledger.count().await >= death * EFFECTS_TO_A_DEATH).then_some(())
        })
        .await;
        processes.pop_front().expect("there are three").kill().await;
        processes.push_back(world.spawn_worker_with_lock(WORKER).await);
    }
    for handle in &resumed {
        world.completes(handle).await;
    }
    let mut taken_back = 0;
    for handle in &others {
        taken_back += usize::from(matches!(world.ending(handle).await, Ending::Compensated(_)));
    }
    assert!(taken_back >= 12, "those that give up, and the orphans");
    let charged: i64 = sqlx::query_scalar("select count(*) from backstitch.incarnation where death = 'gone'")
        .fetch_one(&world.pool)
        .await
        .expect("it answers");
    assert_eq!(charged.unsigned_abs(), DEATHS, "each death was seen once");
}
