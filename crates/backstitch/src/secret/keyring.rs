//! How is a text sealed, so that only whoever has the key reads it, and equal texts stay equal?

use std::fmt;

use aes_siv::KeyInit;
use aes_siv::siv::Aes256Siv;
use zeroize::Zeroizing;

use super::{Form, NAME_BYTES_MAX, Plaintext, SECRET_BYTES_MAX, SECRET_BYTES_MIN, Secret, SecretError};

/// A key of AES-SIV with AES-256: one half authenticates, the other encrypts.
const KEY_BYTES: usize = 64;

/// What every sealed text is bound to beside its kind: the form of what is sealed. Another form is another number.
const FORM: &[u8] = b"backstitch secret 1";

/// The keys that seal and open secrets, each with its id. Cheap to make, and shown without its keys.
///
/// Sealing is deterministic (AES-SIV, RFC 5297): the same text for the same kind under the same key is the same
/// ciphertext. So an input with a sealed secret is the same input when it is asked for again under its idempotency key. The
/// price is that whoever sees two ciphertexts sees whether they hold the same text, and how long it is.
#[derive(Clone)]
pub struct Keyring {
    keys: Vec<Key>,
}

#[derive(Clone)]
struct Key {
    id: String,
    key: Zeroizing<[u8; KEY_BYTES]>,
}

impl Keyring {
    /// The keys of a text with one in each line: its id, blanks, and 128 hex digits. The first seals, all of them open.
    /// Empty lines and those that begin with `#` say nothing.
    ///
    /// # Errors
    /// When a line is no key, an id is there twice, or there is no key at all.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        let mut keys: Vec<Key> = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let invalid = |why| SecretError::InvalidKeyring { line: at + 1, why };
            let mut words = line.split_whitespace();
            let (id, digits) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(first), ..) if first.starts_with('#') => continue,
                (Some(id), Some(digits), None) if id.len() <= NAME_BYTES_MAX => (id, digits),
                _ => return Err(invalid("it is not an id and a key")),
            };
            if keys.iter().any(|key| key.id == id) {
                return Err(invalid("its id is there twice"));
            }
            let key = key(digits).ok_or_else(|| invalid("its key is not 128 hex digits"))?;
            keys.push(Key { id: id.to_owned(), key });
        }
        if keys.is_empty() {
            return Err(SecretError::InvalidKeyring { line: 0, why: "it has no key" });
        }
        Ok(Self { keys })
    }

    /// Seals a text to workflows of this kind, under the first key.
    ///
    /// # Errors
    /// When the text can't be a secret.
    pub fn seal(&self, kind: &str, text: &str) -> Result<Secret, SecretError> {
        seal(&self.keys[0], kind, text)
    }

    /// As [`seal`](Self::seal), under the key of this id: to ask again, after a rotation, for what was asked under an older
    /// key.
    ///
    /// # Errors
    /// When the text can't be a secret, or there is no such key.
    pub fn seal_under(&self, id: &str, kind: &str, text: &str) -> Result<Secret, SecretError> {
        seal(self.key(id)?, kind, text)
    }

    /// The text that was sealed to this kind.
    ///
    /// # Errors
    /// When its key is not here, when it does not open under it, or when it is a reference.
    pub fn open(&self, kind: &str, secret: &Secret) -> Result<Plaintext, SecretError> {
        match &secret.0 {
            Form::Reference(reference) => Err(SecretError::NotSealed { reference: reference.to_string() }),
            Form::Sealed { key, sealed } => self.open_sealed(kind, key, sealed),
        }
    }

    pub(super) fn open_sealed(&self, kind: &str, id: &str, sealed: &[u8]) -> Result<Plaintext, SecretError> {
        let unopened = || SecretError::Unopened { key: id.to_owned(), kind: kind.to_owned() };
        let opened =
            cipher(self.key(id)?).decrypt([FORM, kind.as_bytes()], sealed).map_err(|_| unopened())?;
        let text = String::from_utf8(opened).map_err(|_| unopened())?;
        Ok(Plaintext::new(text))
    }

    fn key(&self, id: &str) -> Result<&Key, SecretError> {
        let found = self.keys.iter().find(|key| key.id == id);
        found.ok_or_else(|| SecretError::KeyMissing { key: id.to_owned() })
    }
}

