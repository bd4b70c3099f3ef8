//! How does a workflow hold what nobody may read: a password, a key, a token?
//!
//! A [`Secret`] is a field of an input or an output. The journal holds where it is to be found, or its ciphertext, and never
//! the text itself. Only an attempt reveals it ([`Attempt::reveal`](crate::Attempt::reveal)), for as long as it runs; what it
//! was told is then kept out of its error, its panic and its output.

mod keyring;
mod panics;
mod plaintext;
mod revealed;
mod shown;
mod sources;
mod spelling;

use std::fmt;

use backstitch_core::failure::StepError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use keyring::Keyring;
pub(crate) use panics::keep_out_of_panics;
pub use plaintext::Plaintext;
pub(crate) use revealed::Revealed;
pub use shown::redacted;
pub use sources::Secrets;

/// The shortest text that can be a secret: a shorter one could not be told from what happens to stand in an error or an
/// output, and any program guesses it.
pub const SECRET_BYTES_MIN: usize = 8;

/// The longest: a private key with its certificates fits, and four of them into one input.
pub const SECRET_BYTES_MAX: usize = 48 * 1024;

/// The longest reference, and the longest id of a key.
const NAME_BYTES_MAX: usize = 500;

/// What nobody may read, as a field of a workflow, a step or an output. `Debug`, `Display` and every view redact it.
///
/// It is one of two. A *reference* says where the worker finds it, in a source that the worker was given:
/// `{"$secret": {"reference": "env:PDNS_KEY"}}`. A *sealed* one is encrypted to the kind of its workflow:
/// `{"$secret": {"key": "2026-11", "sealed": "…"}}`. There is no third that holds the text itself, so none can be journaled.
///
/// ```
/// use backstitch::{Attempt, Backward, Keyring, Secret, Secrets, Step, StepError};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct RegisterName {
///     name: String,
///     api_key: Secret,
/// }
///
/// impl Step<()> for RegisterName {
///     const NAME: &'static str = "register-name";
///     const BACKWARD: Backward<Self, ()> = Backward::nothing_because("the example ends here");
///     type Output = ();
///
///     async fn run(&self, _: &(), attempt: &Attempt) -> Result<(), StepError> {
///         let api_key = attempt.reveal(&self.api_key).await?;
///         println!("X-API-Key has {} bytes", api_key.expose().len()); // the one place where it leaves: the request
///         Ok(())
///     }
/// }
///
/// # fn main() -> Result<(), backstitch::SecretError> {
/// // Whoever asks has no more than the name of it,
/// let referred = RegisterName { name: "org-7".into(), api_key: Secret::reference("env:PDNS_KEY")? };
/// // or a key that the workers have too. Equal texts are sealed equally, so an idempotency key still finds its workflow.
/// let keyring = Keyring::parse(&format!("2026-11 {}", "0f".repeat(64)))?;
/// let sealed = RegisterName { name: "org-7".into(), api_key: keyring.seal("gateway.start", "open sesame")? };
/// assert_eq!(sealed.api_key, keyring.seal("gateway.start", "open sesame")?);
/// assert_eq!(format!("{:?}", sealed.api_key), "Secret([redacted], sealed under 2026-11)");
///
/// // And the worker is given: `Worker::new(database, ()).secrets(secrets)`.
/// let secrets = Secrets::new().keyring(keyring).environment(["PDNS_KEY"]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    Reference(Reference),
    Sealed { key: String, sealed: Vec<u8> },
}

/// `source:name`.
#[derive(Clone, PartialEq, Eq)]
struct Reference {
    source: String,
    name: String,
}

impl Secret {
    /// A secret that the worker finds in one of its sources: `env:NAME`, `file:NAME`, or one of its own.
    ///
    /// # Errors
    /// When it is not of the form `source:name`.
    pub fn reference(reference: &str) -> Result<Self, SecretError> {
        Reference::parse(reference).map(Form::Reference).map(Self)
    }
}

