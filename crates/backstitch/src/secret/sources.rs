//! Where does a worker find what secrets stand for?

use std::collections::{BTreeSet, HashMap};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::io::AsyncReadExt;

use super::keyring::check;
use super::{Form, Keyring, Plaintext, Reference, SECRET_BYTES_MAX, Secret, SecretError};
use crate::future::BoxFuture;

/// What a worker can reveal: by its keyring what is sealed, by its sources what is referred to.
///
/// A reference comes from whoever asks for a workflow, so a source gives only what it was told to give: an environment
/// variable that is named here, a file that lies in the directory named here.
#[derive(Clone, Default)]
pub struct Secrets {
    keyring: Option<Keyring>,
    sources: HashMap<String, Source>,
}

type Source = Arc<dyn Fn(String) -> BoxFuture<'static, Result<Plaintext, Refused>> + Send + Sync>;

/// Why a source does not give a secret, in its own words. They are journaled, so they must not quote any.
type Refused = Box<dyn Error + Send + Sync>;

impl Secrets {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens, and seals, by these keys.
    #[must_use]
    pub fn keyring(self, keyring: Keyring) -> Self {
        Self { keyring: Some(keyring), ..self }
    }

    /// `env:NAME` is the environment variable of that name, of these and no others.
    #[must_use]
    pub fn environment(self, names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let names: BTreeSet<String> = names.into_iter().map(Into::into).collect();
        self.source("env", move |name: String| {
            let named = names.contains(&name);
            async move {
                if !named {
                    return Err("the worker was not told to give this variable".into());
                }
                // A variable that is no text would be quoted by the error.
                let text = std::env::var(&name).map_err(|_| "the variable is not set, or is no text")?;
                Ok(Plaintext::new(text))
            }
        })
    }

    /// `file:NAME` is the file of that name in this directory, without the line break at its end. Read anew by each attempt,
    /// so a secret that is changed there is heeded.
    #[must_use]
    pub fn directory(self, directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        self.source("file", move |name: String| {
            let path = directory.join(&name);
            async move {
                if name.contains(['/', '\\', '\0']) || name.starts_with('.') {
                    return Err("give the name of a file in the worker's directory, not a path".into());
                }
                let file = tokio::fs::File::open(path).await?;
                let mut text = String::new();
                file.take(SECRET_BYTES_MAX as u64 + 2).read_to_string(&mut text).await?;
                if text.ends_with('\n') {
                    text.pop();
                }
                Ok(Plaintext::new(text))
            }
        })
    }

    /// `source:name` is what this gives for `name`: a vault, a cloud's store. Its error is journaled and must not quote a
    /// secret.
    ///
    /// ```
    /// # use backstitch::{Plaintext, Secrets};
    /// # async fn read_from_vault(_: &str) -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let secrets = Secrets::new().source("vault", async |name: String| {
    ///     Ok(Plaintext::new(read_from_vault(&name).await?))
    /// });
    /// ```
    #[must_use]
    pub fn source<F, R>(mut self, source: impl Into<String>, give: F) -> Self
    where
        F: Fn(String) -> R + Send + Sync + 'static,
        R: Future<Output = Result<Plaintext, Refused>> + Send + 'static,
    {
        self.sources.insert(source.into(), Arc::new(move |name| Box::pin(give(name))));
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keyring.is_none() && self.sources.is_empty()
    }

    /// The text itself, of a workflow of this kind.
    pub(crate) async fn reveal(&self, kind: &str, secret: &Secret) -> Result<Plaintext, SecretError> {
        match &secret.0 {
            Form::Reference(reference) => self.resolve(reference).await,
            Form::Sealed { key, sealed } => match &self.keyring {
                Some(keyring) => keyring.open_sealed(kind, key, sealed),
                None => Err(SecretError::KeyMissing { key: key.clone() }),
            },
        }
    }

    /// The text, sealed to this kind.
    pub(crate) fn seal(&self, kind: &str, text: &str) -> Result<Secret, SecretError> {
        match &self.keyring {
            Some(keyring) => keyring.seal(kind, text),
            None => Err(SecretError::KeyringMissing),
        }
    }

    async fn resolve(&self, reference: &Reference) -> Result<Plaintext, SecretError> {
        let told = reference.to_string();
        let Some(source) = self.sources.get(&reference.source) else {
            return Err(SecretError::SourceMissing { reference: told });
        };
        let unresolved = |why: String| SecretError::Unresolved { reference: told, why };
        match source(reference.name.clone()).await {
            Ok(text) if check(text.expose()).is_ok() => Ok(text),
            Ok(_) => Err(unresolved(SecretError::InvalidText.to_string())),
            Err(error) => Err(unresolved(error.to_string())),
        }
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: BTreeSet<_> = self.sources.keys().collect();
        f.debug_struct("Secrets").field("keyring", &self.keyring).field("sources", &sources).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn why(secrets: &Secrets, reference: &str) -> String {
        let secret = Secret::reference(reference).expect("a reference");
        secrets.reveal("toy", &secret).await.expect_err(reference).to_string()
    }

    #[tokio::test]
    async fn a_file_of_the_directory_is_found_and_no_other() {
        let outside = tempfile::tempdir().expect("a directory");
        let inside = outside.path().join("secrets");
        std::fs::create_dir(&inside).expect("made");
        std::fs::write(outside.path().join("key"), "not for you").expect("written");
        std::fs::write(inside.join("key"), "open sesame\n").expect("written");
        std::fs::write(inside.join("short"), "sesame\n").expect("written");
        let secrets = Secrets::new().directory(&inside);
        let found = secrets.reveal("toy", &Secret::reference("file:key").expect("a reference")).await;
        assert_eq!(found.expect("it is there").expose(), "open sesame");
        for path in ["file:../key", "file:/etc/passwd", "file:.", "file:..", "file:a/../../key", "file:\0"] {
            let error = why(&secrets, path).await;
            assert!(error.contains("not a path"), "{error}");
        }
        assert!(why(&secrets, "file:absent").await.contains("No such file"));
        assert!(why(&secrets, "file:short").await.contains("8 to"));
    }

    #[tokio::test]
    async fn a_variable_that_was_not_named_is_not_given() {
        let secrets = Secrets::new().environment(["BACKSTITCH_NO_SUCH_VARIABLE"]);
        assert!(why(&secrets, "env:PATH").await.contains("not told to give"));
        assert!(why(&secrets, "env:BACKSTITCH_NO_SUCH_VARIABLE").await.contains("not set"));
        assert!(why(&secrets, "vault:key").await.contains("no source that has it"));
    }
}
