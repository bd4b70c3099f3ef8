//! What becomes of a start when PowerDNS, nginx or a gateway does not do what it should?

use std::fs::{self, File};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use backstitch::{Answered, Fate, Status};
use backstitch_gateway::EdgeConfig;
use backstitch_gateway::agent::{Caller, StartRequest};
use backstitch_gateway::identifiers::OrganizationId;
use backstitch_gateway::pool;
use backstitch_gateway::powerdns::PowerDnsConfig;
use backstitch_gateway::request::{self, Requested};
use backstitch_postgres::test::SmallDisk;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::{Notify, oneshot};

use crate::platform::{Platform, failed, organization, soon, started, until};
use crate::ways::{Answer, way};

/// How long a gateway is waited for that is not there.
const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn dns_timeout_with_unknown_outcome_leaves_no_record() {
    let mut platform = Platform::of(1).await;
    let config = platform.config();
    let to: SocketAddr = config.powerdns.url.socket_addrs(|| None).unwrap()[0];
    let server = platform.edge.sandbox.powerdns_server().pid();
    // A change freezes the server before it gets there.
    let freezing = way(to, move || {
        kill_process_group(Pid::from_raw(server).unwrap(), Signal::STOP).unwrap();
        std::future::ready(Answer::Passed)
    });
    let url = format!("http://{}", freezing.await).parse().unwrap();
    let powerdns = PowerDnsConfig { url, ..config.powerdns.clone() };
    // Only the first worker takes that way.
    let worker = platform.worker_over(EdgeConfig { powerdns, ..config }).await.start().await.unwrap();
    let organization = organization();
    let (start, starting) = platform.begin(organization).await;
    let in_doubt = until("the change got no answer", async || {
        let attempts = platform.client.attempts(start).await.unwrap();
        attempts.into_iter().find(|a| a.step == "register-dns" && a.outcome.as_deref() == Some("in_doubt"))
    })
    .await;
    worker.shut_down().await;
    assert_eq!(
        platform.client.cancel(start, "the test", "it waited too long").await.unwrap(),
        Answered::Accepted
    );

    // The change lies in the frozen server's socket. It lands while it is being taken back.
    let worker = platform.start_worker().await;
    let compensating = until("the compensation has begun", async || {
        let attempts = platform.client.attempts(start).await.unwrap();
        attempts.into_iter().find(|a| a.step == "register-dns" && a.direction == "compensate")
    })
    .await;
    let waited = compensating.began_at - in_doubt.began_at;
    assert!(waited >= chrono::TimeDelta::seconds(7), "what may come late is waited out: {waited}");
    platform.edge.sandbox.powerdns_server().thaw().unwrap();
    let unfinished = failed(starting.await.unwrap());
    assert_eq!(unfinished.error.failure.code, "cancelled");
    assert_eq!(unfinished.report.owed().count(), 0);
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 1);
    worker.shut_down().await;
}

/// How long after the removal that has overtaken it a late one lands.
const LATE: Duration = Duration::from_millis(500);

