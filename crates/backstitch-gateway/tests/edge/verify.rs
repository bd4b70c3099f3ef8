//! Does whoever verifies a start or a stop see what is really there, step by step?

use std::fs;

use backstitch::{Verdict, Verified, WorkflowId};
use backstitch_gateway::identifiers::{GatewayId, OrganizationId, Owner};
use backstitch_gateway::request::Requested;
use backstitch_gateway::{Edge, pool, probes};
use uuid::Uuid;

use crate::platform::{Platform, failed, organization, started};

const STEPS_OF_A_START: [&str; 5] =
    ["allocate-gateway", "register-dns", "write-vhost", "reload-nginx", "handshake"];

async fn verify(platform: &Platform, workflow: WorkflowId) -> Verified {
    let edge = Edge::new(platform.config(), platform.client.database().clone()).unwrap();
    probes(platform.client.clone(), edge).verify(workflow).await.unwrap()
}

/// Each step, with what was seen of it and what comes of that.
fn seen(verified: &Verified) -> Vec<(&str, &str, Verdict)> {
    let steps = verified.steps.iter();
    steps.map(|step| (&*step.step, step.sighting.as_deref().unwrap_or("-"), step.verdict)).collect()
}

fn differing(verified: &Verified) -> Vec<(&str, &str)> {
    let differs = |step: &(&str, &str, Verdict)| step.2 == Verdict::Differs;
    seen(verified).into_iter().filter(differs).map(|(step, sighting, _)| (step, sighting)).collect()
}

async fn served(platform: &Platform) -> (OrganizationId, GatewayId, WorkflowId) {
    let organization = organization();
    match platform.start(organization).await {
        Requested::Started { allocation, .. } => {
            (organization, allocation.gateway, WorkflowId(allocation.owner.uuid()))
        }
        other => panic!("it should start: {other:?}"),
    }
}

async fn latest(platform: &Platform, kind: &str) -> WorkflowId {
    let sql =
        "select workflow_id from backstitch.workflows where kind = $1 order by workflow_id desc limit 1";
    WorkflowId(sqlx::query_scalar::<_, Uuid>(sql).bind(kind).fetch_one(&platform.db).await.unwrap())
}

#[tokio::test]
async fn a_start_and_its_stop_agree_with_their_journals() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let (organization, gateway, start) = served(&platform).await;
    let stands = STEPS_OF_A_START.map(|step| (step, "stands", Verdict::Agrees));
    assert_eq!(seen(&verify(&platform, start).await), stands);

    assert!(matches!(platform.stop(organization).await, Requested::Stopped));
    let stop = latest(&platform, "gateway.stop").await;
    let steps = ["begin-stop", "remove-vhost", "remove-dns", "reset-gateway", "end-allocation"];
    let verified = verify(&platform, stop).await;
    assert_eq!(seen(&verified), steps.map(|step| (step, "stands", Verdict::Agrees)), "{verified:?}");
    // What was stopped since is not missing.
    let verified = verify(&platform, start).await;
    assert_eq!(seen(&verified), STEPS_OF_A_START.map(|step| (step, "unknown", Verdict::Undecided)));
    let said = format!("workflow {stop} has stopped the gateway since");
    assert!(verified.steps.iter().all(|step| step.says.as_ref() == Some(&said)), "{verified:?}");

    // Nor is what was started again a stop that did not take.
    assert_eq!(started(platform.start(organization).await), gateway);
    assert_eq!(differing(&verify(&platform, stop).await), [] as [(&str, &str); 0]);
    assert_eq!(differing(&verify(&platform, start).await), [] as [(&str, &str); 0]);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_was_taken_back_is_seen_gone() {
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--fail-start"]).await.unwrap();
    let worker = platform.start_worker().await;
    failed(platform.start(organization()).await);
    let verified = verify(&platform, latest(&platform, "gateway.start").await).await;
    for (step, sighting, verdict) in seen(&verified) {
        let expected = if step == "reload-nginx" { Verdict::Undecided } else { Verdict::Agrees };
        assert_eq!((sighting, verdict), ("gone", expected), "{step}: {verified:?}");
    }
    assert_eq!(verified.steps.len(), STEPS_OF_A_START.len());
    worker.shut_down().await;
}

#[tokio::test]
async fn what_somebody_changed_by_hand_differs() {
    let mut platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let (organization, gateway, start) = served(&platform).await;
    let hostname = platform.hostname(organization);

    platform.edge.somebody_writes(&hostname, "A", "192.0.2.9").await;
    assert_eq!(differing(&verify(&platform, start).await), [("register-dns", "partly")]);
    platform.edge.somebody_writes(&hostname, "TXT", "\"somebody's\"").await;
    assert_eq!(differing(&verify(&platform, start).await), [("register-dns", "gone")]);

    let file = platform.edge.site(&format!("org-{organization}.conf"));
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replace("proxy_read_timeout", "proxy_send_timeout")).unwrap();
    let differs = [("register-dns", "gone"), ("write-vhost", "partly")];
    assert_eq!(differing(&verify(&platform, start).await), differs);
    fs::remove_file(&file).unwrap();
    let differs = [("register-dns", "gone"), ("write-vhost", "gone")];
    assert_eq!(differing(&verify(&platform, start).await), differs, "nginx has not read it yet");
    platform.edge.sandbox.nginx().unwrap().reload().await.unwrap();
    let differs = [("register-dns", "gone"), ("write-vhost", "gone"), ("reload-nginx", "gone")];
    assert_eq!(differing(&verify(&platform, start).await), differs);

    platform.edge.sandbox.gateways[0].restart(&[]).await.unwrap();
    let mut connection = platform.db.acquire().await.unwrap();
    pool::release(&mut connection, gateway, Owner::from(start.0)).await.unwrap();
    let all = STEPS_OF_A_START.map(|step| (step, "gone"));
    assert_eq!(differing(&verify(&platform, start).await), all);
    worker.shut_down().await;
}

#[tokio::test]
async fn what_cannot_be_asked_is_not_seen_rather_than_gone() {
    let mut platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let (_, _, start) = served(&platform).await;
    worker.shut_down().await;
    platform.edge.sandbox.powerdns_server().kill().unwrap();
    platform.edge.sandbox.nginx_server().kill().unwrap();
    platform.edge.sandbox.gateways[0].kill().unwrap();
    let url = platform.edge.sandbox.powerdns_config().url;
    let verified = verify(&platform, start).await;
    let expected = [
        ("allocate-gateway", "stands", Verdict::Agrees),
        ("register-dns", "-", Verdict::NotSeen),
        ("write-vhost", "stands", Verdict::Agrees),
        ("reload-nginx", "-", Verdict::NotSeen),
        ("handshake", "-", Verdict::NotSeen),
    ];
    assert_eq!(seen(&verified), expected, "{verified:?}");
    assert!(
        verified.steps[1]
            .says
            .as_ref()
            .unwrap()
            .contains(&format!("powerdns at {} cannot be reached", url.origin().ascii_serialization())),
        "{verified:?}"
    );
}
