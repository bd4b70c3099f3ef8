//! Does the daemon check its edge, and does the platform get its answers, on real PowerDNS and nginx?

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use backstitch_gateway::agent::{GatewayState, StartRequest};
use backstitch_gateway::sandbox::{Sandbox, SandboxOptions};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::daemon::{Daemon, serve};
use crate::http::Caller;
use crate::toys::{self, Toy};
use crate::world::{Ran, World, bare, end};

const ORGANIZATION: &str = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";

/// Real servers, and the configuration that leads to them.
pub struct Edge {
    pub world: World,
    pub sandbox: Sandbox,
}

impl Edge {
    pub async fn start() -> Self {
        Self::over(World::new().await).await
    }

    /// Before this world.
    pub async fn over(world: World) -> Self {
        let options = SandboxOptions { gateways: 0, ..SandboxOptions::new(world.path("sandbox")) };
        let sandbox = Sandbox::start(options).await.unwrap();
        let edge = Self { world, sandbox };
        edge.configure("key", edge.sandbox.nginx_config().binary);
        edge.sandbox.write_api_key(&edge.world.path("key")).unwrap();
        edge
    }

    fn configure(&self, key: &str, nginx: PathBuf) {
        let (powerdns, conf) = (self.sandbox.powerdns_config(), self.sandbox.nginx_config());
        let configuration = json!({
            "listen": "127.0.0.1:0",
            "gateway": {
                "domain": powerdns.zone,
                "edge_address": "127.0.0.1",
                "powerdns": { "url": powerdns.url.to_string(), "api_key_file": self.world.path(key) },
                "nginx": {
                    "binary": nginx, "prefix": conf.prefix, "conf": conf.conf, "error_log": conf.error_log,
                    "pid_file": conf.pid_file, "sites": conf.sites, "listen": conf.listen, "probe": conf.probe,
                },
            },
        });
        std::fs::write(self.world.path("backstitch.toml"), toml::to_string(&configuration).unwrap()).unwrap();
    }

    /// What stands outside: the files of the vhosts' directory, and the zone.
    pub async fn outside(&self) -> (Vec<(std::ffi::OsString, String)>, Value) {
        let entries = std::fs::read_dir(self.sandbox.nginx_config().sites).unwrap().map(Result::unwrap);
        let mut files: Vec<_> = entries
            .map(|entry| (entry.file_name(), std::fs::read_to_string(entry.path()).unwrap()))
            .collect();
        files.sort();
        let key = std::fs::read_to_string(self.world.path("key")).unwrap();
        let url = self.sandbox.powerdns_config().url;
        let zone = format!("{url}api/v1/servers/localhost/zones/{}.", self.sandbox.domain);
        let zone = reqwest::Client::new().get(zone).header("X-API-Key", key).send().await.unwrap();
        (files, zone.json().await.unwrap())
    }

    pub fn serve(&self) -> Command {
        self.world.command(&["serve"])
    }

    /// The same whether the database is asked or this daemon.
    async fn same(&self, daemon: &Daemon, token: &str, code: i32, arguments: &[&str]) -> Ran {
        let database = self.world.run(arguments).await.expect(code);
        let mut command = bare(self.world.directory.path(), arguments);
        command.env("BACKSTITCH_SERVER", &daemon.url).env("BACKSTITCH_TOKEN", token);
        let http = end(command).await.expect(code);
        assert_eq!((&http.out, &http.err), (&database.out, &database.err), "{arguments:?}");
        http
    }
}