#[tokio::test]
async fn a_removal_that_lands_late_does_not_take_the_name_of_the_next_start() {
    let platform = Platform::of(1).await;
    let config = platform.config();
    let to: SocketAddr = config.powerdns.url.socket_addrs(|| None).unwrap()[0];
    let (overtaken, has_landed) = (Arc::new(Notify::new()), Arc::new(Mutex::new(None)));
    let changes = Arc::new(AtomicU32::new(0));
    let overtaking = way(to, {
        let (overtaken, has_landed) = (Arc::clone(&overtaken), Arc::clone(&has_landed));
        move || {
            let (overtaken, has_landed) = (Arc::clone(&overtaken), Arc::clone(&has_landed));
            // The start's registration, its removal, and that once more.
            let number = changes.fetch_add(1, Ordering::SeqCst) + 1;
            async move {
                match number {
                    2 => {
                        overtaken.notified().await;
                        tokio::time::sleep(LATE).await;
                        let (tell, landed) = oneshot::channel();
                        *has_landed.lock().unwrap() = Some(landed);
                        return Answer::Lost(tell);
                    }
                    3 => overtaken.notify_one(),
                    _ => {}
                }
                Answer::Passed
            }
        }
    });
    let url = format!("http://{}", overtaking.await).parse().unwrap();
    let powerdns = PowerDnsConfig { url, ..config.powerdns.clone() };
    let worker = platform.worker_over(EdgeConfig { powerdns, ..config }).await.start().await.unwrap();

    let organization = organization();
    started(platform.start(organization).await);
    platform.stop(organization).await;
    started(platform.start(organization).await);
    let landed =
        until("the first removal has got to PowerDNS", async || has_landed.lock().unwrap().take()).await;
    landed.await.unwrap();
    platform.assert_served(organization, platform.gateways[0]).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn someone_elses_dns_record_is_not_deleted() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "1", "--fail-start"]).await.unwrap();
    let worker = platform.start_worker().await;
    let powerdns = platform.edge.sandbox.powerdns().unwrap();

    // There before the start, and refused; or put in its place while the start is under way, and left alone.
    let (before, meanwhile) = (organization(), organization());
    platform.edge.somebody_writes(&platform.hostname(before), "CNAME", "elsewhere.test.").await;
    assert_eq!(failed(platform.start(before).await).error.failure.code, "hostname_taken");

    let (start, starting) = platform.begin(meanwhile).await;
    platform.step_is(start, "handshake", "in_progress").await;
    let another = "\"heritage=backstitch,workflow=0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10\"";
    platform.edge.somebody_writes(&platform.hostname(meanwhile), "TXT", another).await;
    let unfinished = failed(starting.await.unwrap());
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);

    for (organization, kind, content) in [(before, "CNAME", "elsewhere.test."), (meanwhile, "TXT", another)] {
        let records = powerdns.lookup(&platform.hostname(organization)).await.unwrap();
        assert!(records.iter().any(|r| r.kind == kind && r.content == content), "{records:?}");
    }
    assert_eq!(platform.stats().await.ready, 1);
    worker.shut_down().await;
}

#[tokio::test]
async fn someone_elses_broken_vhost_is_reported_as_such() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let broken = platform.edge.site("shop.conf");
    fs::write(&broken, "server { listen 80").unwrap();

    // Not blamed on this organisation, and the gateway is free for the next although nothing can be reloaded.
    let first = organization();
    let unfinished = failed(platform.start(first).await);
    assert_eq!(unfinished.error.failure.code, "nginx_config_broken_by_someone_else");
    assert_eq!(unfinished.error.step.as_deref(), Some("write-vhost"));
    assert!(unfinished.error.failure.message.contains("shop.conf"), "it says where: {}", unfinished.error);
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    platform.assert_nothing_left(first).await;
    assert_eq!(platform.edge.sites(), ["shop.conf"]);
    assert_eq!(platform.stats().await.ready, 1);

    fs::remove_file(broken).unwrap();
    started(platform.start(first).await);
    worker.shut_down().await;
}

/// A few vhosts.
const DISK_BYTES: u64 = 64 * 1024;

#[tokio::test]
async fn a_start_without_room_for_its_vhost_is_taken_back_and_who_is_served_loses_nothing() {
    let platform = Platform::of(2).await;
    let disk = SmallDisk::mount(&platform.config().nginx.sites, DISK_BYTES).unwrap();
    let worker = platform.start_worker().await;
    let served = organization();
    let gateway = started(platform.start(served).await);
    disk.fill().unwrap();

    let first = organization();
    let unfinished = failed(platform.start(first).await);
    assert_eq!(unfinished.error.failure.code, "nginx_directory_failed");
    assert_eq!(unfinished.error.step.as_deref(), Some("write-vhost"));
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    platform.assert_nothing_left(first).await;
    assert_eq!(platform.stats().await.ready, 1);

    // Nothing has to be written for a stop.
    platform.assert_served(served, gateway).await;
    assert!(matches!(platform.stop(served).await, Requested::Stopped));
    platform.assert_nothing_left(served).await;
    disk.make_room().unwrap();
    let gateway = started(platform.start(first).await);
    platform.assert_served(first, gateway).await;
    worker.shut_down().await;
}

