//! Can a hostile name get past the types into a path, a header, a directive, a zone or a statement?

use backstitch::Ending;
use backstitch_gateway::identifiers::{Domain, GatewayId, Hostname, OrganizationId, Owner};
use backstitch_gateway::networks::{AllowedNetworks, Upstream};
use backstitch_gateway::steps::allocation::{AllocateGateway, BeginStop, EndAllocation};
use backstitch_gateway::steps::dns::{RegisterDns, RemoveDns};
use backstitch_gateway::steps::handshake::{Handshake, ResetGateway};
use backstitch_gateway::steps::vhost::{ReloadNginx, RemoveVhost, WriteVhost};
use backstitch_gateway::{StartGateway, StopGateway};
use backstitch_testkit::hostile::texts;
use serde_json::json;

use crate::platform::Platform;

const ORGANIZATION: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";

#[test]
fn no_identifier_is_made_of_a_hostile_text() {
    for hostile in &texts() {
        assert!(hostile.parse::<OrganizationId>().is_err(), "as an organisation: {hostile:?}");
        assert!(hostile.parse::<Owner>().is_err(), "as a workflow: {hostile:?}");
        assert!(hostile.parse::<Domain>().is_err(), "as a domain: {hostile:?}");
        assert!(hostile.parse::<Hostname>().is_err(), "as a hostname: {hostile:?}");
        assert!(hostile.parse::<Upstream>().is_err(), "as an upstream: {hostile:?}");
        // A gateway is a number, and some of the texts are no more than that.
        let is_number = hostile.bytes().all(|byte| byte.is_ascii_digit()) && hostile.parse::<i64>().is_ok();
        assert_eq!(hostile.parse::<GatewayId>().is_ok(), is_number, "as a gateway: {hostile:?}");
        let hostname = format!("org-{ORGANIZATION}.{hostile}");
        assert!(hostname.parse::<Hostname>().is_err(), "as the domain of a hostname: {hostile:?}");
        let hostname = format!("org-{hostile}.example.com");
        assert!(hostname.parse::<Hostname>().is_err(), "as the organisation of a hostname: {hostile:?}");
        let upstream = format!("{hostile}:8080");
        let loopback = ["127.0.0.1", "[::1]"].contains(&hostile.as_str());
        assert_eq!(
            AllowedNetworks::default().upstream(&upstream).is_ok(),
            loopback,
            "as a host: {hostile:?}"
        );
    }
}

#[test]
fn hostile_identifiers_are_refused_when_they_arrive_as_json() {
    for hostile in &texts() {
        let json = serde_json::to_string(hostile).unwrap();
        assert!(serde_json::from_str::<OrganizationId>(&json).is_err(), "{hostile:?}");
        assert!(serde_json::from_str::<Owner>(&json).is_err(), "{hostile:?}");
        assert!(serde_json::from_str::<Domain>(&json).is_err(), "{hostile:?}");
        assert!(serde_json::from_str::<Hostname>(&json).is_err(), "{hostile:?}");
        assert!(serde_json::from_str::<Upstream>(&json).is_err(), "{hostile:?}");
        assert!(serde_json::from_str::<GatewayId>(&json).is_err(), "{hostile:?}");
    }
    for json in ["null", "7", "-1", "[]", "{}", "true", "1e3"] {
        assert!(serde_json::from_str::<OrganizationId>(json).is_err(), "{json}");
        assert!(serde_json::from_str::<Hostname>(json).is_err(), "{json}");
        assert!(serde_json::from_str::<Upstream>(json).is_err(), "{json}");
    }
}

/// Past the types: through SQL, as the input of a workflow, and as the journaled input of each step.
#[tokio::test]
async fn hostile_identifiers_are_refused() {
    let platform = Platform::of(1).await;
    let worker = platform.start_worker().await;
    let mut asked = 0;
    for hostile in &texts() {
        let request = "select answer from gateway.request_start($1::text::uuid)";
        let started = sqlx::query(request).bind(hostile).execute(&platform.db).await;
        // Postgres reads other spellings of a UUID, too; what goes on from there is its one canonical form.
        asked += i32::from(started.is_ok());
        let stopped = "select answer from gateway.request_stop($1::text::uuid)";
        let stopped = sqlx::query(stopped).bind(hostile).execute(&platform.db).await;
        assert_eq!(started.is_ok(), stopped.is_ok(), "{hostile:?}");

        let text = serde_json::Value::from(hostile.as_str());
        let name = serde_json::Value::from(format!("org-{ORGANIZATION}.{hostile}"));
        let good_name = format!("org-{ORGANIZATION}.example.com");
        let (one, upstream) = (json!(1), json!("10.0.0.7:8080"));
        refused::<StartGateway>(json!({ "organization": text }));
        refused::<StopGateway>(json!({ "organization": text }));
        refused::<AllocateGateway>(json!({ "organization": text }));
        refused::<BeginStop>(json!({ "organization": text }));
        refused::<EndAllocation>(json!({ "gateway": text }));
        refused::<RegisterDns>(json!({ "hostname": name }));
        refused::<RemoveDns>(json!({ "hostname": name, "owner": ORGANIZATION }));
        refused::<RemoveDns>(json!({ "hostname": good_name, "owner": text }));
        refused::<WriteVhost>(json!({ "hostname": name, "upstream": upstream }));
        refused::<WriteVhost>(json!({ "hostname": good_name, "upstream": text }));
        refused::<ReloadNginx>(json!({ "hostname": name }));
        refused::<RemoveVhost>(json!({ "hostname": good_name, "owner": text }));
        refused::<Handshake>(json!({ "gateway": one, "upstream": text, "hostname": good_name }));
        refused::<Handshake>(json!({ "gateway": one, "upstream": upstream, "hostname": name }));
        refused::<ResetGateway>(
            json!({ "gateway": text, "upstream": upstream, "organization": ORGANIZATION }),
        );
    }
    assert_eq!(asked, 2, "only the two other spellings of a UUID");
    let inputs = "select distinct input ->> 'organization' from backstitch.workflows";
    let inputs: Vec<String> = sqlx::query_scalar(inputs).fetch_all(&platform.db).await.unwrap();
    assert_eq!(inputs, [ORGANIZATION]);

    // Asked for past the function, too: nothing begins, and a person is told.
    for hostile in
        ["../../etc/nginx/nginx", "example.com; } server { listen 80; ", "x'; drop table gateway.gateway; --"]
    {
        let input = json!({ "organization": hostile });
        let handle = platform.client.enqueue_untyped("gateway.start", &input).send().await.unwrap();
        let unfinished = match platform.client.wait(&handle).await.unwrap() {
            Ending::NeedsAttention(unfinished) => unfinished,
            other => panic!("{other:?}"),
        };
        assert!(
            unfinished.error.failure.message.contains("is not an organisation id"),
            "{}",
            unfinished.error
        );
        assert_eq!(platform.client.steps(handle.workflow).await.unwrap().len(), 0);
    }
    worker.shut_down().await;
}

