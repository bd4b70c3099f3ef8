//! Does the client of PowerDNS keep its promises against a real PowerDNS?

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use backstitch::Plaintext;
use backstitch_gateway::identifiers::Hostname;
use backstitch_gateway::powerdns::{PowerDns, PowerDnsConfig, PowerDnsError, Record, Removal};
use backstitch_gateway::verdict::{Classified, Verdict};
use tokio::sync::oneshot;

use crate::sandboxes::{owner, sandbox, stand_in_that_goes_on};
use crate::ways::{Answer, way};

const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));

fn record(kind: &str, content: &str) -> Record {
    Record { kind: kind.to_owned(), content: content.to_owned() }
}

#[tokio::test]
async fn a_registered_name_resolves_and_a_removed_one_does_not() {
    let edge = sandbox(0).await;
    let (powerdns, hostname, owner) = (edge.sandbox.powerdns().unwrap(), edge.hostname(), owner());

    powerdns.register(&hostname, ADDRESS, owner).await.unwrap();
    assert_eq!(edge.sandbox.resolve(&hostname).await.unwrap(), [ADDRESS]);
    let mut records = powerdns.lookup(&hostname).await.unwrap();
    records.sort_by(|a, b| a.kind.cmp(&b.kind));
    let ownership = format!("\"heritage=backstitch,workflow={owner}\"");
    assert_eq!(records, [record("A", "127.0.0.77"), record("TXT", &ownership)]);

    assert_eq!(powerdns.remove(&hostname, owner).await.unwrap(), Removal::Removed);
    assert_eq!(edge.sandbox.resolve(&hostname).await.unwrap(), [] as [Ipv4Addr; 0]);
    assert_eq!(powerdns.lookup(&hostname).await.unwrap(), []);
}

#[tokio::test]
async fn registering_and_removing_twice_leaves_what_once_leaves() {
    let edge = sandbox(0).await;
    let (powerdns, hostname, owner) = (edge.sandbox.powerdns().unwrap(), edge.hostname(), owner());
    for _ in 0..2 {
        powerdns.register(&hostname, ADDRESS, owner).await.unwrap();
        assert_eq!(powerdns.lookup(&hostname).await.unwrap().len(), 2);
    }
    // The same owner may move it, to the other family too.
    powerdns.register(&hostname, "fd00::7".parse().unwrap(), owner).await.unwrap();
    assert!(powerdns.lookup(&hostname).await.unwrap().contains(&record("AAAA", "fd00::7")));
    assert_eq!(powerdns.lookup(&hostname).await.unwrap().len(), 2);

    assert_eq!(powerdns.remove(&hostname, owner).await.unwrap(), Removal::Removed);
    assert_eq!(powerdns.remove(&hostname, owner).await.unwrap(), Removal::Absent);
}

#[tokio::test]
async fn a_record_of_someone_else_is_left_alone() {
    let edge = sandbox(0).await;
    let powerdns = edge.sandbox.powerdns().unwrap();
    let another = owner();
    let texts = [
        ("A", "10.1.1.1".to_owned()),
        ("CNAME", "elsewhere.test.".to_owned()),
        ("TXT", "\"v=spf1 -all\"".to_owned()),
        ("TXT", format!("\"heritage=backstitch,workflow={another}\"")),
        ("MX", "10 mail.test.".to_owned()),
    ];
    for (kind, content) in texts {
        let (hostname, owner) = (edge.hostname(), owner());
        edge.somebody_writes(&hostname, kind, &content).await;

        let removal = powerdns.remove(&hostname, owner).await.unwrap();
        assert!(matches!(removal, Removal::NotOurs { .. }), "{kind} {content}: {removal:?}");
        let removal = powerdns.remove_and_confirm(&hostname, owner).await.unwrap();
        assert!(matches!(removal, Removal::NotOurs { .. }), "{kind} {content}: {removal:?}");
        assert_eq!(powerdns.lookup(&hostname).await.unwrap(), [record(kind, &content)]);
    }
}

