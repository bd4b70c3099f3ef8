//! Is every state of a workflow explained so that a person knows what to do?

use serde_json::{Value, json};

use super::{explain, told};
use crate::seen::Seen;

const ID: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";

/// A workflow of twelve o'clock, seen a minute later.
fn workflow(status: &str, differently: &Value) -> Value {
    let mut view = json!({
        "workflow": ID, "kind": "gateway.start", "version": 1, "key": "org-7/1", "queue": "default", "status": status,
        "input": {}, "output": null, "cause": null, "cancel": null, "error": null, "report": null, "attention": null,
        "enqueued_at": "2027-01-31T12:00:00Z", "finished_at": null, "deadline_at": null,
        "due_at": "2027-01-31T12:00:00Z", "holder": null, "unserved": false,
    });
    merge(&mut view, differently);
    view
}

fn step(position: u32, step: &str, status: &str, backward: &str) -> Value {
    let output = matches!(status, "completed" | "compensating" | "compensated").then_some("done");
    json!({
        "position": position, "step": step, "status": status, "backward": backward, "input": {}, "output": output,
    })
}

/// A try, begun ten seconds after it was asked for, with this outcome.
fn attempt(position: u32, direction: &str, attempt: u32, outcome: Option<&str>) -> Value {
    let failed = outcome.is_some_and(|outcome| !matches!(outcome, "succeeded" | "handed_back"));
    json!({
        "position": position, "step": "", "direction": direction, "attempt": attempt,
        "key": format!("{ID}/{position}/{direction}"), "incarnation": 3, "began_seq": 0, "began_at": "2027-01-31T12:00:10Z",
        "ended_seq": outcome.map(|_| 1), "ended_at": outcome.map(|_| "2027-01-31T12:00:11Z"), "outcome": outcome,
        "failure": failed.then(|| json!({ "code": "nginx_broken", "message": "nginx refused" })),
    })
}

fn worker(lease_left_milliseconds: i64) -> Value {
    json!({
        "incarnation": 3, "host": "berlin", "pid": 4711, "version": "0.1.0", "kinds": ["gateway.start"],
        "alive": true, "began_at": "2027-01-31T11:00:00Z", "beat_age_milliseconds": 100,
        "lease_left_milliseconds": lease_left_milliseconds, "held": 1, "died_at": null, "death": null,
    })
}

fn seen(workflow: Value, steps: &[Value], attempts: &[Value], worker: Value) -> Seen {
    let seen = json!({
        "workflow": workflow, "steps": steps, "attempts": attempts, "worker": worker, "now": "2027-01-31T12:01:00Z",
    });
    serde_json::from_value(seen).expect("a state that there is")
}

fn merge(view: &mut Value, differently: &Value) {
    for (name, value) in differently.as_object().into_iter().flatten() {
        view[name] = value.clone();
    }
}

/// The whole text, with the id and what goes for every live workflow left out.
#[track_caller]
fn expect(seen: &Seen, expected: &str) {
    let text = told(&explain(seen)).replace(ID, "ID");
    let text: String = text.lines().map(|line| format!("{}\n", line.trim_end())).collect();
    assert_eq!(text.trim_end(), expected.trim(), "\n{text}");
}

#[test]
fn one_that_nobody_serves() {
    expect(
        &seen(workflow("pending", &json!({ "unserved": true })), &[], &[], Value::Null),
        "
ID, gateway.start: pending

What happened
  It was asked for under the key \"org-7/1\" at 2027-01-31 12:00:00Z.
  No step has begun.

What stands outside
  Nothing yet.

What happens next
  Nothing, until a worker is started that serves the kind gateway.start.

What you can do
  backstitch serve
      a worker; it must be one that serves this kind
  backstitch workers
      which workers there are, and what they serve
  backstitch cancel ID --why 'WHY'
      has it end without beginning
  backstitch show ID --follow
      each try, until it has ended",
    );
}

#[test]
fn one_that_nobody_serves_and_that_is_to_begin_later() {
    let later = json!({ "unserved": true, "due_at": "2027-01-31T13:01:00Z" });
    let explanation = explain(&seen(workflow("pending", &later), &[], &[], Value::Null));
    let next = "Nothing, until a worker is started that serves the kind gateway.start, and not before \
        2027-01-31 13:01:00Z (in 1 h 0 min).";
    assert_eq!(explanation.next, [next]);
}

