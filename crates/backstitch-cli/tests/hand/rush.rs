//! Does everybody get what there is and no more, when many ask at once over HTTP, on real PowerDNS and nginx?

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::daemon::Daemon;
use crate::edge::{Edge, gateway};
use crate::http::{Answer, Caller};

const GATEWAYS: usize = 50;
const CALLERS: usize = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_hundred_who_ask_for_fifty_gateways_at_once_fifty_get_one_each() {
    let edge = Edge::start().await;
    // Each tells of its starts for as long as somebody listens.
    let mut gateways = Vec::new();
    for number in 0..GATEWAYS {
        let (upstream, asked) = gateway(true).await;
        gateways.push(asked);
        edge.world.run(&["gateway", "add", &format!("berlin-{number}"), &upstream]).await.expect(0);
    }
    let mut serve = edge.serve();
    // The story of 200 workflows is longer than a pipe that nobody reads meanwhile.
    serve.env("BACKSTITCH_LOG", "error,backstitch::serve=info");
    let daemon = Daemon::start(serve).await;
    let platform = Caller::nobody(&daemon);
    let asking: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (platform, organization) = (platform.clone(), Uuid::new_v4().to_string());
            tokio::spawn(async move {
                let body = json!({ "organization_id": organization });
                let answer = platform.post("/gateway/start", &body).await;
                (organization, answer)
            })
        })
        .collect();
    let mut answers: Vec<(String, Answer)> = Vec::new();
    for asked in asking {
        answers.push(asked.await.unwrap());
    }

    let (served, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(_, answer)| answer.status == 200);
    assert_eq!((served.len(), refused.len()), (GATEWAYS, CALLERS - GATEWAYS), "{refused:#?}");
    for (organization, answer) in &served {
        let hostname = format!("org-{organization}.{}", edge.sandbox.domain);
        assert_eq!(answer.body, json!({ "gateway_hostname": hostname }));
    }
    for (organization, answer) in &refused {
        assert_eq!(
            (answer.status, &answer.body["error"]),
            (503, &json!("no_gateway_available")),
            "{answer:#?}"
        );
        assert!(
            answer.headers["retry-after"].to_str().unwrap().parse::<u32>().unwrap() > 0,
            "{organization}"
        );
        assert!(answer.body["report"].is_object(), "{answer:#?}");
    }
    let listed = edge.world.run(&["gateway", "list", "--json"]).await.expect(0).json();
    let listed = listed.as_array().unwrap();
    let distinct = |member: &str| {
        let of = listed.iter().map(|gateway| gateway[member].as_str().unwrap_or_default().to_owned());
        of.collect::<BTreeSet<_>>()
    };
    assert!(listed.iter().all(|gateway| gateway["state"] == "allocated"), "{listed:#?}");
    let served: BTreeSet<_> = served.iter().map(|(organization, _)| organization.clone()).collect();
    assert_eq!(distinct("organization"), served, "each serves one who was told so");
    assert_eq!(distinct("upstream").len(), GATEWAYS);
    let starts: Vec<_> =
        gateways.iter_mut().map(|asked| std::iter::from_fn(|| asked.try_recv().ok()).count()).collect();
    assert_eq!(starts, [1; GATEWAYS], "each was started once");

    // What was refused left nothing behind, and what was granted is really served.
    let sites = std::fs::read_dir(edge.sandbox.nginx_config().sites).unwrap().count();
    assert!(sites >= GATEWAYS, "{sites}");
    for organization in &served {
        let hostname = format!("org-{organization}.{}", edge.sandbox.domain).parse().unwrap();
        let fetched = edge.sandbox.fetch(&hostname, "/collab/ping").await.unwrap();
        assert_eq!((fetched.status, fetched.body.as_str()), (200, "pong"), "{organization}");
        assert_eq!(edge.sandbox.resolve(&hostname).await.unwrap().len(), 1);
    }
    for (organization, _) in &refused {
        let hostname = format!("org-{organization}.{}", edge.sandbox.domain).parse().unwrap();
        assert!(edge.sandbox.resolve(&hostname).await.unwrap().is_empty(), "{organization}");
    }
    let live =
        edge.world.run(&["list", "--kind", "gateway.start", "--limit", "200", "--json"]).await.expect(0);
    let count = |status: &str| {
        live.json().as_array().unwrap().iter().filter(|one: &&Value| one["status"] == status).count()
    };
    assert_eq!((count("completed"), count("compensated")), (GATEWAYS, CALLERS - GATEWAYS));
    assert_eq!(daemon.stop().await.0, 0);
}
