//! What can be said on the command line? Every help text is here.

mod bench;
mod choose;
mod decide;
mod edge;
mod look;
mod operate;
mod token;
mod torture;

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

pub use self::bench::{APART_MILLISECONDS, BenchCommand, BenchVerb, HowMeasured, Load};
pub use self::choose::{Decision, OnWorkflows};
pub use self::decide::{On, OnStep, OnWorkflow, OnWorkflowOrKind, Resolve};
pub use self::edge::EdgeArguments;
pub use self::look::{Completions, Counted, Doctor, Errors, Explain, List, Man, Show, Verify, Wait, Workers};
pub use self::operate::{
    DaemonArguments, Enqueue, GatewayCommand, GatewayVerb, Migrate, OnOrganization, PgCommand, PgVerb, Prune,
    Recover, Seal, Serve, WorkerArguments,
};
pub use self::token::{TokenCommand, TokenVerb};
pub use self::torture::{Control, Torture, TortureCommand, TorturePart};

/// What a number means that the program ends with.
macro_rules! exit_code {
    (0) => {
        "\n  0  done; a workflow that was waited for completed"
    };
    (1) => {
        "\n  1  an error: the database, the configuration, a server"
    };
    (2) => {
        "\n  2  the command line or an input can't be taken"
    };
    (3) => {
        "\n  3  the workflow was compensated: it failed, and everything was taken back"
    };
    (4) => {
        "\n  4  needs attention: something still stands outside, or a person must look"
    };
    (5) => {
        "\n  5  refused: there is no such thing, or its state or the token does not allow it"
    };
    (6) => {
        "\n  6  the time to wait is over, and it is still under way"
    };
}
pub(crate) use exit_code;

/// The end of every help text: the numbers that the command ends with.
macro_rules! exit_codes {
    ($($code:tt)+) => {
        concat!("Exit codes:", $($crate::arguments::exit_code!($code)),+)
    };
}
pub(crate) use exit_codes;

