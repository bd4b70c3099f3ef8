//! The whole suite: every test of the workspace, real servers included.

use anyhow::Result;

use crate::cases;
use crate::command::{self, cargo};
use crate::fuzzer;
use crate::parts::Parts;
use crate::previous;
use crate::setup;

/// Set for tests that can try more than minutes allow.
const LONG: &str = "BACKSTITCH_TEST_LONG";

/// What is asked of a long run beside the suite: it judges itself.
const TORTURE: [&str; 11] = [
    "run",
    "--locked",
    "--package",
    "backstitch-cli",
    "--bin",
    "backstitch",
    "--",
    "torture",
    "--minutes=60",
    "--gateways=6",
    "--json",
];

/// Sets up, builds, runs. `arguments` go to `cargo test` as they are. `long`: with more random cases, and an hour of torture.
pub fn test(long: bool, arguments: &[String]) -> Result<()> {
    let mut parts = Parts::default();
    let mut counts = Counts::default();
    let evidence = tempfile::tempdir()?;
    parts.then("set-up", || setup::ensure(setup::TESTS));
    parts.then("API fuzzer", fuzzer::ensure);
    parts.then("build", || {
        let ours = arguments.iter().take_while(|argument| *argument != "--");
        command::run(
            cargo(&["test", "--workspace", "--locked", "--no-run"]).args(ours).env("SQLX_OFFLINE", "true"),
        )
    });
    parts.then("version before", previous::ensure);
    parts.then("tests", || {
        let mut test = cargo(&["test", "--workspace", "--locked"]);
        test.args(arguments).env("SQLX_OFFLINE", "true").env(cases::EVIDENCE, evidence.path());
        if long {
            test.env(LONG, "1");
        }
        command::run_and_see(&mut test, |line| counts.count(line))
    });
    // Of a part of the suite nothing is demanded.
    if arguments.iter().all(|argument| argument == "--no-fail-fast") {
        parts.then("cases", || cases::check(evidence.path()));
    }
    if long {
        parts.then("torture", || command::run(cargo(&TORTURE).env("SQLX_OFFLINE", "true")));
    }
    let ended = parts.finish();
    println!("{} passed, {} failed, {} ignored", counts.passed, counts.failed, counts.ignored);
    ended
}

/// Cargo counts per test binary; this is the sum.
#[derive(Default)]
struct Counts {
    passed: u32,
    failed: u32,
    ignored: u32,
}

impl Counts {
    /// Reads `test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; …`.
    fn count(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            match count.split_once(' ').map(|(number, what)| (number.parse::<u32>(), what)) {
                Some((Ok(number), "passed")) => self.passed += number,
                Some((Ok(number), "failed")) => self.failed += number,
                Some((Ok(number), "ignored")) => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Counts;

    #[test]
    fn the_counts_of_all_test_binaries_are_added_up() {
        let mut counts = Counts::default();
        counts.count(
            "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        counts.count("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        counts.count("test that_prints ... test result: odd");
        assert_eq!((counts.passed, counts.failed, counts.ignored), (15, 2, 1));
    }
}
