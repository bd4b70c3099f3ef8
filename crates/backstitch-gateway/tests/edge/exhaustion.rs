//! Are all gateways free again, however many starts fail?

use std::time::{Duration, Instant};

use backstitch::Plaintext;
use backstitch_gateway::EdgeConfig;
use backstitch_gateway::powerdns::PowerDnsConfig;
use backstitch_gateway::request::{self, Requested};
use tokio::task::JoinSet;

use crate::platform::{Platform, organization, soon};

/// Most fail at their second step, which is cheap: a hundred milliseconds of real nginx each would be 95 s.
const AT_THE_NAME: usize = 900;
const AT_THE_HANDSHAKE: usize = 100;
const AT_A_GATEWAY_THAT_IS_GONE: usize = 20;
const GATEWAYS: usize = 4;
/// More callers than gateways: some of them find the pool empty for a moment, and ask again.
const AT_ONCE: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pool_is_not_exhausted_by_failures() {
    let mut platform = Platform::of(GATEWAYS).await;
    for gateway in &mut platform.edge.sandbox.gateways {
        gateway.restart(&["--refuse-start"]).await.unwrap();
    }
    let config = platform.config();
    let powerdns = PowerDnsConfig { api_key: Plaintext::new("not-the-key"), ..config.powerdns.clone() };
    let worker = platform.worker_over(EdgeConfig { powerdns, ..config }).await.start().await.unwrap();
    starts_fail(&platform, AT_THE_NAME, "powerdns_key_refused").await;
    worker.shut_down().await;
    assert_eq!(platform.stats().await.ready, i64::try_from(GATEWAYS).unwrap());

    let worker = platform.start_worker().await;
    starts_fail(&platform, AT_THE_HANDSHAKE, "gateway_refused").await;
    worker.shut_down().await;

    // As while a switch restarts: nobody is there to be asked, and nobody to be reset.
    for gateway in &mut platform.edge.sandbox.gateways {
        gateway.kill().unwrap();
    }
    let config = EdgeConfig { answer_patience: Duration::from_millis(100), ..platform.config() };
    let worker = platform.worker_over(config).await.start().await.unwrap();
    starts_fail(&platform, AT_A_GATEWAY_THAT_IS_GONE, "gateway_never_answered").await;
    worker.shut_down().await;
    let stats = platform.stats().await;
    assert_eq!(stats.ready, i64::try_from(GATEWAYS).unwrap(), "{stats:?}");
    assert_eq!(stats.ready, stats.total, "{stats:?}");
    assert_eq!(platform.edge.sites(), [] as [&str; 0]);

    let failed = "select count(*) from backstitch.workflows \
        where status = 'compensated' and error -> 'failure' ->> 'code' <> 'no_gateway_available'";
    let failed: i64 = sqlx::query_scalar(failed).fetch_one(&platform.db).await.unwrap();
    assert_eq!(failed, i64::try_from(AT_THE_NAME + AT_THE_HANDSHAKE + AT_A_GATEWAY_THAT_IS_GONE).unwrap());
}

/// So many starts of new organisations, and each is answered with this error once everything is taken back.
async fn starts_fail(platform: &Platform, starts: usize, code: &'static str) {
    let began = Instant::now();
    let left = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(starts));
    let mut callers = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, left) = (platform.client.clone(), left.clone());
        callers.spawn(async move {
            use std::sync::atomic::Ordering::SeqCst;
            while left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok() {
                let organization = organization();
                loop {
                    match request::start(&client, organization, soon()).await.unwrap() {
                        Requested::NoGatewayAvailable(_) => {}
                        Requested::Failed(unfinished) => {
                            assert_eq!(unfinished.error.failure.code, code, "{}", unfinished.error);
                            assert_eq!(unfinished.report.owed().count(), 0);
                            break;
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        });
    }
    callers.join_all().await;
    let took = began.elapsed();
    println!(
        "{starts} starts that fail with {code} took {took:?}, {:?} each",
        took / u32::try_from(starts).unwrap()
    );
}