impl Reference {
    fn parse(reference: &str) -> Result<Self, SecretError> {
        match reference.split_once(':') {
            Some((source, name))
                if !source.is_empty() && !name.is_empty() && reference.len() <= NAME_BYTES_MAX =>
            {
                Ok(Self { source: source.to_owned(), name: name.to_owned() })
            }
            _ => Err(SecretError::InvalidReference),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.source, self.name)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Reference(reference) => write!(f, "[redacted], found at {reference}"),
            Form::Sealed { key, .. } => write!(f, "[redacted], sealed under {key}"),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

/// The member that makes an object a secret.
const MARK: &str = "$secret";

/// A secret as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Marked {
    #[serde(rename = "$secret")]
    secret: Written,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Reference(WrittenReference),
    Sealed(WrittenSealed),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenReference {
    reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenSealed {
    key: String,
    sealed: String,
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let secret = match &self.0 {
            Form::Reference(reference) => {
                Written::Reference(WrittenReference { reference: reference.to_string() })
            }
            Form::Sealed { key, sealed } => {
                Written::Sealed(WrittenSealed { key: key.clone(), sealed: STANDARD_NO_PAD.encode(sealed) })
            }
        };
        Marked { secret }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // By way of a value: the errors of serde quote what they can't take, and here that may be the text in the clear.
        let value = serde_json::Value::deserialize(deserializer)?;
        // An array would be taken for a struct's fields in their order.
        let is_marked = value.get(MARK).is_some_and(serde_json::Value::is_object);
        let marked = is_marked.then(|| serde_json::from_value::<Marked>(value).ok()).flatten();
        let form = marked.and_then(|marked| match marked.secret {
            Written::Reference(written) => Reference::parse(&written.reference).ok().map(Form::Reference),
            Written::Sealed(written) if (1..=NAME_BYTES_MAX).contains(&written.key.len()) => {
                let sealed = STANDARD_NO_PAD.decode(&written.sealed).ok()?;
                Some(Form::Sealed { key: written.key, sealed })
            }
            Written::Sealed(_) => None,
        });
        form.map(Self).ok_or_else(|| {
            D::Error::custom(
                "a secret is {\"$secret\": {\"reference\": \"source:name\"}} or one that a keyring has sealed (`backstitch seal`), \
                 never the text itself",
            )
        })
    }
}

/// Why a secret can't be made, or not be revealed. As the error of a step it is tried again where a deployment mends it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// Too short or too long, or with a null character.
    #[error("a secret has {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} bytes, none of them null")]
    InvalidText,
    /// Not of the form `source:name`.
    #[error(
        "a reference to a secret is source:name, such as env:PDNS_KEY, in at most {NAME_BYTES_MAX} bytes"
    )]
    InvalidReference,
    /// A line of a keyring is no key.
    #[error(
        "line {line} of the keyring: {why}; a line is an id and 128 hex digits, as of `openssl rand -hex 64`"
    )]
    InvalidKeyring {
        /// Which line, from 1. 0: there is none.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The keyring has no such key.
    #[error("the secret is sealed under key {key}, which the keyring here lacks: give it, and try again")]
    KeyMissing {
        /// Its id.
        key: String,
    },
    /// There is nothing to seal with.
    #[error("the worker was given no keyring to seal a secret with: give it one, and try again")]
    KeyringMissing,
    /// The worker has no such source.
    #[error(
        "the secret is found at {reference}, and the worker was given no source that has it: give it one, and try again"
    )]
    SourceMissing {
        /// Where it should be.
        reference: String,
    },
    /// The source did not give it.
    #[error("the secret at {reference}: {why}")]
    Unresolved {
        /// Where it should be.
        reference: String,
        /// What the source said.
        why: String,
    },
    /// It is not what this key sealed to this kind.
    #[error(
        "the secret does not open under key {key}: it was altered, or sealed to another kind than {kind}"
    )]
    Unopened {
        /// The key's id.
        key: String,
        /// The kind.
        kind: String,
    },
    /// A keyring opens what is sealed; a reference is resolved by a worker.
    #[error("the secret is found at {reference}, where only a worker looks")]
    NotSealed {
        /// Where it is.
        reference: String,
    },
}

impl SecretError {
    /// The word for it in errors of steps.
    fn code(&self) -> &'static str {
        match self {
            Self::KeyMissing { .. } | Self::KeyringMissing => "secret_key_missing",
            Self::SourceMissing { .. } => "secret_source_missing",
            Self::Unresolved { .. } => "secret_unresolved",
            Self::Unopened { .. } => "secret_unopened",
            Self::InvalidText
            | Self::InvalidReference
            | Self::InvalidKeyring { .. }
            | Self::NotSealed { .. } => "secret_invalid",
        }
    }
}

impl From<SecretError> for StepError {
    fn from(error: SecretError) -> Self {
        match error {
            SecretError::KeyMissing { .. }
            | SecretError::KeyringMissing
            | SecretError::SourceMissing { .. }
            | SecretError::Unresolved { .. } => Self::retry(error.code(), error),
            _ => Self::fail(error.code(), error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let referred = Secret::reference("env:PDNS_KEY").expect("a reference");
        assert_eq!(
            format!("{referred:?} {referred}"),
            "Secret([redacted], found at env:PDNS_KEY) [redacted], found at env:PDNS_KEY"
        );
        let keyring = Keyring::parse(&format!("2026-11 {}", "0f".repeat(64))).expect("a keyring");
        let sealed = keyring.seal("toy", "open sesame").expect("long enough");
        assert!(!format!("{sealed:?} {keyring:?}").contains("sesame"));
        assert!(!format!("{keyring:?}").contains("0f"), "{keyring:?}");
    }

    #[test]
    fn a_text_in_the_clear_is_no_secret_and_the_error_does_not_quote_it() {
        let shapes = [
            r#""open sesame""#,
            r#"{"$secret":"open sesame"}"#,
            r#"{"$secret":{"reference":"open sesame"}}"#,
            r#"{"$secret":{"key":"2026-11","sealed":"open sesame"}}"#,
            r#"{"$secret":{"plain":"open sesame"}}"#,
            r#"{"$secret":{"reference":"env:A","plain":"open sesame"}}"#,
            r#"{"$secret":{"reference":"env:A"},"plain":"open sesame"}"#,
            r#"["open sesame"]"#,
            r#"{"$secret":["open:sesame"]}"#,
            "7",
        ];
        for shape in shapes {
            let error = serde_json::from_str::<Secret>(shape).expect_err(shape).to_string();
            assert!(error.contains("never the text itself") && !error.contains("sesame"), "{shape}: {error}");
        }
    }

    #[test]
    fn a_secret_is_read_as_it_was_written() {
        for text in [
            r#"{"$secret":{"reference":"env:PDNS_KEY"}}"#,
            r#"{"$secret":{"key":"2026-11","sealed":"AAEC"}}"#,
        ] {
            let secret: Secret = serde_json::from_str(text).expect(text);
            assert_eq!(serde_json::to_string(&secret).expect(text), text);
        }
    }

    #[test]
    fn what_a_deployment_mends_is_tried_again() {
        let missing = SecretError::KeyMissing { key: "2026-11".into() };
        assert!(
            matches!(StepError::from(missing), StepError::Retry(failure) if failure.code == "secret_key_missing")
        );
        let unopened = SecretError::Unopened { key: "2026-11".into(), kind: "toy".into() };
        assert!(
            matches!(StepError::from(unopened), StepError::Fail(failure) if failure.code == "secret_unopened")
        );
    }
}
