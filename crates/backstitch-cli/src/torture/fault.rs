//! Which faults are there, and what are they called?

use backstitch::Direction;
use backstitch_testkit::cut::{Moment, Passage, Statement};
use backstitch_testkit::recorder::Misbehave;

use super::crew::{POOLED, VETERAN};

/// One thing that goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// To somebody's process.
    Process(Whose, OnProcess),
    /// When somebody says something to Postgres.
    Statement {
        /// Who.
        whose: Whose,
        /// What they say.
        boundary: Boundary,
        /// Before Postgres heard it, or after it was carried out.
        moment: Moment,
        /// What happens then.
        then: Then,
    },
    /// To somebody's whole line to Postgres, for a while.
    Line(Whose, Passage),
    /// To the next call of a step to its target.
    Call(Misbehave, Direction),
    /// The target is killed, and comes back with what its log says.
    RecorderKilled,
    /// To Postgres.
    Postgres(OnPostgres),
    /// To the pooler between Postgres and one of the workers.
    Pooler(OnPooler),
    /// To the gateway's edge.
    Edge(OnEdge),
}

/// Who has to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// A worker of scripted workflows.
    Worker,
    /// A daemon that serves gateways.
    Daemon,
}

/// To a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnProcess {
    /// SIGKILL.
    Killed,
    /// SIGSTOP with work in hand until its lease is long over and it is buried, then SIGCONT: a zombie.
    Frozen,
    /// SIGTERM.
    Terminated,
    /// It is declared dead while it lives.
    BuriedAlive,
    /// It can open nothing for a while: no connection, no file.
    OutOfDescriptors,
    /// It goes on with a clock that is an hour ahead.
    ClockAhead,
    /// It goes on with a clock that is an hour behind.
    ClockBehind,
}

/// What a worker says to Postgres where something begins or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundary {
    /// It claims workflows.
    Claim,
    /// It writes a batch of records, whatever they say.
    Batch,
    /// Among them an intent.
    Intent,
    /// Among them an outcome.
    Outcome,
    /// Among them that an attempt is to be repeated.
    Retry,
    /// Among them that a workflow turns back.
    Unwinding,
    /// Among them something of a compensation.
    Compensation,
    /// Among them a completed workflow's end.
    Completed,
    /// Among them a compensated workflow's end.
    Compensated,
    /// It commits a step's own transaction.
    Commit,
    /// Its heart beats.
    Beat,
}

/// What happens to a worker when it has said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// SIGKILL.
    Killed,
    /// The connection breaks.
    Cut,
    /// It takes a while.
    Delayed,
    /// It is declared dead, and goes on.
    Buried,
}

/// To Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPostgres {
    /// `pg_ctl stop -m immediate`, and start.
    Stopped,
    /// SIGKILL of the postmaster, and start.
    Killed,
    /// SIGSTOP of all its processes for a while, then SIGCONT.
    Frozen,
    /// `pg_terminate_backend` of a worker's session.
    SessionTerminated,
    /// `pg_cancel_backend` of a worker's session.
    StatementCancelled,
    /// Its disk is full for a while.
    DiskFull,
    /// Its clock is an hour ahead for a while.
    ClockAhead,
    /// Its clock is an hour behind for a while.
    ClockBehind,
}

/// To the pooler between Postgres and one of the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnPooler {
    /// SIGKILL; it comes back.
    Killed,
    /// It lets nothing through for a while, neither way.
    Frozen,
}

/// To the gateway's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEdge {
    /// SIGKILL of nginx; it comes back.
    NginxKilled,
    /// nginx answers nothing for a while.
    NginxFrozen,
    /// nginx is slow, for one of the daemons; less so than anybody waits.
    NginxSlow,
    /// nginx answers 500, to one of the daemons.
    NginxFailing,
    /// SIGKILL of PowerDNS; it comes back.
    PowerDnsKilled,
    /// PowerDNS answers nothing for longer than anybody waits.
    PowerDnsFrozen,
    /// PowerDNS answers 500: its database is locked.
    PowerDnsFailing,
    /// PowerDNS is slow, for one of the daemons; less so than anybody waits.
    PowerDnsSlow,
    /// PowerDNS makes each change, and one of the daemons hears so when it waits no more.
    PowerDnsAnswersLate,
    /// The free gateways refuse their handshake.
    HandshakeRefused,
    /// The free gateways take longer over their handshake than anybody waits.
    HandshakeHangs,
    /// Somebody else's vhost is broken.
    ForeignVhostBroken,
    /// The disk of the vhosts is full.
    VhostDiskFull,
}

