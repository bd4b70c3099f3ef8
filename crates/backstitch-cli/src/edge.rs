//! Which edge is configured, and does it let us in?

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use backstitch::{Json, JsonError, Plaintext};
use backstitch_gateway::identifiers::Domain;
use backstitch_gateway::networks::AllowedNetworks;
use backstitch_gateway::nginx::NginxConfig;
use backstitch_gateway::powerdns::{PowerDnsConfig, REQUEST_TIMEOUT};
use backstitch_gateway::verdict::Classified;
use backstitch_gateway::{ANSWER_PATIENCE, EdgeConfig, RESETS_MAX};

use crate::arguments::EdgeArguments;
use crate::config::{GatewayConfig, PowerDnsConfig as PowerDnsFile};
use crate::exit::{Exit, Failed};

/// Flag over environment over file over default. What is missing is named, all of it at once, and the flag that does without.
pub fn settle(
    said: EdgeArguments,
    file: &GatewayConfig,
    state: &Path,
    without: Option<&str>,
) -> Result<EdgeConfig, Failed> {
    let domain = said.domain.or_else(|| file.domain.clone());
    let edge_address = said.edge_address.or(file.edge_address);
    let api_key = api_key(said.powerdns_api_key_file, &file.powerdns)?;
    let (Some(domain), Some(edge_address), Some(api_key)) = (&domain, edge_address, &api_key) else {
        return Err(missing(domain.is_some(), edge_address.is_some(), api_key.is_some(), without));
    };
    let domain = parse::<Domain>("domain", domain)?;
    let allowed_networks = networks(said.allowed_networks, file)?;
    let url = said.powerdns_url.or_else(|| file.powerdns.url.clone());
    let url = url.unwrap_or_else(|| "http://127.0.0.1:8081".to_owned());
    let powerdns = PowerDnsConfig {
        url: url.parse().map_err(|error| {
            wrong("powerdns url", &format!("{error}: give one such as http://127.0.0.1:8081"))
        })?,
        api_key: api_key.clone(),
        zone: domain,
        request_timeout: REQUEST_TIMEOUT,
    };
    let conf = &file.nginx;
    let or = |said: Option<PathBuf>, file: &Option<PathBuf>, default: &str| {
        said.or_else(|| file.clone()).unwrap_or_else(|| PathBuf::from(default))
    };
    let nginx = NginxConfig {
        binary: or(said.nginx_binary, &conf.binary, "/usr/sbin/nginx"),
        prefix: or(said.nginx_prefix, &conf.prefix, "/usr/share/nginx"),
        conf: or(said.nginx_conf, &conf.conf, "/etc/nginx/nginx.conf"),
        error_log: or(said.nginx_error_log, &conf.error_log, "/var/log/nginx/error.log"),
        pid_file: or(said.nginx_pid_file, &conf.pid_file, "/run/nginx.pid"),
        sites: or(said.nginx_sites, &conf.sites, "/etc/nginx/conf.d"),
        state: state.join("nginx"),
        listen: said.nginx_listen.or(conf.listen).unwrap_or(SocketAddr::from(([0, 0, 0, 0], 80))),
        probe: said.nginx_probe.or(conf.probe).unwrap_or(SocketAddr::from(([127, 0, 0, 1], 80))),
        allowed_networks,
    };
    Ok(EdgeConfig {
        powerdns,
        nginx,
        address: edge_address,
        answer_patience: ANSWER_PATIENCE,
        resets_max: RESETS_MAX,
    })
}

/// The networks in which gateways may live.
pub fn networks(said: Option<Vec<String>>, file: &GatewayConfig) -> Result<AllowedNetworks, Failed> {
    match said.as_ref().or(file.allowed_networks.as_ref()) {
        None => Ok(AllowedNetworks::default()),
        Some(networks) => AllowedNetworks::parse(networks.iter().map(|network| network.trim()))
            .map_err(|error| wrong("allowed_networks", &error.to_string())),
    }
}

/// Asks the edge before any workflow does. What no time heals refuses; what may heal is a warning, as steps retry.
pub async fn check(config: &EdgeConfig) -> Result<(), Failed> {
    let found = backstitch_gateway::check(config).await;
    judge("PowerDNS", found.powerdns)?;
    judge("nginx", found.nginx_configuration)?;
    judge("nginx", found.nginx_running)
}

fn judge<E: std::error::Error + Classified>(whom: &str, asked: Result<(), E>) -> Result<(), Failed> {
    match asked {
        Ok(()) => Ok(()),
        Err(error) if error.is_transient() => {
            let problem = Failed::because(&error, "").to_string();
            tracing::warn!(problem, "{whom} is not well; steps that need it are tried again until it is");
            Ok(())
        }
        Err(error) => {
            let cause =
                Failed::because(&error, "correct it and start again, or serve with --without-gateway");
            Err(Failed::new(Exit::Error, format!("{whom}: {cause}")))
        }
    }
}

