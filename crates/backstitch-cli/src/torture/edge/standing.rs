//! What stands at the edge, and what should?
//!
//! Read where it lies: the rows of the pool, the database file of the zone, the directory of the vhosts. No server of the
//! edge is asked and no code of the product is used: neither can hide here what it has forgotten. What is compared are
//! whole sets, so that also a name is seen that nobody thought of asking for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::{fmt, io};

use backstitch_gateway::RESETS_MAX;
use backstitch_testkit::violation::{Violated, Violation};
use sqlx::PgPool;
use tokio::process::Command;

/// How long another writer of the zone's file is waited for: longer than torture holds its lock.
const LOCKED_MAX_MS: u32 = 10_000;

/// Where it lies.
#[derive(Debug, Clone)]
pub struct Places {
    /// Of the pool.
    pub pool: PgPool,
    /// Of PowerDNS.
    pub zone_file: PathBuf,
    /// The zone, below which all names stand.
    pub domain: String,
    /// Where names lead to.
    pub address: IpAddr,
    /// Of nginx.
    pub sites: PathBuf,
}

/// A gateway that serves somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The first label of its name: `org-{uuid}`.
    pub label: String,
    /// The start that made it so.
    pub start: String,
    /// Where the gateway listens.
    pub upstream: String,
}

/// What stands under which label, in words that are the same wherever the same is meant.
type ByLabel = BTreeMap<String, String>;

/// Everything that stands; or why it can't be seen.
#[derive(Debug)]
pub struct Standing {
    allocations: Result<ByLabel, String>,
    records: Result<ByLabel, String>,
    vhosts: Result<ByLabel, String>,
}

impl Standing {
    /// Looks everywhere.
    pub async fn read(places: &Places) -> Self {
        Self {
            allocations: allocations(&places.pool).await.map_err(|error| error.to_string()),
            records: records(places).await.map_err(|error| error.to_string()),
            vhosts: vhosts(&places.sites).map_err(|error| error.to_string()),
        }
    }

    /// What must stand where exactly these are served.
    pub fn of(served: &[Served], places: &Places) -> Self {
        let each = |words: &dyn Fn(&Served) -> String| {
            Ok(served.iter().map(|served| (served.label.clone(), words(served))).collect())
        };
        let Places { domain, address, .. } = places;
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        Self {
            allocations: each(&|Served { start, upstream, .. }| {
                allocation("active", "completed", start, upstream)
            }),
            records: each(&|Served { start, .. }| {
                format!("{kind} {address}, TXT \"heritage=backstitch,workflow={start}\"")
            }),
            vhosts: each(&|Served { label, start, upstream }| {
                format!("# workflow: {start} server {upstream}; server_name {label}.{domain};")
            }),
        }
    }

    /// Only what stands under this label.
    pub fn under(self, label: &str) -> Self {
        let only = |found: Result<ByLabel, String>| {
            found.map(|found| found.into_iter().filter(|(found, _)| found == label).collect())
        };
        Self { allocations: only(self.allocations), records: only(self.records), vhosts: only(self.vhosts) }
    }

    /// Where nothing could be seen, and why.
    pub fn unseen(&self) -> Vec<&str> {
        self.kinds().into_iter().filter_map(|(_, found)| found.as_ref().err().map(String::as_str)).collect()
    }

    /// What stands and should not, and what should and does not; as far as it could be seen.
    pub fn compare(&self, wanted: &Self) -> Vec<Violation> {
        let mut differs = Vec::new();
        for ((what, found), (_, wanted)) in self.kinds().into_iter().zip(wanted.kinds()) {
            let (Ok(found), Ok(wanted)) = (found, wanted) else { continue };
            let labels: BTreeSet<&String> = found.keys().chain(wanted.keys()).collect();
            differs.extend(labels.into_iter().filter_map(|label| {
                match (found.get(label), wanted.get(label)) {
                    (Some(found), None) => {
                        Some(Violated::NothingLeaked.by(format!("{what} {label} stands for nobody: {found}")))
                    }
                    (None, Some(wanted)) => {
                        Some(Violated::NothingLost.by(format!("{what} {label} does not stand: {wanted}")))
                    }
                    (found, wanted) => (found != wanted).then(|| {
                        Violated::NothingLost
                            .by(format!("{what} {label} is {found:?}, and should be {wanted:?}"))
                    }),
                }
            }));
        }
        differs
    }