/// Every boundary.
pub const BOUNDARIES: [Boundary; 11] = [
    Boundary::Claim,
    Boundary::Batch,
    Boundary::Intent,
    Boundary::Outcome,
    Boundary::Retry,
    Boundary::Unwinding,
    Boundary::Compensation,
    Boundary::Completed,
    Boundary::Compensated,
    Boundary::Commit,
    Boundary::Beat,
];

/// Everything that can happen to a process.
pub const PROCESS: [OnProcess; 7] = [
    OnProcess::Killed,
    OnProcess::Frozen,
    OnProcess::Terminated,
    OnProcess::BuriedAlive,
    OnProcess::OutOfDescriptors,
    OnProcess::ClockAhead,
    OnProcess::ClockBehind,
];

/// How calls can go wrong.
pub const MISBEHAVIOURS: [Misbehave; 11] = [
    Misbehave::LoseCall,
    Misbehave::LoseAnswer,
    Misbehave::Hold,
    Misbehave::BeLate,
    Misbehave::Twice,
    Misbehave::Fail,
    Misbehave::FailAfter,
    Misbehave::Reject,
    Misbehave::KillCallerBefore,
    Misbehave::KillCallerAfter,
    Misbehave::OutliveCaller,
];

/// What gets through a line that is hurt.
pub const PASSAGES: [Passage; 4] =
    [Passage::Frozen, Passage::AnswersHeld, Passage::WorkerShut, Passage::PostgresShut];

/// Everything that can happen to the edge.
pub const EDGE: [OnEdge; 13] = [
    OnEdge::NginxKilled,
    OnEdge::NginxFrozen,
    OnEdge::NginxSlow,
    OnEdge::NginxFailing,
    OnEdge::PowerDnsKilled,
    OnEdge::PowerDnsFrozen,
    OnEdge::PowerDnsFailing,
    OnEdge::PowerDnsSlow,
    OnEdge::PowerDnsAnswersLate,
    OnEdge::HandshakeRefused,
    OnEdge::HandshakeHangs,
    OnEdge::ForeignVhostBroken,
    OnEdge::VhostDiskFull,
];

impl Boundary {
    /// How it is recognised on the way to Postgres.
    pub fn statement(self) -> Statement {
        let append = |carries| Statement { texts: vec!["backstitch.append"], carries: Some(carries) };
        let whole = |text| Statement { texts: vec![text], carries: None };
        match self {
            Self::Claim => whole("backstitch.claim"),
            Self::Batch => whole("backstitch.append"),
            Self::Intent => append("after_all_later"),
            Self::Outcome => append("succeeded"),
            Self::Retry => append("retry"),
            Self::Unwinding => append("unwinding"),
            Self::Compensation => append("compensate"),
            Self::Completed => append("completed"),
            Self::Compensated => append("compensated"),
            Self::Commit => whole("COMMIT"),
            Self::Beat => whole("backstitch.beat"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Claim => "claim",
            Self::Batch => "batch",
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Retry => "retry",
            Self::Unwinding => "unwinding",
            Self::Compensation => "compensation",
            Self::Completed => "completed",
            Self::Compensated => "compensated",
            Self::Commit => "step's commit",
            Self::Beat => "beat",
        }
    }
}

impl Fault {
    /// What it is called in reports, the same wherever it is aimed.
    pub fn name(self) -> String {
        match self {
            Self::Process(whose, how) => {
                let whose = match whose {
                    Whose::Worker => "worker",
                    Whose::Daemon => "gateway daemon",
                };
                format!("{whose} {}", how.name())
            }
            Self::Statement { whose, boundary, moment, then } => {
                let what = match (whose, then) {
                    (Whose::Worker, Then::Killed) => "worker killed",
                    (Whose::Worker, Then::Cut) => "connection cut",
                    (Whose::Worker, Then::Delayed) => "delayed",
                    (Whose::Worker, Then::Buried) => "worker buried alive",
                    (Whose::Daemon, Then::Killed) => "gateway daemon killed",
                    (Whose::Daemon, Then::Cut) => "gateway daemon's connection cut",
                    (Whose::Daemon, Then::Delayed) => "gateway daemon delayed",
                    (Whose::Daemon, Then::Buried) => "gateway daemon buried alive",
                };
                let moment = match moment {
                    Moment::BeforeStatement => "before",
                    Moment::BeforeAnswer => "after",
                };
                format!("{what} {moment} {}", boundary.name())
            }
            Self::Line(whose, passage) => {
                let what = match passage {
                    Passage::Open => "open",
                    Passage::AnswersHeld => "answers held",
                    Passage::Frozen => "frozen",
                    Passage::WorkerShut => "shut on its way there",
                    Passage::PostgresShut => "shut on its way back",
                };
                let whose = match whose {
                    Whose::Worker => "line to Postgres",
                    Whose::Daemon => "gateway daemon's line to Postgres",
                };
                format!("{whose}: {what}")
            }
            Self::Call(misbehave, direction) => {
                let direction = match direction {
                    Direction::Run => "run",
                    Direction::Compensate => "compensate",
                };
                let what = match misbehave {
                    Misbehave::LoseCall => "lost",
                    Misbehave::LoseAnswer => "done, answer lost",
                    Misbehave::Hold => "held past its timeout",
                    Misbehave::BeLate => "broken, done later",
                    Misbehave::Twice => "delivered twice",
                    Misbehave::Fail => "failed",
                    Misbehave::FailAfter => "done, then failed",
                    Misbehave::Reject => "refused for good",
                    Misbehave::KillCallerBefore => "worker killed before it",
                    Misbehave::KillCallerAfter => "worker killed after it",
                    Misbehave::OutliveCaller => "worker killed, done later",
                };
                format!("call to {direction}: {what}")
            }
            Self::RecorderKilled => "target killed".to_owned(),
            Self::Postgres(how) => format!("postgres {}", how.name()),
            Self::Pooler(OnPooler::Killed) => "pooler killed".to_owned(),
            Self::Pooler(OnPooler::Frozen) => "pooler frozen".to_owned(),
            Self::Edge(how) => how.name().to_owned(),
        }
    }

