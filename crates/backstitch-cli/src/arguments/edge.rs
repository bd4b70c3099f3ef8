//! What must be known of the edge: the zone, the nginx, the networks?

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Args;

/// The edge, as far as flags and the environment tell. None: ask the configuration file, else the default.
///
/// The key of PowerDNS is not here: on a command line every user of the host could read it.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Gateway")]
pub struct EdgeArguments {
    /// Below which domain organisations get their names, org-{uuid}.DOMAIN; also the zone that PowerDNS serves
    #[arg(long, env = "BACKSTITCH_DOMAIN")]
    pub domain: Option<String>,
    /// Where the names point to: the address at which nginx is reached from outside
    #[arg(long, value_name = "ADDRESS", env = "BACKSTITCH_EDGE_ADDRESS", value_parser = parse_address)]
    pub edge_address: Option<IpAddr>,
    /// In which networks gateways may live [default: private ones and loopback]
    #[arg(long, value_name = "NETWORK,…", env = "BACKSTITCH_ALLOWED_NETWORKS", value_delimiter = ',')]
    pub allowed_networks: Option<Vec<String>>,
    /// The HTTP API of PowerDNS [default: http://127.0.0.1:8081]
    #[arg(long, value_name = "URL", env = "BACKSTITCH_POWERDNS_URL")]
    pub powerdns_url: Option<String>,
    /// A file with the API key; else BACKSTITCH_POWERDNS_API_KEY, else BACKSTITCH_POWERDNS_API_KEY_FILE
    #[arg(long, value_name = "FILE")]
    pub powerdns_api_key_file: Option<PathBuf>,
    /// The program [default: /usr/sbin/nginx]
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_NGINX_BINARY")]
    pub nginx_binary: Option<PathBuf>,
    /// Its prefix, given as -p [default: /usr/share/nginx]
    #[arg(long, value_name = "DIRECTORY", env = "BACKSTITCH_NGINX_PREFIX")]
    pub nginx_prefix: Option<PathBuf>,
    /// Its configuration, given as -c [default: /etc/nginx/nginx.conf]
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_NGINX_CONF")]
    pub nginx_conf: Option<PathBuf>,
    /// Its error log, given as -e [default: /var/log/nginx/error.log]
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_NGINX_ERROR_LOG")]
    pub nginx_error_log: Option<PathBuf>,
    /// Where the running nginx keeps its process id [default: /run/nginx.pid]
    #[arg(long, value_name = "FILE", env = "BACKSTITCH_NGINX_PID_FILE")]
    pub nginx_pid_file: Option<PathBuf>,
    /// The directory that its configuration includes as *.conf [default: /etc/nginx/conf.d]
    #[arg(long, value_name = "DIRECTORY", env = "BACKSTITCH_NGINX_SITES")]
    pub nginx_sites: Option<PathBuf>,
    /// What the vhosts listen on [default: 0.0.0.0:80]
    #[arg(long, value_name = "ADDRESS", env = "BACKSTITCH_NGINX_LISTEN", value_parser = parse_socket)]
    pub nginx_listen: Option<SocketAddr>,
    /// Where the running nginx is asked for a route [default: 127.0.0.1:80]
    #[arg(long, value_name = "ADDRESS", env = "BACKSTITCH_NGINX_PROBE", value_parser = parse_socket)]
    pub nginx_probe: Option<SocketAddr>,
}

fn parse_address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "give an IP address such as 192.0.2.10; a name is not looked up".to_owned())
}

fn parse_socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "give an IP address and a port such as 127.0.0.1:80".to_owned())
}
