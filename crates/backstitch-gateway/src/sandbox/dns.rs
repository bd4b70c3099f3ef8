//! What does DNS say a name's addresses are?
//!
//! One question, one UDP datagram each way (RFC 1035); enough to see what a resolver would.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use crate::identifiers::Hostname;

/// The server is on this host.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Marks our question; a socket of our own hears no other answers than ours.
const QUESTION_ID: [u8; 2] = [0xb5, 0x17];
const HEADER_LENGTH: usize = 12;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;
const RCODE_OK: u8 = 0;
const RCODE_NO_SUCH_NAME: u8 = 3;

/// The IPv4 addresses of a name; none if there is no such name.
pub(super) async fn addresses(server: SocketAddr, hostname: &Hostname) -> io::Result<Vec<Ipv4Addr>> {
    let socket = UdpSocket::bind("127.0.0.1:0").await?;
    socket.connect(server).await?;
    socket.send(&question(hostname)).await?;
    let mut answer = [0; 1500];
    let length = tokio::time::timeout(ANSWER_TIMEOUT, socket.recv(&mut answer))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    read(&answer[..length])
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no answer that can be read"))?
}

fn question(hostname: &Hostname) -> Vec<u8> {
    let mut message = Vec::from(QUESTION_ID);
    // No flags; one question; no records.
    message.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in hostname.to_string().split('.') {
        message.push(u8::try_from(label.len()).expect("a label of a hostname has at most 63 bytes"));
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(TYPE_A.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    message
}

/// None if the message is cut short; an error if the server says that it failed.
fn read(message: &[u8]) -> Option<io::Result<Vec<Ipv4Addr>>> {
    let header = message.get(..HEADER_LENGTH)?;
    match header[3] & 0x0f {
        RCODE_OK => {}
        RCODE_NO_SUCH_NAME => return Some(Ok(Vec::new())),
        code => {
            return Some(Err(io::Error::other(format!("the server answered with code {code}"))));
        }
    }
    let answers = u16::from_be_bytes([header[6], header[7]]);
    // The name of the question, its type and its class.
    let mut rest = skip_name(&message[HEADER_LENGTH..])?.get(4..)?;
    let mut addresses = Vec::new();
    for _ in 0..answers {
        rest = skip_name(rest)?;
        let kind = u16::from_be_bytes([*rest.first()?, *rest.get(1)?]);
        let length = usize::from(u16::from_be_bytes([*rest.get(8)?, *rest.get(9)?]));
        let data = rest.get(10..10 + length)?;
        if let (TYPE_A, &[a, b, c, d]) = (kind, data) {
            addresses.push(Ipv4Addr::new(a, b, c, d));
        }
        rest = rest.get(10 + length..)?;
    }
    Some(Ok(addresses))
}

/// A name ends with an empty label or with a pointer to where the rest of it stands.
fn skip_name(mut rest: &[u8]) -> Option<&[u8]> {
    loop {
        match *rest.first()? {
            0 => return rest.get(1..),
            pointer if pointer & 0xc0 == 0xc0 => return rest.get(2..),
            length => rest = rest.get(1 + usize::from(length)..)?,
        }
    }
}
