//! How many of the connections may one address have?

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::strangers::Peer;

/// Who has how many.
#[derive(Debug, Clone)]
pub struct Shares {
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
    of_one_max: usize,
}

/// One connection of somebody's. Free again when it is dropped.
#[derive(Debug)]
pub struct Share {
    shares: Shares,
    /// None: of this host.
    network: Option<IpAddr>,
}

impl Shares {
    /// Nobody has any, and none may have more than this.
    pub fn new(of_one_max: usize) -> Self {
        Self { held: Arc::default(), of_one_max }
    }

    /// One more. None: the address has as many as it may. Whoever is on this host may have all: most often it is a proxy,
    /// through which everybody comes.
    pub fn take(&self, peer: Peer) -> Option<Share> {
        let network = (!peer.0.to_canonical().is_loopback()).then(|| peer.network());
        if let Some(network) = network {
            let mut held = self.held();
            let of_one = held.entry(network).or_default();
            if *of_one >= self.of_one_max {
                return None;
            }
            *of_one += 1;
        }
        Some(Share { shares: self.clone(), network })
    }

    fn held(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(network) = self.network else { return };
        let mut held = self.shares.held();
        if let Some(of_one) = held.get_mut(&network) {
            *of_one -= 1;
            if *of_one == 0 {
                held.remove(&network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer(text.parse().expect("an address"))
    }

    #[test]
    fn one_address_has_its_share_and_others_have_theirs() {
        let shares = Shares::new(2);
        let held = [shares.take(peer("192.0.2.1")), shares.take(peer("::ffff:192.0.2.1"))];
        assert!(held.iter().all(Option::is_some));
        assert!(shares.take(peer("192.0.2.1")).is_none());
        assert!(shares.take(peer("192.0.2.2")).is_some());
        let [first, second] = held;
        drop(first);
        assert!(shares.take(peer("192.0.2.1")).is_some(), "one is free again");
        drop(second);
        assert!(shares.held().is_empty(), "who has none is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_this_host_may_have_all() {
        let shares = Shares::new(1);
        let _held = shares.take(peer("2001:db8::1")).expect("its first");
        assert!(shares.take(peer("2001:db8::2")).is_none());
        let here: Vec<_> =
            ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1"].map(|at| shares.take(peer(at))).into();
        assert!(here.iter().all(Option::is_some));
    }
}
