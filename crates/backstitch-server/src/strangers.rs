//! How often may somebody show a token that nobody knows?
//!
//! Counted by address, and before the token is looked up: else whoever guesses would be told of a hit, however often they had
//! missed. A token that was good is no guess, so its owner is let through beside somebody who guesses from the same address.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::Extensions;
use backstitch::TokenHash;
use tokio::time::Instant;

use crate::bucket::{Allowance, Bucket};

/// How many unknown tokens an address may show at once: as many programs as run behind one and were not told yet that their
/// token was revoked. A token is one of 2^256, so what this keeps down is not the odds but the noise, and the look-ups.
pub const UNKNOWN_TOKENS_AT_ONCE: f64 = 100.0;

/// How many a second for as long as it likes: a program that tries on is seen in the log, and costs next to nothing.
pub const UNKNOWN_TOKENS_PER_SECOND: f64 = 1.0;

const ALLOWANCE: Allowance =
    Allowance { per_second: UNKNOWN_TOKENS_PER_SECOND, at_once: UNKNOWN_TOKENS_AT_ONCE };

/// How many addresses are told apart; with the rest, one allowance is shared. A megabyte.
const ADDRESSES_MAX: usize = 10_000;

/// How many good tokens are remembered, and then forgotten all at once. They are made by hand, so there are few.
const KNOWN_MAX: usize = 10_000;

/// How often those are looked for that have shown none for so long that they are as new.
const SWEEP: Duration = Duration::from_secs(1);

/// In how many seconds one more may be shown.
pub const AGAIN_SECONDS: u32 = 1;

/// Where a request came from: the other end of the connection. What a header says of it anybody may write.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

impl Peer {
    /// A program that serves in another way than [`serve`](crate::serve()) does not say: to it all are one address.
    pub fn of(extensions: &Extensions) -> Self {
        extensions.get().copied().unwrap_or(Self(IpAddr::V4(Ipv4Addr::UNSPECIFIED)))
    }

    /// Whoever has an address of IPv6 has all of its network.
    fn network(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
        }
    }
}

/// Who has shown tokens that nobody knows.
#[derive(Debug)]
pub struct Strangers(Mutex<Seen>);

#[derive(Debug)]
struct Seen {
    buckets: HashMap<IpAddr, Bucket>,
    /// Of all those for whom there is no place above.
    rest: Bucket,
    swept_at: Instant,
    good: HashSet<TokenHash>,
}

impl Strangers {
    pub fn new(now: Instant) -> Self {
        let rest = Bucket::full(ALLOWANCE, now);
        Self(Mutex::new(Seen { buckets: HashMap::new(), rest, swept_at: now, good: HashSet::new() }))
    }

    /// Whether this token may be looked up for whoever is there. It is taken for unknown until [`was_good`](Self::was_good).
    ///
    /// # Errors
    /// Too many were unknown: in how many seconds one more may be shown.
    pub fn show(&self, peer: Peer, token: &TokenHash, now: Instant) -> Result<(), u32> {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.good.contains(token) || seen.bucket(peer, now).take(now) {
            Ok(())
        } else {
            Err(AGAIN_SECONDS)
        }
    }

    /// It opens something, or nobody could say.
    pub fn was_no_guess(&self, peer: Peer, token: &TokenHash, is_good: bool, now: Instant) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.good.contains(token) {
            return;
        }
        seen.bucket(peer, now).give_back();
        if is_good {
            if seen.good.len() >= KNOWN_MAX {
                seen.good.clear();
            }
            seen.good.insert(*token);
        }
    }

    /// It opens nothing, or nothing any more.
    pub fn was_unknown(&self, token: &TokenHash) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).good.remove(token);
    }
}

impl Seen {
    fn bucket(&mut self, peer: Peer, now: Instant) -> &mut Bucket {
        let network = peer.network();
        if self.buckets.len() >= ADDRESSES_MAX && !self.buckets.contains_key(&network) {
            if now.saturating_duration_since(self.swept_at) >= SWEEP {
                self.swept_at = now;
                self.buckets.retain(|_, bucket| !bucket.is_full(now));
            }
            if self.buckets.len() >= ADDRESSES_MAX {
                return &mut self.rest;
            }
        }
        self.buckets.entry(network).or_insert_with(|| Bucket::full(ALLOWANCE, now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Peer {
        Peer(text.parse().expect("an address"))
    }

    fn token(number: u64) -> TokenHash {
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&number.to_be_bytes());
        hash
    }

    /// How many unknown tokens it may show now.
    fn shown(strangers: &Strangers, peer: Peer, now: Instant) -> usize {
        (0..1_000).take_while(|number| strangers.show(peer, &token(*number), now).is_ok()).count()
    }

    #[test]
    fn whoever_guesses_waits_and_others_do_not() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        assert_eq!(shown(&strangers, peer("192.0.2.1"), now), 100);
        assert_eq!(
            shown(&strangers, peer("::ffff:192.0.2.1"), now),
            0,
            "the same address in the other writing"
        );
        assert_eq!(shown(&strangers, peer("192.0.2.2"), now), 100);
        let later = now + Duration::from_secs(3);
        assert_eq!(shown(&strangers, peer("192.0.2.1"), later), 3);
        assert_eq!(shown(&strangers, peer("2001:db8::1"), now), 100);
        assert_eq!(shown(&strangers, peer("2001:db8::ffff:2"), now), 0, "one network is one caller");
        assert_eq!(shown(&strangers, peer("2001:db8:0:1::1"), now), 100);
    }

    #[test]
    fn a_token_that_was_good_is_let_through_until_it_is_revoked() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let (here, good) = (peer("192.0.2.1"), token(u64::MAX));
        assert_eq!(strangers.show(here, &good, now), Ok(()));
        strangers.was_no_guess(here, &good, true, now);
        assert_eq!(shown(&strangers, here, now), 100, "it costs no guess");
        assert_eq!(strangers.show(here, &good, now), Ok(()));
        assert_eq!(strangers.show(here, &token(7), now), Err(AGAIN_SECONDS));
        strangers.was_unknown(&good);
        assert_eq!(strangers.show(here, &good, now), Err(AGAIN_SECONDS));
    }

    #[test]
    fn an_outage_of_the_database_is_held_against_nobody() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let here = peer("192.0.2.1");
        for number in 0..1_000 {
            assert_eq!(strangers.show(here, &token(number), now), Ok(()));
            strangers.was_no_guess(here, &token(number), false, now);
        }
        assert_eq!(shown(&strangers, here, now), 100);
    }

    #[test]
    fn so_many_addresses_are_told_apart_and_the_rest_share() {
        let now = Instant::now();
        let strangers = Strangers::new(now);
        let address = |number: u32| Peer(IpAddr::V4(Ipv4Addr::from_bits(number)));
        for number in 0..20_000 {
            let _ = strangers.show(address(number), &token(1), now);
        }
        let held = || strangers.0.lock().expect("whole").buckets.len();
        assert_eq!(held(), ADDRESSES_MAX);
        assert_eq!(shown(&strangers, address(30_000), now), 0, "the rest has shown its hundred");
        assert_eq!(shown(&strangers, address(3), now), 99);
        // Who has been quiet makes room.
        let later = now + Duration::from_secs(2);
        assert_eq!(shown(&strangers, address(30_000), later), 100);
        assert_eq!(held(), 2, "whoever guessed much is remembered");
    }
}
