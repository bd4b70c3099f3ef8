//! How does a workflow look as a ladder: its head, and each step forward and back?

use backstitch::{AttemptView, StepView};

use crate::output::{Tint, clean, tinted};
use crate::seen::Seen;
use crate::time::{clock, distance, length, moment, span};

/// The whole of it.
pub fn told(seen: &Seen) -> String {
    let mut lines = head(seen);
    if seen.steps.is_empty() {
        lines.push(String::new());
        lines.push("no step has begun".to_owned());
    }
    for step in &seen.steps {
        lines.push(String::new());
        lines.push(format!(
            "{:>3}  {}  {}",
            step.position,
            clean(&step.step),
            tinted(&step.status, tint(&step.status))
        ));
        for (direction, arrow) in [("run", "↓"), ("compensate", "↑")] {
            lines.extend(rung(seen, step, direction, arrow));
        }
    }
    lines.join("\n")
}

/// What was asked, where it is, and why.
fn head(seen: &Seen) -> Vec<String> {
    let view = &seen.workflow;
    let mut lines =
        vec![format!("{}  {}", view.workflow, tinted(view.status.as_str(), tint(view.status.as_str())))];
    let mut line = |name: &str, value: String| lines.push(format!("  {name:<9} {}", clean(&value)));
    line("kind", format!("{} (version {})", view.kind, view.version));
    if let Some(key) = &view.key {
        line("key", key.clone());
    }
    line("queue", view.queue.clone());
    if let Some(input) = &view.input {
        line("input", input.as_str().to_owned());
    }
    line("asked", moment(view.enqueued_at));
    if let Some(at) = view.deadline_at {
        line("deadline", moment(at));
    }
    match (view.finished_at, view.holder, view.due_at) {
        (Some(at), ..) => line("ended", format!("{}, after {}", moment(at), span(view.enqueued_at, at))),
        (None, Some(holder), _) => line("held by", holder_told(seen, holder)),
        (None, None, Some(due)) if due > seen.now => {
            line("next try", format!("{}, at {}", distance(seen.now, due), moment(due)));
        }
        (None, None, Some(due)) => line("due", format!("since {}", moment(due))),
        (None, None, None) => {}
    }
    if let Some(paused) = &view.paused {
        line("paused", format!("by {}: {}", paused.by, paused.why));
    }
    if view.unserved {
        line("unserved", "no living worker serves this kind: start one".to_owned());
    }
    if let Some(cancel) = view.cancel.as_ref().filter(|_| view.cause.is_none()) {
        line("cancelled", format!("by {}: {}", cancel.by, cancel.why));
    }
    if let Some(cause) = &view.cause {
        line("cause", cause.as_str().to_owned());
    }
    if let Some(error) = &view.error {
        let step = error.step.as_ref().map(|step| format!(", in step {step}")).unwrap_or_default();
        line("error", format!("{error}{step}"));
    }
    if let Some(step) = seen.settling() {
        line("note", format!("{} failed and is being taken back", step.step));
    }
    if let Some(message) = &view.attention {
        line("attention", message.clone());
    }
    if let Some(output) = &view.output {
        line("output", output.as_str().to_owned());
    }
    if let Some(report) = &view.report {
        line("report", report.to_string());
    }
    lines
}

fn holder_told(seen: &Seen, holder: i32) -> String {
    match &seen.worker {
        None => format!("worker {holder}"),
        Some(worker) => {
            let lease = match worker.lease_left_milliseconds {
                Some(left) if left < 0 => format!("lease over for {}", length(-left)),
                Some(left) => format!("lease for {}", length(left)),
                None => "dead".to_owned(),
            };
            format!("worker {holder}: {}, process {}, {lease}", worker.host, worker.pid)
        }
    }
}

/// One step in one direction: its key, and each try.
fn rung(seen: &Seen, step: &StepView, direction: &str, arrow: &str) -> Vec<String> {
    let tries: Vec<_> = seen
        .attempts
        .iter()
        .filter(|attempt| attempt.position == step.position && attempt.direction == direction)
        .collect();
    let Some(first) = tries.first() else {
        let why_not = match (direction, step.backward.as_str()) {
            ("compensate", "nothing") => "nothing to take back",
            ("compensate", "pivot") => "no way back from here",
            _ => return Vec::new(),
        };
        return vec![format!("     {arrow} {}", tinted(why_not, Tint::Quiet))];
    };
    let mut lines =
        vec![format!("     {arrow} {direction:<10}  {}", tinted(&format!("key {}", first.key), Tint::Quiet))];
    let mut before = None;
    for attempt in tries {
        let failure = attempt.failure.as_ref().map(ToString::to_string);
        let is_the_same = failure.is_some() && failure == before;
        lines.extend(attempt_told(seen, attempt, is_the_same));
        before = failure;
    }
    lines
}

