//! What is a bearer token, and what is kept of it?

use std::fmt;

use backstitch::TokenHash;
use sha2::{Digest, Sha256};

/// Before every token, so that whoever finds one in a log or a repository knows what it is.
const PREFIX: &str = "bst_";

/// 256 random bits can't be guessed, so their plain hash tells nothing of them.
const RANDOM_BYTES: usize = 32;

/// A token itself. Shown once, when it is made; not by `Debug`.
pub struct BearerToken(String);

impl BearerToken {
    /// A new one.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn mint() -> Result<Self, getrandom::Error> {
        let mut random = [0; RANDOM_BYTES];
        getrandom::fill(&mut random)?;
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self(format!("{PREFIX}{digits}")))
    }

    /// One that a caller showed. None: no token of ours looks like that.
    #[must_use]
    pub fn shown(text: &str) -> Option<Self> {
        let digits = text.strip_prefix(PREFIX)?;
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (digits.len() == 2 * RANDOM_BYTES && digits.bytes().all(is_digit)).then(|| Self(text.to_owned()))
    }

    /// The text, for the one time that it is shown.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// What is kept of it.
    #[must_use]
    pub fn hash(&self) -> TokenHash {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_looks_and_shows_itself_only_when_asked() {
        let (one, other) = (BearerToken::mint().unwrap(), BearerToken::mint().unwrap());
        assert_ne!(one.hash(), other.hash());
        assert_eq!(BearerToken::shown(one.reveal()).unwrap().hash(), one.hash());
        assert!(!format!("{one:?}").contains(&one.reveal()[PREFIX.len()..]));
        let upper = one.reveal().to_uppercase();
        for wrong in ["", "bst_", "bst_ff", &one.reveal()[1..], &upper, &format!("{} ", one.reveal())] {
            assert!(BearerToken::shown(wrong).is_none(), "{wrong}");
        }
    }
}
