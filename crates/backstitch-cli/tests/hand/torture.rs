//! Does everything hold while everything goes wrong, and would it be noticed if it did not?

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

/// The same in every run: a defect that it finds is found again.
const SEED: &str = "20261128";

async fn tortured(bundle: &Path, arguments: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_backstitch"));
    command.args(["torture", "--seed", SEED, "--json", "--bundle"]).arg(bundle);
    let ran = tokio::time::timeout(PATIENCE, command.args(arguments).kill_on_drop(true).output());
    let output = ran.await.expect("it ends").unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| {
        panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    });
    (output, report)
}

/// Three rounds, and what it takes to settle them, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(600);

#[tokio::test]
async fn everything_holds_while_everything_goes_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("bundle");
    let (output, report) = tortured(&bundle, &["--rounds", "3", "--pace", "150", "--gateways", "5"]).await;
    assert_eq!(report["verdict"], "held", "{report:#}");
    assert_eq!(output.status.code(), Some(0));
    assert!(!bundle.exists(), "there is nothing to look at");
    assert_eq!(report["not_possible"], serde_json::json!({}), "install what is missing");
    for nothing in ["lost", "leaked", "applied_twice", "compensated_twice", "stranded", "other_violations"] {
        assert_eq!(report[nothing], 0, "{nothing}");
    }
    let faults = report["faults"].as_object().unwrap();
    let fired = |begins: &str| -> u64 {
        let meant = faults.iter().filter(|(name, _)| name.starts_with(begins));
        meant.map(|(_, count)| count["fired"].as_u64().unwrap()).sum()
    };
    // Where nothing is written, a cut is no cut of a commit.
    let cut = |moment: &str| {
        let of = |boundary| fired(&format!("connection cut {moment} {boundary}"));
        of("") - of("claim") - of("beat")
    };
    println!(
        "{} s: {} kills, {} zombies, {} crash points, {} cuts before and {} after, {} immediate stops, {} sessions",
        report["seconds"],
        report["sigkills"],
        fired("worker frozen past its lease"),
        fired("worker killed before") + fired("worker killed after"),
        cut("before"),
        cut("after"),
        fired("postgres stopped"),
        fired("postgres session terminated"),
    );
    let (sigkills, workflows) = (report["sigkills"].as_u64().unwrap(), report["workflows"].as_u64().unwrap());
    assert!(sigkills >= 100 && workflows >= 1_000, "{sigkills} kills, {workflows} workflows");
    assert!(fired("worker frozen past its lease") >= 20 && fired("postgres stopped") >= 5);
    assert!(fired("postgres session terminated") >= 200);
    assert!(cut("before") >= 50 && cut("after") >= 50);
    let at_random = faults["worker killed"]["fired"].as_u64().unwrap();
    assert!(at_random >= 100, "{at_random} killed at any moment");
    for (name, count) in faults {
        assert!(count["fired"].as_u64() > Some(0), "{name} never came about: {count}");
    }
    let share = |status: &str| report["ended"][status].as_f64().unwrap() / workflows as f64;
    assert!(share("compensated") > 0.25 && share("completed") > 0.5, "{}", report["ended"]);
    assert!(report["completed_of_unfailing"].as_f64().unwrap() > 0.6, "{report:#}");
    assert!(report["gateways"]["stopped"].as_u64().unwrap() > 50, "{report:#}");
}

/// Without the part of the protection that is missing, the check must turn red, and say what it is.
async fn is_noticed(control: &str, begins: &str) {
    // Slow enough for Postgres to come back in between, and for work to be under way.
    is_noticed_at(control, begins, &["--pace", "1500", "--rate", "30"]).await;
}

async fn is_noticed_at(control: &str, begins: &str, pace: &[&str]) {
    let how = [&["--rounds", "1", "--control", control], pace].concat();
    let directory = tempfile::tempdir().unwrap();
    let bundle = directory.path().join("bundle");
    let (output, report) = tortured(&bundle, &how).await;
    assert_eq!(report["verdict"], "broken", "{control}");
    assert_eq!(output.status.code(), Some(4), "{control}: {}", String::from_utf8_lossy(&output.stderr));
    let violations = report["violations"].as_array().unwrap();
    let said = violations.iter().any(|violation| violation.as_str().unwrap().starts_with(begins));
    assert!(said, "{control}: {violations:#?}");
    // Everything that tells what went wrong is there to look at.
    let kept =
        |name: &str| std::fs::read_to_string(bundle.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
    assert!(kept("violations.txt").lines().any(|line| line.starts_with(begins)));
    let first_of =
        |name: &str| -> Value { serde_json::from_str(kept(name).lines().next().unwrap()).unwrap() };
    assert!(
        first_of("journal.jsonl")["workflow_id"].is_string()
            && first_of("workflow.jsonl")["kind"].is_string()
    );
    assert!(
        first_of("incarnation.jsonl")["pid"].is_i64() && first_of("sessions.jsonl")["blocked_by"].is_array()
    );
    let of_this_run: Value = serde_json::from_str(&kept("report.json")).unwrap();
    assert_eq!(of_this_run["violations"], report["violations"]);
    let logs = std::fs::read_dir(&bundle).unwrap().filter(|file| {
        let name = file.as_ref().unwrap().file_name();
        name.to_string_lossy().starts_with("postgres-")
    });
    assert!(logs.count() > 0, "the log of Postgres");
}

#[tokio::test]
async fn a_missing_fence_is_noticed() {
    is_noticed("fence", "written by the dead").await;
}

#[tokio::test]
async fn a_missing_tombstone_is_noticed() {
    is_noticed("tombstone", "I5").await;
}

#[tokio::test]
async fn a_key_that_is_not_known_again_is_noticed() {
    is_noticed("key", "I9").await;
}

#[tokio::test]
async fn an_intent_after_its_effect_is_noticed() {
    is_noticed("intent", "I2").await;
}

#[tokio::test]
async fn a_compensation_that_did_nothing_is_noticed() {
    is_noticed("undo", "I5").await;
}

#[tokio::test]
async fn a_name_that_was_not_removed_is_noticed() {
    // Nothing that is killed has to come back, and the scripted workflows have no part in it.
    is_noticed_at("removal", "leaked: DNS record", &["--pace", "150", "--rate", "1"]).await;
}
