//! How is each step of a start made to fail, on real servers?

use std::fs;
use std::path::PathBuf;

use backstitch_gateway::identifiers::OrganizationId;

use crate::platform::Platform;

/// What is wrong, so that one step of a start says no. The first step's no is that no gateway is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Somebody has the organisation's name.
    NameIsTaken,
    /// Somebody has the file of its vhost.
    FileIsTaken,
    /// Nginx is reloaded, and somebody else's vhost answers to the name.
    RouteIsTaken,
    /// The gateway says no.
    GatewayRefuses,
    /// The gateway takes the organisation, but says that it failed.
    GatewayFails,
}

use Wrong::*;

/// What whoever writes by hand leaves in a file.
pub const BY_HAND: &str = "# by hand\n";

impl Wrong {
    /// Which step fails of it, and what with.
    pub fn error(self) -> (&'static str, &'static str) {
        match self {
            NameIsTaken => ("register-dns", "hostname_taken"),
            FileIsTaken => ("write-vhost", "vhost_taken"),
            RouteIsTaken => ("reload-nginx", "route_not_live"),
            GatewayRefuses => ("handshake", "gateway_refused"),
            GatewayFails => ("handshake", "gateway_failed"),
        }
    }

    /// From now on it is wrong, for this organisation. There is one gateway.
    pub async fn begin(self, platform: &mut Platform, organization: OrganizationId) {
        let name = platform.hostname(organization);
        match self {
            NameIsTaken => platform.edge.somebody_writes(&name, "A", "10.1.1.1").await,
            FileIsTaken => {
                fs::write(platform.edge.site(&format!("org-{organization}.conf")), BY_HAND).unwrap();
            }
            RouteIsTaken => {
                let listen = platform.edge.sandbox.edge();
                let thief = format!("server {{ listen {listen}; server_name {name}; return 204; }}");
                fs::write(thieving_vhost(platform), thief).unwrap();
            }
            GatewayRefuses => platform.edge.sandbox.gateways[0].restart(&["--refuse-start"]).await.unwrap(),
            GatewayFails => platform.edge.sandbox.gateways[0].restart(&["--fail-start"]).await.unwrap(),
        }
    }

    /// Nothing is wrong any more for another organisation.
    pub async fn mend(self, platform: &mut Platform) {
        match self {
            NameIsTaken | FileIsTaken => {}
            RouteIsTaken => fs::remove_file(thieving_vhost(platform)).unwrap(),
            GatewayRefuses | GatewayFails => platform.edge.sandbox.gateways[0].restart(&[]).await.unwrap(),
        }
    }
}

/// Read before any of ours: the first to answer to a name has it.
fn thieving_vhost(platform: &Platform) -> PathBuf {
    platform.edge.site("000-first.conf")
}