#[test]
fn one_whose_failed_step_is_taken_back_before_it_hears_of_the_error() {
    let steps = [
        step(0, "allocate", "completed", "after_all_later"),
        json!({
            "position": 1, "step": "register-dns", "status": "compensating", "backward": "independent", "input": {},
            "output": null,
        }),
    ];
    let attempts = [
        attempt(0, "run", 1, Some("succeeded")),
        attempt(1, "run", 1, Some("failed")),
        attempt(1, "compensate", 1, Some("retry")),
    ];
    let seen = seen(workflow("running", &json!({})), &steps, &attempts, Value::Null);
    let explanation = explain(&seen);
    assert_eq!(
        explanation.happened[2],
        "Step register-dns failed for good after 1 try: nginx refused (nginx_broken); it is being taken back."
    );
    assert_eq!(
        explanation.next[1],
        "Step register-dns is compensated, tried until it succeeds; then the workflow hears of its error, and goes on or is \
         taken back."
    );
}

#[test]
fn one_that_is_to_begin_later_and_has_a_deadline() {
    let times =
        json!({ "due_at": "2027-01-31T13:01:00Z", "deadline_at": "2027-01-31T14:01:00Z", "key": null });
    expect(
        &seen(workflow("pending", &times), &[], &[], Value::Null),
        "
ID, gateway.start: pending

What happened
  It was asked for at 2027-01-31 12:00:00Z.
  No step has begun.

What stands outside
  Nothing yet.

What happens next
  A worker takes it up in 1 h 0 min, at 2027-01-31 13:01:00Z.
  Then its first step begins.
  Unless it has ended by its deadline (in 2 h 0 min, at 2027-01-31 14:01:00Z), it is taken back.

What you can do
  backstitch retry ID --why 'WHY'
      begins now instead of later
  backstitch cancel ID --why 'WHY'
      has it end without beginning
  backstitch show ID --follow
      each try, until it has ended",
    );
}

#[test]
fn one_whose_step_is_under_way() {
    let steps = [
        step(0, "allocate", "completed", "after_all_later"),
        step(1, "register-dns", "in_progress", "independent"),
    ];
    let attempts = [attempt(0, "run", 1, Some("succeeded")), attempt(1, "run", 2, None)];
    expect(
        &seen(workflow("running", &json!({ "holder": 3, "due_at": null })), &steps, &attempts, worker(7_000)),
        "
ID, gateway.start: running

What happened
  It was asked for under the key \"org-7/1\" at 2027-01-31 12:00:00Z.
  Step allocate was done.
  Step register-dns is under way since 2027-01-31 12:00:10Z, try 2.

What stands outside
  allocate: stands.
  register-dns: may stand, as it is not known how far it came.

What happens next
  Worker 3 (berlin, process 4711) is at it.
  When step register-dns has ended, it goes on.

What you can do
  backstitch cancel ID --why 'WHY'
      has it taken back, from its last step to its first
  backstitch verify ID
      looks whether the outside is as the journal says
  backstitch show ID --follow
      each try, until it has ended",
    );
}

#[test]
fn one_whose_worker_is_not_heard_of() {
    let steps = [step(0, "allocate", "in_progress", "after_all_later")];
    let attempts = [attempt(0, "run", 1, None)];
    let seen =
        seen(workflow("running", &json!({ "holder": 3, "due_at": null })), &steps, &attempts, worker(-4_000));
    let next = explain(&seen).next;
    assert_eq!(
        next[0],
        "Worker 3 (berlin, process 4711) has not been heard of: its lease is over for 4.0 s. It is buried within \
         seconds if another worker lives, which then goes on."
    );
}

#[test]
fn one_whose_worker_went_away_in_the_middle_of_a_step() {
    let steps = [step(0, "allocate", "in_progress", "after_all_later")];
    let attempts = [attempt(0, "run", 1, None)];
    let explanation = explain(&seen(workflow("running", &json!({})), &steps, &attempts, Value::Null));
    assert_eq!(
        explanation.happened[1],
        "Step allocate was begun at 2027-01-31 12:00:10Z, try 1, and its worker went away: it may have happened."
    );
    assert_eq!(
        explanation.next,
        [
            "It is due: a worker takes it up as soon as one has room.",
            "Step allocate is then run again under the same key, or all is taken back: its kind says which.",
        ]
    );
}

#[test]
fn one_that_waits_for_another_try() {
    let steps = [step(0, "write-vhost", "waiting", "after_all_later")];
    let attempts = [attempt(0, "run", 1, Some("retry")), attempt(0, "run", 2, Some("retry"))];
    expect(
        &seen(
            workflow("running", &json!({ "due_at": "2027-01-31T12:01:12.4Z" })),
            &steps,
            &attempts,
            Value::Null,
        ),
        "
ID, gateway.start: running

What happened
  It was asked for under the key \"org-7/1\" at 2027-01-31 12:00:00Z.
  Step write-vhost was tried twice and is to be tried again: nginx refused (nginx_broken).

What stands outside
  write-vhost: may stand, as it is not known how far it came.

What happens next
  A worker takes it up in 12 s, at 2027-01-31 12:01:12Z.
  Step write-vhost is tried again then, under the same key.

What you can do
  backstitch retry ID --why 'WHY'
      tries again now, without waiting
  backstitch cancel ID --why 'WHY'
      has it taken back, from its last step to its first
  backstitch verify ID
      looks whether the outside is as the journal says
  backstitch show ID --follow
      each try, until it has ended",
    );
}

