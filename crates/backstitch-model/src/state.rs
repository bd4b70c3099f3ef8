//! What the world looks like at one moment: the database, the workers, the targets, and what is on its way between them.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use backstitch_core::decide::Orphaned;
use backstitch_core::history::History;
use backstitch_core::id::Direction;
use backstitch_core::record::{AttemptId, Stitch};

use crate::protocol::Protocol;

/// One moment.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct State {
    /// Ticks since the start: the database's clock.
    pub now: u8,
    /// The journal as it stands in the database.
    pub journal: Told<History>,
    /// The workflow's row beside it; of no meaning after the end.
    pub ready: Ready,
    /// Every life of a worker process, in the order of their beginnings.
    pub lives: Vec<Life>,
    /// Calls that have left their worker and not arrived yet.
    pub flight: Vec<Effect>,
    /// What each step has left outside.
    pub outside: [Outside; 2],
    /// How many things have gone wrong.
    pub faults: u8,
    /// How often a person has stepped in.
    pub verbs: u8,
    /// The first rule that a move broke. None: none.
    pub broken: Option<Rule>,
}

/// The row in `ready`.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Ready {
    /// Counts the claims.
    pub epoch: u8,
    /// Which life holds it. None: it waits until it is due.
    pub holder: Option<usize>,
    /// From which tick on it may be claimed. None: not before a person decides.
    pub due: Option<u8>,
    /// How it lost its last holder, if that died in the middle.
    pub orphaned: Option<Orphaned>,
    /// How many deaths are charged to it.
    pub charges: u8,
    /// Whether somebody cancelled it.
    pub cancel: bool,
    /// Whether the intent of the pivot stands.
    pub past_pivot: bool,
    /// Whether a person was told.
    pub attention: bool,
}

/// One life of a worker process.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Life {
    /// What the process does.
    pub process: Process,
    /// Whether its lease is over by its own clock: it has not beaten for that long.
    pub silent: bool,
    /// Whether its lease is over by the database's clock.
    pub expired: bool,
    /// Whether somebody saw its beat stand still over a whole lease.
    pub watched: bool,
    /// Whether it was declared dead.
    pub buried: bool,
    /// What it is at.
    pub hand: Hand,
}

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Process {
    /// It runs, and beats.
    Runs,
    /// It stands still, and may go on.
    Frozen,
    /// It is no more.
    Gone,
}

/// What a worker is at.
#[derive(Debug, Clone, PartialEq, Hash)]
pub enum Hand {
    /// Nothing.
    Idle,
    /// Its statement is on its way to the database, or its answer back.
    Writing(Hold, Told<Statement>, Stage),
    /// An attempt is under way: its intent stands.
    Attempting(Hold, AttemptId, Call),
    /// It waits for its next beat, for its lease is over.
    Waiting(Hold),
}

/// The workflow in the eyes of who claimed it.
#[derive(Debug, Clone, PartialEq, Hash)]
pub struct Hold {
    /// Of its claim.
    pub epoch: u8,
    /// The journal as it knows it, with what it has noted and not written yet.
    pub history: Told<History>,
    /// What the claim, and the answers since, told beside the journal.
    pub cancel: bool,
    /// See [`Ready::orphaned`].
    pub orphaned: Option<Orphaned>,
    /// See [`Ready::charges`].
    pub charges: u8,
}

/// A row to append, and what follows from it; or, with an empty row, only that.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// The row.
    pub stitch: Stitch,
    /// Lets go of the workflow until then.
    pub park: Option<Park>,
    /// Whether the deaths so far are not the workflow's fault.
    pub innocent: bool,
    /// Whether what a person was called for is over.
    pub recovers: bool,
}

/// How a workflow is let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Park {
    /// See [`Ready::due`].
    pub due: Option<u8>,
    /// Whether a person is told.
    pub attention: bool,
}

/// How far a statement has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// On its way.
    Sent,
    /// It holds the lock of the fence, and has looked.
    Entered {
        /// Whether its incarnation lives and holds the workflow under this epoch.
        holds: bool,
        /// Whether its lease lasts.
        leased: bool,
    },
    /// It is done, and its answer was not heard. Repeated, it gets the same.
    Done(Answer),
}

/// What the database answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Answer {
    /// How much was written.
    pub written: Written,
    /// Whether the lease lasted.
    pub leased: bool,
    /// Whether somebody cancelled.
    pub cancel: bool,
    /// When.
    pub at: u8,
}

/// How much of a row was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Written {
    /// All.
    Whole,
    /// All but its intent, or its end.
    InPart,
    /// Nothing.
    Nothing,
    /// Nothing: its writer holds the workflow no more.
    Fenced,
}

/// How far an attempt has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Call {
    /// Not called yet.
    Unsent,
    /// On its way.
    Sent,
    /// It acted; the answer is not journaled yet.
    Landed,
    /// The target refused to act.
    Refused,
}

/// A call on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Effect {
    /// Of which attempt.
    pub attempt: AttemptId,
    /// Who sent it.
    pub life: usize,
    /// Before this tick it arrives, or is lost.
    pub gone_at: u8,
}

/// What a step has left outside.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Outside {
    /// How often its effect stands.
    pub stands: u8,
    /// Whether it was taken back, and the target remembers.
    pub tombstone: bool,
}