#[tokio::test]
async fn the_platform_gets_its_answers() {
    let edge = Edge::start().await;
    let daemon = Daemon::start(edge.serve()).await;
    for (body, said) in [
        ("", "empty"),
        ("{", "line 1"),
        ("{}", "missing field `organization_id`"),
        (r#"{"organization_id": "acme"}"#, "give a UUID such as"),
        (r#"{"organization_id": 7}"#, "expected a string"),
        (&format!(r#"{{"organization_id": "{ORGANIZATION}", "size": 1}}"#), "unknown field `size`"),
    ] {
        for path in ["/gateway/start", "/gateway/stop"] {
            let (status, answer) = daemon.post(path, body).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{body}");
            assert!(answer["details"].as_str().unwrap().contains(said), "{body}: {answer}");
        }
    }
    let large = format!(r#"{{"organization_id": "{}"}}"#, "x".repeat(300 * 1024));
    assert_eq!(daemon.post("/gateway/start", &large).await.0, 413);

    let body = json!({ "organization_id": ORGANIZATION }).to_string();
    let (status, answer) = daemon.post("/gateway/start", &body).await;
    assert_eq!((status, &answer["error"]), (503, &json!("no_gateway_available")), "{answer}");
    assert!(answer["workflow_id"].is_string() && answer["report"].is_object(), "{answer}");
    let (status, answer) = daemon.post("/gateway/stop", &body).await;
    let hostname = format!("org-{ORGANIZATION}.{}", edge.sandbox.domain);
    assert_eq!((status, answer), (200, json!({ "gateway_hostname": hostname })));

    let ran = edge.world.run(&["gateway", "start", ORGANIZATION]).await.expect(3);
    assert!(ran.out.contains("no gateway available"), "{ran:?}");
    let stopped = edge.world.run(&["gateway", "stop", ORGANIZATION]).await.expect(0).out;
    assert!(stopped.contains("there was nothing to stop"), "{stopped}");
    assert_eq!(daemon.stop().await.0, 0);
}

#[tokio::test]
async fn the_doctor_finds_a_good_edge_good_and_says_how_to_mend_a_bad_one() {
    let edge = Edge::start().await;
    let verdicts = async || -> Vec<(String, String)> {
        let findings = edge.world.run(&["doctor", "--json"]).await.json();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let edge =
            findings.as_array().unwrap().iter().skip_while(|finding| finding["what"] != "gateway settings");
        edge.map(|finding| (text(&finding["what"]), text(&finding["verdict"]))).collect()
    };
    let of = |words: [&str; 6]| {
        let whats = [
            "gateway settings",
            "powerdns",
            "nginx binary",
            "nginx configuration",
            "nginx sites",
            "nginx running",
        ];
        whats.iter().zip(words).map(|(what, word)| ((*what).to_owned(), word.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(verdicts().await, of(["ok"; 6]));
    std::fs::write(edge.world.path("key"), "another").unwrap();
    assert_eq!(verdicts().await, of(["ok", "wrong", "ok", "ok", "ok", "ok"]));
    let told = edge.world.run(&["doctor"]).await.expect(1).out;
    assert!(told.contains("refused the api key (401)") && told.contains("--powerdns-api-key-file"), "{told}");
    edge.configure("key", edge.world.path("nowhere"));
    assert_eq!(verdicts().await, of(["ok", "wrong", "wrong", "not_examined", "ok", "ok"]));
}

#[tokio::test]
async fn a_gateway_is_started_once_and_stopped() {
    let edge = Edge::start().await;
    let (upstream, _asked) = gateway(true).await;
    edge.world.run(&["gateway", "add", "berlin-1", &upstream]).await.expect(0);
    let daemon = Daemon::start(edge.serve()).await;
    // Whoever serves a kind knows what it takes.
    let producer = Caller::of_role(&edge.world, &daemon, "produce", "").await;
    let acme = json!({ "kind": "gateway.start", "input": { "organization": "acme" } });
    producer.post("/v1/workflows", &acme).await.refuses(422, "invalid_input");
    let body = json!({ "organization_id": ORGANIZATION }).to_string();
    let hostname = format!("org-{ORGANIZATION}.{}", edge.sandbox.domain);
    let answer = (200, json!({ "gateway_hostname": hostname }));
    assert_eq!(daemon.post("/gateway/start", &body).await, answer);
    assert_eq!(daemon.post("/gateway/start", &body).await, answer, "asked twice");
    let started = edge.world.run(&["list", "--kind", "gateway.start", "--json"]).await.expect(0).json();
    assert_eq!(started.as_array().unwrap().len(), 1);
    assert_eq!(started[0]["status"], "completed");
    let listed = edge.world.run(&["gateway", "list", "--json"]).await.expect(0).json();
    assert_eq!(
        (&listed[0]["state"], &listed[0]["organization"]),
        (&json!("allocated"), &json!(ORGANIZATION))
    );
    let asked = edge.world.run(&["gateway", "start", ORGANIZATION]).await.expect(0);
    assert_eq!(asked.out.trim(), hostname);

    let stopped = edge.world.run(&["gateway", "stop", ORGANIZATION, "--json"]).await.expect(0).json();
    assert_eq!(stopped, json!({ "answer": "stopped", "was_served": true }));
    assert_eq!(daemon.post("/gateway/stop", &body).await, answer);
    assert_eq!(edge.world.run(&["gateway", "stats", "--json"]).await.expect(0).json()["ready"], 1);
    assert_eq!(daemon.stop().await.0, 0);
}

#[tokio::test]
async fn whoever_verifies_is_told_what_differs_and_what_is_nobodys() {
    let mut edge = Edge::start().await;
    let (upstream, _asked) = gateway(true).await;
    edge.world.run(&["gateway", "add", "berlin-1", &upstream]).await.expect(0);
    let clean = edge.world.run(&["verify", "--orphans"]).await.expect(0).out;
    assert!(
        clean.starts_with("everything belongs to a workflow: looked at 0 DNS records, 0 vhosts"),
        "{clean}"
    );
    let daemon = Daemon::start(edge.serve()).await;
    let ops = edge.world.run(&["token", "create", "ops", "--role", "operate"]).await.expect(0).out;
    let same = async |code: i32, arguments: &[&str]| edge.same(&daemon, ops.trim(), code, arguments).await;
    edge.world.run(&["gateway", "start", ORGANIZATION]).await.expect(0);
    let listed = edge.world.run(&["list", "--json"]).await.expect(0).json();
    let id = listed[0]["workflow"].as_str().unwrap().to_owned();

    let agrees = same(0, &["verify", &id]).await.out;
    for step in ["allocate-gateway", "register-dns", "write-vhost", "reload-nginx", "handshake"] {
        let said = agrees.lines().any(|line| line.contains(step) && line.contains("completed: stands"));
        assert!(said, "{step}: {agrees}");
    }
    let explained = edge.world.run(&["explain", &id]).await.expect(0).out;
    assert!(explained.contains(&format!("backstitch verify {id}")), "{explained}");
    same(0, &["verify", "--orphans"]).await;

    // As if somebody had tidied up by hand, and the stop had met nothing.
    std::fs::remove_file(edge.sandbox.nginx_config().sites.join(format!("org-{ORGANIZATION}.conf"))).unwrap();
    let differs = same(4, &["verify", &id, "--json"]).await.json();
    assert_eq!((&differs["workflow"], &differs["status"]), (&json!(id), &json!("completed")));
    let vhost = json!({
        "position": 2, "step": "write-vhost", "status": "completed",
        "expected": "stands", "sighting": "gone", "says": null, "verdict": "differs",
    });
    assert_eq!(differs["steps"][2], vhost);
    let words: Vec<_> = differs["steps"].as_array().unwrap().iter().map(|step| &step["verdict"]).collect();
    assert_eq!(words, ["agrees", "agrees", "differs", "agrees", "agrees"]);

    let operator = Caller::with(&daemon, ops.trim());
    assert_eq!(operator.get(&format!("/v1/workflows/{id}/verify")).await.expect(200).body, differs);

    let release = "select gateway.proc_organizations_gateways_stop(1, $1::uuid)";
    sqlx::query(release).bind(&id).execute(&edge.world.database.pool().await).await.unwrap();
    let orphans = same(4, &["verify", "--orphans", "--json"]).await.json();
    assert_eq!(orphans["looked_at"]["dns_records"], 1);
    let found: Vec<_> =
        orphans["orphans"].as_array().unwrap().iter().map(|orphan| &orphan["thing"]).collect();
    assert_eq!(found, ["dns_record", "route"]);
    let told = same(4, &["verify", "--orphans"]).await.out;
    for said in
        ["2 things belong to no workflow", "→ unless another backstitch", "its gateway was given back"]
    {
        assert!(told.contains(said), "{said}: {told}");
    }

    // Over HTTP it is said in the same words, to operators of both kinds.
    for (role, kinds, status) in
        [("operate", "gateway.start,gateway.stop", 200), ("operate", "gateway.start", 403), ("read", "", 403)]
    {
        let caller = Caller::of_role(&edge.world, &daemon, role, kinds).await;
        let answer = caller.get("/v1/orphans").await.expect(status);
        assert!(status == 403 || answer.body == orphans, "{answer:#?}");
    }

    let key = std::fs::read_to_string(edge.world.path("key")).unwrap();
    std::fs::write(edge.world.path("key"), "another").unwrap();
    edge.world.run(&["verify", &id]).await.expect(4);
    edge.world.run(&["verify", "--orphans"]).await.complains(1, &["refused the api key", "half a look"]);
    std::fs::write(edge.world.path("key"), key).unwrap();
    // A look that somebody outside does not answer is none, whoever asks for it.
    edge.sandbox.powerdns_server().kill().unwrap();
    let unseen = edge.same(&daemon, ops.trim(), 1, &["verify", "--orphans"]).await;
    unseen.complains(1, &["powerdns", "half a look"]);
    assert_eq!(daemon.stop().await.0, 0);
}

#[tokio::test]
async fn what_nobody_can_look_for_is_said_to_be_so() {
    let world = World::new().await;
    let client = world.client().await;
    let worker = toys::worker(&world).await;
    let handle = client.enqueue(Toy { fails: false, sticks: false }).send().await.unwrap();
    client.wait(&handle).await.unwrap();
    worker.shut_down().await;
    let id = handle.workflow.to_string();
    let verified = world.run(&["verify", &id, "--json"]).await.expect(0).json();
    assert_eq!(verified["steps"][0]["verdict"], "not_probed");
    // A daemon without the code of any kind says who has it.
    let daemon = Daemon::start(serve(&world)).await;
    let operator = Caller::of_role(&world, &daemon, "operate", "").await;
    for path in [&format!("/v1/workflows/{id}/verify"), "/v1/orphans"] {
        let refused = operator.get(path).await.refuses(409, "not_served_here");
        assert!(refused.body["detail"].as_str().unwrap().contains("run `backstitch verify`"), "{refused:#?}");
    }
    daemon.stop().await;
    let nowhere = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
    world.run(&["verify", nowhere]).await.complains(5, &["there is no workflow", nowhere]);
    world.run(&["verify", "--orphans"]).await.complains(2, &["--domain", "PowerDNS"]);
}

#[tokio::test]
async fn a_second_signal_ends_at_once_and_recovery_takes_back_what_was_under_way() {
    let edge = Edge::start().await;
    let (upstream, mut asked) = gateway(false).await;
    edge.world.run(&["gateway", "add", "berlin-1", &upstream]).await.expect(0);
    let mut daemon = Daemon::start(edge.serve()).await;
    let started =
        edge.world.run(&["gateway", "start", ORGANIZATION, "--wait", "1", "--json"]).await.expect(6).json();
    assert_eq!(started["answer"], "still_under_way");
    asked.recv().await.unwrap();
    daemon.terminate();
    daemon.says("stopping").await;
    daemon.terminate();
    daemon.says("stopping at once").await;
    assert_eq!(daemon.ended().await, 1);

    let recovered = edge.world.run(&["recover", "--json"]).await.expect(0).json();
    let settled = &recovered["settled"][0];
    assert_eq!((&settled["workflow"], &settled["status"]), (&started["workflow"], &json!("compensated")));
    assert_eq!(settled["cause"]["cause"], "orphaned");
    assert_eq!(edge.world.run(&["gateway", "stats", "--json"]).await.expect(0).json()["ready"], 1);
    let shown = edge.world.run(&["show", settled["workflow"].as_str().unwrap()]).await.expect(0).out;
    assert!(shown.contains("in doubt"), "{shown}");
}

/// A gateway that does as it is told, or never ends a start; and word of each start. What real ones do is tested with
/// the workflows.
pub async fn gateway(starts: bool) -> (String, UnboundedReceiver<()>) {
    type Serving = Arc<Mutex<GatewayState>>;
    let nobody = GatewayState { organization_id: None, hostname: None, starts: 0, resets: 0, refusals: 0 };
    let (word, asked) = unbounded_channel();
    let start = async move |State(serving): State<Serving>, Json(asked): Json<StartRequest>| {
        word.send(()).unwrap();
        if !starts {
            std::future::pending::<()>().await;
        }
        let mut serving = serving.lock().unwrap();
        serving.organization_id = Some(asked.organization_id);
        serving.hostname = Some(asked.hostname);
        Json(serving.clone())
    };
    let reset = async |State(serving): State<Serving>| {
        let mut serving = serving.lock().unwrap();
        (serving.organization_id, serving.hostname) = (None, None);
        Json(serving.clone())
    };
    let state = async |State(serving): State<Serving>| Json(serving.lock().unwrap().clone());
    let router = Router::new()
        .route("/collab/ping", get(async || "pong"))
        .route("/collab/state", get(state))
        .route("/collab/start", post(start))
        .route("/collab/reset", post(reset))
        .with_state(Arc::new(Mutex::new(nobody)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (upstream, asked)
}

#[tokio::test]
async fn one_run_of_recovery_settles_what_is_due_and_reports_it() {
    let edge = Edge::start().await;
    let input = json!({ "organization": ORGANIZATION }).to_string();
    let asked = edge.world.run(&["enqueue", "gateway.start", &input]).await.expect(0);
    assert!(asked.err.contains("no living worker"), "{asked:?}");
    let recovered = edge.world.run(&["recover", "--json"]).await.expect(0).json();
    assert_eq!(recovered["settled"][0]["workflow"], asked.out.trim());
    assert_eq!(recovered["settled"][0]["status"], "compensated", "the pool is empty");
    assert_eq!((&recovered["left"]["due"], &recovered["left"]["running"]), (&json!(0), &json!(0)));
    let again = edge.world.run(&["recover"]).await.expect(0).out;
    assert!(again.contains("nothing was left to settle") && again.contains("left: nothing"), "{again}");
}

#[tokio::test]
async fn a_key_that_powerdns_refuses_stops_the_daemon_before_it_begins() {
    let edge = Edge::start().await;
    std::fs::write(edge.world.path("wrong"), "sesame").unwrap();
    edge.configure("wrong", edge.sandbox.nginx_config().binary);
    for command in ["serve", "recover"] {
        let ran = edge.world.run(&[command]).await.expect(1);
        assert!(
            ran.err.contains("PowerDNS: powerdns at http://127.0.0.1:")
                && ran.err.contains("refused the api key (401)"),
            "{ran:?}"
        );
        assert!(!ran.err.contains("sesame"), "{ran:?}");
    }
}

#[tokio::test]
async fn an_nginx_that_cannot_be_run_stops_the_daemon_before_it_begins() {
    let edge = Edge::start().await;
    edge.configure("key", edge.world.path("no-nginx"));
    let ran = edge.world.run(&["serve"]).await.expect(1);
    assert!(ran.err.contains("nginx cannot be run as") && ran.err.contains("no-nginx"), "{ran:?}");
    assert!(ran.err.contains("configure where it is"), "{ran:?}");
}

#[tokio::test]
async fn an_nginx_that_is_not_set_up_for_gateways_stops_the_daemon_before_it_begins() {
    let edge = Edge::start().await;
    let conf = edge.sandbox.nginx_config();
    let main = conf.prefix.join(&conf.conf);
    let whole = std::fs::read_to_string(&main).unwrap();
    // As distributions ship it.
    for setting in ["server_names_hash_bucket_size 512", "worker_shutdown_timeout 10s"] {
        std::fs::write(&main, whole.replace(&format!("{setting};"), "")).unwrap();
        for command in ["serve", "recover"] {
            let ran = edge.world.run(&[command]).await.expect(1);
            assert!(ran.err.contains("nginx: ") && ran.err.contains(&format!("set `{setting};`")), "{ran:?}");
        }
        let told = edge.world.run(&["doctor"]).await.expect(1).out;
        assert!(told.contains(&format!("set {setting} in its")), "{setting}: {told}");
    }
}