#[test]
fn one_that_is_paused_says_by_whom_and_how_to_let_it_go_on() {
    let paused = json!({ "due_at": null, "paused": { "by": "ada", "why": "incident 12" } });
    let explanation = explain(&seen(workflow("pending", &paused), &[], &[], Value::Null));
    assert_eq!(
        explanation.next,
        ["Nothing, until it is resumed, retried or cancelled: it was paused by ada: incident 12."]
    );
    assert!(explanation.can[0].command.starts_with("backstitch resume "), "{explanation:?}");
}

#[test]
fn one_past_its_pivot_is_not_offered_to_be_cancelled() {
    let steps = [step(0, "allocate", "completed", "after_all_later"), step(1, "pay", "completed", "pivot")];
    let view = workflow("running", &json!({ "deadline_at": "2027-01-31T14:01:00Z" }));
    let explanation = explain(&seen(view, &steps, &[], Value::Null));
    assert_eq!(
        explanation.stands,
        ["allocate: stands.", "pay: stands for good; there is no way back from it."]
    );
    assert!(explanation.can.iter().all(|advice| !advice.command.contains("cancel")), "{explanation:?}");
    assert!(explanation.next.iter().all(|sentence| !sentence.contains("deadline")), "{explanation:?}");
}

#[test]
fn one_that_is_to_be_taken_back_at_the_end_of_its_try() {
    let steps = [step(0, "allocate", "in_progress", "after_all_later")];
    let cancel = json!({ "by": "ada", "why": "the customer left" });
    let view = workflow("running", &json!({ "holder": 3, "due_at": null, "cancel": cancel }));
    let explanation = explain(&seen(view, &steps, &[attempt(0, "run", 1, None)], worker(7_000)));
    assert_eq!(explanation.happened[2], "ada asked that it be taken back: the customer left.");
    assert_eq!(explanation.next[1], "Then it is taken back, from its last step to its first.");
    assert!(explanation.can.iter().all(|advice| !advice.command.contains("cancel")), "{explanation:?}");
}

fn failed_in(step: &str) -> Value {
    json!({ "cause": "failed", "failure": { "code": "nginx_broken", "message": "nginx refused" }, "step": step })
}

#[test]
fn one_that_is_stuck_on_its_way_back() {
    let steps = [
        step(0, "allocate", "completed", "after_all_later"),
        step(1, "register-dns", "compensating", "independent"),
        step(2, "handshake", "failed", "nothing"),
    ];
    let attempts = [
        attempt(0, "run", 1, Some("succeeded")),
        attempt(1, "run", 1, Some("succeeded")),
        attempt(2, "run", 1, Some("failed")),
        attempt(1, "compensate", 5, Some("retry")),
    ];
    let differently = json!({
        "due_at": "2027-01-31T12:06:00Z", "cause": failed_in("handshake"),
        "attention": "step register-dns can't be compensated",
    });
    expect(
        &seen(workflow("needs_attention", &differently), &steps, &attempts, Value::Null),
        "
ID, gateway.start: needs attention

What happened
  It was asked for under the key \"org-7/1\" at 2027-01-31 12:00:00Z.
  2 steps were done: allocate, register-dns.
  Step handshake failed for good after 1 try: nginx refused (nginx_broken).
  So it is taken back: step handshake failed with \"nginx_broken\".
  An alert was raised: step register-dns can't be compensated.

What stands outside
  allocate: stands.
  register-dns: may still stand; to compensate it was tried 5 times: nginx refused (nginx_broken).

What happens next
  A worker takes it up in 5 min 0 s, at 2027-01-31 12:06:00Z.
  Step register-dns is compensated, then allocate, each tried until it succeeds; then it ends as compensated.

What you can do
  backstitch retry ID --why 'WHY'
      tries again now; first mend what its last error says
  backstitch skip-step ID 1 --why 'WHY'
      goes on taking back the rest; what this step did may still stand
  backstitch abandon ID --why 'WHY'
      ends it as it is, with all that still stands
  backstitch verify ID
      looks whether the outside is as the journal says
  backstitch show ID --follow
      each try, until it has ended",
    );
}

