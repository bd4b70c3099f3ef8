//! Does an edge that steps can't work with say so before the first of them tries?

use backstitch::Plaintext;
use backstitch_gateway::nginx::{NginxConfig, NginxError};
use backstitch_gateway::powerdns::{PowerDnsConfig, PowerDnsError};
use backstitch_gateway::{EdgeConfig, EdgeError};

use crate::platform::Platform;

async fn check(config: EdgeConfig) -> Result<(), EdgeError> {
    backstitch_gateway::check(&config).await.first()
}

#[tokio::test]
async fn an_edge_that_cannot_be_worked_with_says_what_is_wrong() {
    let mut platform = Platform::of(0).await;
    let config = platform.config();
    check(config.clone()).await.unwrap();

    let powerdns = PowerDnsConfig { api_key: Plaintext::new("not-the-key"), ..config.powerdns.clone() };
    let error = check(EdgeConfig { powerdns, ..config.clone() }).await.unwrap_err();
    assert!(matches!(error, EdgeError::PowerDns(PowerDnsError::KeyRefused { .. })), "{error:?}");
    assert!(!error.is_transient());

    let powerdns = PowerDnsConfig { zone: "nowhere.test".parse().unwrap(), ..config.powerdns.clone() };
    let error = check(EdgeConfig { powerdns, ..config.clone() }).await.unwrap_err();
    assert!(matches!(error, EdgeError::PowerDns(PowerDnsError::ZoneMissing { .. })), "{error:?}");

    let nginx = NginxConfig { binary: "/nowhere/nginx".into(), ..config.nginx.clone() };
    let error = check(EdgeConfig { nginx, ..config.clone() }).await.unwrap_err();
    assert!(matches!(error, EdgeError::Nginx(NginxError::NotRunnable { .. })), "{error:?}");
    assert!(!error.is_transient());

    let main = config.nginx.prefix.join(&config.nginx.conf);
    let text = std::fs::read_to_string(&main).unwrap();
    // As a distribution's nginx is, which says nothing of it.
    std::fs::write(&main, text.replace("server_names_hash_bucket_size 512;", "")).unwrap();
    let error = check(config.clone()).await.unwrap_err();
    assert!(matches!(error, EdgeError::Nginx(NginxError::NameTooLong { .. })), "{error:?}");
    assert!(error.to_string().contains("set `server_names_hash_bucket_size 512;`"), "{error}");
    assert!(!error.is_transient());

    // The same, of old workers that keep a socket for as long as somebody holds it.
    for for_ever in ["", "# worker_shutdown_timeout 10s;", "worker_shutdown_timeout 0s;"] {
        std::fs::write(&main, text.replace("worker_shutdown_timeout 10s;", for_ever)).unwrap();
        let error = check(config.clone()).await.unwrap_err();
        assert!(error.to_string().contains("set `worker_shutdown_timeout 10s;`"), "{for_ever}: {error}");
        assert!(!error.is_transient());
    }
    for other in ["worker_shutdown_timeout \"1m 30s\";", "worker_shutdown_timeout\t5;"] {
        std::fs::write(&main, text.replace("worker_shutdown_timeout 10s;", other)).unwrap();
        check(config.clone()).await.unwrap();
    }
    std::fs::write(&main, text).unwrap();

    let broken = platform.edge.site("shop.conf");
    std::fs::write(&broken, "server { listen 80").unwrap();
    let error = check(config.clone()).await.unwrap_err();
    assert!(matches!(error, EdgeError::Nginx(NginxError::SomeoneElsesConfig { .. })), "{error:?}");
    assert!(error.is_transient(), "somebody may mend it");
    std::fs::remove_file(broken).unwrap();

    platform.edge.sandbox.nginx_server().kill().unwrap();
    let error = check(config.clone()).await.unwrap_err();
    assert!(matches!(error, EdgeError::Nginx(NginxError::EdgeSilent { .. })), "{error:?}");
    platform.edge.sandbox.powerdns_server().kill().unwrap();
    let error = check(config).await.unwrap_err();
    assert!(matches!(error, EdgeError::PowerDns(PowerDnsError::Unreachable { .. })), "{error:?}");
    assert!(error.is_transient());
}
