//! Do a start and a stop end cleanly, wherever their worker is killed, cut off, or told to turn back, and whichever server says
//! no? On real servers.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use backstitch::{Ending, Running};
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::{Edge, StartGateway, StopGateway, pool};
use backstitch_testkit::sweep::{self, Sweep, Swept, World};

use crate::platform::{Platform, described_worker, organization};

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

/// The platform, and what is wrong with it.
struct Town {
    platform: Platform,
    /// Another writer that has locked PowerDNS' database.
    writer: Option<Child>,
    /// The gateways that refuse their handshake.
    refusing: Vec<usize>,
}

const POWERDNS_ANSWERS_500: &str = "PowerDNS answers 500";
const NGINX_TEST_FAILS: &str = "nginx -t fails";
const HANDSHAKE_REFUSED: &str = "the handshake is refused";

impl Town {
    async fn of(gateways: usize) -> Self {
        Self { platform: Platform::of(gateways).await, writer: None, refusing: Vec::new() }
    }

    fn foreign_vhost(&self) -> PathBuf {
        self.platform.edge.site("somebody-else.conf")
    }

    /// Begins what nobody else may write beside, and waits until it has.
    fn lock_powerdns(&mut self) {
        let mut writer = Command::new("sqlite3")
            .arg(self.platform.edge.sandbox.powerdns_database())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let asks = writer.stdin.as_mut().unwrap();
        asks.write_all(b".timeout 5000\nbegin exclusive;\nselect 'locked';\n").unwrap();
        let mut answer = String::new();
        BufReader::new(writer.stdout.as_mut().unwrap()).read_line(&mut answer).unwrap();
        assert_eq!(answer, "locked\n");
        self.writer = Some(writer);
    }

    /// Those that serve nobody: what the others know must not be lost with them.
    async fn refuse_handshakes(&mut self) {
        for (index, gateway) in self.platform.edge.sandbox.gateways.iter_mut().enumerate() {
            if gateway.agent().unwrap().state().await.unwrap().organization_id.is_none() {
                gateway.restart(&["--refuse-start"]).await.unwrap();
                self.refusing.push(index);
            }
        }
    }

    async fn accept_handshakes(&mut self) {
        for index in std::mem::take(&mut self.refusing) {
            self.platform.edge.sandbox.gateways[index].restart(&[]).await.unwrap();
        }
    }

    async fn stands_of(&self, organization: OrganizationId) -> Stands {
        let platform = &self.platform;
        let hostname = platform.hostname(organization);
        let sandbox = &platform.edge.sandbox;
        let mut serving = 0;
        for gateway in &sandbox.gateways {
            let state = gateway.agent().unwrap().state().await.unwrap();
            serving += usize::from(state.organization_id == Some(organization));
        }
        let active = pool::active(&mut platform.db.acquire().await.unwrap(), organization).await.unwrap();
        Stands {
            allocated: active.is_some(),
            dns_records: sandbox.powerdns().unwrap().lookup(&hostname).await.unwrap().len(),
            vhost_file: platform.edge.sites().contains(&format!("org-{organization}.conf")),
            live_route: sandbox.nginx().unwrap().route(&hostname).await.unwrap().is_some(),
            serving,
            free: platform.stats().await.ready,
        }
    }
}

impl World<Edge, StartGateway> for Town {
    type Look = Stands;

    async fn input(&mut self) -> StartGateway {
        StartGateway { organization: organization() }
    }

    async fn look(&mut self, start: &StartGateway) -> Stands {
        self.stands_of(start.organization).await
    }

    async fn tidy(&mut self, start: &StartGateway) {
        self.platform.stop(start.organization).await;
    }

    fn faults(&self) -> &'static [&'static str] {
        &[POWERDNS_ANSWERS_500, NGINX_TEST_FAILS, HANDSHAKE_REFUSED]
    }

    async fn hurt(&mut self, fault: &'static str) {
        match fault {
            POWERDNS_ANSWERS_500 => self.lock_powerdns(),
            NGINX_TEST_FAILS => std::fs::write(self.foreign_vhost(), "server { nonsense").unwrap(),
            _ => self.refuse_handshakes().await,
        }
    }

    async fn mend(&mut self, fault: &'static str) {
        match fault {
            POWERDNS_ANSWERS_500 => {
                if let Some(mut writer) = self.writer.take() {
                    drop(writer.stdin.take());
                    writer.wait().unwrap();
                }
            }
            NGINX_TEST_FAILS => std::fs::remove_file(self.foreign_vhost()).unwrap(),
            _ => self.accept_handshakes().await,
        }
    }
}