    fn kinds(&self) -> [(&'static str, &Result<ByLabel, String>); 3] {
        [("allocation", &self.allocations), ("DNS record", &self.records), ("vhost", &self.vhosts)]
    }
}

/// Those organisations of these that a stop was begun for. After a start that left nothing there is nothing to stop.
pub async fn begun_to_stop(pool: &PgPool, organizations: &[uuid::Uuid]) -> sqlx::Result<Vec<uuid::Uuid>> {
    sqlx::query_scalar(
        "select organization_id from gateway.organization
        where organization_id = any ($1) and stop_workflow_id is not null",
    )
    .bind(organizations)
    .fetch_all(pool)
    .await
}

/// A gateway that nobody can be given, though no allocation has it.
#[derive(sqlx::FromRow)]
pub struct NotFree {
    /// Its name.
    pub name: String,
    /// `new`, `ready` or `quarantined`.
    status: String,
    /// Why it is quarantined, if it is.
    reason: Option<String>,
    /// Whether the workflow that the reason names has tried to reset it as often as it must before it gives up.
    is_given_up: bool,
}

impl NotFree {
    /// Whether it may be so, where torture has hurt the gateway itself.
    pub fn is_excused(&self) -> bool {
        self.status == "quarantined" && self.is_given_up
    }
}

impl fmt::Display for NotFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status, reason, .. } = self;
        write!(f, "{name}, which is {status}: {}", reason.as_deref().unwrap_or("no reason is given"))
    }
}

/// Which gateways are not free, but for those that an allocation has.
pub async fn not_free(pool: &PgPool) -> sqlx::Result<Vec<NotFree>> {
    sqlx::query_as(
        "select g.name, g.status, g.reason, exists (
            select from backstitch.steps s
            where s.workflow_id = substring(g.reason from '^workflow ([0-9a-f-]{36}) could not reset it: ')::uuid
                and case s.step
                    when 'handshake' then s.compensate_attempts
                    when 'reset-gateway' then s.run_attempts
                end >= $1
        ) as is_given_up
        from gateway.gateway g
        where (g.status <> 'ready' or g.free_since is null)
            and not exists (
                select from gateway.allocation a where a.gateway_id = g.gateway_id and a.status <> 'ended'
            )
        order by g.name",
    )
    .bind(i64::from(RESETS_MAX))
    .fetch_all(pool)
    .await
}

async fn allocations(pool: &PgPool) -> sqlx::Result<ByLabel> {
    let rows: Vec<(String, String, Option<String>, String, String)> = sqlx::query_as(
        "select 'org-' || a.organization_id, a.status, w.status, a.workflow_id::text, g.upstream
        from gateway.allocation a
            join gateway.gateway g using (gateway_id)
            left join backstitch.workflows w on w.workflow_id = a.workflow_id
        where a.status <> 'ended'",
    )
    .fetch_all(pool)
    .await?;
    let in_words = |(label, status, ended, start, upstream): (_, String, Option<String>, String, String)| {
        let ended = ended.unwrap_or_else(|| "unknown".to_owned());
        (label, allocation(&status, &ended, &start, &upstream))
    };
    Ok(rows.into_iter().map(in_words).collect())
}

fn allocation(status: &str, ended: &str, start: &str, upstream: &str) -> String {
    format!("{status} on {upstream}, by {start}, which is {ended}")
}

