//! Does a start that fails leave nothing behind, at whichever step it fails?

use std::fs;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::{Duration, Instant};

use backstitch::{Client, Database, Fate, Unfinished};
use backstitch_gateway::orphans::orphans;
use backstitch_gateway::request::Requested;
use backstitch_gateway::{Edge, pool};
use backstitch_testkit::pooler::Pooler;
use sqlx::postgres::PgConnectOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use uuid::Uuid;

use crate::platform::{Platform, TIMING, failed, organization, started};
use crate::sandboxes::read_head;
use crate::wrong::BY_HAND;
use crate::wrong::Wrong::*;

/// The steps that began, and whether each is settled.
fn fates(unfinished: &Unfinished) -> Vec<(&str, &str)> {
    let word = |fate: &Fate| match fate {
        Fate::Compensated { .. } => "compensated",
        Fate::NothingToCompensate => "nothing",
        Fate::DidNotHappen => "did not happen",
        Fate::Owed { .. } => "owed",
        Fate::Skipped(_) => "skipped",
    };
    unfinished.report.steps.iter().map(|step| (step.step.as_str(), word(&step.fate))).collect()
}

#[tokio::test]
async fn a_start_serves_the_organisation_and_a_stop_leaves_nothing() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let organization = organization();

    let began = Instant::now();
    let gateway = started(platform.start(organization).await);
    println!("a start took {:?}", began.elapsed());
    platform.assert_served(organization, gateway).await;
    let again = platform.start(organization).await;
    assert!(
        matches!(&again, Requested::Active { allocation, .. } if allocation.gateway == gateway),
        "{again:?}"
    );

    let began = Instant::now();
    let stopped = platform.stop(organization).await;
    assert!(matches!(stopped, Requested::Stopped), "{stopped:?}");
    println!("a stop took {:?}", began.elapsed());
    platform.assert_nothing_left(organization).await;
    assert!(matches!(platform.stop(organization).await, Requested::NothingToStop));
    assert_eq!(platform.stats().await.ready, 1);

    started(platform.start(organization).await);
    platform.assert_served(organization, gateway).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_stop_leaves_no_member_connected_to_the_gateway() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let first = organization();
    started(platform.start(first).await);
    let upstream = platform.edge.sandbox.gateways[0].upstream;
    let ask_for_a_socket = async |at: SocketAddr| {
        let mut member = TcpStream::connect(at).await.unwrap();
        let name = platform.hostname(first);
        let hello =
            format!("GET /doc HTTP/1.1\r\nHost: {name}\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n");
        member.write_all(hello.as_bytes()).await.unwrap();
        let head = read_head(&mut member).await;
        (member, head)
    };
    let sockets = async || {
        let page: serde_json::Value =
            reqwest::get(format!("http://{upstream}/")).await.unwrap().json().await.unwrap();
        page["sockets"].as_u64().unwrap()
    };
    let (mut member, head) = ask_for_a_socket(platform.edge.sandbox.edge()).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert_eq!(sockets().await, 1);

    assert!(matches!(platform.stop(first).await, Requested::Stopped));
    assert_eq!(sockets().await, 0, "and the gateway is free for the next");
    let closed = tokio::time::timeout(Duration::from_secs(20), member.read(&mut [0; 16])).await;
    let closed = closed.expect("the member is connected to nginx still");
    assert!(matches!(closed, Ok(0) | Err(_)), "{closed:?}");

    // What was on its way then and arrives under the next organisation does not get in.
    started(platform.start(organization()).await);
    let (_, head) = ask_for_a_socket(upstream.to_string().parse().unwrap()).await;
    assert!(head.starts_with("HTTP/1.1 421 "), "{head}");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_start_behind_a_transaction_pooler_serves_the_organisation_and_a_stop_leaves_nothing() {
    let mut platform = Platform::of(1).await;
    let pooler = Pooler::before(&platform.database.server, 2).await;
    let through = PgConnectOptions::from_str(&pooler.url(&platform.database.name)).unwrap();
    let database = Database::behind_transaction_pooler(through);
    platform.client = Client::new(database.apart());
    let edge = || Edge::new(platform.config(), database.clone()).unwrap();
    let worker = backstitch_gateway::worker(database.clone(), edge()).timing(TIMING).start().await.unwrap();
    let organization = organization();
    let gateway = started(platform.start(organization).await);
    platform.assert_served(organization, gateway).await;
    assert!(orphans(&edge(), &platform.client).await.unwrap().orphans.is_empty());
    let stopped = platform.stop(organization).await;
    assert!(matches!(stopped, Requested::Stopped), "{stopped:?}");
    platform.assert_nothing_left(organization).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn failure_at_each_step_compensates_the_steps_before_it() {
    let mut platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let gateway = platform.gateways[0];

    // 1: the only gateway is taken.
    let (other, first) = (organization(), organization());
    let by_hand = Uuid::new_v4().into();
    let mut connection = platform.db.acquire().await.unwrap();
    pool::allocate(&mut connection, &platform.hostname(other), by_hand).await.unwrap();
    match platform.start(first).await {
        Requested::NoGatewayAvailable(unfinished) => {
            assert_eq!(fates(&unfinished), [("allocate-gateway", "did not happen")]);
        }
        other => panic!("{other:?}"),
    }
    platform.assert_nothing_left(first).await;
    pool::release(&mut connection, gateway, by_hand).await.unwrap();
    drop(connection);
    assert_eq!(platform.stats().await.ready, 1);

    // 2 to 5, for all that can be wrong there.
    let taken_back = [("allocate-gateway", "compensated"), ("register-dns", "compensated")];
    let written = [("write-vhost", "compensated"), ("reload-nginx", "nothing")];
    for (wrong, expected) in [
        (NameIsTaken, [&taken_back[..1], &[("register-dns", "did not happen")]].concat()),
        (FileIsTaken, [&taken_back[..], &[("write-vhost", "did not happen")]].concat()),
        (RouteIsTaken, [taken_back, written].concat()),
        (GatewayRefuses, [&taken_back[..], &written, &[("handshake", "did not happen")]].concat()),
        (GatewayFails, [&taken_back[..], &written, &[("handshake", "compensated")]].concat()),
    ] {
        let organization = organization();
        wrong.begin(&mut platform, organization).await;
        let began = Instant::now();
        let unfinished = failed(platform.start(organization).await);
        println!("a start that fails ({wrong:?}) took {:?}", began.elapsed());
        let (step, code) = wrong.error();
        assert_eq!(unfinished.error.step.as_deref(), Some(step), "{wrong:?}");
        assert_eq!(unfinished.error.failure.code, code, "{wrong:?}");
        assert_eq!(fates(&unfinished), expected, "{wrong:?}");
        platform.assert_nothing_left(organization).await;
        assert_eq!(platform.stats().await.ready, 1, "{wrong:?}");
        match wrong {
            FileIsTaken => {
                let file = platform.edge.site(&format!("org-{organization}.conf"));
                assert_eq!(fs::read_to_string(&file).unwrap(), BY_HAND);
            }
            GatewayRefuses | GatewayFails => {
                let page = platform.edge.sandbox.fetch(&platform.hostname(organization), "/").await.unwrap();
                assert_eq!(page.status, 404, "{wrong:?}");
            }
            NameIsTaken | RouteIsTaken => {}
        }
        wrong.mend(&mut platform).await;
    }

    // And whoever comes next is served by the same gateway.
    let next = organization();
    assert_eq!(started(platform.start(next).await), gateway);
    platform.assert_served(next, gateway).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn no_gateway_available_is_a_typed_error() {
    let platform = Platform::of(0).await;
    let worker = platform.start_worker().await;
    let organization = organization();
    for _ in 0..2 {
        match platform.start(organization).await {
            Requested::NoGatewayAvailable(unfinished) => {
                assert_eq!(unfinished.error.failure.code, "no_gateway_available");
                assert!(unfinished.error.failure.message.contains(&organization.to_string()));
                assert_eq!(unfinished.report.owed().count(), 0);
            }
            other => panic!("{other:?}"),
        }
    }
    platform.assert_nothing_left(organization).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn after_compensation_the_route_is_gone_from_the_running_nginx() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--fail-start"]).await.unwrap();
    let worker = platform.start_worker().await;
    let organization = organization();

    let unfinished = failed(platform.start(organization).await);
    let reload = platform.step(unfinished.workflow, "reload-nginx").await.unwrap();
    assert_eq!(reload.status, "completed", "the route was live before");

    let (nginx, hostname) = (platform.edge.sandbox.nginx().unwrap(), platform.hostname(organization));
    for _ in 0..100 {
        assert_eq!(nginx.route(&hostname).await.unwrap(), None, "every worker must have forgotten it");
    }
    platform.assert_nothing_left(organization).await;
    worker.shut_down().await;
}
