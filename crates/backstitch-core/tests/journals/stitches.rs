//! Rows written by hand, one a second.

use std::time::Duration;

use backstitch_core::decide::{Circumstances, Recovery};
use backstitch_core::history::{Corrupt, History};
use backstitch_core::id::{Position, Seq};
use backstitch_core::json::Json;
use backstitch_core::record::{
    AttemptId, Backward, Cause, Operator, Outcome, Resolution, Skip, Stitch, Turn, Verdict,
};
use chrono::{DateTime, Utc};

use crate::drive::{failure, intent, operator};

pub fn begins(attempt: AttemptId, backward: Backward) -> Stitch {
    Stitch { intent: Some(intent(attempt, backward)), ..Stitch::default() }
}

pub fn ends(attempt: AttemptId, verdict: Verdict) -> Stitch {
    Stitch { outcome: Some(Outcome { attempt, verdict }), ..Stitch::default() }
}

/// Begins and ends in one row: a transactional attempt.
pub fn commits(attempt: AttemptId, backward: Backward, verdict: Verdict) -> Stitch {
    Stitch { intent: Some(intent(attempt, backward)), ..ends(attempt, verdict) }
}

pub fn turns(turn: Turn) -> Stitch {
    Stitch { turn: Some(turn), ..Stitch::default() }
}

pub fn unwinds() -> Stitch {
    turns(Turn::Unwinding(Cause::Cancelled(operator())))
}

pub fn skipped(position: u32) -> Stitch {
    turns(Turn::SkipStep(Skip { position: Position(position), operator: operator() }))
}

/// Somebody looked: it happened, and would have handed over 7; or it did not.
pub fn resolved(position: u32, happened: bool) -> Stitch {
    let Operator { by, why } = operator();
    let output = happened.then(|| Json::from_journal("7"));
    turns(Turn::Resolve(Resolution { position: Position(position), happened, output, by, why }))
}

pub fn retry() -> Verdict {
    Verdict::Retry(failure())
}

pub fn failed() -> Verdict {
    Verdict::Failed(failure())
}

pub fn rejected() -> Verdict {
    Verdict::Rejected(failure())
}

/// The time of the row that is `seconds` after the first.
pub fn at(seconds: u64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

pub fn fold(rows: &[Stitch]) -> Result<History, Corrupt> {
    History::fold((0..).zip(rows).map(|(seq, row)| (Seq(seq), row, at(u64::from(seq)))))
}

pub fn history(rows: &[Stitch]) -> History {
    fold(rows).expect("a valid journal")
}

/// Nothing special at this time.
pub fn around(seconds: u64) -> Circumstances {
    Circumstances {
        now: at(seconds),
        recovery: Recovery::Resume,
        orphaned: None,
        cancel: None,
        deadline_at: None,
        crash_charges: 0,
    }
}
