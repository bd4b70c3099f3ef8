//! Do starts and stops of one organisation never overlap, and does everybody who asks get an answer?

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use backstitch::Ending;
use backstitch_gateway::StopGateway;
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::request::{self, Requested};
use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::platform::{Platform, organization, soon, started, until};

/// When each workflow of an organisation was asked for and ended, in the order of asking.
async fn lives(
    platform: &Platform,
    organization: OrganizationId,
) -> Vec<(String, DateTime<Utc>, DateTime<Utc>)> {
    sqlx::query_as(
        "select kind, enqueued_at, finished_at from backstitch.workflows \
            where input ->> 'organization' = $1 order by workflow_id",
    )
    .bind(organization.to_string())
    .fetch_all(&platform.db)
    .await
    .unwrap()
}

#[tokio::test]
async fn two_starts_for_one_organisation_share_one_allocation() {
    let platform = Platform::of(3).await;
    let organization = organization();
    let mut callers = JoinSet::new();
    for _ in 0..6 {
        let client = platform.client.clone();
        callers.spawn(async move { request::start(&client, organization, soon()).await.unwrap() });
    }
    // Nobody works yet: all of them ask before there is an allocation.
    platform.live("gateway.start").await;
    let worker = platform.start_worker().await;
    let gateways: BTreeSet<_> = callers.join_all().await.into_iter().map(started).collect();
    assert_eq!(gateways.len(), 1);
    assert_eq!(lives(&platform, organization).await.len(), 1, "one workflow for all of them");
    assert_eq!(platform.stats().await.allocated, 1);
    platform.assert_served(organization, *gateways.first().unwrap()).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn concurrent_starts_never_share_a_gateway() {
    let platform = Platform::of(5).await;
    let (one, other) = (platform.start_worker().await, platform.start_worker().await);
    let organizations: Vec<_> = (0..8).map(|_| organization()).collect();
    let mut callers = JoinSet::new();
    for organization in organizations.clone() {
        let client = platform.client.clone();
        let deadline = soon();
        callers.spawn(async move {
            (organization, request::start(&client, organization, deadline).await.unwrap())
        });
    }
    let mut gateways = BTreeSet::new();
    let mut refused = Vec::new();
    for (organization, requested) in callers.join_all().await {
        match requested {
            Requested::NoGatewayAvailable(_) => refused.push(organization),
            requested => {
                let gateway = started(requested);
                platform.assert_served(organization, gateway).await;
                assert!(gateways.insert(gateway), "gateway {gateway} serves two organisations");
            }
        }
    }
    assert_eq!((gateways.len(), refused.len()), (5, 3));
    for organization in refused {
        platform.assert_nothing_left(organization).await;
    }
    tokio::join!(one.shut_down(), other.shut_down());
}

#[tokio::test]
async fn start_and_stop_of_one_organisation_never_overlap() {
    let platform = Platform::of(2).await;
    let (one, other) = (platform.start_worker().await, platform.start_worker().await);
    let organization = organization();
    // Everybody asks for what they like, at once, several times over.
    let mut callers = JoinSet::new();
    for caller in 0..6 {
        let client = platform.client.clone();
        callers.spawn(async move {
            for round in 0..4 {
                let deadline = soon();
                let requested = if (caller + round) % 2 == 0 {
                    request::start(&client, organization, deadline).await.unwrap()
                } else {
                    request::stop(&client, organization, deadline).await.unwrap()
                };
                let is_an_answer = match &requested {
                    Requested::Started { .. }
                    | Requested::Active { .. }
                    | Requested::Stopped
                    | Requested::NothingToStop => true,
                    // A stop came in between.
                    Requested::Conflict { .. } => (caller + round) % 2 == 0,
                    _ => false,
                };
                assert!(is_an_answer, "{requested:?}");
            }
        });
    }
    callers.join_all().await;
    let lives = lives(&platform, organization).await;
    assert!(lives.len() > 2, "{lives:?}");
    for pair in lives.windows(2) {
        assert!(pair[0].2 <= pair[1].1, "the second was asked for before the first had ended: {pair:?}");
    }
    println!("{} workflows, one after the other", lives.len());

    let stopped = platform.stop(organization).await;
    assert!(matches!(stopped, Requested::Stopped | Requested::NothingToStop), "{stopped:?}");
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 2);
    tokio::join!(one.shut_down(), other.shut_down());
}

