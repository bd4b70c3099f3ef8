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
    let settings =
        Finding::ok("gateway settings", format!("names below {zone}, pointing to {}", config.address));
    // nginx's locks are kept elsewhere meanwhile: nothing is made here for whoever only looks.
    let Ok(place) = tempfile::tempdir() else {
        let unseen = |what| Finding::not_examined(what, "there is no temporary directory to work in");
        return std::iter::once(settings).chain(BEHIND_THEM.map(unseen)).collect();
    };
    let mut elsewhere = config.clone();
    elsewhere.nginx.state = place.path().to_owned();
    let found = backstitch_gateway::check(&elsewhere).await;
    vec![
        settings,
        powerdns(&config, found.powerdns),
        binary(&config.nginx),
        configuration(&config.nginx, found.nginx_configuration),
        host::directory("nginx sites", &config.nginx.sites, host::Missing::IsWrong),
        running(&config.nginx, found.nginx_running),
    ]
}

fn powerdns(config: &EdgeConfig, asked: Result<(), PowerDnsError>) -> Finding {
    let (what, url, zone) = ("powerdns", &config.powerdns.url, &config.powerdns.zone);
    let error = match asked {
        Ok(()) => return Finding::ok(what, format!("{url} takes the key and serves {zone}")),
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

fn configuration(config: &NginxConfig, asked: Result<(), NginxError>) -> Finding {
    let what = "nginx configuration";
    let wrong =
        |error: &NginxError, mend: String| Finding::wrong(what, Failed::because(error, "").message, mend);
    match asked {
        _ if !can_be_run(config) => Finding::not_examined(what, "the binary comes first"),
        Ok(()) => Finding::ok(
            what,
            "`nginx -t` finds it whole, with room for our names, and old workers do not stay for ever",
        ),
        Err(error @ NginxError::NameTooLong { .. }) => wrong(
            &error,
            format!("set server_names_hash_bucket_size {NAMES_BUCKET} in its http section and reload"),
        ),
        Err(error @ NginxError::SocketsOutliveRoutes) => wrong(
            &error,
            format!("set worker_shutdown_timeout {SHUTDOWN_TIMEOUT} in its main section and reload"),
        ),
        Err(error) => {
            wrong(&error, "mend what `nginx -t` complains of: until then no route can be changed".to_owned())
        }
    }
}

fn running(config: &NginxConfig, asked: Result<(), NginxError>) -> Finding {
    match asked {
        Ok(()) => Finding::ok("nginx running", format!("answers on {}", config.probe)),
        Err(error) => Finding::wrong(
            "nginx running",
            Failed::because(&error, "").message,
            "start nginx, or correct --nginx-probe",
        ),
    }
}

fn can_be_run(config: &NginxConfig) -> bool {
    matches!(binary(config).verdict, super::Verdict::Ok)
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
