//! Does a daemon live at this place already?
//!
//! It is asked whether it is live, and told nothing. So any certificate will do: the name that it is for is not that of the
//! place, and the file may be a newer one than a daemon has that was not started again yet.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use crate::listen::Place;

/// A daemon on this host answers its health at once.
const HEALTH_TIME: Duration = Duration::from_secs(2);

/// As much of an answer as tells whether it is good.
const GOOD: &[u8] = b"HTTP/1.1 200 ";

/// Whether somebody there answers as a daemon that is live, and speaks TLS if one would here.
pub async fn is_live(place: &Place) -> bool {
    let asked = async {
        let address = reached_at(place.address());
        let connection = TcpStream::connect(address).await?;
        match place.tls() {
            None => ask(connection, address).await,
            Some(_) => {
                let name = ServerName::IpAddress(address.ip().into());
                let connector = TlsConnector::from(Arc::new(client()?));
                ask(connector.connect(name, connection).await?, address).await
            }
        }
    };
    matches!(timeout(HEALTH_TIME, asked).await, Ok(Ok(true)))
}

/// Whoever listens everywhere is reached on loopback.
fn reached_at(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

async fn ask(mut connection: impl AsyncRead + AsyncWrite + Unpin, address: SocketAddr) -> io::Result<bool> {
    let request = format!("GET /health/live HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).await?;
    connection.flush().await?;
    let mut answer = [0; GOOD.len()];
    connection.read_exact(&mut answer).await?;
    Ok(answer == GOOD)
}

fn client() -> io::Result<ClientConfig> {
    let provider = Arc::new(default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_no_client_auth();
    Ok(client)
}

/// Takes any certificate whose key the other end has.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_listens_everywhere_is_reached_on_loopback() {
        for (listen, reached) in [
            ("0.0.0.0:7410", "127.0.0.1:7410"),
            ("[::]:7410", "[::1]:7410"),
            ("192.0.2.1:7410", "192.0.2.1:7410"),
        ] {
            assert_eq!(reached_at(listen.parse().expect(listen)).to_string(), reached);
        }
    }
}
