//! What goes through a line: the messages of Postgres' protocol, as they come.

use std::collections::HashMap;

use tokio::io::{AsyncRead, AsyncReadExt};

/// One message of the protocol, as it came.
pub(super) struct Message {
    pub kind: u8,
    pub bytes: Vec<u8>,
}

/// The texts of a connection's prepared statements.
#[derive(Default)]
pub(super) struct Prepared(HashMap<Vec<u8>, String>);

impl Prepared {
    /// Takes note of a Parse: statement name, text.
    pub(super) fn note(&mut self, message: &Message) {
        if message.kind == b'P' {
            let mut words = message.body().split(|byte| *byte == 0);
            let (name, text) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            self.0.insert(name.to_vec(), String::from_utf8_lossy(text).into_owned());
        }
    }

    /// The statement that this message lets begin: a simple query, or a Bind of portal and statement.
    pub(super) fn text_begun_by(&self, message: &Message) -> Option<String> {
        let mut words = message.body().split(|byte| *byte == 0);
        match message.kind {
            b'Q' => words.next().map(|text| String::from_utf8_lossy(text).into_owned()),
            b'B' => words.nth(1).and_then(|name| self.0.get(name).cloned()),
            _ => None,
        }
    }
}

impl Message {
    fn body(&self) -> &[u8] {
        self.bytes.get(5..).unwrap_or_default()
    }

    /// An error is a list of fields, each a letter and a text that ends with a zero; the code's is C.
    pub(super) fn error_code(&self) -> Option<String> {
        let fields = (self.kind == b'E').then(|| self.body().split(|byte| *byte == 0))?;
        let code = fields.filter_map(|field| field.strip_prefix(b"C")).next()?;
        Some(String::from_utf8_lossy(code).into_owned())
    }

    /// Whether a field of a composite in it is this text: in the binary format its type and length stand before it.
    pub(super) fn carries(&self, field: &str) -> bool {
        const TEXT: u32 = 25;
        let length = u32::try_from(field.len()).expect("a short word");
        let wanted = [&TEXT.to_be_bytes()[..], &length.to_be_bytes(), field.as_bytes()].concat();
        self.body().windows(wanted.len()).any(|bytes| bytes == wanted)
    }
}

/// The next one.
pub(super) async fn next(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Message> {
    let kind = from.read_u8().await?;
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = vec![kind];
    bytes.extend(length);
    bytes.resize(5 + rest_of(length)?, 0);
    from.read_exact(&mut bytes[5..]).await?;
    Ok(Message { kind, bytes })
}

/// How much is still to come of what says first how long it is.
fn rest_of(length: [u8; 4]) -> std::io::Result<usize> {
    usize::try_from(i32::from_be_bytes(length) - 4).map_err(|_| std::io::ErrorKind::InvalidData.into())
}

/// The first message of a connection, which has no kind: its length, then the rest.
pub(super) async fn startup(from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut length = [0; 4];
    from.read_exact(&mut length).await?;
    let mut bytes = length.to_vec();
    bytes.resize(4 + rest_of(length)?, 0);
    from.read_exact(&mut bytes[4..]).await?;
    Ok(bytes)
}