/// A town in which each organisation is served that is to be stopped.
struct Served {
    town: Town,
    starter: Running,
}

/// Where starts wait for a worker that nobody hurts.
const STARTS: &str = "starts";
const GATEWAYS_ARE_GONE: &str = "the gateways are gone";

impl Served {
    async fn of(gateways: usize) -> Self {
        let town = Town::of(gateways).await;
        let starter = town.platform.worker_over(town.platform.config()).await.queues([STARTS]);
        Self { starter: starter.start().await.unwrap(), town }
    }
}

impl World<Edge, StopGateway> for Served {
    type Look = Stands;

    async fn input(&mut self) -> StopGateway {
        let (client, organization) = (&self.town.platform.client, organization());
        let start = client.enqueue(StartGateway { organization }).queue(STARTS).send().await.unwrap();
        let ending = client.wait(&start).await.unwrap();
        assert!(matches!(ending, Ending::Completed(_)), "it is not served: {ending:?}");
        StopGateway { organization }
    }

    async fn look(&mut self, stop: &StopGateway) -> Stands {
        self.town.stands_of(stop.organization).await
    }

    /// One that was cancelled before it had begun has stopped nothing.
    async fn tidy(&mut self, stop: &StopGateway) {
        self.town.platform.stop(stop.organization).await;
    }

    fn faults(&self) -> &'static [&'static str] {
        &[POWERDNS_ANSWERS_500, NGINX_TEST_FAILS, GATEWAYS_ARE_GONE]
    }

    async fn hurt(&mut self, fault: &'static str) {
        match fault {
            GATEWAYS_ARE_GONE => {
                for gateway in &mut self.town.platform.edge.sandbox.gateways {
                    gateway.kill().unwrap();
                }
            }
            of_any_town => self.town.hurt(of_any_town).await,
        }
    }

    async fn mend(&mut self, fault: &'static str) {
        match fault {
            GATEWAYS_ARE_GONE => {
                for gateway in &mut self.town.platform.edge.sandbox.gateways {
                    gateway.restart(&[]).await.unwrap();
                }
            }
            of_any_town => self.town.mend(of_any_town).await,
        }
    }
}

/// Most of the time is waiting: until late effects can't come any more, until nginx has reloaded.
const WORLDS: usize = 4;

fn sweep_in(platform: &Platform, number: usize) -> Sweep {
    let sweep = Sweep::new(&platform.database, "sweep::swept_worker").given(platform.description());
    sweep.share(number, WORLDS)
}

async fn starts(number: usize) -> Swept {
    let mut town = Town::of(2).await;
    sweep_in(&town.platform, number).run(&mut town).await
}

async fn stops(number: usize) -> Swept {
    let mut served = Served::of(1).await;
    let swept = sweep_in(&served.town.platform, number).run(&mut served).await;
    served.starter.shut_down().await;
    swept
}

#[tokio::test]
async fn a_start_ends_cleanly_wherever_it_is_hurt() {
    let (a, b, c, d) = tokio::join!(starts(0), starts(1), starts(2), starts(3));
    let swept = a + b + c + d;
    println!("{swept:?}");
    // A commit, four intents and the end; the turn, five compensations of which one is a commit, the end.
    assert!(swept.boundaries >= 12, "{swept:?}");
    assert!(swept.hurts >= 120 && swept.compensated >= 60 && swept.completed >= 15, "{swept:?}");
    // PowerDNS and nginx say no to a step of the start and to its compensation, the gateway to its handshake.
    assert!(swept.failures.values().sum::<u32>() >= 5, "{swept:?}");
    assert_eq!(swept.toothless(), [""; 0], "each of them bites");
}

#[tokio::test]
async fn a_stop_comes_to_its_end_wherever_it_is_hurt() {
    let (a, b, c, d) = tokio::join!(stops(0), stops(1), stops(2), stops(3));
    let swept = a + b + c + d;
    println!("{swept:?}");
    // A commit, three intents, a commit and the end.
    assert!(swept.boundaries >= 6, "{swept:?}");
    assert!(swept.hurts >= 6 * 8, "{swept:?}");
    // Until it has begun it can be cancelled; from then on it goes forward, whoever says no.
    assert!(swept.completed >= 6 * 6 && swept.completed + swept.compensated == swept.hurts, "{swept:?}");
    assert_eq!(swept.toothless(), [""; 0], "each of them bites");
}
