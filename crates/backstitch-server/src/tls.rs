//! With which certificate does the daemon speak TLS?

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use tokio_rustls::rustls::{self, ServerConfig};

/// A certificate with its key. Read once: a new one is for the next start.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why TLS can't be spoken.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read, or is no PEM of this.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// The certificate, or the key.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: pem::Error,
    },
    /// There is no certificate in the file.
    #[error("the certificate {}: there is none in it", .0.display())]
    NoCertificate(PathBuf),
    /// They can't be used, or not together.
    #[error("the certificate and its key: {0}")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// From PEM files: the certificate with those between it and a known authority, and its private key.
    ///
    /// # Errors
    /// When they can't be read or used.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain: Vec<_> =
            CertificateDer::pem_file_iter(certificate).and_then(Iterator::collect).map_err(|source| {
                TlsError::File { what: "the certificate", path: certificate.to_owned(), source }
            })?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.to_owned()));
        }
        let key = PrivateKeyDer::from_pem_file(key).map_err(|source| TlsError::File {
            what: "the key",
            path: key.to_owned(),
            source,
        })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Takes connections with it.
    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.0.clone())
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(…)")
    }
}