fn refused<T: serde::de::DeserializeOwned>(input: serde_json::Value) {
    let name = std::any::type_name::<T>();
    assert!(serde_json::from_value::<T>(input.clone()).is_err(), "{name} reads {input}");
}

#[test]
fn upstreams_outside_the_allowed_networks_are_refused() {
    let allowed = AllowedNetworks::default();
    for outside in [
        "8.8.8.8:80",
        "169.254.169.254:80",
        "[::ffff:8.8.8.8]:80",
        "[::ffff:169.254.169.254]:80",
        "[2001:db8::1]:80",
        "[fe80::1]:80",
        "[fd00::1%1]:80",
        "0.0.0.0:80",
        "[::]:80",
        "255.255.255.255:80",
        "224.0.0.1:80",
        "[ff02::1]:80",
        "10.0.0.1:0",
        "10.0.0.1",
        "10.0.0.1:65536",
        "10.0.0.1:80 max_fails=0",
        "10.0.0.1:80;",
        "010.0.0.1:80",
        "localhost:80",
        "unix:/run/docker.sock",
    ] {
        assert!(allowed.upstream(outside).is_err(), "{outside}");
    }
    for inside in
        ["10.1.2.3:80", "172.31.0.1:8080", "192.168.0.1:1", "127.0.0.1:65535", "[::1]:80", "[fd00::1]:80"]
    {
        assert_eq!(allowed.upstream(inside).unwrap().to_string(), inside);
    }
    assert_eq!(allowed.upstream("[::ffff:10.0.0.1]:80").unwrap().to_string(), "10.0.0.1:80");
    assert!(AllowedNetworks::parse(["10.0.0.0/33"]).is_err());
    assert!(AllowedNetworks::parse(["10.9.0.0/16"]).unwrap().upstream("10.8.0.1:80").is_err());
}

#[test]
fn what_is_accepted_is_printed_in_one_canonical_form() {
    let organization: OrganizationId = ORGANIZATION.to_uppercase().parse().unwrap();
    assert_eq!(organization.to_string(), ORGANIZATION);
    let domain: Domain = "Collab.EXAMPLE.com.".parse().unwrap();
    assert_eq!(domain.to_string(), "collab.example.com");
    let hostname = Hostname::new(organization, domain);
    assert_eq!(hostname.to_string(), format!("org-{ORGANIZATION}.collab.example.com"));
    assert_eq!(hostname.to_string().parse::<Hostname>().unwrap(), hostname);
    let json = serde_json::to_string(&hostname).unwrap();
    assert_eq!(serde_json::from_str::<Hostname>(&json).unwrap(), hostname);
    assert_eq!("7".parse::<GatewayId>().unwrap().number(), 7);
}

#[test]
fn every_hostname_of_a_domain_fits_into_dns() {
    let labels = [&*"a".repeat(63), &*"b".repeat(63), &*"c".repeat(63), &*"d".repeat(20)];
    let longest = labels.join(".");
    assert_eq!(longest.len(), 212);
    let domain: Domain = longest.parse().unwrap();
    assert_eq!(Hostname::new(ORGANIZATION.parse().unwrap(), domain).to_string().len(), 253);
    assert!(format!("{longest}d").parse::<Domain>().is_err());
    assert!(format!("{}.com", "a".repeat(64)).parse::<Domain>().is_err());
}

#[test]
fn a_refusal_says_what_was_wrong_and_cannot_forge_a_log_line() {
    let error = "x\nERROR all is lost".parse::<OrganizationId>().unwrap_err().to_string();
    assert!(!error.contains('\n'), "{error}");
    assert!(error.contains("is not an organisation id"), "{error}");
    assert!(error.contains("give a UUID such as"), "{error}");
    assert!("x".repeat(10_000).parse::<Domain>().unwrap_err().to_string().len() < 300);
}
