//! Where is a workflow driven, and who does to it what was made up?

use std::rc::Rc;

use backstitch::{Answered, Ending, Handle, Workflow, WorkflowId};
use backstitch_testkit::cut::{Held, Line, Statement};
use backstitch_testkit::script::{Ground, Script};
use backstitch_testkit::wait::{PATIENCE, until};
use backstitch_testkit::world::{WorkerProcess, World};
use backstitch_testkit::{harm, looks, oracle};
use rustix::process::Signal;
use tokio::time::timeout;

use super::case::{Case, Hardship, Must};
use crate::WORKER;

type Outputs = Vec<Option<u32>>;

/// Workers of one queue, on which one workflow after the other is under way.
pub struct Lane {
    world: Rc<World>,
    queue: String,
    line: Line,
    worker: WorkerProcess,
    /// Were declared dead, and live on, each on its line.
    undead: Vec<(WorkerProcess, Line)>,
}

impl Lane {
    pub async fn new(world: Rc<World>, number: usize) -> Self {
        let queue = format!("lane {number}");
        let line = world.line();
        let worker = spawn(&world, &queue, &line).await;
        Self { world, queue, line, worker, undead: Vec::new() }
    }

    /// The next one begins where the last one stands still.
    async fn next_worker(&mut self) -> (WorkerProcess, Line) {
        let line = self.world.line();
        let next = spawn(&self.world, &self.queue, &line).await;
        (std::mem::replace(&mut self.worker, next), std::mem::replace(&mut self.line, line))
    }

    /// Drives a case to its end. Answers what happened to it, and how it ended.
    ///
    /// # Panics
    /// When it ends otherwise than it must, or not at all, or something does not hold of it.
    pub async fn goes_through(&mut self, case: &Case) -> Gone {
        match case.resumes {
            true => self.goes::<true>(case).await,
            false => self.goes::<false>(case).await,
        }
    }

    async fn goes<const RESUME: bool>(&mut self, case: &Case) -> Gone
    where
        Script<RESUME>: Workflow<Ground, Output = Outputs> + Clone,
    {
        let script = script::<RESUME>(case);
        let handle =
            self.world.client.enqueue(script).queue(&self.queue).send().await.expect("it is enqueued");
        let (mut fired, mut is_cancelled) = (Vec::new(), false);
        for aimed in &case.hardships {
            let word = Statement { texts: vec![aimed.word], carries: None };
            let held = self.line.hold(aimed.moment, word, aimed.pass);
            let held = tokio::select! {
                held = held => held.ok(),
                _ = ended(&self.world, &handle) => None,
            };
            let Some(held) = held else { break };
            fired.push(aimed.what);
            is_cancelled |= self.meets(aimed.what, held, handle.workflow).await;
        }
        let ending = ended(&self.world, &handle).await;
        let World { pool, ledger, inner_ledger, .. } = &*self.world;
        let faults = oracle::faults(pool, Some(ledger), Some(inner_ledger), handle.workflow).await;
        assert!(
            faults.is_empty(),
            "{faults:#?} of {case:#?}, which met {fired:?}: {:#?} {:#?} {:#?}",
            self.world.client.attempts(handle.workflow).await,
            ledger.entries(handle.workflow).await,
            inner_ledger.entries(handle.workflow).await
        );
        for (undead, _) in self.undead.drain(..) {
            undead.kill().await;
        }
        let how = match ending {
            Ending::Completed(_) => Must::Complete,
            _ => Must::BeTakenBack,
        };
        if let Some(must) = case.must_end(&fired, is_cancelled) {
            assert_eq!(how, must, "workflow {}, of {case:#?}, which met {fired:?}", handle.workflow);
        }
        if let Ending::Completed(outputs) = ending
            && fired.is_empty()
        {
            let came_to_nothing: Vec<bool> = outputs.iter().map(Option::is_none).collect();
            assert_eq!(came_to_nothing, case.comes_to_nothing(), "{outputs:?} of {case:#?}");
        }
        Gone { workflow: handle.workflow, fired, how }
    }

    /// Whether it was cancelled.
    async fn meets(&mut self, what: Hardship, held: Held, workflow: WorkflowId) -> bool {
        let pool = self.world.pool.clone();
        match what {
            Hardship::Cut => drop(held),
            Hardship::Kill => {
                self.worker.signal(Signal::KILL);
                self.next_worker().await.0.kill().await;
                drop(held);
            }
            Hardship::Freeze => {
                let frozen = self.worker.pid();
                let incarnation = looks::living(&pool, frozen).await.expect("it answers");
                self.worker.signal(Signal::STOP);
                let zombie = self.next_worker().await;
                if let Some(incarnation) = incarnation {
                    until("it is declared dead", async || {
                        looks::is_buried(&pool, incarnation).await.expect("it answers").then_some(())
                    })
                    .await;
                }
                zombie.0.signal(Signal::CONT);
                held.pass();
                self.undead.push(zombie);
            }
            Hardship::Bury => {
                harm::bury(&pool, self.worker.pid()).await.expect("it answers");
                held.pass();
            }
            Hardship::Cancel => {
                let cancel = self.world.client.cancel(workflow, "ada", "not wanted");
                // What is held may hold the row that a cancel needs.
                let (answered, ()) = tokio::join!(cancel, async { held.pass() });
                return answered.expect("it answers") == Answered::Accepted;
            }
        }
        false
    }
}

/// How it went.
pub struct Gone {
    pub workflow: WorkflowId,
    pub fired: Vec<Hardship>,
    pub how: Must,
}

async fn spawn(world: &World, queue: &str, line: &Line) -> WorkerProcess {
    let process = world.process(WORKER).with_lock(&world.state_directory());
    process.variable("DATABASE_URL", line.url(&world.database.url)).variable("QUEUE", queue).spawn().await
}

pub fn script<const RESUME: bool>(case: &Case) -> Script<RESUME> {
    Script { gives_up: case.gives_up.then(|| "enough".to_owned()), ..Script::of(case.steps.clone()) }
}

async fn ended(world: &World, handle: &Handle<Outputs>) -> Ending<Outputs> {
    let has_ended =
        |ending: &Ending<Outputs>| matches!(ending, Ending::Completed(_) | Ending::Compensated(_));
    match timeout(PATIENCE, world.client.wait(handle)).await.expect("it ends").expect("it answers") {
        ending if has_ended(&ending) => ending,
        // Somebody is told, and it goes on.
        _ => {
            until("the workflow ends", async || {
                world.client.poll(handle).await.expect("it answers").filter(has_ended)
            })
            .await
        }
    }
}
