//! Is the database there, durable, up to date and open to this role?

use std::time::Duration;

use backstitch::{Checkup, Client};
use backstitch_postgres::Status;
use backstitch_server::Access;
use chrono::{DateTime, TimeDelta, Utc};

use super::Finding;
use crate::settings::{ServeSettings, Settings};
use crate::time::length;
use crate::{connect, gateway, token};

/// The oldest version whose SQL functions can be written as ours are.
const VERSION_MIN: i32 = 140_000;

/// From here on people who read logs beside the database's times are led astray.
const SKEW_MAX: TimeDelta = TimeDelta::seconds(1);

/// A worker has up to ten connections.
const CONNECTIONS_LEFT_MIN: i64 = 10;

/// The function that every worker calls: whoever may not, is no worker.
const TAKEN_BY_A_WORKER: &str = "claim";

/// How long is waited for one of this user's own to say how it is.
const STATUS_TIME: Duration = Duration::from_secs(5);

/// What is looked at once there is an answer.
const BEHIND_IT: [&str; 9] = [
    "postgres version",
    "fsync",
    "synchronous commit",
    "sessions",
    "connections",
    "clock",
    "migrations",
    "rights",
    "tokens",
];

/// All of it. Without a daemon, whose settings are wrong, it can't be said who would need a token.
pub async fn examine(
    settings: &Settings,
    with_gateway: bool,
    daemon: Option<&ServeSettings>,
) -> Vec<Finding> {
    let client = match reach(settings).await {
        Ok(client) => client,
        Err(finding) => return nothing_but(finding),
    };
    let asked_at = Utc::now();
    let checkup = match client.checkup().await {
        Ok(checkup) => checkup,
        Err(error) => {
            return vec![Finding::wrong("database", error.to_string(), "look whether Postgres is well")];
        }
    };
    let answered_at = Utc::now();
    let migrations = migrations(&client, with_gateway).await;
    let (rights, tokens) = match migrations.verdict {
        super::Verdict::Ok => (rights(&checkup), tokens(&client, daemon).await),
        _ => {
            let unseen = |what| Finding::not_examined(what, "the migrations come first");
            (unseen("rights"), unseen("tokens"))
        }
    };
    vec![
        Finding::ok("database", format!("answers, to the role {}", checkup.role)),
        version(&checkup),
        fsync(&checkup),
        synchronous_commit(&checkup),
        sessions(&checkup),
        connections(&checkup),
        clock(checkup.now, asked_at, answered_at),
        migrations,
        rights,
        tokens,
    ]
}

/// It can't be asked, so there is nothing to be said of the rest.
fn nothing_but(finding: Finding) -> Vec<Finding> {
    let unseen = |what| Finding::not_examined(what, "there is no database to ask");
    std::iter::once(finding).chain(BEHIND_IT.map(unseen)).collect()
}

/// One of this user's own is not started for this.
async fn reach(settings: &Settings) -> Result<Client, Finding> {
    if settings.database_url().is_none() {
        let cluster = settings.cluster();
        let directory = cluster.directory().display().to_string();
        let running = matches!(
            tokio::time::timeout(STATUS_TIME, cluster.status()).await,
            Ok(Ok(Status::Running { .. }))
        );
        if !running {
            return Err(Finding::warning(
                "database",
                format!("none is named, and the Postgres of this user's own in {directory} does not run"),
                "`serve` starts it; or name a database with DATABASE_URL, --database-url or database_url in backstitch.toml",
            ));
        }
    }
    match connect::connect(settings).await {
        Ok(database) => Ok(Client::new(database)),
        Err(failed) => {
            let (says, mend) =
                failed.message.rsplit_once("; ").unwrap_or((&failed.message, "mend that first"));
            Err(Finding::wrong("database", says, mend))
        }
    }
}

fn version(checkup: &Checkup) -> Finding {
    let version = &checkup.version;
    match checkup.version_number {
        number if number < VERSION_MIN => {
            Finding::wrong("postgres version", format!("{version} is too old"), "use Postgres 14 or newer")
        }
        _ => Finding::ok("postgres version", version),
    }
}

fn fsync(checkup: &Checkup) -> Finding {
    let what = "fsync";
    if !checkup.fsync {
        let says = "off: a power cut loses what was promised, and may lose everything";
        return Finding::wrong(what, says, "set fsync = on in postgresql.conf and reload");
    }
    if !checkup.full_page_writes {
        let says =
            "on, but full_page_writes is off: a crash may tear a page, unless the file system never does";
        return Finding::warning(what, says, "set full_page_writes = on in postgresql.conf and reload");
    }
    Finding::ok(what, "on, and so is full_page_writes")
}

