//! Does the pool never give one gateway twice, nor take one from whom it belongs to?

use std::collections::BTreeSet;
use std::time::Duration;

use backstitch_gateway::identifiers::{GatewayId, Hostname, OrganizationId, Owner};
use backstitch_gateway::pool::{self, AllocationStatus, PoolError};
use backstitch_gateway::verdict::{Classified, Verdict};
use backstitch_postgres::test::{TestDatabase, database};
use sqlx::{PgConnection, PgPool};
use tokio::task::JoinSet;
use uuid::Uuid;

/// A migrated database with this many ready gateways.
async fn pool_of(gateways: usize) -> (TestDatabase, PgPool, Vec<GatewayId>) {
    let database = database().await;
    let db = database.pool().await;
    pool::migrate(&db).await.unwrap();
    let mut connection = db.acquire().await.unwrap();
    let mut ids = Vec::new();
    for number in 1..=gateways {
        let upstream = format!("10.0.0.{number}:8080").parse().unwrap();
        let id = pool::add(&mut connection, &format!("gateway-{number}"), upstream).await.unwrap();
        pool::set_ready(&mut connection, id).await.unwrap();
        ids.push(id);
    }
    drop(connection);
    (database, db, ids)
}

fn hostname() -> Hostname {
    hostname_of(Uuid::new_v4().into())
}

fn hostname_of(organization: OrganizationId) -> Hostname {
    Hostname::new(organization, "collab.test".parse().unwrap())
}

fn workflow() -> Owner {
    Uuid::new_v4().into()
}

async fn assert_it_adds_up(db: &PgPool) {
    let stats = pool::stats(&mut db.acquire().await.unwrap()).await.unwrap();
    let sum = stats.new + stats.ready + stats.allocated + stats.stopping + stats.quarantined;
    assert_eq!(sum, stats.total, "{stats:?}");
}

#[tokio::test]
async fn an_allocated_gateway_serves_until_its_workflow_releases_it() {
    let (_database, db, ids) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    let (hostname, start) = (hostname(), workflow());

    let allocation = pool::allocate(&mut connection, &hostname, start).await.unwrap();
    assert_eq!((allocation.gateway, allocation.owner), (ids[0], start));
    assert_eq!((allocation.status, allocation.stopping), (AllocationStatus::Active, None));
    assert_eq!(allocation.upstream.to_string(), "10.0.0.1:8080");
    assert_eq!(allocation.hostname.as_ref(), Some(&hostname));
    let active = pool::active(&mut connection, hostname.organization()).await.unwrap();
    assert_eq!(active, Some(allocation));
    let listed = &pool::list(&mut connection).await.unwrap()[0];
    assert_eq!((listed.state.as_str(), listed.owner), ("allocated", Some(start)));

    for _ in 0..2 {
        assert!(pool::release(&mut connection, ids[0], start).await.unwrap());
    }
    assert_eq!(pool::active(&mut connection, hostname.organization()).await.unwrap(), None);
    assert_eq!(pool::stats(&mut connection).await.unwrap().ready, 1);
    // A late call of the same workflow does not take another one.
    let error = pool::allocate(&mut connection, &hostname, start).await.unwrap_err();
    assert!(matches!(error, PoolError::AllocationEnded(_)), "{error:?}");
}

#[tokio::test]
async fn asking_twice_answers_with_the_allocation_that_exists() {
    let (_database, db, _) = pool_of(2).await;
    let mut connection = db.acquire().await.unwrap();
    let (hostname, start) = (hostname(), workflow());
    let first = pool::allocate(&mut connection, &hostname, start).await.unwrap();
    assert_eq!(pool::allocate(&mut connection, &hostname, start).await.unwrap(), first);

    let error = pool::allocate(&mut connection, &hostname, workflow()).await.unwrap_err();
    assert!(matches!(error, PoolError::OrganizationHasGateway(_)), "{error:?}");
    let error = pool::allocate(&mut connection, &self::hostname(), start).await.unwrap_err();
    assert!(matches!(error, PoolError::Invalid(_)), "one workflow, one organisation: {error:?}");
    assert_eq!(pool::stats(&mut connection).await.unwrap().allocated, 1);
}