#[tokio::test]
async fn a_gateway_that_may_know_its_organisation_is_reset_or_quarantined() {
    let mut platform = Platform::of(3).await;
    let config = EdgeConfig { answer_patience: SHORT, resets_max: 2, ..platform.config() };
    let worker = platform.worker_over(config).await.start().await.unwrap();
    // In the order in which the pool hands them out: each was free for longer than the next.
    let faults: [&[&str]; 2] = [&["--fail-start"], &["--fail-start", "--refuse-reset"]];
    for (gateway, faults) in platform.edge.sandbox.gateways.iter_mut().zip(faults) {
        gateway.restart(faults).await.unwrap();
    }
    platform.edge.sandbox.gateways[2].kill().unwrap();

    // It took the organisation and said that it failed: it is told to forget.
    let unfinished = failed(platform.start(organization()).await);
    assert_eq!(unfinished.error.failure.code, "gateway_failed");
    let state = platform.edge.sandbox.gateways[0].agent().unwrap().state().await.unwrap();
    assert_eq!((state.organization_id, state.starts, state.resets), (None, 1, 1));
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (3, 0));

    // It took it, and refuses to forget.
    let second = organization();
    let unfinished = failed(platform.start(second).await);
    let second_start = unfinished.workflow;
    assert!(matches!(unfinished.report.steps[4].fate, Fate::Compensated { .. }), "{}", unfinished.report);
    let state = platform.edge.sandbox.gateways[1].agent().unwrap().state().await.unwrap();
    assert_eq!(state.organization_id, Some(second), "it knows its organisation still");
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (2, 1));

    // It is not there, and was asked nothing: it owes nothing.
    let unfinished = failed(platform.start(organization()).await);
    assert_eq!(unfinished.error.failure.code, "gateway_never_answered");
    assert!(matches!(unfinished.report.steps[4].fate, Fate::DidNotHappen), "{}", unfinished.report);
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (2, 1));
    let listed = pool::list(&mut platform.db.acquire().await.unwrap()).await.unwrap();
    let reason = listed[1].reason.clone().unwrap();
    assert!(reason.contains(&format!("workflow {second_start} could not reset it")), "{reason}");

    // The quarantined one is never handed out, and the others are as good as new.
    for gateway in [0, 2] {
        platform.edge.sandbox.gateways[gateway].restart(&[]).await.unwrap();
        let served = organization();
        assert_eq!(started(platform.start(served).await), platform.gateways[gateway]);
        platform.assert_served(served, platform.gateways[gateway]).await;
    }
    assert!(matches!(platform.start(organization()).await, Requested::NoGatewayAvailable(_)));

    // A stop whose gateway is gone and stays away ends in quarantine, too.
    let listed = pool::list(&mut platform.db.acquire().await.unwrap()).await.unwrap();
    let served = listed[0].organization.unwrap();
    platform.edge.sandbox.gateways[0].kill().unwrap();
    assert!(matches!(platform.stop(served).await, Requested::Stopped));
    platform.assert_nothing_left(served).await;
    assert_eq!((platform.stats().await.allocated, platform.stats().await.quarantined), (1, 2));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_gateway_that_is_gone_for_a_while_is_reset_when_it_is_back() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "60"]).await.unwrap();
    let config = EdgeConfig { answer_patience: SHORT, ..platform.config() };
    let worker = platform.worker_over(config).await.start().await.unwrap();
    let (start, starting) = platform.begin(organization()).await;
    until("the gateway has taken the organisation", async || {
        let state = platform.edge.sandbox.gateways[0].agent().unwrap().state().await.ok()?;
        state.organization_id
    })
    .await;
    platform.edge.sandbox.gateways[0].kill().unwrap();

    // Nobody knows what it took. Longer than any restart takes, all resets fail.
    let resets = async || {
        let attempts = platform.client.attempts(start).await.unwrap();
        let resets = attempts.iter().filter(|a| a.step == "handshake" && a.direction == "compensate");
        resets.filter(|a| a.outcome.as_deref() == Some("retry")).count()
    };
    until("five resets have failed", async || (resets().await >= 5).then_some(())).await;
    assert_eq!((platform.stats().await.allocated, platform.stats().await.quarantined), (1, 0));
    platform.edge.sandbox.gateways[0].restart(&[]).await.unwrap();
    let unfinished = failed(starting.await.unwrap());
    assert!(matches!(unfinished.report.steps[4].fate, Fate::Compensated { .. }), "{}", unfinished.report);
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (1, 0));
    worker.shut_down().await;
}

