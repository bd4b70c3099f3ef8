//! Which JSON may enter the journal: text that Postgres takes, that fits, and that decodes to the same value every time.

use std::fmt;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::RawValue;

use crate::limits::DEPTH_MAX;

/// A JSON text that has passed the door: bounded in size and depth, without null bytes and lone surrogates.
///
/// It is kept as text, because the journal keeps it as text: what a step hands over is decoded from these very bytes,
/// the first time as in every replay.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Json(Arc<str>);

/// Why a value can't be journaled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JsonError {
    /// The text is no JSON at all.
    #[error("is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// The type's own `Serialize` or `Deserialize` said no.
    #[error("does not fit its type: {0}")]
    Shape(#[from] serde_json::Error),
    /// Longer than its place allows.
    #[error(
        "is {bytes} bytes of JSON, more than the {max} allowed here; keep large data elsewhere and pass its address"
    )]
    TooLong {
        /// What it is.
        bytes: usize,
        /// What it may be.
        max: usize,
    },
    /// Nested too deeply.
    #[error("is nested deeper than the {DEPTH_MAX} levels allowed")]
    TooDeep,
    /// Contains `\u0000`, which Postgres can't keep.
    #[error("contains a null character (\\u0000) at byte {at}, which Postgres cannot store")]
    NullCharacter {
        /// Where, in bytes of the JSON text.
        at: usize,
    },
    /// Contains half of a surrogate pair, which is no character.
    #[error("contains half a surrogate pair (\\ud800..\\udfff) at byte {at}, which is no character")]
    LoneSurrogate {
        /// Where, in bytes of the JSON text.
        at: usize,
    },
}

impl Json {
    /// The JSON of `value`, at most `bytes_max` long.
    ///
    /// # Errors
    /// When the value does not serialize or does not pass the door.
    pub fn encode<T: Serialize + ?Sized>(value: &T, bytes_max: usize) -> Result<Self, JsonError> {
        Self::checked(serde_json::to_string(value)?, bytes_max)
    }

    /// A JSON text from outside, at most `bytes_max` long.
    ///
    /// # Errors
    /// When it is no JSON or does not pass the door.
    pub fn parse(text: &str, bytes_max: usize) -> Result<Self, JsonError> {
        if text.len() > bytes_max {
            return Err(JsonError::TooLong { bytes: text.len(), max: bytes_max });
        }
        // Depth before shape: the parser's own limit would speak of recursion, not of ours.
        check_text(text)?;
        serde_json::from_str::<&RawValue>(text).map_err(JsonError::NotJson)?;
        Ok(Self(text.into()))
    }

    /// A text that the journal already holds. It passed the door when it was written.
    #[must_use]
    pub fn from_journal(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The value that this text holds.
    ///
    /// # Errors
    /// When the text does not fit the type.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, JsonError> {
        Ok(serde_json::from_str(&self.0)?)
    }

    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both texts hold the same value, however their members are ordered.
    #[must_use]
    pub fn same_value(&self, other: &Self) -> bool {
        self.0 == other.0
            || match (self.decode::<serde_json::Value>(), other.decode::<serde_json::Value>()) {
                (Ok(ours), Ok(theirs)) => ours == theirs,
                _ => false,
            }
    }

    fn checked(text: String, bytes_max: usize) -> Result<Self, JsonError> {
        if text.len() > bytes_max {
            return Err(JsonError::TooLong { bytes: text.len(), max: bytes_max });
        }
        check_text(&text)?;
        Ok(Self(text.into()))
    }
}

/// Reads the text once: depth, null characters, surrogates. Whether it is JSON at all is the parser's business.
fn check_text(text: &str) -> Result<(), JsonError> {
    let bytes = text.as_bytes();
    let (mut at, mut depth, mut in_string) = (0, 0_usize, false);
    while at < bytes.len() {
        match (in_string, bytes[at]) {
            (true, b'\\') if bytes.get(at + 1) == Some(&b'u') => {
                at += check_escape(bytes, at)?;
                continue;
            }
            (true, b'\\') => at += 1,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(JsonError::TooDeep);
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// How many bytes the escape at `at` takes, if it is one that Postgres can keep.
fn check_escape(bytes: &[u8], at: usize) -> Result<usize, JsonError> {
    match code_unit(bytes, at) {
        Some(0) => Err(JsonError::NullCharacter { at }),
        Some(0xD800..=0xDBFF) => match code_unit(bytes, at + 6) {
            Some(0xDC00..=0xDFFF) => Ok(12),
            _ => Err(JsonError::LoneSurrogate { at }),
        },
        Some(0xDC00..=0xDFFF) => Err(JsonError::LoneSurrogate { at }),
        Some(_) => Ok(6),
        // Not four hex digits: no JSON, and the parser says so better.
        None => Ok(2),
    }
}

fn code_unit(bytes: &[u8], at: usize) -> Option<u16> {
    let escape = bytes.get(at..at + 6)?;
    let digits = escape.strip_prefix(b"\\u")?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        Ok(Self(raw.get().into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_byte_and_deep_json_and_oversize_are_refused() {
        let deep = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
        let table = [
            (r#""a\u0000b""#.to_owned(), "null character"),
            (r#"{"a":"\ud800"}"#.to_owned(), "surrogate"),
            (r#""\udc00\ud800""#.to_owned(), "surrogate"),
            (r#""\ud83dx""#.to_owned(), "surrogate"),
            (deep(DEPTH_MAX + 1), "deeper"),
            (deep(100_000), "deeper"),
            ("[1,".to_owned(), "is not JSON"),
            (format!("\"{}\"", "x".repeat(200_000)), "200002 bytes"),
        ];
        for (text, expected) in table {
            let error = Json::parse(&text, 150_000.max(deep(100_000).len().min(200_001)))
                .expect_err(&text[..20.min(text.len())]);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn what_looks_alike_but_is_harmless_passes() {
        for text in [r#""\\u0000""#, r#""\ud83d\ude00""#, r#"{"[[[":"{{{"}"#, r#""a\"[""#, "null"] {
            assert_eq!(Json::parse(text, 1000).expect(text).as_str(), text);
        }
        assert!(Json::parse(&("[".repeat(DEPTH_MAX) + &"]".repeat(DEPTH_MAX)), 1000).is_ok());
    }

    #[test]
    fn the_order_of_members_does_not_matter() {
        let json = |text| Json::from_journal(text);
        assert!(json(r#"{"a":1,"b":[2]}"#).same_value(&json(r#"{ "b": [2], "a": 1 }"#)));
        assert!(!json(r#"{"a":1}"#).same_value(&json(r#"{"a":2}"#)));
    }
}
