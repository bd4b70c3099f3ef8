//! Where may the daemon listen?
//!
//! On loopback: anywhere. Beyond it others can reach it, so there it speaks TLS, and only to whoever shows a token.

use std::fmt;
use std::net::SocketAddr;

use crate::access::Access;
use crate::tls::Tls;

/// An address to listen on, and how. There is none beyond loopback without TLS or without tokens.
#[derive(Debug, Clone)]
pub struct Place {
    address: SocketAddr,
    tls: Option<Tls>,
}

/// Why an address is none to listen on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// It is not an address at all.
    #[error(
        "{0:?} is no address to listen on: give an address and a port such as 127.0.0.1:7410 or [::1]:7410"
    )]
    NoAddress(String),
    /// Others could read along.
    #[error(
        "{0} is not on loopback, and there only TLS is spoken: give a certificate and its key, or listen on 127.0.0.1 \
         or [::1] and put a proxy that knows its callers before it"
    )]
    WithoutTls(SocketAddr),
    /// Others could do everything.
    #[error(
        "{0} is not on loopback, and there nobody is answered without a token: listen on 127.0.0.1 or [::1]"
    )]
    WithoutTokens(SocketAddr),
}

impl Place {
    /// This address, with TLS if it is given.
    ///
    /// # Errors
    /// It is no address, or others could reach it and what protects it is missing.
    pub fn new(address: &str, tls: Option<Tls>, access: Access) -> Result<Self, NoPlace> {
        let address = address.parse().map_err(|_| NoPlace::NoAddress(address.to_owned()))?;
        let place = Self { address, tls };
        if place.is_beyond_loopback() && place.tls.is_none() {
            return Err(NoPlace::WithoutTls(address));
        }
        if place.is_beyond_loopback() && access == Access::EverybodyHere {
            return Err(NoPlace::WithoutTokens(address));
        }
        Ok(place)
    }

    /// The address itself.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it speaks TLS. None: it does not.
    #[must_use]
    pub fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    /// Whether others can reach it.
    #[must_use]
    pub fn is_beyond_loopback(&self) -> bool {
        // ::ffff:127.0.0.1 is loopback to the kernel too, and ::ffff:10.0.0.1 is not.
        !self.address.ip().to_canonical().is_loopback()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> Result<Place, NoPlace> {
        Place::new(address, None, Access::Tokens)
    }

    #[test]
    fn without_tls_only_loopback_is_listened_on() {
        for good in ["127.0.0.1:7410", "127.8.9.10:0", "[::1]:7410", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(place(good).expect(good).to_string(), good);
            assert!(Place::new(good, None, Access::EverybodyHere).is_ok());
        }
        for beyond in ["0.0.0.0:7410", "[::]:7410", "10.0.0.1:7410", "[::ffff:10.0.0.1]:80", "192.0.2.1:80"] {
            let refused = place(beyond);
            assert!(matches!(refused, Err(NoPlace::WithoutTls(_))), "{beyond}: {refused:?}");
        }
        for none in ["", "7410", "127.0.0.1", "localhost:7410", "127.0.0.1:70000"] {
            let refused = place(none);
            assert!(matches!(refused, Err(NoPlace::NoAddress(_))), "{none}: {refused:?}");
        }
    }
}