#[tokio::test]
async fn a_start_that_is_cancelled_before_its_gateway_was_asked_owes_it_nothing() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].kill().unwrap();
    let worker = platform.start_worker().await;
    let organization = organization();
    let (start, starting) = platform.begin(organization).await;
    platform.step_is(start, "handshake", "in_progress").await;
    assert!(matches!(platform.stop(organization).await, Requested::Stopped));
    let requested = starting.await.unwrap();
    assert!(matches!(requested, Requested::Conflict { workflow, .. } if workflow == start), "{requested:?}");
    let attempts = platform.client.attempts(start).await.unwrap();
    let handshakes: Vec<_> =
        attempts.iter().filter(|a| a.step == "handshake").map(|a| a.outcome.as_deref()).collect();
    assert_eq!(handshakes, [Some("rejected")], "and no reset");
    platform.assert_nothing_left(organization).await;
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (1, 0));
    worker.shut_down().await;
}

/// What the pool knows nothing of: this gateway serves somebody.
async fn somebody_is_served(platform: &Platform, gateway: usize) -> OrganizationId {
    let hostname = platform.hostname(organization());
    let request = StartRequest { organization_id: hostname.organization(), hostname };
    let by_hand = Caller { key: format!("{}/4/run", uuid::Uuid::new_v4()), epoch: 1 };
    platform.edge.sandbox.gateways[gateway].agent().unwrap().start(&request, &by_hand).await.unwrap();
    request.organization_id
}

#[tokio::test]
async fn a_gateway_that_is_found_serving_somebody_else_is_quarantined_with_its_reason() {
    let mut platform = Platform::of(2).await;
    let worker = platform.start_worker().await;
    let reason = async |platform: &Platform, gateway: usize| {
        let listed = pool::list(&mut platform.db.acquire().await.unwrap()).await.unwrap();
        listed[gateway].reason.clone().unwrap_or_default()
    };

    // By a start, whose handshake it refuses.
    let stranger = somebody_is_served(&platform, 0).await;
    let unfinished = failed(platform.start(organization()).await);
    assert_eq!(unfinished.error.failure.code, "gateway_serves_another");
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (1, 1));
    let told = reason(&platform, 0).await;
    assert!(told.contains(&format!("serves organisation {stranger}")), "{told}");
    let state = platform.edge.sandbox.gateways[0].agent().unwrap().state().await.unwrap();
    assert_eq!(state.organization_id, Some(stranger), "whoever it is goes on being served");

    // By a stop: it was restarted since, and given to somebody by hand.
    let served = organization();
    assert_eq!(started(platform.start(served).await), platform.gateways[1]);
    platform.edge.sandbox.gateways[1].restart(&[]).await.unwrap();
    let stranger = somebody_is_served(&platform, 1).await;
    assert!(matches!(platform.stop(served).await, Requested::Stopped));
    assert_eq!((platform.stats().await.ready, platform.stats().await.quarantined), (0, 2));
    let told = reason(&platform, 1).await;
    assert!(told.contains(&format!("serves organisation {stranger}")), "{told}");
    worker.shut_down().await;
}

#[tokio::test]
async fn a_start_that_fails_while_somebody_keeps_nginx_from_testing_gives_its_gateway_back() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    // Whoever opens it waits for a writer.
    let pipe = platform.edge.site("shop.conf");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let first = organization();
    let unfinished = failed(platform.start(first).await);
    assert_eq!(unfinished.error.failure.code, "nginx_test_timed_out");
    assert_eq!(unfinished.report.owed().count(), 0, "{}", unfinished.report);
    assert_eq!(platform.stats().await.ready, 1);
    fs::remove_file(pipe).unwrap();
    platform.assert_nothing_left(first).await;
    started(platform.start(first).await);
    worker.shut_down().await;
}

