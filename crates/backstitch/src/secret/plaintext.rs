//! How is a text in the clear kept from being shown, and gone when nobody needs it any more?

use std::fmt;
use std::sync::{Arc, Weak};

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A text in the clear that is never shown: `Debug` says only that there is one, there is no `Serialize`, and its memory
/// is overwritten when its last clone is dropped. A program may read one from its own configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct Plaintext(Arc<Zeroizing<String>>);

impl Plaintext {
    /// Keeps a text from being shown, from here on.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    /// The text itself. Where it leaves the program, and nowhere else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// As long as anybody has it.
    pub(super) fn while_it_lives(&self) -> Weak<Zeroizing<String>> {
        Arc::downgrade(&self.0)
    }
}

impl fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Plaintext([redacted])")
    }
}

impl fmt::Display for Plaintext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<'de> Deserialize<'de> for Plaintext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plaintext_is_never_shown() {
        let text = Plaintext::new("open sesame");
        assert_eq!(format!("{:?} {text}", Some(&text)), "Some(Plaintext([redacted])) [redacted]");
    }
}
