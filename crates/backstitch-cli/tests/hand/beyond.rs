//! What does the daemon want before it listens where others can reach it?

use rcgen::{CertifiedKey, generate_simple_self_signed};

use crate::daemon::Daemon;
use crate::world::World;

/// For nobody's name, in `tls.pem` and `tls.key`.
pub fn certificate(world: &World) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["backstitch.test".to_owned()]).unwrap();
    std::fs::write(world.path("tls.pem"), cert.pem()).unwrap();
    std::fs::write(world.path("tls.key"), signing_key.serialize_pem()).unwrap();
}

#[tokio::test]
async fn it_wants_tls_and_somebody_with_a_token() {
    let world = World::new().await;
    certificate(&world);
    std::fs::write(world.path("none.pem"), "").unwrap();
    let beyond = ["serve", "--without-gateway", "--listen", "0.0.0.0:0"];
    let tls = ["--tls-certificate", "tls.pem", "--tls-key", "tls.key"];
    let run = async |more: &[&str]| world.run(&[&beyond[..], more].concat()).await;
    run(&[]).await.complains(2, &["only TLS is spoken", "127.0.0.1"]);
    run(&tls[..2]).await.complains(2, &["--tls-key", "give both"]);
    run(&["--tls-certificate", "none.pem", "--tls-key", "tls.key"]).await.complains(1, &["none.pem"]);
    run(&["--tls-certificate", "tls.pem", "--tls-key", "none.pem"]).await.complains(1, &["none.pem"]);
    run(&["--tls-certificate", "tls.pem", "--tls-key", "gone.key"]).await.complains(1, &["gone.key"]);
    run(&[&tls[..], &["--without-tokens"]].concat()).await.complains(2, &["without a token"]);
    run(&tls).await.complains(5, &["only tokens are answered", "backstitch token create"]);
    let made = world.run(&["token", "create", "ops", "--role", "operate", "--json"]).await.expect(0).json();
    world.run(&["token", "revoke", made["token"].as_str().unwrap()]).await.expect(0);
    run(&tls).await.complains(5, &["only tokens are answered"]);
    world.run(&["token", "create", "ops", "--role", "operate"]).await.expect(0);
    let daemon = Daemon::start(world.command(&[&beyond[..], &tls].concat())).await;
    daemon.stop().await;
}