#[tokio::test]
async fn registering_someone_elses_name_is_refused() {
    let edge = sandbox(0).await;
    let powerdns = edge.sandbox.powerdns().unwrap();
    let hostname = edge.hostname();
    edge.somebody_writes(&hostname, "A", "10.1.1.1").await;
    let error = powerdns.register(&hostname, ADDRESS, owner()).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::SomeoneElses { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert_eq!(powerdns.lookup(&hostname).await.unwrap(), [record("A", "10.1.1.1")]);

    let (first, hostname) = (owner(), edge.hostname());
    powerdns.register(&hostname, ADDRESS, first).await.unwrap();
    let error = powerdns.register(&hostname, ADDRESS, owner()).await.unwrap_err();
    assert!(error.to_string().contains(&first.to_string()), "it names the holder: {error}");
    assert_eq!(powerdns.remove(&hostname, first).await.unwrap(), Removal::Removed);

    // A record beside ours that someone else added would be lost to a change of ours.
    let (first, hostname) = (owner(), edge.hostname());
    powerdns.register(&hostname, ADDRESS, first).await.unwrap();
    edge.somebody_writes(&hostname, "MX", "10 mail.test.").await;
    assert!(matches!(powerdns.remove(&hostname, first).await.unwrap(), Removal::NotOurs { .. }));
}

#[tokio::test]
async fn a_refused_key_a_missing_zone_and_a_foreign_name_are_told_apart() {
    let edge = sandbox(0).await;
    let right = edge.sandbox.powerdns_config();

    let key = Plaintext::new("open-sesame");
    let wrong_key = PowerDns::new(PowerDnsConfig { api_key: key, ..right.clone() }).unwrap();
    let error = wrong_key.register(&edge.hostname(), ADDRESS, owner()).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::KeyRefused { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);
    assert!(!format!("{error} {error:?} {wrong_key:?}").contains("open-sesame"));

    let zone: backstitch_gateway::identifiers::Domain = "nowhere.test".parse().unwrap();
    let wrong_zone = PowerDns::new(PowerDnsConfig { zone: zone.clone(), ..right.clone() }).unwrap();
    let hostname = Hostname::new(edge.hostname().organization(), zone);
    let error = wrong_zone.register(&hostname, ADDRESS, owner()).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::ZoneMissing { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Rejected);

    let error =
        PowerDns::new(right.clone()).unwrap().register(&hostname, ADDRESS, owner()).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::OtherZone { .. }), "{error:?}");

    let url = "https://127.0.0.1:8081".parse().unwrap();
    let error = PowerDns::new(PowerDnsConfig { url, ..right }).unwrap_err();
    assert!(matches!(error, PowerDnsError::BadUrl { .. }), "{error:?}");
}

#[tokio::test]
async fn a_frozen_powerdns_is_a_timeout_and_a_dead_one_is_unreachable() {
    let mut edge = sandbox(0).await;
    let (powerdns, hostname, owner) = (edge.sandbox.powerdns().unwrap(), edge.hostname(), owner());

    edge.sandbox.powerdns_server().freeze().unwrap();
    let began = Instant::now();
    let error = powerdns.register(&hostname, ADDRESS, owner).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::NoAnswer { .. }), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(3), "bounded: {:?}", began.elapsed());
    assert_eq!(error.verdict(), Verdict::Retry);
    assert!(!error.may_have_happened(), "it was only reading");

    edge.sandbox.powerdns_server().thaw().unwrap();
    powerdns.register(&hostname, ADDRESS, owner).await.unwrap();

    edge.sandbox.powerdns_server().kill().unwrap();
    let error = powerdns.register(&hostname, ADDRESS, owner).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::Unreachable { .. }), "{error:?}");
    assert_eq!(error.verdict(), Verdict::Retry);
}

