//! How often may somebody show a token that nobody knows?
//!
//! Counted by address, and before the token is looked up: else whoever guesses would be told of a hit, however often they had
//! missed. A token that was good is no guess, so its owner is let through beside somebody who guesses from the same address.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::Extensions;
use backstitch::TokenHash;
use tokio::time::Instant;

use crate::bucket::{Allowance, Bucket};

/// How many unknown tokens an address may show at once: as many programs as run behind one and were not told yet that their
/// token was revoked. A token is one of 2^256, so what this keeps down is not the odds but the noise, and the look-ups.
pub const UNKNOWN_TOKENS_AT_ONCE: f64 = 100.0;

/// How many a second for as long as it likes: a program that tries on is counted among the refused, and costs next to nothing.
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
    pub fn network(self) -> IpAddr {
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
    /// Those that are being looked up, and for how many requests.
    asked: HashMap<TokenHash, u32>,
}

/// A token that is being looked up. Counts as unknown, unless it is told to be something else.
#[derive(Debug)]
pub struct Shown {
    strangers: Arc<Strangers>,
    peer: Peer,
    token: TokenHash,
    /// Others show the same one meanwhile: only the first of them is counted, or all who come back at once after a restart
    /// of the daemon, with one token, would be taken for as many guesses.
    is_counted: bool,
    was_good_before: bool,
}

impl Strangers {
    pub fn new(now: Instant) -> Self {
        Self(Mutex::new(Seen {
            buckets: HashMap::new(),
            rest: Bucket::full(ALLOWANCE, now),
            swept_at: now,
            good: HashSet::new(),
            asked: HashMap::new(),
        }))
    }

    /// Whether this token may be looked up for whoever is there.
    ///
    /// # Errors
    /// Too many were unknown: in how many seconds one more may be shown.
    pub fn show(self: &Arc<Self>, peer: Peer, token: TokenHash, now: Instant) -> Result<Shown, u32> {
        let mut seen = self.seen();
        let was_good_before = seen.good.contains(&token);
        let is_counted = !was_good_before && !seen.asked.contains_key(&token);
        if is_counted && !seen.bucket(peer, now).take(now) {
            return Err(AGAIN_SECONDS);
        }
        *seen.asked.entry(token).or_default() += 1;
        Ok(Shown { strangers: Arc::clone(self), peer, token, is_counted, was_good_before })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shown {
    /// Whether it opened something the last time.
    pub fn was_good_before(&self) -> bool {
        self.was_good_before
    }

    /// It opened something.
    pub fn was_good(self, now: Instant) {
        let mut seen = self.strangers.seen();
        if seen.good.len() >= KNOWN_MAX {
            seen.good.clear();
        }
        if seen.good.insert(self.token) {
            seen.bucket(self.peer, now).give_back();
        }
    }

    /// It opened nothing, or nothing any more.
    pub fn was_unknown(self) {
        self.strangers.seen().good.remove(&self.token);
    }

    /// Nobody could say.
    pub fn was_unanswered(self, now: Instant) {
        if self.is_counted {
            self.strangers.seen().bucket(self.peer, now).give_back();
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        let mut seen = self.strangers.seen();
        if let Entry::Occupied(mut asked) = seen.asked.entry(self.token) {
            *asked.get_mut() -= 1;
            if *asked.get() == 0 {
                asked.remove();
            }
        }
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

    fn strangers(now: Instant) -> Arc<Strangers> {
        Arc::new(Strangers::new(now))
    }

    /// How many unknown tokens it may show now.
    fn shown(strangers: &Arc<Strangers>, peer: Peer, now: Instant) -> usize {
        let show = |number| strangers.show(peer, token(number), now).map(Shown::was_unknown);
        (0..1_000).take_while(|number| show(*number).is_ok()).count()
    }

    #[test]
    fn whoever_guesses_waits_and_others_do_not() {
        let now = Instant::now();
        let strangers = strangers(now);
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
        let strangers = strangers(now);
        let (here, good) = (peer("192.0.2.1"), token(u64::MAX));
        let show = || strangers.show(here, good, now);
        show().expect("it may").was_good(now);
        assert_eq!(shown(&strangers, here, now), 100, "it costs no guess");
        show().expect("it was good").was_unknown();
        assert_eq!(show().expect_err("it is revoked"), AGAIN_SECONDS);
    }

    #[test]
    fn all_who_come_back_at_once_with_one_token_are_let_through() {
        let now = Instant::now();
        let strangers = strangers(now);
        let here = peer("192.0.2.1");
        let herd: Vec<_> =
            (0..1_000).map(|_| strangers.show(here, token(u64::MAX), now).expect("it may")).collect();
        herd.into_iter().for_each(|shown| shown.was_good(now));
        assert_eq!(shown(&strangers, here, now), 100, "it costs no guess");
        assert!(strangers.seen().asked.is_empty());
    }

    #[test]
    fn an_outage_of_the_database_is_held_against_nobody_and_a_hang_up_is() {
        let now = Instant::now();
        let strangers = strangers(now);
        let here = peer("192.0.2.1");
        for number in 0..1_000 {
            strangers.show(here, token(number), now).expect("it may").was_unanswered(now);
        }
        assert_eq!(shown(&strangers, here, now), 100);
        let there = peer("192.0.2.2");
        for number in 0..100 {
            drop(strangers.show(there, token(number), now).expect("it may"));
        }
        assert_eq!(shown(&strangers, there, now), 0);
    }

    #[test]
    fn so_many_addresses_are_told_apart_and_the_rest_share() {
        let now = Instant::now();
        let strangers = strangers(now);
        let address = |number: u32| Peer(IpAddr::V4(Ipv4Addr::from_bits(number)));
        for number in 0..20_000 {
            let _ = strangers.show(address(number), token(1), now);
        }
        let held = || strangers.seen().buckets.len();
        assert_eq!(held(), ADDRESSES_MAX);
        assert_eq!(shown(&strangers, address(30_000), now), 0, "the rest has shown its hundred");
        assert_eq!(shown(&strangers, address(3), now), 99);
        // Who has been quiet makes room.
        let later = now + Duration::from_secs(2);
        assert_eq!(shown(&strangers, address(30_000), later), 100);
        assert_eq!(held(), 2, "whoever guessed much is remembered");
    }
}