fn seal(key: &Key, kind: &str, text: &str) -> Result<Secret, SecretError> {
    check(text)?;
    let sealed = cipher(key).encrypt([FORM, kind.as_bytes()], text.as_bytes());
    let sealed = sealed.expect("two headers are fewer than the 126 that AES-SIV takes");
    Ok(Secret(Form::Sealed { key: key.id.clone(), sealed }))
}

/// Whether a text can be a secret.
pub(crate) fn check(text: &str) -> Result<(), SecretError> {
    let fits = (SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&text.len()) && !text.contains('\0');
    if fits { Ok(()) } else { Err(SecretError::InvalidText) }
}

fn cipher(key: &Key) -> Aes256Siv {
    Aes256Siv::new((&*key.key).into())
}

fn key(digits: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    if digits.len() != 2 * KEY_BYTES || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in key.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(key)
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.keys.iter().map(|key| &key.id)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyring(ids: &[(&str, &str)]) -> Keyring {
        let lines: String =
            ids.iter().map(|(id, byte)| format!("{id} {}\n", byte.repeat(KEY_BYTES))).collect();
        Keyring::parse(&lines).expect("a keyring")
    }

    #[test]
    fn the_same_text_is_sealed_the_same_and_nothing_else_is() {
        let ring = keyring(&[("new", "aa"), ("old", "bb")]);
        let seal = |kind, text| ring.seal(kind, text).expect("long enough");
        assert_eq!(seal("a", "open sesame"), seal("a", "open sesame"));
        assert_ne!(seal("a", "open sesame"), seal("b", "open sesame"), "bound to its kind");
        assert_ne!(seal("a", "open sesame"), seal("a", "open Sesame"));
        assert_ne!(
            seal("a", "open sesame"),
            ring.seal_under("old", "a", "open sesame").expect("it is there")
        );
    }

    #[test]
    fn what_is_sealed_opens_for_its_kind_alone_and_not_when_it_was_altered() {
        let ring = keyring(&[("2026-11", "aa")]);
        let secret = ring.seal("a", "open sesame").expect("long enough");
        assert_eq!(ring.open("a", &secret).expect("it opens").expose(), "open sesame");
        assert!(matches!(ring.open("b", &secret), Err(SecretError::Unopened { .. })));
        let Form::Sealed { key, sealed } = &secret.0 else { panic!("it is sealed") };
        for at in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[at] ^= 1;
            assert!(
                matches!(ring.open_sealed("a", key, &altered), Err(SecretError::Unopened { .. })),
                "{at}"
            );
        }
        assert!(matches!(ring.open_sealed("a", key, &sealed[..15]), Err(SecretError::Unopened { .. })));
    }

    #[test]
    fn after_a_rotation_the_old_key_opens_until_it_is_taken_away() {
        let before = keyring(&[("old", "bb")]).seal("a", "open sesame").expect("long enough");
        let both = keyring(&[("new", "aa"), ("old", "bb")]);
        assert_eq!(both.open("a", &before).expect("it opens").expose(), "open sesame");
        assert_eq!(both.seal_under("old", "a", "open sesame").expect("it is there"), before);
        let after = keyring(&[("new", "aa")]);
        assert_eq!(after.open("a", &before), Err(SecretError::KeyMissing { key: "old".into() }));
    }

    #[test]
    fn a_keyring_that_is_none_says_which_line_and_not_what_is_in_it() {
        let good = "ab".repeat(KEY_BYTES);
        for (text, line) in [
            (String::new(), 0),
            ("# none yet".to_owned(), 0),
            (good.clone(), 1),
            (format!("a {good}\n\nb {}", &good[2..]), 3),
            (format!("a {good}\na {good}"), 2),
            (format!("a {good} b"), 1),
            (format!("a {}zz", &good[2..]), 1),
        ] {
            let error = Keyring::parse(&text).expect_err(&text);
            assert!(matches!(error, SecretError::InvalidKeyring { line: at, .. } if at == line), "{error}");
            assert!(!error.to_string().contains("abab"), "{error}");
        }
    }

    #[test]
    fn a_text_that_could_not_be_told_from_others_is_no_secret() {
        let ring = keyring(&[("2026-11", "aa")]);
        for text in ["", "1234567", "open\0sesame", &"x".repeat(SECRET_BYTES_MAX + 1)] {
            assert_eq!(ring.seal("a", text), Err(SecretError::InvalidText));
        }
    }
}