#[tokio::test]
async fn a_change_that_lands_late_is_found_and_removed() {
    let edge = sandbox(0).await;
    let config = edge.sandbox.powerdns_config();
    let to: SocketAddr = config.url.socket_addrs(|| None).unwrap()[0];
    // At once, its answer lost; and so late that it lands between the two looks of a removal.
    for hold_up in [Duration::ZERO, Duration::from_millis(2000)] {
        let held_up = way(to, move || async move {
            tokio::time::sleep(hold_up).await;
            Answer::Lost(oneshot::channel().0)
        });
        let url = format!("http://{}", held_up.await).parse().unwrap();
        let slow = PowerDns::new(PowerDnsConfig { url, ..config.clone() }).unwrap();
        let (powerdns, hostname, owner) = (edge.sandbox.powerdns().unwrap(), edge.hostname(), owner());

        let error = slow.register(&hostname, ADDRESS, owner).await.unwrap_err();
        assert_eq!(error.verdict(), Verdict::InDoubt, "{error:?}");
        assert!(error.may_have_happened(), "{error:?}");

        let removal = powerdns.remove_and_confirm(&hostname, owner).await.unwrap();
        assert_eq!(removal, Removal::Removed, "held up for {hold_up:?}");
        assert_eq!(powerdns.lookup(&hostname).await.unwrap(), []);
    }
}

#[tokio::test]
async fn many_registrations_at_once_wait_for_each_other() {
    let edge = sandbox(0).await;
    let powerdns = Arc::new(edge.sandbox.powerdns().unwrap());
    let hostnames: Vec<Hostname> = (0..16).map(|_| edge.hostname()).collect();
    let mut registrations = tokio::task::JoinSet::new();
    for hostname in hostnames.clone() {
        let powerdns = powerdns.clone();
        registrations.spawn(async move { powerdns.register(&hostname, ADDRESS, owner()).await });
    }
    for registration in registrations.join_all().await {
        registration.unwrap();
    }
    for hostname in &hostnames {
        assert_eq!(edge.sandbox.resolve(hostname).await.unwrap(), [ADDRESS]);
    }
}

#[tokio::test]
async fn whoever_waits_in_vain_for_the_zones_writer_has_sent_nothing_and_tries_again() {
    let mut edge = sandbox(0).await;
    let config =
        PowerDnsConfig { request_timeout: Duration::from_secs(30), ..edge.sandbox.powerdns_config() };
    let powerdns = Arc::new(PowerDns::new(config).unwrap());
    edge.sandbox.powerdns_server().freeze().unwrap();
    let writer = tokio::spawn({
        let (powerdns, hostname) = (powerdns.clone(), edge.hostname());
        async move { powerdns.register(&hostname, ADDRESS, owner()).await }
    });
    // One thread: when this task has its turn again, the other is the zone's writer and waits for an answer.
    tokio::task::yield_now().await;

    let hostname = edge.hostname();
    let registered = powerdns.register(&hostname, ADDRESS, owner());
    let error = tokio::time::timeout(Duration::from_secs(5), registered)
        .await
        .expect("an attempt of a step is over by then, and would be in doubt")
        .unwrap_err();
    assert_eq!((error.code(), error.verdict()), ("powerdns_busy", Verdict::Retry), "{error:?}");
    assert!(!error.may_have_happened());

    edge.sandbox.powerdns_server().thaw().unwrap();
    writer.await.unwrap().unwrap();
    powerdns.register(&hostname, ADDRESS, owner()).await.unwrap();
}

#[tokio::test]
async fn an_answer_without_measure_is_not_read_to_its_end() {
    let edge = sandbox(0).await;
    let lookup = async |spaces| {
        let url = format!("http://{}", stand_in_that_goes_on(r#"{"rrsets": []}"#, spaces).await);
        let config = PowerDnsConfig { url: url.parse().unwrap(), ..edge.sandbox.powerdns_config() };
        PowerDns::new(config).unwrap().lookup(&edge.hostname()).await
    };
    assert_eq!(lookup(1024).await.unwrap(), []);
    let error = lookup(1024 * 1024).await.unwrap_err();
    assert!(matches!(error, PowerDnsError::Unexpected { .. }), "{error:?}");
    assert!(error.to_string().contains("longer than 64 KiB"), "{error}");
}
