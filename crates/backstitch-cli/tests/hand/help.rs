//! Is every `--help` worth reading, and does it keep secrets?

use crate::world::{bare, end};

const COMMANDS: [&[&str]; 52] = [
    &[],
    &["serve"],
    &["recover"],
    &["migrate"],
    &["enqueue"],
    &["seal"],
    &["wait"],
    &["list"],
    &["errors"],
    &["show"],
    &["explain"],
    &["verify"],
    &["cancel"],
    &["retry"],
    &["skip-step"],
    &["resolve"],
    &["abandon"],
    &["pause"],
    &["resume"],
    &["workers"],
    &["kinds"],
    &["stats"],
    &["doctor"],
    &["completions"],
    &["man"],
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
    &["bench", "http"],
    &["bench", "history"],
    &["bench", "recovery"],
    &["bench", "compensate"],
    &["bench", "all"],
    &["torture"],
    &["token"],
    &["pg"],
    &["pg", "status"],
    &["pg", "start"],
    &["pg", "stop"],
];

/// The numbers that a command ends with.
fn codes_of(command: &[&str]) -> &'static str {
    match command {
        [] | ["show"] | ["gateway"] | ["gateway", "start" | "stop"] => "0123456",
        ["recover"] => "01246",
        ["enqueue" | "wait"] => "012345",
        ["verify"] => "01245",
        ["torture"] => "0124",
        ["migrate" | "seal" | "doctor" | "completions" | "man"]
        | ["gateway", "list" | "stats"]
        | ["token", "create" | "list"]
        | ["bench", ..]
        | ["pg", "start" | "stop"] => "012",
        _ => "0125",
    }
}

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
            let (_, codes) = help.out.split_once("Exit codes:\n").unwrap();
            let codes: String = codes.lines().filter_map(|line| line.trim().chars().next()).collect();
            assert_eq!(codes, codes_of(command), "{command:?}: {}", help.out);
            assert!(!help.out.contains("sesame"), "{command:?}: {}", help.out);
            let (_, examples) =
                help.out.split_once("Example").unwrap_or_else(|| panic!("{command:?} has no example"));
            for line in examples.lines().skip(1).take_while(|line| !line.is_empty()) {
                assert!(line.starts_with("  ") && line.len() <= 100, "{command:?}: an example wraps: {line}");
            }
            let everywhere = help.out.contains("--log-format") && help.out.contains("env: DATABASE_URL");
            assert_eq!(
                everywhere,
                command.is_empty(),
                "{command:?}: what all understand is told once: {}",
                help.out
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
        &["list", "--since", "yesterday"],
        &["list", "--every", "1s"],
        &["list", "--watch", "--json"],
        &["show", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "--follow", "--json"],
        &["explain"],
        &["verify"],
        &["verify", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "--orphans"],
        &["cancel", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10", "--kind", "demo", "--why", "both"],
        &["completions", "command.com"],
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

#[tokio::test]
async fn a_wrong_command_line_is_told_what_to_give_instead() {
    let directory = tempfile::tempdir().unwrap();
    const ID: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
    for (wrong, said) in [
        (&["verify"][..], "<ID|--orphans>"),
        (&["pause", "--why", "a fire"], "<ID|--kind <KIND>>"),
        (&["abandon", ID, "--why", ""], "say why, in 1 to 2000 bytes"),
        (&["abandon", ID, "--why", "gone", "--by", " "], "say who decides, in 1 to 200 bytes"),
        (&["retry", ID, "--why", "\t"], "say why, in 1 to 2000 bytes"),
        (
            &["pause", ID, "--why", "so", "--token", "7"],
            "give a UUID, the same whenever this decision is repeated",
        ),
        (&["token", "revoke", "abc"], "give the id of a token, a UUID, as `backstitch token list` shows it"),
        (&["serve", "--edge-address", "foo"], "give an IP address such as 192.0.2.10"),
        (&["serve", "--nginx-listen", "80"], "give an IP address and a port such as 127.0.0.1:80"),
        (&["list", "--status", "asleep"], "abandoned"),
    ] {
        let mut command = bare(directory.path(), wrong);
        command.env("BACKSTITCH_POSTGRES_DIRECTORY", "/elsewhere");
        let ran = end(command).await.expect(2);
        assert!(ran.err.contains(said), "{wrong:?}: {said:?} is not said: {}", ran.err);
        assert!(!ran.err.contains("--postgres-directory"), "nobody asked for it: {}", ran.err);
    }
    let help = end(bare(directory.path(), &["list", "--help"])).await.expect(0).out;
    assert!(help.contains("or abandoned"), "{help}");
    let help = end(bare(directory.path(), &["bench", "--help"])).await.expect(0).out;
    assert!(!help.contains("worker process"), "{help}");
}

#[tokio::test]
async fn shells_and_the_manual_know_every_command() {
    let directory = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = end(bare(directory.path(), &["completions", shell])).await.expect(0).out;
        assert!(script.contains("explain") && script.contains("error-code"), "{shell}: {script}");
    }
    let page = end(bare(directory.path(), &["man"])).await.expect(0).out;
    assert!(page.contains(".TH backstitch 1") && page.contains("backstitch\\-explain(1)"), "{page}");
    end(bare(directory.path(), &["man", "--directory", "."])).await.expect(0);
    for page in ["backstitch.1", "backstitch-list.1", "backstitch-pg-start.1"] {
        assert!(directory.path().join(page).is_file(), "{page}");
    }
    end(bare(directory.path(), &["man", "--directory", "absent"]))
        .await
        .complains(1, &["--directory absent", "name a directory that is there"]);
}
