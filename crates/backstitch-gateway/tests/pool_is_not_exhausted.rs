//! Are all gateways free again, however many starts fail?
#![allow(clippy::unwrap_used, reason = "a test that fails has nothing better to do")]

mod edge;

use std::time::Instant;

use backstitch_gateway::request::{self, Requested};
use edge::platform::{Platform, organization};
use tokio::task::JoinSet;

const STARTS: usize = 1000;
const AT_ONCE: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_is_not_exhausted_by_failures() {
    let mut platform = Platform::of(AT_ONCE).await;
    for gateway in &mut platform.edge.sandbox.gateways {
        gateway.restart(&["--refuse-start"]).await.unwrap();
    }
    let worker = platform.start_worker().await;
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let client = platform.client.clone();
        callers.spawn(async move {
            for _ in 0..STARTS / AT_ONCE {
                let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(60);
                let requested = request::start(&client, organization(), deadline).await.unwrap();
                match requested {
                    Requested::Failed(unfinished) => {
                        assert_eq!(unfinished.error.failure.code, "gateway_refused", "{}", unfinished.error);
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
    }
    callers.join_all().await;
    let took = began.elapsed();
    println!("{STARTS} failing starts took {took:?}, {:?} each", took / u32::try_from(STARTS).unwrap());

    let stats = platform.stats().await;
    assert_eq!((stats.ready, stats.total), (8, 8), "{stats:?}");
    let compensated: i64 =
        sqlx::query_scalar("select count(*) from backstitch.workflows where status = 'compensated'")
            .fetch_one(&platform.db)
            .await
            .unwrap();
    assert_eq!(compensated, i64::try_from(STARTS).unwrap());
    assert_eq!(platform.edge.sites(), [] as [&str; 0]);
    worker.shut_down().await;
}