fn synchronous_commit(checkup: &Checkup) -> Finding {
    let what = "synchronous commit";
    match checkup.synchronous_commit.as_str() {
        safe @ ("on" | "remote_apply") => Finding::ok(what, safe),
        other => Finding::wrong(
            what,
            format!("{other}: an effect could be made whose intent is lost"),
            format!("alter role {} set synchronous_commit = on", checkup.role),
        ),
    }
}

fn sessions(checkup: &Checkup) -> Finding {
    if checkup.is_standby {
        return Finding::wrong("sessions", "this is a standby, which takes no writes", "name the primary");
    }
    match checkup.isolation.as_str() {
        "read committed" => Finding::ok("sessions", "a primary, read committed"),
        other => Finding::wrong(
            "sessions",
            format!("default_transaction_isolation is {other}: a late write would not be seen through"),
            format!("alter role {} set default_transaction_isolation = 'read committed'", checkup.role),
        ),
    }
}

fn connections(checkup: &Checkup) -> Finding {
    let (most, some) = (checkup.connections_max, checkup.connections);
    let says = format!("{some} of {most} in use");
    if i64::from(most) - some < CONNECTIONS_LEFT_MIN {
        let mend = "raise max_connections, or disconnect somebody: a worker has up to ten";
        return Finding::warning("connections", says, mend);
    }
    Finding::ok("connections", says)
}

/// The database's answer was made between the two.
fn clock(theirs: DateTime<Utc>, asked_at: DateTime<Utc>, answered_at: DateTime<Utc>) -> Finding {
    let skew = (theirs - answered_at).max(TimeDelta::zero()).max(asked_at - theirs);
    let which = if theirs > answered_at { "ahead of" } else { "behind" };
    if skew < SKEW_MAX {
        return Finding::ok("clock", "the database's and this host's agree within a second");
    }
    let apart = length(skew.num_milliseconds());
    Finding::warning(
        "clock",
        format!(
            "the database's is {apart} {which} this host's; only the database's decides, but logs will confuse"
        ),
        "let both hosts keep time with NTP",
    )
}

async fn migrations(client: &Client, with_gateway: bool) -> Finding {
    let what = "migrations";
    if let Err(error) = backstitch::check_migrated(client.database()).await {
        let said = error.to_string();
        let (says, mend) = said.rsplit_once(": ").unwrap_or((&said, "run `backstitch migrate`"));
        return Finding::wrong(what, says, mend);
    }
    match gateway::check_migrated(client).await {
        Err(failed) if with_gateway => Finding::wrong(what, failed.message, "run `backstitch migrate`"),
        _ => Finding::ok(what, "up to date"),
    }
}

fn rights(checkup: &Checkup) -> Finding {
    let (what, role) = ("rights", &checkup.role);
    let [first, ..] = checkup.forbidden.as_slice() else {
        return Finding::ok(what, format!("{role} may use all of the schema backstitch"));
    };
    let count = checkup.forbidden.len();
    if checkup.forbidden.iter().any(|name| name == TAKEN_BY_A_WORKER) {
        let says = format!(
            "{role} may not work: {count} parts of the schema backstitch are closed to it, such as {first}"
        );
        return Finding::wrong(what, says, "connect as a role that may, or have it granted");
    }
    let says = format!("{count} parts of the schema backstitch are closed to {role}, such as {first}");
    Finding::warning(what, says, "nothing to do if this role is meant to have no more")
}

async fn tokens(client: &Client, daemon: Option<&ServeSettings>) -> Finding {
    let what = "tokens";
    let Some(daemon) = daemon else {
        return Finding::not_examined(what, "the daemon's settings come first");
    };
    if daemon.access == Access::EverybodyHere {
        return Finding::ok(what, "none is needed");
    }
    match token::is_any_good(client).await {
        Ok(true) => Finding::ok(what, "there are some"),
        Ok(false) if daemon.listen.is_beyond_loopback() => {
            Finding::wrong(what, token::NONE_BEYOND_LOOPBACK, token::MAKE_ONE)
        }
        Ok(false) => Finding::warning(
            what,
            "there is none, so nobody is answered under /v1",
            "make one with `backstitch token create`, or say --without-tokens",
        ),
        // What a role may not is said beside its rights.
        Err(error) => Finding::not_examined(what, error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    #[test]
    fn clocks_are_compared_with_the_time_the_question_took() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        assert_eq!(clock(at(5), at(0), at(9)).verdict, Verdict::Ok);
        let ahead = clock(at(70), at(0), at(9));
        assert_eq!(ahead.verdict, Verdict::Warning);
        assert!(ahead.says.contains("1 min 1 s ahead of"), "{ahead:?}");
        assert!(clock(at(0), at(3), at(9)).says.contains("3.0 s behind"));
    }
}