#[tokio::test]
async fn a_gateway_whose_route_still_stands_stays_out_of_the_pool() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--hang-start", "0.5", "--fail-start"]).await.unwrap();
    let worker = platform.start_worker().await;
    let organization = organization();
    let (start, starting) = platform.begin(organization).await;
    platform.step_is(start, "handshake", "in_progress").await;
    // From here on nginx does not reload, and goes on with what it has.
    let blocker = platform.edge.site("shop.conf");
    fs::write(&blocker, "server { listen 80").unwrap();

    let unfinished = match starting.await.unwrap() {
        Requested::NeedsAttention(unfinished) => unfinished,
        other => panic!("{other:?}"),
    };
    assert_eq!(unfinished.error.failure.code, "gateway_failed", "the original error");
    let owed: Vec<_> = unfinished.report.owed().map(|step| step.step.as_str()).collect();
    assert_eq!(owed, ["allocate-gateway", "write-vhost"], "the name is gone already");

    let hostname = platform.hostname(organization);
    let nginx = platform.edge.sandbox.nginx().unwrap();
    assert_eq!(nginx.route(&hostname).await.unwrap(), Some(start.0.into()), "gone from the disk only");
    assert_eq!(platform.edge.sandbox.resolve(&hostname).await.unwrap(), [] as [std::net::Ipv4Addr; 0]);
    assert_eq!((platform.stats().await.ready, platform.stats().await.allocated), (0, 1));
    let next = crate::platform::organization();
    assert!(matches!(platform.start(next).await, Requested::NoGatewayAvailable(_)));
    // Whoever asks for this organisation hears that a person must look.
    for requested in [platform.start(organization).await, platform.stop(organization).await] {
        assert!(matches!(&requested, Requested::NeedsAttention(u) if u.workflow == start), "{requested:?}");
    }

    // Mended, and tried again now: everything is taken back.
    fs::remove_file(blocker).unwrap();
    let retried = until("nobody is at it", async || {
        let answered = platform.client.retry(start, "the test", "it is mended").await.unwrap();
        (answered != Answered::IsRunning).then_some(answered)
    });
    assert_eq!(retried.await, Answered::Accepted);
    until("it is compensated", async || {
        let view = platform.client.workflow(start).await.unwrap().unwrap();
        (view.status == Status::Compensated).then_some(())
    })
    .await;
    platform.assert_nothing_left(organization).await;
    assert_eq!(platform.stats().await.ready, 1);
    worker.shut_down().await;
}

/// Both ask while a third one is at it, so neither is answered by that one.
#[tokio::test]
async fn two_workers_reload_nginx_at_once() {
    let platform = Platform::of(2).await;
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = platform.worker_over(platform.config()).await.concurrency(1);
        workers.push(worker.start().await.unwrap());
    }
    let lock = platform.config().nginx.state.join("reloading.lock");
    let third = File::options().create(true).append(true).open(&lock).unwrap();
    third.lock().unwrap();
    let before = platform.edge.sandbox.nginx().unwrap().reloads_done().unwrap();

    let mut starting = tokio::task::JoinSet::new();
    for _ in 0..2 {
        let (client, organization) = (platform.client.clone(), organization());
        starting.spawn(async move { request::start(&client, organization, soon()).await.unwrap() });
    }
    until("both wait for the lock", async || {
        let files = fs::read_dir("/proc/self/fd").unwrap();
        let open =
            files.filter(|file| fs::read_link(file.as_ref().unwrap().path()).is_ok_and(|to| to == lock));
        (open.count() == 3).then_some(())
    })
    .await;
    drop(third);
    let gateways: std::collections::BTreeSet<_> =
        starting.join_all().await.into_iter().map(started).collect();
    assert_eq!(gateways.len(), 2);
    assert_eq!(
        platform.edge.sandbox.nginx().unwrap().reloads_done().unwrap(),
        before + 1,
        "one answers both"
    );
    for worker in workers {
        worker.shut_down().await;
    }
}
