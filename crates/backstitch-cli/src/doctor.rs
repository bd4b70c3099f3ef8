//! `backstitch doctor`: is what `serve` stands on as it must be, and how is it mended?

mod daemon;
mod database;
mod edge;
mod host;

use serde::Serialize;

use crate::arguments::Doctor;
use crate::exit::{Exit, Failed};
use crate::output::{Tint, clean, say, say_json, tinted};
use crate::settings::Settings;

/// One thing that was looked at. The names of `what` and the words of `verdict` are a promise to scripts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    what: &'static str,
    verdict: Verdict,
    /// What was found.
    says: String,
    /// What to do. None: nothing needs to be done.
    mend: Option<String>,
}

/// How well it is, the worst last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    /// As it must be.
    Ok,
    /// It can't be said.
    NotExamined,
    /// It works, but somebody should know.
    Warning,
    /// `serve` would not start, or its workflows would fail.
    Wrong,
}

impl Finding {
    fn ok(what: &'static str, says: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Ok, says: says.into(), mend: None }
    }

    fn warning(what: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Warning, says: says.into(), mend: Some(mend.into()) }
    }

    fn wrong(what: &'static str, says: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Wrong, says: says.into(), mend: Some(mend.into()) }
    }

    fn not_examined(what: &'static str, because: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::NotExamined, says: because.into(), mend: None }
    }
}

/// Examines everything, whatever was found before, and ends with 1 if something is wrong.
pub async fn run(settings: &Settings, arguments: Doctor) -> Result<Exit, Failed> {
    let Doctor { json, without_gateway, daemon, worker, edge } = arguments;
    let worker = settings.worker(worker);
    let daemon = settings.serve(&daemon);
    let mut findings = database::examine(settings, !without_gateway, daemon.as_ref().ok()).await;
    findings.push(host::directory("state directory", &worker.state_directory, host::Missing::IsMade));
    findings.extend(daemon::examine(daemon).await);
    if !without_gateway {
        findings.extend(edge::examine(settings.edge(edge, &worker)).await);
    }
    match json {
        true => say_json(&findings)?,
        false => say(&told(&findings))?,
    }
    let worst = findings.iter().map(|finding| finding.verdict).max();
    Ok(if worst == Some(Verdict::Wrong) { Exit::Error } else { Exit::Done })
}

fn told(findings: &[Finding]) -> String {
    let width = findings.iter().map(|finding| finding.what.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for Finding { what, verdict, says, mend } in findings {
        let (word, tint) = match verdict {
            Verdict::Ok => ("ok", Tint::Good),
            Verdict::NotExamined => ("-", Tint::Quiet),
            Verdict::Warning => ("warning", Tint::Back),
            Verdict::Wrong => ("wrong", Tint::Bad),
        };
        let word = tinted(&format!("{word:<7}"), tint);
        lines.push(format!("{word}  {what:<width$}  {}", clean(says).replace('\n', " ")));
        if let Some(mend) = mend {
            lines.push(format!("         {:<width$}  → {}", "", clean(mend)));
        }
    }
    lines.join("\n")
}
