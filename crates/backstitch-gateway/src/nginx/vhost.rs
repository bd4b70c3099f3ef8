//! What stands in the file of one organisation, and whose file is it?
//!
//! Rendered from parsed types only; no text from outside reaches a directive. Read back only for its owner.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::identifiers::{Hostname, Owner};
use crate::networks::Upstream;

/// Where every vhost answers with the workflow that wrote it, and so proves which configuration is live.
pub const MARKER_PATH: &str = "/.well-known/backstitch/marker";

/// First line of every file of ours.
const HEADER: &str = "# backstitch vhost: written by a workflow, and taken back by it; do not edit";
/// Second line: ownership.
const OWNER_PREFIX: &str = "# workflow: ";

/// A gateway that doesn't take a connection on the same network within this time won't.
const CONNECT_TIMEOUT_SECONDS: u32 = 2;
/// Collaboration sockets idle between keystrokes; their pings come far more often than hourly.
const IDLE_TIMEOUT_SECONDS: u32 = 3600;

/// One route: requests for the hostname go to the upstream, on behalf of the owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vhost {
    /// The name requests come for; its organisation names the file.
    pub hostname: Hostname,
    /// The gateway.
    pub upstream: Upstream,
    /// The workflow that writes the file, and may remove it.
    pub owner: Owner,
}

impl Vhost {
    /// Upstream and server in one file. `set` and `if` rather than a `map`: a map lives outside the server, and would be
    /// declared again by every file.
    pub(super) fn render(&self, listen: SocketAddr) -> String {
        let Self { hostname, upstream, owner } = self;
        let organization = hostname.organization();
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            r#"{HEADER}
{OWNER_PREFIX}{owner}
# organisation: {organization}
upstream backstitch-org-{organization} {{
    server {upstream};
}}
server {{
    listen {listen};
    server_name {hostname};

    location = {MARKER_PATH} {{
        access_log off;
        default_type text/plain;
        return 200 "{owner}\n";
    }}

    set $backstitch_connection "";
    if ($http_upgrade != "") {{
        set $backstitch_connection "upgrade";
    }}

    location / {{
        proxy_pass http://backstitch-org-{organization};
        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_set_header Upgrade $http_upgrade;
        proxy_set_header Connection $backstitch_connection;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_connect_timeout {CONNECT_TIMEOUT_SECONDS}s;
        proxy_read_timeout {IDLE_TIMEOUT_SECONDS}s;
        proxy_send_timeout {IDLE_TIMEOUT_SECONDS}s;
    }}
}}
"#
        );
        text
    }
}

/// Who wrote a file, if it is one of ours at all.
pub(super) fn owner_of(text: &str) -> Option<Owner> {
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    lines.next()?.strip_prefix(OWNER_PREFIX)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rendered_vhost_names_its_owner() {
        let owner: Owner = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10".parse().unwrap();
        let vhost = Vhost {
            hostname: "org-0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b11.collab.test".parse().unwrap(),
            upstream: "[fd00::7]:8080".parse().unwrap(),
            owner,
        };
        let text = vhost.render("127.0.0.1:8080".parse().unwrap());
        assert_eq!(owner_of(&text), Some(owner));
        assert!(text.contains("server [fd00::7]:8080;"), "{text}");
        assert_eq!(owner_of(&text.replace("backstitch vhost", "vhost")), None);
        assert_eq!(owner_of(&format!("\n{text}")), None);
        assert_eq!(owner_of(""), None);
    }
}