/// Flag over environment over file; on each level the key itself, or a file that holds it.
fn api_key(flag: Option<PathBuf>, file: &PowerDnsFile) -> Result<Option<Plaintext>, Failed> {
    let said = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(path) = flag {
        return key_in(&path).map(Some);
    }
    if let Some(key) = said("BACKSTITCH_POWERDNS_API_KEY") {
        let key = key.into_string().map_err(|_| wrong("BACKSTITCH_POWERDNS_API_KEY", "it is not text"))?;
        return Ok(Some(Plaintext::new(key)));
    }
    if let Some(path) = said("BACKSTITCH_POWERDNS_API_KEY_FILE") {
        return key_in(Path::new(&path)).map(Some);
    }
    match (&file.api_key, &file.api_key_file) {
        (Some(_), Some(_)) => Err(wrong("gateway.powerdns", "give api_key or api_key_file, not both")),
        (Some(key), None) => Ok(Some(key.clone())),
        (None, Some(path)) => key_in(path).map(Some),
        (None, None) => Ok(None),
    }
}

fn key_in(path: &Path) -> Result<Plaintext, Failed> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| wrong("powerdns api key file", &format!("{}: {error}", path.display())))?;
    match text.trim() {
        "" => Err(wrong(
            "powerdns api key file",
            &format!("{} is empty: write the key into it", path.display()),
        )),
        key => Ok(Plaintext::new(key)),
    }
}

fn missing(domain: bool, edge_address: bool, api_key: bool, without: Option<&str>) -> Failed {
    let ways = [
        (domain, "the domain (--domain, BACKSTITCH_DOMAIN, domain in [gateway])"),
        (
            edge_address,
            "the edge's address (--edge-address, BACKSTITCH_EDGE_ADDRESS, edge_address in [gateway])",
        ),
        (
            api_key,
            "the key of PowerDNS (--powerdns-api-key-file, BACKSTITCH_POWERDNS_API_KEY, \
             api_key_file in [gateway.powerdns])",
        ),
    ];
    let missing: Vec<_> = ways.iter().filter(|(there, _)| !there).map(|(_, way)| *way).collect();
    let or = without.map(|flag| format!(", or use {flag}")).unwrap_or_default();
    Failed::usage(format!(
        "gateways can't be reached, as it is not known: {}; say it by flag, environment or backstitch.toml{or}",
        missing.join("; ")
    ))
}

fn parse<T: FromStr<Err: std::fmt::Display>>(what: &str, text: &str) -> Result<T, Failed> {
    text.parse().map_err(|error: T::Err| wrong(what, &error.to_string()))
}

fn wrong(what: &str, problem: &str) -> Failed {
    Failed::usage(format!("{what}: {problem}"))
}

/// Whether the input fits, if the kind is one that this program knows: the worker would only find out later.
pub fn check_input(kind: &str, input: &Json) -> Result<(), JsonError> {
    backstitch_gateway::inputs().check(kind, input)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn file() -> GatewayConfig {
        let powerdns =
            PowerDnsFile { api_key: Some(Plaintext::new("open sesame")), ..PowerDnsFile::default() };
        GatewayConfig {
            domain: Some("file.example.com".to_owned()),
            edge_address: Some(IpAddr::from([192, 0, 2, 1])),
            powerdns,
            ..GatewayConfig::default()
        }
    }

    #[test]
    fn what_is_said_on_the_command_line_goes_before_the_file() {
        let said = EdgeArguments { domain: Some("said.example.com".to_owned()), ..EdgeArguments::default() };
        let edge = settle(said, &file(), Path::new("/state"), None).expect("all is said");
        assert_eq!(edge.powerdns.zone.to_string(), "said.example.com");
        assert_eq!(edge.address, IpAddr::from([192, 0, 2, 1]));
        assert_eq!(edge.nginx.state, Path::new("/state/nginx"));
        assert!(!format!("{edge:?}").contains("sesame"));
    }

    #[test]
    fn all_that_is_missing_is_named_at_once() {
        let refused = settle(
            EdgeArguments::default(),
            &GatewayConfig::default(),
            Path::new("/"),
            Some("--without-gateway"),
        );
        let said = refused.expect_err("nothing is said").to_string();
        for name in ["--domain", "BACKSTITCH_EDGE_ADDRESS", "api_key_file", "--without-gateway"] {
            assert!(said.contains(name), "{name}: {said}");
        }
    }

    #[test]
    fn a_domain_or_a_network_that_is_none_is_refused() {
        let refused = settle(
            EdgeArguments { domain: Some("a b".to_owned()), ..EdgeArguments::default() },
            &file(),
            Path::new("/"),
            None,
        );
        assert!(refused.is_err_and(|error| error.to_string().contains("\"a b\" is not a domain")));
        let networks = Some(vec!["10.0.0.0/8".to_owned(), "10.0.0".to_owned()]);
        let refused = settle(
            EdgeArguments { allowed_networks: networks, ..EdgeArguments::default() },
            &file(),
            Path::new("/"),
            None,
        );
        assert!(refused.is_err_and(|error| error.to_string().contains("\"10.0.0\" is not a network")));
    }
}
