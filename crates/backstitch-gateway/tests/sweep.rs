//! Does a start end cleanly, wherever its worker is killed, cut off, or told to turn back? On real servers.
#![allow(clippy::unwrap_used, reason = "a test that fails has nothing better to do")]

mod edge;

use backstitch_gateway::identifiers::OrganizationId;

use backstitch_gateway::{Edge, StartGateway, pool};
use backstitch_testkit::sweep::{self, Sweep, Swept, World};
use edge::platform::{Platform, described_worker, organization};

/// Not a test of its own: the sweep runs this program again with only this, as a worker that can be killed.
#[tokio::test]
async fn swept_worker() {
    sweep::worker(async |database, edge| described_worker(database, &edge)).await;
}

/// What stands of an organisation.
#[derive(Debug, PartialEq, Eq)]
pub struct Stands {
    allocated: bool,
    dns_records: usize,
    vhost_file: bool,
    live_route: bool,
    /// How many gateways believe that they serve it.
    serving: usize,
    /// How many are free.
    free: i64,
}

impl World<Edge, StartGateway> for Platform {
    type Look = Stands;

    fn input(&mut self) -> StartGateway {
        StartGateway { organization: organization() }
    }

    async fn look(&mut self, start: &StartGateway) -> Stands {
        let organization: OrganizationId = start.organization;
        let hostname = self.hostname(organization);
        let sandbox = &self.edge.sandbox;
        let mut serving = 0;
        for gateway in &sandbox.gateways {
            let state = gateway.agent().unwrap().state().await.unwrap();
            serving += usize::from(state.organization_id == Some(organization));
        }
        let active = pool::active(&mut self.db.acquire().await.unwrap(), organization).await.unwrap();
        Stands {
            allocated: active.is_some(),
            dns_records: sandbox.powerdns().unwrap().lookup(&hostname).await.unwrap().len(),
            vhost_file: self.edge.sites().contains(&format!("org-{organization}.conf")),
            live_route: sandbox.nginx().unwrap().route(&hostname).await.unwrap().is_some(),
            serving,
            free: self.stats().await.ready,
        }
    }

    async fn tidy(&mut self, start: &StartGateway) {
        self.stop(start.organization).await;
    }
}

/// Most of the time is waiting: until late effects can't come any more, until nginx has reloaded.
const WORLDS: usize = 4;

async fn share(number: usize) -> Swept {
    let mut platform = Platform::of(2).await;
    let sweep = Sweep::new(&platform.database, "swept_worker").given(platform.description());
    sweep.share(number, WORLDS).run(&mut platform).await
}

#[tokio::test]
async fn a_start_ends_cleanly_wherever_it_is_hurt() {
    let (a, b, c, d) = tokio::join!(share(0), share(1), share(2), share(3));
    let swept = a + b + c + d;
    println!("{swept:?}");
    // A commit, four intents and the end; the turn, five compensations of which one is a commit, the end.
    assert!(swept.boundaries >= 12, "{swept:?}");
    assert!(swept.hurts >= 90 && swept.compensated >= 60 && swept.completed >= 15, "{swept:?}");
}