/// What a single move must never do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Rule {
    /// An effect began whose intent does not stand.
    EffectWithoutIntent,
    /// A record was written by somebody who was buried, or holds the workflow no more.
    StaleRecord,
    /// A step began to run after the workflow had turned back.
    ForwardAfterUnwinding,
    /// A step's compensation began before a later one was settled.
    OutOfOrder,
    /// A record followed the end.
    AfterTheEnd,
    /// A worker was buried that ran and beat.
    LivingBuried,
    /// A record breaks the journal's rules, says the fold of the core.
    JournalCorrupt,
    /// The engine decided what the core refuses.
    DecisionRefused,
    /// A move led in a circle.
    Circle,
}

/// A value of the core, with the fingerprint that stands for it.
#[derive(Clone)]
pub struct Told<T> {
    value: Arc<T>,
    fingerprint: u64,
}

impl State {
    /// Two workers, and a workflow that nobody has claimed.
    #[must_use]
    pub fn start(protocol: &Protocol) -> Self {
        Self {
            now: 0,
            journal: Told::new(History::default()),
            ready: Ready {
                epoch: 0,
                holder: None,
                due: Some(0),
                orphaned: None,
                charges: protocol.charges,
                cancel: false,
                past_pivot: false,
                attention: false,
            },
            lives: vec![Life::new(), Life::new()],
            flight: Vec::new(),
            outside: <[Outside; 2]>::default(),
            faults: 0,
            verbs: 0,
            broken: None,
        }
    }

    /// Whether the workflow has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.journal.end().is_some()
    }

    /// Whether the intent of this attempt stands in the journal.
    #[must_use]
    pub fn is_intended(&self, attempt: AttemptId) -> bool {
        let slot = self.journal.slot(attempt.position);
        slot.is_some_and(|slot| slot.side(attempt.direction).begun >= attempt.attempt)
    }

    pub(crate) fn breaks(&mut self, rule: Rule) {
        self.broken.get_or_insert(rule);
    }

    /// Grows with every move, so that no path leads in a circle: what counts first stands first.
    pub(crate) fn progress(&self) -> [i64; 9] {
        let lives = || self.lives.iter();
        let count = |number: usize| i64::try_from(number).expect("small");
        [
            i64::from(self.faults) + i64::from(self.verbs),
            i64::from(self.now),
            i64::from(self.ready.epoch),
            count(self.lives.len()),
            count(lives().filter(|life| life.buried).count()),
            i64::from(self.journal.seq_next().0),
            lives().map(Life::health).sum(),
            lives().map(|life| life.hand.progress()).sum(),
            -count(self.flight.len()),
        ]
    }
}

impl Life {
    /// A worker that has just begun.
    #[must_use]
    pub fn new() -> Self {
        Self {
            process: Process::Runs,
            silent: false,
            expired: false,
            watched: false,
            buried: false,
            hand: Hand::Idle,
        }
    }

    /// How far it has recovered from what befell it.
    fn health(&self) -> i64 {
        let without_lease = matches!(
            self.hand,
            Hand::Writing(
                _,
                _,
                Stage::Entered { leased: false, .. } | Stage::Done(Answer { leased: false, .. })
            )
        );
        let leased = match self.silent || self.expired || self.buried {
            true => 0,
            // Its statement still has to hear that it came without a lease.
            false if without_lease => 1,
            false => 2,
        };
        let process = match self.process {
            Process::Frozen => 0,
            Process::Runs => 1,
            Process::Gone => 2,
        };
        leased + 3 * process
    }
}

impl Default for Life {
    fn default() -> Self {
        Self::new()
    }
}

impl Hand {
    /// What it knows of the workflow, while it has it.
    #[must_use]
    pub fn hold(&self) -> Option<&Hold> {
        match self {
            Self::Idle => None,
            Self::Writing(hold, ..) | Self::Attempting(hold, ..) | Self::Waiting(hold) => Some(hold),
        }
    }

    fn progress(&self) -> i64 {
        let within = match self {
            // Only a claim leads away from it, and that counts before.
            Self::Idle => return 1_000_000,
            Self::Attempting(_, _, call) => *call as i64,
            Self::Writing(_, _, Stage::Sent) => 10,
            Self::Writing(_, _, Stage::Entered { .. }) => 11,
            Self::Writing(_, _, Stage::Done(_)) => 12,
            Self::Waiting(_) => 13,
        };
        let hold = self.hold().expect("who is not idle has it");
        within + 20 * i64::from(hold.cancel) + 100 * i64::from(hold.history.seq_next().0)
    }
}

impl Effect {
    /// Whether it takes back.
    #[must_use]
    pub fn compensates(&self) -> bool {
        self.attempt.direction == Direction::Compensate
    }
}

impl<T: fmt::Debug> Told<T> {
    /// The fingerprint is that of its whole debug text: what reads the same is the same.
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        format!("{value:?}").hash(&mut hasher);
        Self { value: Arc::new(value), fingerprint: hasher.finish() }
    }

    pub(crate) fn changed(&self, change: impl FnOnce(&mut T)) -> Self
    where
        T: Clone,
    {
        let mut value = T::clone(&self.value);
        change(&mut value);
        Self::new(value)
    }
}

impl<T> Deref for Told<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> PartialEq for Told<T> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl<T> Hash for Told<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl<T: fmt::Debug> fmt::Debug for Told<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}