#[test]
fn one_that_was_abandoned_tells_what_it_left() {
    let steps = [
        step(0, "allocate", "completed", "after_all_later"),
        step(1, "register-dns", "skipped", "independent"),
        step(2, "handshake", "failed", "nothing"),
    ];
    let ended = json!({ "due_at": null, "finished_at": "2027-01-31T12:00:12Z" });
    let explanation = explain(&seen(workflow("abandoned", &ended), &steps, &[], Value::Null));
    assert_eq!(
        explanation.stands,
        [
            "allocate: stands.",
            "register-dns: may still stand; an operator said that it need not be taken back."
        ]
    );
    assert_eq!(explanation.next, ["Nothing: it has ended."]);
}

#[test]
fn one_that_was_taken_back() {
    let steps = [
        step(0, "allocate", "compensated", "after_all_later"),
        step(1, "register-dns", "rejected", "independent"),
    ];
    let attempts = [
        attempt(0, "run", 1, Some("succeeded")),
        attempt(1, "run", 1, Some("rejected")),
        attempt(0, "compensate", 1, Some("succeeded")),
    ];
    let differently = json!({
        "due_at": null, "finished_at": "2027-01-31T12:00:12Z", "cause": failed_in("register-dns"),
    });
    expect(
        &seen(workflow("compensated", &differently), &steps, &attempts, Value::Null),
        "
ID, gateway.start: compensated

What happened
  It was asked for under the key \"org-7/1\" at 2027-01-31 12:00:00Z.
  Step allocate was done.
  Step register-dns was refused, and did nothing: nginx refused (nginx_broken).
  So it was taken back: step register-dns failed with \"nginx_broken\".
  Step allocate was compensated.
  It ended as compensated at 2027-01-31 12:00:12Z, after 12.0 s.

What stands outside
  Nothing: all that may have happened was taken back.

What happens next
  Nothing: it has ended.

What you can do
  backstitch show ID
      each try, with its times, errors and keys
  backstitch verify ID
      looks whether the outside is as the journal says
  backstitch enqueue gateway.start INPUT --key KEY
      asks for it anew; a key that was used names this one, so give another",
    );
}

#[test]
fn one_that_is_completed() {
    let steps = [step(0, "allocate", "completed", "after_all_later")];
    let differently = json!({ "due_at": null, "finished_at": "2027-01-31T12:00:12Z", "output": "done" });
    let attempts = [attempt(0, "run", 1, Some("succeeded"))];
    let explanation = explain(&seen(workflow("completed", &differently), &steps, &attempts, Value::Null));
    assert_eq!(explanation.stands, ["What was asked for: it is completed, and nothing is taken back."]);
    assert_eq!(explanation.next, ["Nothing: it has ended."]);
    assert_eq!(explanation.can.len(), 2, "to show it, and to verify it");
}

#[test]
fn every_cause_has_its_sentence() {
    for (cause, said) in [
        (failed_in("handshake"), "So it is taken back: step handshake failed with \"nginx_broken\"."),
        (
            json!({ "cause": "failed", "failure": { "code": "full", "message": "no gateway" } }),
            "So it is taken back: it gave up, no gateway (full).",
        ),
        (
            json!({ "cause": "cancelled", "by": "ada", "why": "a mistake" }),
            "ada had it taken back: a mistake.",
        ),
        (json!({ "cause": "deadline_passed" }), "Its deadline passed, so it is taken back."),
        (
            json!({ "cause": "orphaned" }),
            "Its worker died in the middle of a step, and this kind is taken back then.",
        ),
        (
            json!({ "cause": "crash_loop", "deaths": 5 }),
            "Its worker died 5 times while at it, so it is taken back.",
        ),
        (
            json!({ "cause": "mismatch", "message": "step 2 is another" }),
            "Its code no longer fits what it had done, so it is taken back: step 2 is another.",
        ),
    ] {
        let view = workflow("compensating", &json!({ "cause": cause }));
        let explanation = explain(&seen(view, &[], &[], Value::Null));
        assert_eq!(explanation.happened.last().map(String::as_str), Some(said));
        assert_eq!(explanation.next[1], "Then it ends as compensated.");
    }
}

#[test]
fn every_outcome_of_a_try_has_its_sentence() {
    for (outcome, said) in [
        (
            "in_doubt",
            "Step use was tried once; nobody knows how the last try ended: nginx refused (nginx_broken).",
        ),
        ("handed_back", "Step use was tried once; the last try was cut short by a shutdown."),
        ("failed_in_doubt", "Step use failed for good after 1 try: nginx refused (nginx_broken)."),
    ] {
        let steps = [step(0, "use", "waiting", "nothing")];
        let attempts = [attempt(0, "run", 1, Some(outcome))];
        let explanation = explain(&seen(workflow("running", &json!({})), &steps, &attempts, Value::Null));
        assert_eq!(explanation.happened[1], said);
    }
}