#[tokio::test]
async fn a_stop_during_a_start_takes_the_start_back() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "1.5"]).await.unwrap();
    let worker = platform.start_worker().await;
    let organization = organization();
    let (start, starting) = platform.begin(organization).await;
    platform.step_is(start, "handshake", "in_progress").await;

    assert!(matches!(platform.stop(organization).await, Requested::Stopped));
    let requested = starting.await.unwrap();
    assert!(matches!(requested, Requested::Conflict { workflow, .. } if workflow == start), "{requested:?}");
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 1);

    // A start that was taken back allows the next one.
    platform.edge.sandbox.gateways[0].restart(&[]).await.unwrap();
    started(platform.start(organization).await);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_start_during_a_stop_waits_until_its_deadline() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let organization = organization();
    let gateway = started(platform.start(organization).await);

    // Somebody else on this host writes a vhost, for longer than the start wants to wait.
    let state = platform.config().nginx.state;
    let writing = File::options().append(true).open(state.join("writing.lock")).unwrap();
    writing.lock().unwrap();
    let stopping = tokio::spawn({
        let client = platform.client.clone();
        async move { request::stop(&client, organization, soon()).await.unwrap() }
    });
    let stop = platform.live("gateway.stop").await;
    platform.step_is(stop, "remove-vhost", "in_progress").await;
    let deadline = Instant::now() + Duration::from_millis(200);
    let requested = request::start(&platform.client, organization, deadline).await.unwrap();
    assert!(matches!(requested, Requested::Conflict { workflow, .. } if workflow == stop), "{requested:?}");
    let requested = request::stop(&platform.client, organization, deadline).await.unwrap();
    assert!(matches!(requested, Requested::StillRunning(workflow) if workflow == stop), "{requested:?}");

    // One with more time is served when the stop has ended.
    let starting = tokio::spawn({
        let client = platform.client.clone();
        async move { request::start(&client, organization, soon()).await.unwrap() }
    });
    drop(writing);
    assert!(matches!(stopping.await.unwrap(), Requested::Stopped));
    assert_eq!(started(starting.await.unwrap()), gateway);
    platform.assert_served(organization, gateway).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_start_that_no_worker_serves_is_still_running_and_is_joined() {
    let platform = Platform::of(1).await;
    let organization = organization();
    let mut asked = BTreeSet::new();
    for _ in 0..2 {
        let deadline = Instant::now() + Duration::from_millis(50);
        match request::start(&platform.client, organization, deadline).await.unwrap() {
            Requested::StillRunning(workflow) => asked.insert(workflow),
            other => panic!("{other:?}"),
        };
    }
    assert_eq!(asked.len(), 1);
    let worker = platform.start_worker().await;
    started(platform.start(organization).await);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_stop_that_was_asked_for_past_the_function_does_not_overtake_a_start() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "1"]).await.unwrap();
    let worker = platform.start_worker().await;
    let organization = organization();
    let (start, starting) = platform.begin(organization).await;
    platform.step_is(start, "handshake", "in_progress").await;
    let stop = platform.client.enqueue(StopGateway { organization }).send().await.unwrap();
    match platform.client.wait(&stop).await.unwrap() {
        Ending::Compensated(unfinished) => assert_eq!(unfinished.error.failure.code, "start_under_way"),
        other => panic!("{other:?}"),
    }
    let gateway = started(starting.await.unwrap());
    platform.assert_served(organization, gateway).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn who_asks_second_waits_for_the_first_and_sees_what_it_asked_for() {
    let platform = Platform::of(1).await;
    let organization = organization();
    let ask = "select answer, workflow_id from gateway.request_start($1)";
    let mut first = platform.db.begin().await.unwrap();
    let (answer, workflow): (String, uuid::Uuid) =
        sqlx::query_as(ask).bind(organization.uuid()).fetch_one(&mut *first).await.unwrap();
    assert_eq!(answer, "started");
    let second = tokio::spawn({
        let db = platform.db.clone();
        async move {
            sqlx::query_as::<_, (String, uuid::Uuid)>(ask)
                .bind(organization.uuid())
                .fetch_one(&db)
                .await
                .unwrap()
        }
    });
    let waiting = "select exists (select from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock')";
    until("the second waits", async || {
        sqlx::query_scalar::<_, bool>(waiting).fetch_one(&platform.db).await.unwrap().then_some(())
    })
    .await;
    first.commit().await.unwrap();
    assert_eq!(second.await.unwrap(), ("starting".to_owned(), workflow));

    // One that is rolled back asked for nothing.
    let another = crate::platform::organization();
    let mut rolled_back = platform.db.begin().await.unwrap();
    sqlx::query(ask).bind(another.uuid()).execute(&mut *rolled_back).await.unwrap();
    rolled_back.rollback().await.unwrap();
    assert_eq!(lives_begun(&platform, another).await, 0);
}