    /// Whether it may happen to the process of this worker, or in the middle of its sentence.
    pub fn may_meet(self, worker: usize) -> bool {
        match self {
            // The veteran's process is spared.
            Self::Process(Whose::Worker, _) if worker == VETERAN => false,
            _ if self.kills_a_worker() && worker == VETERAN => false,
            // Behind a pooler each call is a transaction: a step's own can't be told by its COMMIT.
            Self::Statement { boundary: Boundary::Commit, .. } => worker != POOLED,
            _ => true,
        }
    }

    /// Whether it kills a worker with SIGKILL.
    pub fn kills_a_worker(self) -> bool {
        matches!(
            self,
            Self::Process(_, OnProcess::Killed | OnProcess::ClockAhead | OnProcess::ClockBehind)
                | Self::Statement { then: Then::Killed, .. }
                | Self::Call(
                    Misbehave::KillCallerBefore | Misbehave::KillCallerAfter | Misbehave::OutliveCaller,
                    _
                )
        )
    }
}

impl OnProcess {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Frozen => "frozen past its lease",
            Self::Terminated => "terminated",
            Self::BuriedAlive => "buried alive",
            Self::OutOfDescriptors => "out of descriptors",
            Self::ClockAhead => "killed, next clock an hour ahead",
            Self::ClockBehind => "killed, next clock an hour behind",
        }
    }
}

impl OnPostgres {
    /// Whether nobody can rely on it meanwhile, or on its clock.
    pub fn is_an_outage(self) -> bool {
        !matches!(self, Self::SessionTerminated | Self::StatementCancelled)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped at once",
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::SessionTerminated => "session terminated",
            Self::StatementCancelled => "statement cancelled",
            Self::DiskFull => "disk full",
            Self::ClockAhead => "clock an hour ahead, and back",
            Self::ClockBehind => "clock an hour behind, and back",
        }
    }
}

impl OnEdge {
    fn name(self) -> &'static str {
        match self {
            Self::NginxKilled => "nginx killed",
            Self::NginxFrozen => "nginx frozen",
            Self::NginxSlow => "nginx slow",
            Self::NginxFailing => "nginx answers 500",
            Self::PowerDnsKilled => "powerdns killed",
            Self::PowerDnsFrozen => "powerdns frozen",
            Self::PowerDnsFailing => "powerdns answers 500",
            Self::PowerDnsSlow => "powerdns slow",
            Self::PowerDnsAnswersLate => "powerdns answers late",
            Self::HandshakeRefused => "handshake refused",
            Self::HandshakeHangs => "handshake hangs",
            Self::ForeignVhostBroken => "foreign vhost broken",
            Self::VhostDiskFull => "vhost disk full",
        }
    }
}
