//! What stands in a path, a query and a body, and which of it can't be taken?

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use backstitch::{Position, WorkflowId};
use chrono::{DateTime, Utc};
use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use uuid::Uuid;

use crate::body::read_value;
use crate::problem::Problem;
use crate::refusal::Refusal;

/// How much of a value that can't be taken is repeated: enough to find it by.
const SHOWN_CHARACTERS_MAX: usize = 50;

/// A text that Postgres can hold: anything without a null character.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Text(String);

impl Text {
    /// One of ours.
    pub fn from_static(text: &'static str) -> Self {
        Self(text.to_owned())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text.
    pub fn into_string(self) -> String {
        self.0
    }
}

impl TryFrom<String> for Text {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, &'static str> {
        if text.contains('\0') {
            Err("a null character can't be stored: leave it out")
        } else {
            Ok(Self(text))
        }
    }
}

/// The workflow that the path names.
#[derive(Debug)]
pub struct Of(pub WorkflowId);

impl<S: Send + Sync> FromRequestParts<S> for Of {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        let workflow = named.ok().and_then(|text| text.parse().ok());
        let wrong = "the path names no workflow: give its id, such as 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
        workflow.map(Self).ok_or_else(|| Refusal::invalid(wrong).into())
    }
}

/// The workflow that the path names, and the step of it.
#[derive(Debug)]
pub struct OfStep(pub WorkflowId, pub Position);

impl<S: Send + Sync> FromRequestParts<S> for OfStep {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<(String, String)>::from_request_parts(parts, state).await;
        let read = |(workflow, position): (String, String)| {
            Some(Self(workflow.parse().ok()?, Position(position.parse().ok()?)))
        };
        let wrong = "the path names no step: give the workflow's id, and the step's position, counted from 0";
        named.ok().and_then(|Path(named)| read(named)).ok_or_else(|| Refusal::invalid(wrong).into())
    }
}

/// The kind that the path names.
#[derive(Debug)]
pub struct OfKind(pub Text);

impl<S: Send + Sync> FromRequestParts<S> for OfKind {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<String>::from_request_parts(parts, state).await;
        let kind = named.ok().and_then(|Path(text)| Text::try_from(text).ok());
        let wrong =
            "the path names no kind: give its name, percent-encoded as UTF-8, without a null character";
        kind.map(Self).ok_or_else(|| Refusal::invalid(wrong).into())
    }
}

/// The query.
#[derive(Debug)]
pub struct Asked<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let query = Query::try_from_uri(&parts.uri)
            .map_err(|error| Refusal::invalid(format!("the query can't be read: {}", error.body_text())))?;
        Ok(Self(query.0))
    }
}

/// A JSON body.
#[derive(Debug)]
pub struct Sent<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Sent<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let Named(sent) = read_value(request).await?;
        Ok(Self(sent))
    }
}

/// An object of JSON. Left to itself, serde takes an array for one, by the order of its members.
#[derive(Debug)]
pub struct Named<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Members(PhantomData)).map(Self)
    }
}

struct Members<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Members<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, members: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(members))
    }
}

/// A time, if one is given.
pub fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DateTime<Utc>>, D::Error> {
    given(deserializer, "time: give one such as 2027-01-31T12:00:00Z")
}

/// A UUID, if one is given.
pub fn uuid<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Uuid>, D::Error> {
    given(deserializer, "UUID: give one such as 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10")
}

/// In the place of what a parser says, which tells where it stopped, and not what it would have taken.
fn given<'de, D: Deserializer<'de>, T: FromStr>(deserializer: D, what: &str) -> Result<Option<T>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let wrong = |text: &str| {
        let shown: String = text.chars().take(SHOWN_CHARACTERS_MAX).collect();
        D::Error::custom(format!("{shown:?} is no {what}"))
    };
    text.map(|text| text.parse().map_err(|_| wrong(&text))).transpose()
}

/// A span of time: 500ms, 30s or 2m. None: it is none.
pub fn span(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    match unit {
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_time_and_no_uuid_is_shown_with_one_that_is() {
        #[derive(Debug, Deserialize)]
        struct Both {
            #[serde(default, deserialize_with = "time")]
            at: Option<DateTime<Utc>>,
            #[serde(default, deserialize_with = "uuid")]
            id: Option<Uuid>,
        }
        fn read(text: &str) -> serde_json::Result<Both> {
            serde_json::from_str(text)
        }
        for none in ["{}", r#"{"at": null, "id": null}"#] {
            assert!(read(none).is_ok_and(|both| both.at.is_none() && both.id.is_none()), "{none}");
        }
        let both = r#"{"at": "2027-01-31T12:00:00Z", "id": "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10"}"#;
        assert!(read(both).is_ok_and(|both| both.at.is_some() && both.id.is_some()));
        let said = |text: &str| read(text).expect_err("neither").to_string();
        let at = said(r#"{"at": "tomorrow\n"}"#);
        assert!(at.starts_with(r#""tomorrow\n" is no time: give one such as 2027-"#), "{at}");
        let id = said(r#"{"id": "abc"}"#);
        assert!(id.starts_with(r#""abc" is no UUID: give one such as 0193"#), "{id}");
    }

    #[test]
    fn a_span_has_a_number_and_a_unit() {
        for (text, milliseconds) in [("0s", 0), ("500ms", 500), ("30s", 30_000), ("2m", 120_000)] {
            assert_eq!(span(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for wrong in
            ["", "30", "s", "-1s", "1.5s", "1h", "99999999999999999999s", "307445734561825861m", "١s"]
        {
            assert_eq!(span(wrong), None, "{wrong}");
        }
    }
}
