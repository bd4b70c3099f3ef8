//! Do PowerDNS and nginx let us in?

use backstitch_gateway::EdgeConfig;
use backstitch_gateway::nginx::{NAMES_BUCKET, NginxConfig, NginxError, SHUTDOWN_TIMEOUT};
use backstitch_gateway::powerdns::PowerDnsError;

use super::{Finding, host};
use crate::exit::Failed;

/// What is looked at once the settings are whole.
const BEHIND_THEM: [&str; 5] =
    ["powerdns", "nginx binary", "nginx configuration", "nginx sites", "nginx running"];

/// All of it.
pub async fn examine(config: Result<EdgeConfig, Failed>) -> Vec<Finding> {
    let config = match config {
        Ok(config) => config,
        Err(failed) => {
            let (says, mend) = failed.message.rsplit_once("; ").unwrap_or((&failed.message, "correct that"));
            let wrong = Finding::wrong("gateway settings", says, mend);
            let unseen = |what| Finding::not_examined(what, "the settings come first");
            return std::iter::once(wrong).chain(BEHIND_THEM.map(unseen)).collect();
        }
    };
    let zone = &config.powerdns.zone;
    let nobody = Hostname::new(OrganizationId::from(uuid::Uuid::nil()), zone.clone());
    let mut findings = vec![
        Finding::ok("gateway settings", format!("names below {zone}, pointing to {}", config.address)),
        powerdns(&config, &nobody).await,
    ];
    findings.extend(nginx(&config.nginx, &nobody).await);
    findings
}

async fn powerdns(config: &EdgeConfig, nobody: &Hostname) -> Finding {
    let (what, url, zone) = ("powerdns", &config.powerdns.url, &config.powerdns.zone);
    let asked = async { PowerDns::new(config.powerdns.clone())?.lookup(nobody).await };
    let error = match asked.await {
        Ok(_) => return Finding::ok(what, format!("{url} takes the key and serves {zone}")),
        Err(error) => error,
    };
    let mend = match &error {
        PowerDnsError::KeyRefused { .. } => {
            "give the key that its `api-key` setting has (--powerdns-api-key-file)"
        }
        PowerDnsError::ZoneMissing { .. } => "create the zone there, or correct --domain",
        PowerDnsError::BadUrl { .. } => "correct --powerdns-url",
        _ => {
            "look whether it runs with `api=yes` and `webserver=yes`, and correct --powerdns-url if it is elsewhere"
        }
    };
    Finding::wrong(what, format!("{url}: {}", Failed::because(&error, "")), mend)
}

async fn nginx(config: &NginxConfig, nobody: &Hostname) -> [Finding; 4] {
    let sites = host::directory("nginx sites", &config.sites, host::Missing::IsWrong);
    let binary = binary(config);
    // Its locks are kept elsewhere meanwhile: nothing is made here for whoever only looks.
    let nginx = tempfile::tempdir().ok().and_then(|place| {
        let config = NginxConfig { state: place.path().to_owned(), ..config.clone() };
        Nginx::new(config).ok().map(|nginx| (nginx, place))
    });
    let Some((nginx, _place)) = nginx else {
        let because = "there is no temporary directory to work in";
        let unseen = |what| Finding::not_examined(what, because);
        return [binary, unseen("nginx configuration"), sites, unseen("nginx running")];
    };
    let tested = async {
        nginx.test().await?;
        nginx.has_room_for(nobody).await
    };
    let configuration = match (&binary.verdict, tested.await) {
        (super::Verdict::Ok, Ok(())) => {
            Finding::ok("nginx configuration", "`nginx -t` finds it whole, with room for our names")
        }
        (super::Verdict::Ok, Err(NginxError::NameTooLong { hostname, detail })) => Finding::wrong(
            "nginx configuration",
            format!("there is no room for names such as {hostname}: {detail}"),
            format!("set server_names_hash_bucket_size {NAMES_BUCKET} in its http section and reload"),
        ),
        Err(error @ NginxError::SocketsOutliveRoutes) => wrong(
            &error,
            format!("set worker_shutdown_timeout {SHUTDOWN_TIMEOUT} in its main section and reload"),
        ),
        _ => Finding::not_examined("nginx configuration", "the binary comes first"),
    };
    let running = match nginx.route(nobody).await {
        Ok(_) => Finding::ok("nginx running", format!("answers on {}", config.probe)),
        Err(error) => Finding::wrong(
            "nginx running",
            Failed::because(&error, "").message,
            "start nginx, or correct --nginx-probe",
        ),
    };
    [binary, configuration, sites, running]
}

fn binary(config: &NginxConfig) -> Finding {
    use rustix::fs::{Access, access};
    let (what, shown) = ("nginx binary", config.binary.display());
    match access(&config.binary, Access::EXEC_OK) {
        Ok(()) if config.binary.is_file() => Finding::ok(what, shown.to_string()),
        Ok(()) => Finding::wrong(what, format!("{shown} is no program"), "correct --nginx-binary"),
        Err(error) => Finding::wrong(
            what,
            format!("{shown} can't be run: {error}"),
            "install nginx, or say where it is with --nginx-binary",
        ),
    }
}
