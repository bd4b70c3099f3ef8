//! Does the doctor see what is wrong, say how it is mended, and end accordingly?

use sqlx::Executor;
use tokio::net::TcpListener;

use crate::beyond::certificate;
use crate::daemon::Daemon;
use crate::plain::plain;
use crate::world::{Ran, World, bare, end};

const DOCTOR: [&str; 4] = ["doctor", "--without-gateway", "--listen", "127.0.0.1:0"];

async fn doctor(world: &World) -> Ran {
    world.run(&DOCTOR).await
}

#[track_caller]
fn says(ran: &Ran, parts: &[&str]) {
    let told = plain(&ran.out);
    for part in parts {
        assert!(told.contains(part), "{part:?} is not said:\n{told}");
    }
}

/// What is wrong on the server of the tests, which promises nothing: it forgets all when the power goes.
const CARELESS: &str = "fsync";

#[tokio::test]
async fn a_good_place_is_found_good() {
    let world = World::new().await;
    says(
        &doctor(&world).await.expect(1),
        &[
            "ok database answers, to the role",
            "wrong fsync off: a power cut loses what was promised",
            "→ set fsync = on in postgresql.conf and reload",
            "ok synchronous commit on",
            "ok sessions a primary, read committed",
            "ok migrations up to date",
            "ok rights",
            "warning tokens there is none, so nobody is answered under /v1",
            "ok daemon settings plain HTTP, on loopback, to whoever shows a token",
            "ok port 127.0.0.1:0 is free",
        ],
    );
    assert!(!world.path("state").exists(), "whoever only looks makes nothing");
    let findings = world.run(&[&DOCTOR[..], &["--json"]].concat()).await.expect(1).json();
    let findings = findings.as_array().unwrap();
    let wrong: Vec<_> = findings.iter().filter(|finding| finding["verdict"] == "wrong").collect();
    assert_eq!((wrong.len(), &wrong[0]["what"]), (1, &CARELESS.into()));
    let mut fields: Vec<_> = findings[0].as_object().unwrap().keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["mend", "says", "verdict", "what"]);
}

#[tokio::test]
async fn what_is_wrong_with_the_database_is_said_with_its_mend() {
    let world = World::empty().await;
    says(
        &doctor(&world).await.expect(1),
        &["wrong migrations", "→ run `backstitch migrate`", "- rights the migrations come first"],
    );
    world.run(&["migrate"]).await.expect(0);
    let pool = world.database.pool().await;
    let careless = "do $$ begin execute format('alter database %I set synchronous_commit = off', current_database()); \
        execute format('alter database %I set default_transaction_isolation = serializable', current_database()); end $$";
    pool.execute(careless).await.unwrap();
    says(
        &doctor(&world).await.expect(1),
        &[
            "wrong synchronous commit off: an effect could be made whose intent is lost",
            "set synchronous_commit = on",
            "wrong sessions default_transaction_isolation is serializable",
        ],
    );
}

#[tokio::test]
async fn a_database_that_is_not_there_leaves_the_rest_to_be_examined() {
    let directory = tempfile::tempdir().unwrap();
    let url = "postgres://me:sesame@127.0.0.1:1/platform";
    let ran = end(bare(directory.path(), &[&DOCTOR[..], &["--database-url", url]].concat())).await.expect(1);
    says(
        &ran,
        &[
            "wrong database the database platform at 127.0.0.1:1 can't be reached",
            "→ check that Postgres runs there",
            "- synchronous commit there is no database to ask",
            "ok state directory",
        ],
    );
    assert!(!ran.out.contains("sesame"), "{ran:?}");

    let unsaid = end(bare(directory.path(), &DOCTOR)).await.expect(0);
    says(&unsaid, &["warning database none is named", "→ `serve` starts it"]);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing is made");
}

#[tokio::test]
async fn a_port_that_is_taken_and_a_place_that_is_none_are_said() {
    let world = World::new().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    std::fs::write(world.path("file"), "").unwrap();
    let state = world.path("file").join("state").display().to_string();
    let arguments = ["doctor", "--without-gateway", "--listen", &address, "--state-directory", &state];
    let serving = tokio::spawn(async move {
        // Accepts and says nothing of health.
        while let Ok((connection, _)) = taken.accept().await {
            drop(connection);
        }
    });
    says(
        &world.run(&arguments).await.expect(1),
        &[&format!("wrong port {address} can't be listened on"), "→ stop whoever listens there"],
    );
    serving.abort();
}

#[tokio::test]
async fn what_the_gateway_lacks_is_named_and_what_stands_on_it_is_not_examined() {
    let world = World::new().await;
    let ran = world.run(&["doctor", "--listen", "127.0.0.1:0"]).await.expect(1);
    says(
        &ran,
        &[
            "wrong gateway settings gateways can't be reached, as it is not known: the domain",
            "use --without-gateway",
            "- powerdns the settings come first",
        ],
    );
}

#[tokio::test]
async fn what_serve_refuses_is_wrong_and_a_daemon_is_known_over_tls_too() {
    let world = World::new().await;
    certificate(&world);
    let beyond = ["--listen", "0.0.0.0:0", "--tls-certificate", "tls.pem", "--tls-key", "tls.key"];
    let doctor =
        async |more: &[&str]| world.run(&[&["doctor", "--without-gateway"], more].concat()).await.expect(1);
    says(
        &doctor(&beyond).await,
        &[
            "wrong tokens beyond loopback only tokens are answered, and there is none",
            "ok port 0.0.0.0:0 is free",
        ],
    );
    world.run(&["token", "create", "ops", "--role", "operate"]).await.expect(0);
    says(
        &doctor(&beyond).await,
        &["ok tokens there are some", "ok daemon settings TLS, to whoever shows a token"],
    );
    for (wrong, said) in [
        (&beyond[..2], "0.0.0.0:0 is not on loopback, and there only TLS is spoken"),
        (&beyond[..4], "--tls-certificate and --tls-key: give both, or none"),
        (
            &["--listen", "127.0.0.1:0", "--tls-certificate", "tls.pem", "--tls-key", "tls.pem"],
            "the key tls.pem",
        ),
        (&["--listen", "7410"], "\"7410\" is no address to listen on"),
        (
            &["--listen", "127.0.0.1:0", "--alert-webhook", "https://hooks.example.com/sesame"],
            "only plain http is spoken",
        ),
        (&["--listen", "127.0.0.1:0", "--keep-finished", "1m"], "give 1h or more"),
    ] {
        let ran = doctor(wrong).await;
        says(&ran, &["wrong daemon settings", said, "- port the settings come first"]);
        assert!(!ran.out.contains("sesame"), "{ran:?}");
    }
    std::fs::write(world.path("backstitch.toml"), "allowed_origins = [\"*\"]\n").unwrap();
    says(&doctor(&DOCTOR[2..]).await, &["wrong daemon settings allowed_origins", "is no origin"]);
    std::fs::remove_file(world.path("backstitch.toml")).unwrap();

    let daemon = Daemon::start(world.command(&[&["serve", "--without-gateway"], &beyond[..]].concat())).await;
    let there = [&["--listen", daemon.url.trim_start_matches("http://")], &beyond[2..]].concat();
    says(&doctor(&there).await, &["ok port", "a daemon answers on 0.0.0.0:", "already"]);
    says(&doctor(&[&there[..1], &["127.0.0.1:0"]].concat()).await, &["ok port 127.0.0.1:0 is free"]);
    daemon.stop().await;
}
