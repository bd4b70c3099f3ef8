//! Does the API describe itself as it is, and can a person try it without the internet?

use reqwest::Method;
use serde_json::{Value, json};

use crate::daemon::{Daemon, serve};
use crate::http::{Caller, read};
use crate::world::World;

/// Every `$ref` below a value.
fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test]
async fn the_description_names_every_route_and_nothing_that_is_not_there() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let nobody = Caller::nobody(&daemon);
    let document = nobody.get("/openapi.json").await.expect(200).body;
    assert_eq!(document["servers"][0]["url"], "/v1");
    assert_eq!(document["security"], json!([{ "bearer": [] }]));
    let paths = document["paths"].as_object().unwrap();
    let mut routes = Vec::new();
    for (path, operations) in paths {
        for (method, operation) in operations.as_object().unwrap() {
            assert!(operation["summary"].is_string(), "{method} {path}");
            let method: Method = method.to_uppercase().parse().unwrap();
            routes.push(format!("{method} {path}"));
            // Whoever is nobody is told so: then the route is there.
            let path = path
                .replace("{id}", "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10")
                .replace("{position}", "0")
                .replace("{kind}", "toy");
            read(nobody.request(method, &format!("/v1{path}"))).await.refuses(401, "token_missing");
        }
    }
    routes.sort();
    let expected = [
        "GET /errors",
        "GET /kinds",
        "GET /orphans",
        "GET /stats",
        "GET /workers",
        "GET /workflows",
        "GET /workflows/{id}",
        "GET /workflows/{id}/events",
        "GET /workflows/{id}/journal",
        "GET /workflows/{id}/verify",
        "GET /workflows/{id}/wait",
        "POST /kinds/{kind}/pause",
        "POST /kinds/{kind}/resume",
        "POST /workflows",
        "POST /workflows/batch",
        "POST /workflows/{id}/abandon",
        "POST /workflows/{id}/cancel",
        "POST /workflows/{id}/pause",
        "POST /workflows/{id}/resume",
        "POST /workflows/{id}/retry",
        "POST /workflows/{id}/steps/{position}/resolve",
        "POST /workflows/{id}/steps/{position}/skip",
    ];
    assert_eq!(routes, expected);
    let mut found = Vec::new();
    references(&document, &mut found);
    assert!(!found.is_empty());
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    daemon.stop().await;
}

#[tokio::test]
async fn the_page_loads_nothing_from_elsewhere() {
    let world = World::new().await;
    let daemon = Daemon::start(serve(&world)).await;
    let nobody = Caller::nobody(&daemon);
    let page = nobody.get("/docs/").await.expect(200);
    assert!(page.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'self'"));
    let html = page.body.as_str().unwrap().to_owned();
    let loaded: Vec<_> =
        html.split(['"', '\'']).filter(|part| part.starts_with("./") || part.contains("://")).collect();
    assert!(loaded.len() >= 3 && loaded.iter().all(|part| part.starts_with("./")), "{loaded:?}");
    for part in loaded {
        nobody.get(&format!("/docs/{}", &part[2..])).await.expect(200);
    }
    daemon.stop().await;
}
