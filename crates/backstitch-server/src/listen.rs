//! Where may the daemon listen?

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// An address on loopback. There is no other kind of address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loopback(SocketAddr);

/// Why an address is none to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotLoopback {
    /// It is not an address at all.
    #[error(
        "{0:?} is no address to listen on: give an address and a port such as 127.0.0.1:7410 or [::1]:7410"
    )]
    NoAddress(String),
    /// Others could reach it.
    #[error(
        "{0} is not on loopback, and the daemon asks nobody who they are: listen on 127.0.0.1 or [::1], \
         and put a proxy that knows its callers before it"
    )]
    BeyondLoopback(SocketAddr),
}

impl Loopback {
    /// The address itself.
    #[must_use]
    pub fn address(self) -> SocketAddr {
        self.0
    }
}

impl FromStr for Loopback {
    type Err = NotLoopback;

    fn from_str(text: &str) -> Result<Self, NotLoopback> {
        let address: SocketAddr = text.parse().map_err(|_| NotLoopback::NoAddress(text.to_owned()))?;
        // ::ffff:127.0.0.1 is loopback to the kernel too, and ::ffff:10.0.0.1 is not.
        if !address.ip().to_canonical().is_loopback() {
            return Err(NotLoopback::BeyondLoopback(address));
        }
        Ok(Self(address))
    }
}

impl fmt::Display for Loopback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_is_listened_on() {
        for good in ["127.0.0.1:7410", "127.8.9.10:0", "[::1]:7410", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(good.parse::<Loopback>().expect(good).to_string(), good);
        }
        for beyond in ["0.0.0.0:7410", "[::]:7410", "10.0.0.1:7410", "[::ffff:10.0.0.1]:80", "192.0.2.1:80"] {
            let refused = beyond.parse::<Loopback>();
            assert!(matches!(refused, Err(NotLoopback::BeyondLoopback(_))), "{beyond}: {refused:?}");
        }
        for none in ["", "7410", "127.0.0.1", "localhost:7410", "127.0.0.1:70000"] {
            let refused = none.parse::<Loopback>();
            assert!(matches!(refused, Err(NotLoopback::NoAddress(_))), "{none}: {refused:?}");
        }
    }
}