/// One try. The error of the one before is not told again.
fn attempt_told(seen: &Seen, attempt: &AttemptView, is_the_same: bool) -> Vec<String> {
    let held = seen.workflow.holder;
    let outcome = match &attempt.outcome {
        Some(outcome) => outcome.as_str(),
        // The last word of whoever still holds it; anybody else has gone, and nobody knows how far it came.
        None if held.is_some() && held == attempt.incarnation => "under way",
        None => "in doubt",
    };
    let took = match (attempt.ended_at, outcome) {
        (Some(at), _) => span(attempt.began_at, at),
        (None, "under way") => span(attempt.began_at, seen.now),
        (None, _) => "-".to_owned(),
    };
    let mut lines = vec![format!(
        "         {:>2}  {}  {took:>8}  {}{}",
        attempt.attempt,
        clock(attempt.began_at),
        tinted(outcome, tint(outcome)),
        if is_the_same { ", the same" } else { "" }
    )];
    if let Some(failure) = attempt.failure.as_ref().filter(|_| !is_the_same) {
        lines.extend(clean(&failure.to_string()).lines().map(|line| format!("             {line}")));
    }
    lines
}

fn tint(word: &str) -> Tint {
    match word {
        "completed" | "succeeded" => Tint::Good,
        "compensated" | "compensating" | "retry" | "waiting" => Tint::Back,
        "failed" | "rejected" | "needs_attention" | "in_doubt" | "in doubt" => Tint::Bad,
        _ => Tint::Quiet,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn held(lease_left_milliseconds: i64) -> Seen {
        let seen = json!({
            "workflow": {
                "workflow": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "kind": "report.build", "version": 2,
                "key": "monthly/1", "queue": "slow", "status": "running", "input": { "month": 1 }, "output": null,
                "cause": null, "cancel": { "by": "ada", "why": "wrong month" }, "error": null, "report": null,
                "attention": null, "enqueued_at": "2027-01-31T12:00:00Z", "finished_at": null,
                "deadline_at": "2027-01-31T13:00:00Z", "due_at": null, "holder": 3, "unserved": false,
            },
            "steps": [{
                "position": 0, "step": "render", "status": "in_progress", "backward": "independent", "input": {},
                "output": null,
            }],
            "attempts": [attempt(1, 2), attempt(2, 3)],
            "worker": {
                "incarnation": 3, "host": "berlin", "pid": 4711, "version": "0.1.0", "kinds": [], "alive": true,
                "began_at": "2027-01-31T11:00:00Z", "beat_age_milliseconds": 100,
                "lease_left_milliseconds": lease_left_milliseconds, "held": 1, "died_at": null, "death": null,
            },
            "now": "2027-01-31T12:00:12Z",
        });
        serde_json::from_value(seen).expect("a state that there is")
    }

    fn attempt(attempt: u32, incarnation: i32) -> serde_json::Value {
        json!({
            "position": 0, "step": "render", "direction": "run", "attempt": attempt,
            "key": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10/0/run", "incarnation": incarnation,
            "began_seq": attempt, "began_at": format!("2027-01-31T12:00:0{attempt}Z"), "ended_seq": null, "ended_at": null, "outcome": null, "failure": null,
        })
    }

    #[test]
    fn who_holds_it_is_told_and_only_the_holders_try_is_under_way() {
        let expected = "\
0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10  running
  kind      report.build (version 2)
  key       monthly/1
  queue     slow
  input     {\"month\":1}
  asked     2027-01-31 12:00:00Z
  deadline  2027-01-31 13:00:00Z
  held by   worker 3: berlin, process 4711, lease for 7.5 s
  cancelled by ada: wrong month

  0  render  in_progress
     ↓ run         key 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10/0/run
          1  12:00:01.000         -  in doubt
          2  12:00:02.000    10.0 s  under way";
        assert_eq!(told(&held(7_500)), expected);
    }

    #[test]
    fn the_same_error_again_is_told_once() {
        let mut seen = held(7_500);
        let failed = |number: u32, message: &str| {
            let mut failed = attempt(number, 3);
            failed["outcome"] = "retry".into();
            failed["ended_at"] = format!("2027-01-31T12:00:0{number}.5Z").into();
            failed["failure"] = json!({ "code": "nginx_broken", "message": message });
            serde_json::from_value(failed).expect("an attempt that there is")
        };
        seen.attempts =
            vec![failed(1, "refused"), failed(2, "refused"), failed(3, "gone"), failed(4, "refused")];
        let told = told(&seen);
        let (_, tries) = told.split_once("/0/run\n").expect("it has tries");
        let expected = "          1  12:00:01.000    500 ms  retry
             refused (nginx_broken)
          2  12:00:02.000    500 ms  retry, the same
          3  12:00:03.000    500 ms  retry
             gone (nginx_broken)
          4  12:00:04.000    500 ms  retry
             refused (nginx_broken)";
        assert_eq!(tries, expected);
    }

    #[test]
    fn a_step_that_failed_and_is_taken_back_before_the_workflow_hears_of_it_is_told() {
        let mut seen = held(7_500);
        seen.steps[0].status = "compensating".to_owned();
        assert!(
            told(&seen).contains("  note      render failed and is being taken back\n"),
            "{}",
            told(&seen)
        );
        seen.workflow.status = backstitch::Status::Compensating;
        assert!(!told(&seen).contains("  note "), "then it is no news");
    }

    #[test]
    fn a_lease_that_is_over_is_told_as_over() {
        assert!(
            told(&held(-4_000)).contains("held by   worker 3: berlin, process 4711, lease over for 4.0 s")
        );
    }
}