/// Durable workflows on Postgres whose steps can be taken back.
///
/// Each workflow is a row with a journal of its steps. `backstitch serve` runs them; when a step fails, a deadline
/// passes, somebody cancels or a worker dies, the journal alone is enough to take back what was done.
///
/// What a command needs to know is said by flag, else by environment variable, else in backstitch.toml: ./backstitch.toml,
/// $XDG_CONFIG_HOME/backstitch/backstitch.toml or /etc/backstitch/backstitch.toml, whichever is found first. Without a
/// database, a Postgres of this user's own is started (`backstitch pg`).
#[derive(Debug, Parser)]
#[command(
    name = "backstitch",
    version,
    propagate_version = true,
    max_term_width = 110,
    after_help = concat!(
        "Examples:\n",
        "  backstitch migrate                                            bring the database up to date\n",
        "  backstitch serve --without-gateway                            HTTP on 127.0.0.1:7410, and recovery\n",
        "  backstitch enqueue trip '{\"city\": \"Lisbon\"}' --key order-4711   ask for a workflow\n",
        "  backstitch list --status needs_attention                      what a person should look at\n",
        "  backstitch show 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10          each step, forward and back\n\n",
        exit_codes!(0 1 2 3 4 5 6)
    )
)]
pub struct Arguments {
    /// What every command understands.
    #[command(flatten)]
    pub everywhere: Everywhere,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Where the help has what every command understands.
const EVERYWHERE: &str = "Everywhere";
/// What of it only the help of all shows: among all these the command's own would be hard to find.
const HIDDEN_BELOW: [&str; 4] =
    ["transaction_pooler", "server_token_file", "postgres_directory", "log_format"];

/// The command line, with a help for each command in which its own is found.
pub fn command_line() -> clap::Command {
    let mut all = Arguments::command();
    // Hands down what every command understands.
    all.build();
    all.get_subcommands_mut().for_each(shorten);
    all
}

fn shorten(command: &mut clap::Command) {
    let taken = std::mem::take(command);
    *command = taken.mut_args(|argument| match argument.get_id().as_str() {
        id if HIDDEN_BELOW.contains(&id) => argument.hide(true),
        _ if argument.get_help_heading() == Some(EVERYWHERE) => {
            argument.hide_env(true).help_heading("Everywhere (`backstitch --help` has more)")
        }
        _ => argument,
    });
    command.get_subcommands_mut().for_each(shorten);
}

/// What every command understands.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = EVERYWHERE)]
pub struct Everywhere {
    /// Read this configuration instead of looking for one
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTITCH_CONFIG")]
    pub config: Option<PathBuf>,
    /// The database, as postgres://user@host:5432/database. A password is better given as PGPASSWORD
    #[arg(long, global = true, value_name = "URL", env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,
    /// The database is behind a pooler that lends a session for one transaction: PgBouncer with pool_mode = transaction
    #[arg(long, global = true, env = "BACKSTITCH_TRANSACTION_POOLER")]
    pub transaction_pooler: bool,
    /// Ask this daemon instead of the database: http://127.0.0.1:7410, or https://… beyond this host
    #[arg(long, global = true, value_name = "URL", env = "BACKSTITCH_SERVER", hide_env_values = true)]
    pub server: Option<String>,
    /// A file with the token to show it; else BACKSTITCH_TOKEN
    #[arg(long, global = true, value_name = "FILE", env = "BACKSTITCH_SERVER_TOKEN_FILE")]
    pub server_token_file: Option<PathBuf>,
    /// Where the Postgres of this user's own lies, if no database is named [default: /var/lib/backstitch/postgres for root, else
    /// ~/.local/state/backstitch/postgres]
    #[arg(long, global = true, value_name = "DIRECTORY", env = "BACKSTITCH_POSTGRES_DIRECTORY")]
    pub postgres_directory: Option<PathBuf>,
    /// How the log is written. How much of it: BACKSTITCH_LOG=warn, info, debug, or per target
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "BACKSTITCH_LOG_FORMAT")]
    pub log_format: LogFormat,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// For programs: one object a line.
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run workflows, recover what dead workers left, and answer over HTTP
    ///
    /// Serves the kinds gateway.start and gateway.stop, and HTTP: GET /health/live, /health/ready,
    /// and POST /gateway/start and /gateway/stop, which take {"organization_id": "<uuid>"}, wait for the workflow to end,
    /// and answer {"gateway_hostname": "…"}; or 400 (the body can't be read), 409 (a start and a stop are in each other's
    /// way), 503 (no gateway available: ask again), 504 (still under way after --answer-within), 500 with the original
    /// error and what became of each step. Beside them the API under /v1, for whoever shows a token (`backstitch token`);
    /// /openapi.json describes it.
    ///
    /// SIGTERM or SIGINT: takes up nothing more, lets running attempts end for up to 20 s, hands the rest back. A second
    /// one: ends at once; nothing is lost, the next worker recovers it.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch serve --domain collab.example.com --edge-address 192.0.2.10\n",
        "  backstitch serve --without-gateway --without-tokens     HTTP for workers of your own, on this host\n",
        "  backstitch serve --alert-webhook http://127.0.0.1:9000/alerts\n",
        "  backstitch serve --listen 0.0.0.0:7410 --tls-certificate tls.pem --tls-key tls.key\n\n",
        "5: it would listen beyond loopback, and there is no token yet.\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Serve(Box<Serve>),
    /// Run recovery once: finish what is due, say what became of it, and end
    ///
    /// Starts a worker of every kind, waits until nothing is due, running or on its way back, and says what became of
    /// each workflow it found and what is left. What waits for a person or for a time to come is left, and said.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch recover             wait for up to two minutes\n",
        "  backstitch recover --wait 600 --json\n\n",
        "0: all is settled; 4: something needs attention; 6: not settled in time.\n\n",
        exit_codes!(0 1 2 4 6)
    ))]
    Recover(Box<Recover>),
    /// Bring the schemas of the engine and of the gateway pool up to date
    ///
    /// Safe while workers of the previous version run, and when run by several at once. What is up to date is left alone.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch migrate --database-url postgres://platform@localhost/platform\n",
        "  backstitch migrate --check                            0: up to date; 1: not, or too new\n\n",
        exit_codes!(0 1 2)
    ))]
    Migrate(Migrate),
    /// Ask for a workflow, and wait for it if told to
    ///
    /// Prints its id. The same kind, key and input give the same workflow, however often it is asked for. A kind that
    /// nobody serves yet is taken all the same, with a warning: it waits for a worker that does.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch enqueue trip '{\"city\": \"Lisbon\"}' --key order-4711 --wait\n",
        "  backstitch enqueue report.build --input-file report.json --key monthly/2027-01 --deadline 2h\n",
        "  generate | backstitch enqueue report.build -\n\n",
        exit_codes!(0 1 2 3 4 5)
    ))]
    Enqueue(Enqueue),
    /// Make of a text a secret that may stand in an input of a kind
    ///
    /// Reads the text from the standard input, without the line break at its end, and prints what is put in its place: one line
    /// of JSON. The same text for the same kind is sealed the same under the same key, so a key still finds its workflow.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch seal report.publish --keyring-file keyring < token.txt\n",
        "  backstitch enqueue report.publish \"{\\\"token\\\": $(backstitch seal report.publish < token.txt)}\"\n\n",
        exit_codes!(0 1 2)
    ))]
    Seal(Seal),
    /// Wait until a workflow has ended, or needs attention
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch wait 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n",
        "  timeout 60 backstitch wait 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --json\n\n",
        exit_codes!(0 1 2 3 4 5)
    ))]
    Wait(Wait),
    /// List workflows, the newest first
    ///
    /// Quick on any number of workflows: a key, a status of the living, or a time leads there directly. Only what is rare and
    /// has ended is searched for through everything; bound that with --since.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch list --status needs_attention\n",
        "  backstitch list --kind gateway.start --since 1h --limit 10 --json\n",
        "  backstitch list --status running --watch\n\n",
        exit_codes!(0 1 2 5)
    ))]
    List(List),
    /// Which errors workflows failed with: how often each, since when, and an example
    ///
    /// Of what was taken back, and of what is stuck on its way back. Looks at the newest 100,000 workflows, or those of the
    /// time that is said, and says how far that reaches.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch errors --since 1d\n",
        "  backstitch errors --kind gateway.start --json | jq '.errors[0].example'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Errors(Errors),
    /// Show a workflow: each step forward and back, with attempts, times, errors and keys
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch show 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n",
        "  backstitch show 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --follow\n",
        "  backstitch show 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --json | jq .attempts\n\n",
        exit_codes!(0 1 2 3 4 5 6)
    ))]
    Show(Show),
    /// Explain a workflow in words: what happened, what stands, what comes next, what you can do
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch explain 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n",
        "  backstitch explain $(backstitch list --limit 1 --json | jq -r '.[0].workflow')\n",
        "  backstitch explain $id --json | jq -r '.can[].command'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Explain(Explain),
    /// Check that the outside is as the journal says, or find what belongs to no workflow
    ///
    /// Of a workflow each step is looked for: the record, the file, the live route, the gateway, the row of the pool. With
    /// --orphans, everything of ours outside is looked at, and told what belongs neither to a workflow that is under way nor to a
    /// gateway in service, and how to mend it. Only looks: nothing is changed, and a worker may be at it meanwhile.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch verify 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\n",
        "  backstitch verify $id --json | jq '.steps[] | select(.verdict == \"differs\")'\n",
        "  backstitch verify --orphans\n\n",
        "0: they agree, as far as it can be told; 1: something could not be looked at; 4: something differs, or belongs to no workflow.\n\n",
        exit_codes!(0 1 2 4 5)
    ))]
    Verify(Box<Verify>),
    /// Cancel workflows, one or many: what they did is taken back
    ///
    /// Their steps are compensated from the last to the first. Refused (5) once a workflow is past its pivot, is compensating
    /// already, or has ended. To cancel twice is to cancel once. Of many, those that are pending or running are meant, unless
    /// --status says otherwise; they are counted, and you are asked.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch cancel 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --why 'asked for by mistake'\n",
        "  backstitch cancel --kind report.build --since 1h --why 'wrong month'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Cancel(OnWorkflows),
    /// Try workflows again now, one or many, instead of waiting
    ///
    /// Those that wait between two attempts, or need attention. Refused (5) while a worker is at it, and once it has
    /// ended. Of many, those that need attention are meant, unless --status says otherwise; they are counted, and you are asked.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch retry 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --why 'nginx was mended'\n",
        "  backstitch retry --error-code nginx_broken --why 'nginx was mended' --yes\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Retry(OnWorkflows),
    /// Skip a step that can't be taken back, so that the rest is
    ///
    /// What it did may still stand; the report names who said so. Refused (5) while a worker is at it: ask again in a moment.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch explain $id                                   which step it is that is stuck\n",
        "  backstitch skip-step $id 1 --why 'the record was deleted by hand'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    SkipStep(OnStep),
    /// Say what became of a step in doubt
    ///
    /// Going forward, what happened is handed to the workflow's function, and what did not is run again. On the way back only
    /// what happened is taken back.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch resolve $id 1 --did-not-happen --why 'there is no record'\n",
        "  backstitch resolve $id 0 --happened --output '{\"id\": 7}' --why 'it is there'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Resolve(Resolve),
    /// End a workflow that needs attention as it is, with what still stands
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch list --status needs_attention\n",
        "  backstitch abandon $id --why 'the target is gone for good'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Abandon(OnWorkflow),
    /// Pause a waiting workflow, or all of a kind
    ///
    /// A workflow until it is resumed, retried or cancelled. Of a kind nothing more is taken up; what is under way goes on.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch pause 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --why 'incident 12'\n",
        "  backstitch pause --kind report.build --why 'the printer is on fire'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Pause(OnWorkflowOrKind),
    /// Resume a workflow or kind that is paused
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch resume 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10 --why 'incident 12 is over'\n",
        "  backstitch resume --kind report.build --why 'it is out'\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Resume(OnWorkflowOrKind),
    /// The workers: where they run, what they serve, how long their leases last, how much they hold
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch workers\n",
        "  backstitch workers --dead 10 --json\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Workers(Workers),
    /// The kinds that are served or wait to be, and how many workflows of each are live
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch kinds\n",
        "  backstitch kinds --json | jq -r '.[] | select(.served_by == 0) | .kind'    whom nobody serves\n\n",
        exit_codes!(0 1 2 5)))]
    Kinds(Counted),
    /// How many workflows have each status
    ///
    /// Live ones are counted. Ended ones too while there are few, up to some 25,000; beyond, they are estimated from a part of
    /// their table, and marked so.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch stats\n",
        "  backstitch stats --json | jq '.[] | select(.status == \"needs_attention\") | .workflows'\n\n",
        exit_codes!(0 1 2 5)))]
    Stats(Counted),
    /// Check everything that `serve` needs, and say how to mend what is wrong
    ///
    /// The database (version, durability, migrations, rights, clock), the directories, the port, PowerDNS and nginx, with the
    /// settings that `serve` would use. Changes nothing but a file that it makes in each directory and removes again. Each
    /// line is ok, a warning, wrong, or not examined because of something before it.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch doctor\n",
        "  backstitch doctor --without-gateway --json | jq '.[] | select(.verdict == \"wrong\")'\n\n",
        "0: all is well, or there are warnings; 1: something is wrong.\n\n",
        exit_codes!(0 1 2)
    ))]
    Doctor(Box<Doctor>),
    /// Remove workflows that ended long enough ago
    ///
    /// With their journals and alerts; what is live stays. Their keys are kept: the same kind, key and input still give the
    /// same id, so nothing is done twice. Works in small batches and pauses between them, so it takes its time and can be
    /// interrupted: the next run goes on. Refused (5) while another run is at work. `serve --keep-finished` does it by itself.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch prune --older-than 30d\n",
        "  backstitch prune --older-than 12h --json | jq .removed\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Prune(Prune),
    /// The pool of gateways, and who has one
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch gateway add berlin-1 10.0.0.7:8080                    put one into the pool\n",
        "  backstitch gateway list                                          who has which\n",
        "  backstitch gateway start 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10    give one to an organisation\n\n",
        exit_codes!(0 1 2 3 4 5 6)
    ))]
    Gateway(GatewayCommand),
    /// The tokens that open the HTTP API
    #[command(after_help = concat!(
        "Example:\n  backstitch token create platform --role produce\n\n", exit_codes!(0 1 2 5)
    ))]
    Token(TokenCommand),
    /// Measure how fast workflows are on this machine, and what each costs
    ///
    /// In databases of its own on the server that --database-url or DATABASE_URL names, made and dropped again; without one,
    /// on a fresh Postgres in a temporary directory, with its default settings and as durable as by default. Each figure is
    /// the median of its runs, beside its smallest and largest; ratios are to what the same Postgres does without an engine
    /// for the same driver, measured in the same minute. Let the machine do nothing else meanwhile.
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch bench throughput --quick                   a look, in seconds\n",
        "  backstitch bench throughput --json | jq '.figures[\"throughput.ratio_512\"].value'\n",
        "  backstitch bench all > figures.txt                    everything: most of an hour\n\n",
        exit_codes!(0 1 2)
    ))]
    Bench(BenchCommand),
    /// Hurt everything for a while, and look whether everything holds
    ///
    /// Starts a private Postgres and worker processes, kills them in the middle of every sentence, freezes them, cuts their
    /// connections, crashes Postgres, loses and delays what they do; with --gateways also PowerDNS, nginx and the daemons that
    /// serve gateways. After each round everything is well again, what is under way ends, and it is looked through: nothing
    /// acknowledged is lost, nothing is done or taken back twice, nothing stands that was to be taken back.
    ///
    /// Touches nothing but what it started.
    Torture(TortureCommand),
    /// The Postgres of this user's own, used where no database is named
    #[command(after_help = concat!(
        "Examples:\n",
        "  export DATABASE_URL=$(backstitch pg start)\n",
        "  backstitch pg status\n",
        "  backstitch pg stop\n\n",
        exit_codes!(0 1 2 5)
    ))]
    Pg(PgCommand),
    /// Print what a shell needs to complete commands and flags
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch completions bash > /etc/bash_completion.d/backstitch\n",
        "  backstitch completions zsh > ~/.zfunc/_backstitch\n\n",
        exit_codes!(0 1 2)
    ))]
    Completions(Completions),
    /// Print the manual page
    #[command(after_help = concat!(
        "Examples:\n",
        "  backstitch man | man -l -\n",
        "  backstitch man --directory /usr/local/share/man/man1\n\n",
        exit_codes!(0 1 2)
    ))]
    Man(Man),
}
