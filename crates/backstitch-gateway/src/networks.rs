//! Which addresses may a route point to?
//!
//! A gateway's address comes from the pool, which administrators fill; a route to the cloud's metadata service or to the
//! open internet would make the edge a proxy for anybody. So an upstream is admitted only within named networks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identifiers::InvalidIdentifier;

/// Private and unique-local ranges and loopback. Link-local is absent on purpose: cloud metadata lives there.
const PRIVATE_NETWORKS: [&str; 6] =
    ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "::1/128", "fc00::/7"];

/// The networks in which gateways may live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AllowedNetworks(Vec<IpNet>);

impl AllowedNetworks {
    /// Exactly these networks, each as `address/prefix`.
    pub fn parse<'a>(networks: impl IntoIterator<Item = &'a str>) -> Result<Self, InvalidIdentifier> {
        let parse = |text: &'a str| {
            text.parse::<IpNet>().map_err(|_| {
                InvalidIdentifier::new("a network", text, "give an address and a prefix such as 10.0.0.0/8")
            })
        };
        networks.into_iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Reads an upstream and admits it if it lies within these networks.
    pub fn upstream(&self, text: &str) -> Result<Upstream, InvalidIdentifier> {
        self.admit(text.parse()?)
    }

    /// Says whether an upstream that was read earlier, perhaps under other rules, is within these networks.
    pub fn admit(&self, upstream: Upstream) -> Result<Upstream, InvalidIdentifier> {
        if self.0.iter().any(|network| network.contains(&upstream.0.ip())) {
            return Ok(upstream);
        }
        let allowed: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        let problem = format!("it is outside the allowed networks ({})", allowed.join(", "));
        Err(InvalidIdentifier::new("an upstream", &upstream.to_string(), problem))
    }
}

impl Default for AllowedNetworks {
    fn default() -> Self {
        Self::parse(PRIVATE_NETWORKS).expect("the built-in networks are well formed")
    }
}

/// Where a gateway listens: an address and a port. Being *allowed* is asked of [`AllowedNetworks`] at the door and again
/// before it is written anywhere, because the rules may have changed since it was journaled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Upstream(SocketAddr);

impl Upstream {
    /// The address, in its plainest form: an IPv4 address in IPv6 clothing has been undressed.
    pub fn address(&self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Upstream {
    type Err = InvalidIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |problem: &str| InvalidIdentifier::new("an upstream", text, problem);
        let given: SocketAddr = text
            .parse()
            .map_err(|_| refuse("give an address and a port such as 10.0.0.7:8080 or [fd00::7]:8080"))?;
        if matches!(given, SocketAddr::V6(v6) if v6.scope_id() != 0 || v6.flowinfo() != 0) {
            return Err(refuse("an address with a zone means something else on every host"));
        }
        // ::ffff:8.8.8.8 is 8.8.8.8 to the kernel, so it must be for the rules too.
        let address = SocketAddr::new(given.ip().to_canonical(), given.port());
        if address.port() == 0 {
            return Err(refuse("port 0 is nobody's"));
        }
        let broadcast = matches!(address.ip(), IpAddr::V4(v4) if v4.is_broadcast());
        if address.ip().is_unspecified() || address.ip().is_multicast() || broadcast {
            return Err(refuse("it is not the address of one host"));
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Upstream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Upstream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
