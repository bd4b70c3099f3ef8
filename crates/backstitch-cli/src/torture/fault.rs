//! Which faults are there, and what are they called?

use backstitch::Direction;
use backstitch_testkit::cut::{Moment, Passage, Statement};
use backstitch_testkit::recorder::Misbehave;

/// One thing that goes wrong, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// To a worker's process.
    Process(OnProcess),
    /// When a worker says something to Postgres.
    Statement {
        /// What it says.
        boundary: Boundary,
        /// Before Postgres heard it, or after it was carried out.
        moment: Moment,
        /// What happens then.
        then: Then,
    },
    /// To a worker's whole line to Postgres, for a while.
    Line(Passage),
    /// To the next call of a step to its target.
    Call(Misbehave, Direction),
    /// The target is killed, and comes back with what its log says.
    RecorderKilled,
    /// To Postgres.
    Postgres(OnPostgres),
    /// To the gateway's edge.
    Edge(OnEdge),
}

/// To a worker's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnProcess {
    /// SIGKILL.
    Killed,
    /// SIGSTOP until its lease is long over and it is buried, then SIGCONT: a zombie.
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
}

/// To the gateway's edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnEdge {
    /// SIGKILL of a daemon that serves gateways.
    DaemonKilled,
    /// SIGKILL of nginx; it comes back.
    NginxKilled,
    /// nginx answers nothing for a while.
    NginxFrozen,
    /// SIGKILL of PowerDNS; it comes back.
    PowerDnsKilled,
    /// PowerDNS answers nothing for longer than anybody waits.
    PowerDnsFrozen,
    /// PowerDNS answers 500: its database is locked.
    PowerDnsFailing,
    /// The free gateways refuse their handshake.
    HandshakeRefused,
    /// The free gateways take longer over their handshake than anybody waits.
    HandshakeHangs,
    /// Somebody else's vhost is broken.
    ForeignVhostBroken,
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

/// How calls can go wrong.
pub const MISBEHAVIOURS: [Misbehave; 9] = [
    Misbehave::LoseCall,
    Misbehave::LoseAnswer,
    Misbehave::Hold,
    Misbehave::BeLate,
    Misbehave::Twice,
    Misbehave::Fail,
    Misbehave::KillCallerBefore,
    Misbehave::KillCallerAfter,
    Misbehave::OutliveCaller,
];

/// Everything that can happen to the edge.
pub const EDGE: [OnEdge; 9] = [
    OnEdge::DaemonKilled,
    OnEdge::NginxKilled,
    OnEdge::NginxFrozen,
    OnEdge::PowerDnsKilled,
    OnEdge::PowerDnsFrozen,
    OnEdge::PowerDnsFailing,
    OnEdge::HandshakeRefused,
    OnEdge::HandshakeHangs,
    OnEdge::ForeignVhostBroken,
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
            Self::Process(how) => format!("worker {}", how.name()),
            Self::Statement { boundary, moment, then } => {
                let what = match then {
                    Then::Killed => "worker killed",
                    Then::Cut => "connection cut",
                    Then::Delayed => "delayed",
                    Then::Buried => "worker buried alive",
                };
                let moment = match moment {
                    Moment::BeforeStatement => "before",
                    Moment::BeforeAnswer => "after",
                };
                format!("{what} {moment} {}", boundary.name())
            }
            Self::Line(Passage::AnswersHeld) => "answers of Postgres held".to_owned(),
            Self::Line(_) => "line to Postgres frozen".to_owned(),
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
                    Misbehave::KillCallerBefore => "worker killed before it",
                    Misbehave::KillCallerAfter => "worker killed after it",
                    Misbehave::OutliveCaller => "worker killed, done later",
                };
                format!("call to {direction}: {what}")
            }
            Self::RecorderKilled => "target killed".to_owned(),
            Self::Postgres(how) => format!("postgres {}", how.name()),
            Self::Edge(how) => how.name().to_owned(),
        }
    }

    /// Whether it kills a worker with SIGKILL.
    pub fn kills_a_worker(self) -> bool {
        matches!(
            self,
            Self::Process(OnProcess::Killed | OnProcess::ClockAhead | OnProcess::ClockBehind)
                | Self::Statement { then: Then::Killed, .. }
                | Self::Call(
                    Misbehave::KillCallerBefore | Misbehave::KillCallerAfter | Misbehave::OutliveCaller,
                    _
                )
                | Self::Edge(OnEdge::DaemonKilled)
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
    fn name(self) -> &'static str {
        match self {
            Self::Stopped => "stopped at once",
            Self::Killed => "killed",
            Self::Frozen => "frozen",
            Self::SessionTerminated => "session terminated",
            Self::StatementCancelled => "statement cancelled",
        }
    }
}

impl OnEdge {
    fn name(self) -> &'static str {
        match self {
            Self::DaemonKilled => "gateway daemon killed",
            Self::NginxKilled => "nginx killed",
            Self::NginxFrozen => "nginx frozen",
            Self::PowerDnsKilled => "powerdns killed",
            Self::PowerDnsFrozen => "powerdns frozen",
            Self::PowerDnsFailing => "powerdns answers 500",
            Self::HandshakeRefused => "handshake refused",
            Self::HandshakeHangs => "handshake hangs",
            Self::ForeignVhostBroken => "foreign vhost broken",
        }
    }
}