#[tokio::test]
async fn an_exhausted_pool_says_so() {
    let (_database, db, ids) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    pool::allocate(&mut connection, &hostname(), workflow()).await.unwrap();
    let waiting = hostname();
    let error = pool::allocate(&mut connection, &waiting, workflow()).await.unwrap_err();
    assert!(matches!(error, PoolError::NoGatewayAvailable(_)), "{error:?}");
    assert!(error.to_string().contains(&waiting.organization().to_string()), "{error}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn concurrent_allocations_never_share_a_gateway() {
    let (_database, db, ids) = pool_of(20).await;
    let mut starts = JoinSet::new();
    for _ in 0..30 {
        let db = db.clone();
        starts.spawn(async move {
            let mut transaction = db.begin().await.unwrap();
            let allocated = pool::allocate(&mut transaction, &hostname(), workflow()).await;
            // Hold it for a moment, so that others meet the lock and not the result.
            tokio::time::sleep(Duration::from_millis(5)).await;
            transaction.commit().await.unwrap();
            allocated
        });
    }
    let answers = starts.join_all().await;
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(refused.iter().all(|error| matches!(error, PoolError::NoGatewayAvailable(_))), "{refused:?}");
    assert_eq!(refused.len(), 10, "all twenty are handed out");
    let handed_out: BTreeSet<GatewayId> =
        answers.iter().flatten().map(|allocation| allocation.gateway).collect();
    assert_eq!(handed_out, ids.into_iter().collect());
    assert_it_adds_up(&db).await;
}

#[tokio::test]
async fn two_starts_for_one_organisation_get_one_gateway() {
    let (_database, db, _) = pool_of(5).await;
    let hostname = hostname();
    let mut starts = JoinSet::new();
    for _ in 0..8 {
        let (db, hostname) = (db.clone(), hostname.clone());
        starts.spawn(
            async move { pool::allocate(&mut db.acquire().await.unwrap(), &hostname, workflow()).await },
        );
    }
    let answers = starts.join_all().await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1);
    for error in answers.into_iter().filter_map(Result::err) {
        assert!(matches!(error, PoolError::OrganizationHasGateway(_)), "{error:?}");
    }
    let stats = pool::stats(&mut db.acquire().await.unwrap()).await.unwrap();
    assert_eq!((stats.allocated, stats.ready), (1, 4));
}

#[tokio::test]
async fn none_is_said_only_when_there_is_none() {
    let (_database, db, ids) = pool_of(1).await;
    let mut first = db.begin().await.unwrap();
    pool::allocate(&mut first, &hostname(), workflow()).await.unwrap();

    let second = tokio::spawn({
        let db = db.clone();
        async move { pool::allocate(&mut db.acquire().await.unwrap(), &hostname(), workflow()).await }
    });
    wait_for_a_blocked_session(&db).await;
    first.rollback().await.unwrap();
    assert_eq!(second.await.unwrap().unwrap().gateway, ids[0]);
}