#[tokio::test]
async fn an_abandoned_start_needs_attention_until_its_allocation_is_ended_by_hand() {
    let platform = Platform::of(2).await;
    let worker = platform.start_worker().await;
    let organization = organization();
    let gateway = started(request::start(&platform.client, organization, soon()).await.unwrap());
    worker.shut_down().await;
    // As `abandon` leaves it: what it did still stands.
    sqlx::query("update backstitch.workflow set status = 'abandoned', output = null")
        .execute(&platform.db)
        .await
        .unwrap();
    for _ in 0..2 {
        let requested = request::start(&platform.client, organization, soon()).await.unwrap();
        assert!(matches!(requested, Requested::NeedsAttention(_)), "{requested:?}");
        let requested = request::stop(&platform.client, organization, soon()).await.unwrap();
        assert!(matches!(requested, Requested::NeedsAttention(_)), "{requested:?}");
    }
    let ended: bool = sqlx::query_scalar(
        "select gateway.proc_organizations_gateways_stop($1, workflow_id) from backstitch.workflows",
    )
    .bind(gateway.number())
    .fetch_one(&platform.db)
    .await
    .unwrap();
    assert!(ended);
    let answer: String = sqlx::query_scalar("select answer from gateway.request_start($1)")
        .bind(organization.uuid())
        .fetch_one(&platform.db)
        .await
        .unwrap();
    assert_eq!(answer, "started", "a new workflow");
}

#[tokio::test]
async fn a_key_that_somebody_used_for_something_else_locks_nobody_out() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let (organization, another) = (organization(), organization());
    // The first two of its starts, and what is then the first of its stops.
    for (kind, generation) in [("gateway.start", 1), ("gateway.start", 2), ("gateway.stop", 4)] {
        sqlx::query(
            "select backstitch.enqueue($1, jsonb_build_object('organization', $2), p_key => $3, \
                p_run_at => '2040-01-01')",
        )
        .bind(kind)
        .bind(another.to_string())
        .bind(format!("{organization}/{generation}"))
        .execute(&platform.db)
        .await
        .unwrap();
    }
    let gateway = started(platform.start(organization).await);
    platform.assert_served(organization, gateway).await;
    assert!(matches!(platform.stop(organization).await, Requested::Stopped));
    platform.assert_nothing_left(organization).await;
    worker.shut_down().await;
}

async fn lives_begun(platform: &Platform, organization: OrganizationId) -> i64 {
    sqlx::query_scalar("select count(*) from backstitch.workflows where input ->> 'organization' = $1")
        .bind(organization.to_string())
        .fetch_one(&platform.db)
        .await
        .unwrap()
}
