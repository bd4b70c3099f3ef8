//! Is every `--help` worth reading, and does it keep secrets?

use crate::world::{bare, end};

const COMMANDS: [&[&str]; 32] = [
    &[],
    &["serve"],
    &["recover"],
    &["migrate"],
    &["enqueue"],
    &["list"],
    &["show"],
    &["cancel"],
    &["retry"],
    &["prune"],
    &["gateway"],
    &["gateway", "add"],
    &["gateway", "list"],
    &["gateway", "stats"],
    &["gateway", "quarantine"],
    &["gateway", "release"],
    &["gateway", "start"],
    &["gateway", "stop"],
    &["token", "create"],
    &["token", "list"],
    &["token", "revoke"],
    &["bench"],
    &["bench", "throughput"],
    &["bench", "latency"],
    &["bench", "enqueue"],
    &["bench", "history"],
    &["bench", "recovery"],
    &["bench", "compensate"],
    &["bench", "all"],
    &["pg", "status"],
    &["pg", "start"],
    &["pg", "stop"],
];

#[tokio::test]
async fn every_help_says_how_it_ends_and_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    for command in COMMANDS {
        for flag in ["--help", "-h"] {
            let mut help = bare(directory.path(), &[command, &[flag]].concat());
            help.env("DATABASE_URL", "postgres://a:sesame@localhost/b")
                .env("BACKSTITCH_ALERT_WEBHOOK", "http://localhost/sesame")
                .env("BACKSTITCH_POWERDNS_API_KEY", "sesame");
            let help = end(help).await.expect(0);
            assert!(help.out.contains("Exit codes:"), "{command:?}: {}", help.out);
            assert!(help.out.contains("4  needs attention"), "{command:?}: {}", help.out);
            assert!(!help.out.contains("sesame"), "{command:?}: {}", help.out);
            assert!(
                command.is_empty() || command == ["gateway"] || help.out.contains("Example"),
                "{command:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_ends_with_2() {
    let directory = tempfile::tempdir().unwrap();
    for wrong in [
        &["fly"][..],
        &[],
        &["list", "--limit", "0"],
        &["list", "--status", "asleep"],
        &["show", "not-an-id"],
        &["cancel", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"],
        &["enqueue", "demo", "{}", "--priority", "9"],
        &["enqueue", "demo", "{}", "--deadline", "tomorrow"],
        &["enqueue", "demo", "{}", "--input-file", "also"],
        &["gateway", "start", "my-organisation"],
        &["gateway", "release", "-1"],
        &["recover", "--wait", "0"],
        &["token", "create", "ops"],
        &["token", "create", "ops", "--role", "root"],
        &["token", "revoke", "bst_ff"],
        &["bench"],
        &["bench", "throughput", "--in-flight", "1"],
        &["prune"],
        &["prune", "--older-than", "30"],
    ] {
        end(bare(directory.path(), wrong)).await.expect(2);
    }
}
