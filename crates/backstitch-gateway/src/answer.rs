//! How much of a server's answer is read?
//!
//! As much as an honest one has, and no more: one that goes on and on must not fill the memory of a worker.

use reqwest::Response;
use serde::de::DeserializeOwned;

/// What a gateway says of itself and the records of one name have less than 1 KiB, an error page has a few.
pub(crate) const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Why an answer could not be taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unreadable {
    #[error("the answer is longer than {} KiB", bytes_max / 1024)]
    TooLong { bytes_max: usize },
    #[error("the answer broke off: {0}")]
    Broken(#[source] reqwest::Error),
    #[error("the answer is not what was asked for: {0}")]
    Other(#[source] serde_json::Error),
}

/// The answer, if it is no longer than that and says what was asked for.
pub(crate) async fn json<T: DeserializeOwned>(answer: Response, bytes_max: usize) -> Result<T, Unreadable> {
    serde_json::from_slice(&bytes(answer, bytes_max).await?).map_err(Unreadable::Other)
}

/// The text of an error page, for people; empty where it can't be had.
pub(crate) async fn text(answer: Response) -> String {
    let bytes = bytes(answer, ANSWER_BYTES_MAX).await.unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn bytes(mut answer: Response, bytes_max: usize) -> Result<Vec<u8>, Unreadable> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| Unreadable::Broken(error.without_url()))? {
        if bytes.len() + chunk.len() > bytes_max {
            return Err(Unreadable::TooLong { bytes_max });
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