async fn wait_for_a_blocked_session(db: &PgPool) {
    let waiting = "select exists (select from pg_stat_activity \
        where datname = current_database() and wait_event_type = 'Lock')";
    while !sqlx::query_scalar::<_, bool>(waiting).fetch_one(db).await.unwrap() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn only_the_workflow_an_allocation_names_releases_it() {
    let (_database, db, ids) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    let (hostname, start, stop) = (hostname(), workflow(), workflow());
    let organization = hostname.organization();
    assert!(!pool::release(&mut connection, ids[0], start).await.unwrap(), "nothing to take back yet");
    pool::allocate(&mut connection, &hostname, start).await.unwrap();

    let error = pool::release(&mut connection, ids[0], stop).await.unwrap_err();
    assert!(matches!(error, PoolError::NotTheReleaser(_)), "{error:?}");

    for _ in 0..2 {
        let taken = pool::begin_stop(&mut connection, organization, stop).await.unwrap();
        assert_eq!((taken.owner, taken.stopping), (start, Some(stop)));
        assert_eq!(taken.status, AllocationStatus::Stopping);
    }
    let error = pool::release(&mut connection, ids[0], start).await.unwrap_err();
    assert!(matches!(error, PoolError::NotTheReleaser(_)), "the start has lost it to the stop: {error:?}");
    let error = pool::begin_stop(&mut connection, organization, workflow()).await.unwrap_err();
    assert!(matches!(error, PoolError::BeingStopped(_)), "{error:?}");
    let error = pool::allocate(&mut connection, &hostname, workflow()).await.unwrap_err();
    assert!(
        matches!(error, PoolError::OrganizationHasGateway(_)),
        "not while it is being stopped: {error:?}"
    );
    assert_eq!(pool::stats(&mut connection).await.unwrap().stopping, 1);

    for _ in 0..2 {
        assert!(pool::release(&mut connection, ids[0], stop).await.unwrap());
    }
    let ended = pool::begin_stop(&mut connection, organization, stop).await.unwrap();
    assert_eq!(ended.status, AllocationStatus::Ended, "asked again, it answers with what it took over");
    let error = pool::begin_stop(&mut connection, organization, workflow()).await.unwrap_err();
    assert!(matches!(error, PoolError::OrganizationHasNone(_)), "{error:?}");
    assert_eq!(pool::stats(&mut connection).await.unwrap().ready, 1);
}

#[tokio::test]
async fn a_quarantined_gateway_is_not_handed_out() {
    let (_database, db, ids) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    let start = workflow();
    pool::allocate(&mut connection, &hostname(), start).await.unwrap();
    pool::quarantine(&mut connection, ids[0], "it could not be reset").await.unwrap();
    pool::quarantine(&mut connection, ids[0], "and again").await.unwrap();
    let error = pool::release_quarantine(&mut connection, ids[0]).await.unwrap_err();
    assert!(matches!(error, PoolError::StillAllocated(_)), "{error:?}");

    pool::release(&mut connection, ids[0], start).await.unwrap();
    let error = pool::allocate(&mut connection, &hostname(), workflow()).await.unwrap_err();
    assert!(matches!(error, PoolError::NoGatewayAvailable(_)), "{error:?}");
    let error = pool::set_ready(&mut connection, ids[0]).await.unwrap_err();
    assert!(matches!(error, PoolError::Quarantined(_)), "{error:?}");
    let listed = &pool::list(&mut connection).await.unwrap()[0];
    assert_eq!(
        (listed.state.as_str(), listed.reason.as_deref()),
        ("quarantined", Some("it could not be reset"))
    );
    assert_it_adds_up(&db).await;

    pool::release_quarantine(&mut connection, ids[0]).await.unwrap();
    pool::allocate(&mut connection, &hostname(), workflow()).await.unwrap();
}

#[tokio::test]
async fn a_workflow_quarantines_the_gateway_that_it_has_and_no_other() {
    let (_database, db, ids) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    let (first, start, stop) = (hostname(), workflow(), workflow());
    let held = async |connection: &mut PgConnection, by: Owner| {
        pool::quarantine_held(connection, ids[0], by, "it could not be reset").await.unwrap()
    };
    assert!(!held(&mut connection, start).await, "it has none yet");
    pool::allocate(&mut connection, &first, start).await.unwrap();
    pool::begin_stop(&mut connection, first.organization(), stop).await.unwrap();
    assert!(!held(&mut connection, start).await, "the stop has taken it over");
    pool::release(&mut connection, ids[0], stop).await.unwrap();

    // The next organisation has it; whoever comes late has it no more.
    let next = workflow();
    pool::allocate(&mut connection, &hostname(), next).await.unwrap();
    for late in [start, stop] {
        assert!(!held(&mut connection, late).await);
    }
    assert_eq!(pool::stats(&mut connection).await.unwrap().quarantined, 0);
    assert!(held(&mut connection, next).await);
    let listed = &pool::list(&mut connection).await.unwrap()[0];
    assert_eq!(
        (listed.state.as_str(), listed.reason.as_deref()),
        ("quarantined", Some("it could not be reset"))
    );
}

#[tokio::test]
async fn the_gateway_that_was_free_for_longest_is_next() {
    let (_database, db, ids) = pool_of(3).await;
    let mut connection = db.acquire().await.unwrap();
    let mut order = Vec::new();
    for _ in 0..7 {
        let start = workflow();
        let gateway = pool::allocate(&mut connection, &hostname(), start).await.unwrap().gateway;
        pool::release(&mut connection, gateway, start).await.unwrap();
        order.push(gateway);
    }
    let expected: Vec<GatewayId> = ids.iter().cycle().take(7).copied().collect();
    assert_eq!(order, expected);
}

#[tokio::test]
async fn a_new_gateway_must_be_set_ready_and_be_like_no_other() {
    let (_database, db, _) = pool_of(1).await;
    let mut connection = db.acquire().await.unwrap();
    let upstream = "[fd00::9]:9000".parse().unwrap();
    let id = pool::add(&mut connection, "another", upstream).await.unwrap();
    assert_eq!(pool::stats(&mut connection).await.unwrap().new, 1);
    assert_eq!(pool::list(&mut connection).await.unwrap()[1].upstream, upstream);
    for _ in 0..2 {
        pool::set_ready(&mut connection, id).await.unwrap();
    }
    let other = "10.9.9.9:80".parse().unwrap();
    for (name, upstream) in [("another", other), ("a-third", upstream)] {
        let error = pool::add(&mut connection, name, upstream).await.unwrap_err();
        assert!(matches!(error, PoolError::Taken(_)), "{error:?}");
    }
    for name in ["", "a b", "x'; drop table gateway.gateway; --", "a\nb", &"x".repeat(64)] {
        let error = pool::add(&mut connection, name, other).await.unwrap_err();
        assert!(matches!(error, PoolError::Invalid(_)), "{name:?}: {error:?}");
    }
    let nobody: GatewayId = "4711".parse().unwrap();
    for refused in [
        pool::set_ready(&mut connection, nobody).await,
        pool::quarantine(&mut connection, nobody, "gone").await,
        pool::release_quarantine(&mut connection, nobody).await,
        pool::release(&mut connection, nobody, workflow()).await.map(drop),
    ] {
        assert!(matches!(refused, Err(PoolError::UnknownGateway(_))), "{refused:?}");
    }
    let error = pool::quarantine(&mut connection, id, " ").await.unwrap_err();
    assert!(matches!(error, PoolError::Invalid(_)), "{error:?}");
    assert_it_adds_up(&db).await;
}

#[tokio::test]
async fn upstreams_are_checked_by_the_database_too() {
    let (_database, db, _) = pool_of(0).await;
    for upstream in [
        "10.0.0.0/8:80",
        "10.0.0.1",
        "10.0.0.1:0",
        "10.0.0.1:99999",
        "localhost:80",
        "::1:80",
        "[10.0.0.1",
        "",
    ] {
        let added = sqlx::query("select gateway.proc_gateway_new('x', $1)").bind(upstream).execute(&db).await;
        let error = PoolError::from(added.unwrap_err());
        assert!(matches!(error, PoolError::Invalid(_)), "{upstream}: {error:?}");
    }
}

#[tokio::test]
async fn migrations_keep_their_books_apart_and_run_once() {
    let (_database, db, _) = pool_of(1).await;
    pool::migrate(&db).await.unwrap();
    assert_eq!(pool::stats(&mut db.acquire().await.unwrap()).await.unwrap().total, 1);
    let tables: Vec<String> = sqlx::query_scalar(
        "select table_schema || '.' || table_name from information_schema.tables \
        where table_name like '%migrations'",
    )
    .fetch_all(&db)
    .await
    .unwrap();
    assert_eq!(tables, ["gateway._migrations"]);
}

#[tokio::test]
async fn nobody_may_call_the_functions_unless_granted() {
    let (_database, db, _) = pool_of(0).await;
    let open: Vec<String> = sqlx::query_scalar("select p.oid::regprocedure::text from pg_proc as p \
        where p.pronamespace = 'gateway'::regnamespace \
            and (has_function_privilege('public', p.oid, 'execute') \
                or not coalesce(array_to_string(p.proconfig, ','), '') like '%search_path=pg_catalog, pg_temp%')")
        .fetch_all(&db).await.unwrap();
    assert_eq!(open, [] as [&str; 0]);
}

/// As many as a platform has after some years.
const ALLOCATIONS_EVER: i64 = 20_000;

#[tokio::test]
async fn a_stop_finds_its_allocation_without_a_walk_through_all_that_ever_were() {
    let (_database, db, ids) = pool_of(1).await;
    sqlx::query(
        "insert into gateway.allocation (gateway_id, organization_id, workflow_id, stopping_workflow_id, status, \
            created_at, stopping_at, ended_at, ended_by) \
        select $1, gen_random_uuid(), gen_random_uuid(), stop, 'ended', now(), now(), now(), stop \
        from (select gen_random_uuid() as stop from generate_series(1, $2)) as stops",
    )
    .bind(ids[0].number())
    .bind(ALLOCATIONS_EVER)
    .execute(&db)
    .await
    .unwrap();
    sqlx::query("analyze gateway.allocation").execute(&db).await.unwrap();

    let mut transaction = db.begin().await.unwrap();
    let (hostname, start, stop) = (hostname(), workflow(), workflow());
    pool::allocate(&mut transaction, &hostname, start).await.unwrap();
    for _ in 0..2 {
        pool::begin_stop(&mut transaction, hostname.organization(), stop).await.unwrap();
    }
    pool::taken_over_by(&mut transaction, stop).await.unwrap().unwrap();
    for _ in 0..2 {
        assert!(pool::release(&mut transaction, ids[0], stop).await.unwrap());
    }
    let walks = "select seq_scan from pg_stat_xact_user_tables where relid = 'gateway.allocation'::regclass";
    let walks: i64 = sqlx::query_scalar(walks).fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(walks, 0);
}