/// Everything in the zone but what the zone itself consists of.
async fn records(places: &Places) -> io::Result<ByLabel> {
    const SELECT: &str =
        "select name, type || ' ' || content || case disabled when 0 then '' else ' disabled' end as record
        from records where type is not null order by name, type, content";
    let ran = Command::new("sqlite3")
        .args(["-readonly", "-json", "-cmd", &format!(".timeout {LOCKED_MAX_MS}")])
        .arg(&places.zone_file)
        .arg(SELECT)
        .kill_on_drop(true)
        .output()
        .await?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr);
        return Err(io::Error::other(format!("the zone's database can't be read: {}", said.trim())));
    }
    // Of no rows it says nothing at all.
    let rows: Vec<serde_json::Value> = match &ran.stdout[..] {
        [] => Vec::new(),
        said => serde_json::from_slice(said)?,
    };
    let mut records = ByLabel::new();
    for row in rows {
        let (name, record) =
            (row["name"].as_str().unwrap_or_default(), row["record"].as_str().unwrap_or_default());
        if name == places.domain {
            continue;
        }
        let label = name.strip_suffix(&format!(".{}", places.domain)).unwrap_or(name);
        let words = records.entry(label.to_owned()).or_default();
        if !words.is_empty() {
            words.push_str(", ");
        }
        words.push_str(record);
    }
    Ok(records)
}

/// Every file, whatever it is called.
fn vhosts(sites: &Path) -> io::Result<ByLabel> {
    let mut vhosts = ByLabel::new();
    for site in std::fs::read_dir(sites)? {
        let site = site?;
        let name = site.file_name().to_string_lossy().into_owned();
        let label = name.strip_suffix(".conf").unwrap_or(&name).to_owned();
        match std::fs::read(site.path()) {
            Ok(text) => _ = vhosts.insert(label, routed(&String::from_utf8_lossy(&text))),
            // Removed meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(vhosts)
}

/// On whose behalf a vhost leads where, and under which name.
fn routed(text: &str) -> String {
    let says =
        |line: &&str| ["# workflow: ", "server ", "server_name "].iter().any(|word| line.starts_with(word));
    let lines: Vec<&str> =
        text.lines().map(str::trim).filter(says).filter(|line| *line != "server {").collect();
    lines.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places() -> Places {
        Places {
            pool: PgPool::connect_lazy("postgres://nobody@nowhere/").unwrap(),
            zone_file: PathBuf::new(),
            domain: "collab.test".to_owned(),
            address: [127, 0, 0, 1].into(),
            sites: PathBuf::new(),
        }
    }

    fn served(label: &str) -> Served {
        Served { label: label.to_owned(), start: "1".to_owned(), upstream: "127.0.0.1:9".to_owned() }
    }

    fn said(found: &Standing, wanted: &Standing) -> Vec<String> {
        found.compare(wanted).iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn what_stands_for_nobody_is_leaked_and_what_is_missing_is_lost() {
        let (one, none) = (Standing::of(&[served("org-a")], &places()), Standing::of(&[], &places()));
        assert_eq!(said(&one, &one), [] as [&str; 0]);
        let leaked = said(&one, &none);
        assert_eq!(leaked.len(), 3);
        assert_eq!(
            leaked[2],
            "leaked: vhost org-a stands for nobody: # workflow: 1 server 127.0.0.1:9; server_name org-a.collab.test;"
        );
        let lost = said(&none, &one);
        assert_eq!(
            lost[0],
            "lost: allocation org-a does not stand: active on 127.0.0.1:9, by 1, which is completed"
        );
        assert_eq!(lost.len(), 3);
        let other = Standing::of(&[Served { start: "2".to_owned(), ..served("org-a") }], &places());
        assert_eq!(said(&one, &other).len(), 3, "each of them is somebody else's");
    }

    #[tokio::test]
    async fn what_could_not_be_seen_is_no_violation_and_hides_nothing_else() {
        let mut found = Standing::of(&[served("org-a")], &places());
        found.allocations = Err("Postgres is gone".to_owned());
        assert_eq!(found.unseen(), ["Postgres is gone"]);
        assert_eq!(said(&found, &Standing::of(&[], &places())).len(), 2);
    }

    #[tokio::test]
    async fn one_label_is_looked_at_without_the_others() {
        let both = Standing::of(&[served("org-a"), served("org-b")], &places());
        assert_eq!(said(&both.under("org-a"), &Standing::of(&[served("org-a")], &places())), [] as [&str; 0]);
    }
}
