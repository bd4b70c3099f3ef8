//! Is everything found that is nobody's, and nothing that is somebody's?

use std::time::Duration;

use backstitch_gateway::identifiers::{OrganizationId, Owner};
use backstitch_gateway::nginx::Vhost;
use backstitch_gateway::orphans::{LookedAt, Orphans, Thing, orphans};
use backstitch_gateway::request::Requested;
use backstitch_gateway::{Edge, pool};

use crate::platform::{Platform, failed, organization, started};
use crate::sandboxes::owner;

async fn look(platform: &Platform) -> Orphans {
    let edge = Edge::new(platform.config(), platform.client.database().clone()).unwrap();
    orphans(&edge, &platform.client).await.unwrap()
}

fn things(found: &Orphans) -> Vec<(&Thing, Owner, &str)> {
    found.orphans.iter().map(|orphan| (&orphan.thing, orphan.workflow, orphan.why.as_str())).collect()
}

fn owner_of(requested: Requested) -> Owner {
    match requested {
        Requested::Started { allocation, .. } => allocation.owner,
        other => panic!("it should start: {other:?}"),
    }
}

async fn leave_a_vhost(platform: &Platform, organization: OrganizationId, owner: Owner) -> Vhost {
    let upstream = "127.0.0.1:9".parse().unwrap();
    let vhost = Vhost { hostname: platform.hostname(organization), upstream, owner };
    platform.edge.sandbox.nginx().unwrap().write_vhost(&vhost).await.unwrap();
    vhost
}

#[tokio::test]
async fn a_clean_edge_has_no_orphans() {
    let mut platform = Platform::of(2).await;
    let worker = platform.start_worker().await;
    let looked_at = LookedAt { dns_records: 0, vhosts: 0, routes: 0, routes_asked: 0, allocations: 0 };
    assert_eq!(look(&platform).await, Orphans { looked_at, orphans: Vec::new() });

    let served = organization();
    started(platform.start(served).await);
    let stopped = organization();
    started(platform.start(stopped).await);
    assert!(matches!(platform.stop(stopped).await, Requested::Stopped));
    platform.edge.sandbox.gateways[1].restart(&["--fail-start"]).await.unwrap();
    failed(platform.start(organization()).await);
    let looked_at = LookedAt { dns_records: 1, vhosts: 1, routes: 1, routes_asked: 3, allocations: 1 };
    assert_eq!(look(&platform).await, Orphans { looked_at, orphans: Vec::new() });

    // What serves is in order, however long ago the journal of its start was removed.
    let removed = platform.client.remove_finished(Duration::ZERO).await.unwrap();
    assert_eq!(removed.removed, 4);
    assert_eq!(look(&platform).await, Orphans { looked_at, orphans: Vec::new() });
    worker.shut_down().await;
}

#[tokio::test]
async fn each_kind_of_residue_is_found() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let powerdns = platform.edge.sandbox.powerdns().unwrap();
    let nginx = platform.edge.sandbox.nginx().unwrap();
    let address = platform.edge.sandbox.edge().ip();

    // A start that was stopped, and a record that came back.
    let first = organization();
    let start = owner_of(platform.start(first).await);
    assert!(matches!(platform.stop(first).await, Requested::Stopped));
    let hostname = platform.hostname(first);
    powerdns.register(&hostname, address, start).await.unwrap();
    let record = Thing::DnsRecord { hostname: hostname.clone() };
    let found = look(&platform).await;
    assert_eq!(things(&found), [(&record, start, "its gateway was given back")]);
    assert!(
        found.orphans[0].mend.contains(&format!("pdnsutil delete-rrset collab.test {hostname}")),
        "{found:?}"
    );
    powerdns.remove(&hostname, start).await.unwrap();

    // A vhost of a workflow that nobody knows: on the disk, then live, then live without its file.
    let (second, nobody) = (organization(), owner());
    let vhost = leave_a_vhost(&platform, second, nobody).await;
    let path = platform.edge.site(&format!("org-{second}.conf"));
    let file = Thing::Vhost { path: path.clone(), organization: second };
    let route = Thing::Route { hostname: vhost.hostname.clone() };
    let why = "its workflow is not known here, and has no gateway";
    assert_eq!(things(&look(&platform).await), [(&file, nobody, why)]);
    nginx.reload().await.unwrap();
    assert_eq!(things(&look(&platform).await), [(&file, nobody, why), (&route, nobody, why)]);
    std::fs::remove_file(path).unwrap();
    assert_eq!(things(&look(&platform).await), [], "a name that nothing tells of can't be asked for");
    powerdns.register(&vhost.hostname, address, nobody).await.unwrap();
    let record = Thing::DnsRecord { hostname: vhost.hostname.clone() };
    assert_eq!(things(&look(&platform).await), [(&record, nobody, why), (&route, nobody, why)]);
    powerdns.remove(&vhost.hostname, nobody).await.unwrap();
    nginx.reload().await.unwrap();

    // A gateway that serves on behalf of a workflow that is gone.
    let (third, gone) = (organization(), owner());
    let mut connection = platform.db.acquire().await.unwrap();
    let allocation = pool::allocate(&mut connection, &platform.hostname(third), gone).await.unwrap();
    let row = Thing::Allocation { gateway: allocation.gateway, organization: third };
    let found = look(&platform).await;
    assert_eq!(things(&found), [(&row, gone, "its workflow is not known here")]);
    assert!(found.orphans[0].mend.contains("proc_organizations_gateways_stop"), "{found:?}");
    pool::release(&mut connection, allocation.gateway, gone).await.unwrap();
    assert_eq!(look(&platform).await.orphans, []);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_is_somebody_elses_is_no_orphan() {
    let platform = Platform::of(1).await;
    let hand = |name: &str| platform.edge.site(name);
    let somebodys = platform.edge.hostname();
    platform.edge.somebody_writes(&somebodys, "A", "192.0.2.9").await;
    platform.edge.somebody_writes(&somebodys, "TXT", "\"v=spf1 -all\"").await;
    // Ours once, but somebody put more beside it: they would lose it.
    let shared = platform.edge.hostname();
    let powerdns = platform.edge.sandbox.powerdns().unwrap();
    powerdns.register(&shared, platform.edge.sandbox.edge().ip(), owner()).await.unwrap();
    platform.edge.somebody_writes(&shared, "MX", "10 mail.collab.test.").await;
    let text = "server { listen 127.0.0.1:1; server_name shop.test; }\n";
    for name in ["shop.conf", &format!("org-{}.conf", organization())] {
        std::fs::write(hand(name), text).unwrap();
    }
    // An allocation that an administrator made by hand has no name.
    let by_hand = "select gateway.proc_organizations_start_gateway($1, $2)";
    let given = sqlx::query(by_hand).bind(organization().uuid()).bind(owner().uuid());
    given.execute(&platform.db).await.unwrap();
    let looked_at = LookedAt { dns_records: 0, vhosts: 0, routes: 0, routes_asked: 0, allocations: 0 };
    assert_eq!(look(&platform).await, Orphans { looked_at, orphans: Vec::new() });
}
