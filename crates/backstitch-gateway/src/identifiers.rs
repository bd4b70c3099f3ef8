//! Which names may reach a file, a zone, a shell or a statement?
//!
//! Only values of these types do, and only parsing makes them: an organisation is a UUID in its one canonical form, a
//! domain is letters, digits and hyphens. What is printed again is what was understood, never what was sent.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

/// Longest name that DNS carries, in its text form (RFC 1035).
const NAME_LENGTH_MAX: usize = 253;
/// Longest label (RFC 1035).
const LABEL_LENGTH_MAX: usize = 63;
/// `org-`, a UUID and a dot: what a hostname puts before its domain.
const ORGANIZATION_LABEL_LENGTH: usize = 4 + 36 + 1;
/// Leaves room for the label of an organisation, so that every hostname of a valid domain is valid.
const DOMAIN_LENGTH_MAX: usize = NAME_LENGTH_MAX - ORGANIZATION_LABEL_LENGTH;
/// How much of a refused value an error repeats: enough to find it, too little to flood a log.
const SHOWN_LENGTH_MAX: usize = 80;

/// Why a text is not the identifier it should be, and what it should look like.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not {what}: {problem}")]
pub struct InvalidIdentifier {
    what: &'static str,
    value: String,
    problem: String,
}

impl InvalidIdentifier {
    pub(crate) fn new(what: &'static str, value: &str, problem: impl Into<String>) -> Self {
        // Debug formatting escapes control characters: a refused value can't forge a log line.
        let mut shown: String = value.chars().take(SHOWN_LENGTH_MAX).collect();
        if shown.len() < value.len() {
            shown.push('…');
        }
        Self { what, value: format!("{shown:?}"), problem: problem.into() }
    }
}

/// An organisation of the platform: a UUID, as 36 characters with hyphens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OrganizationId(Uuid);

/// The workflow that owns something outside: a DNS record, a vhost, an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner(Uuid);

/// Reads the one canonical form; braces, `urn:uuid:` and the form without hyphens are other spellings, and refused.
fn canonical_uuid(what: &'static str, text: &str) -> Result<Uuid, InvalidIdentifier> {
    let expected = "give a UUID such as 0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10";
    if text.len() != 36 {
        return Err(InvalidIdentifier::new(what, text, expected));
    }
    Uuid::try_parse(text).map_err(|_| InvalidIdentifier::new(what, text, expected))
}

macro_rules! uuid_identifier {
    ($name:ident, $what:literal) => {
        impl $name {
            /// The identifier as a UUID.
            pub fn uuid(&self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl FromStr for $name {
            type Err = InvalidIdentifier;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                canonical_uuid($what, text).map(Self)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }
    };
}

uuid_identifier!(OrganizationId, "an organisation id");
uuid_identifier!(Owner, "a workflow id");

/// The domain below which organisations get their names: `collab.example.com`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Domain(String);

impl FromStr for Domain {
    type Err = InvalidIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = |problem: &str| Err(InvalidIdentifier::new("a domain", text, problem));
        let name = text.strip_suffix('.').unwrap_or(text);
        if name.len() > DOMAIN_LENGTH_MAX {
            return refuse("it is too long: 212 characters leave room for org-{uuid}. within the 253 of DNS");
        }
        let labels: Vec<&str> = name.split('.').collect();
        if labels.len() < 2 {
            return refuse("give a full name with at least two labels, such as collab.example.com");
        }
        for label in &labels {
            if label.is_empty() || label.len() > LABEL_LENGTH_MAX {
                return refuse("each label between the dots has 1 to 63 characters");
            }
            if !label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
                return refuse("labels are made of the letters a to z, digits and hyphens");
            }
            if label.starts_with('-') || label.ends_with('-') {
                return refuse("a label neither begins nor ends with a hyphen");
            }
        }
        if labels.last().is_some_and(|last| last.bytes().all(|b| b.is_ascii_digit())) {
            return refuse("it looks like an address; give a name");
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

impl fmt::Display for Domain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of an organisation's gateway: `org-{uuid}.{domain}`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Hostname {
    organization: OrganizationId,
    domain: Domain,
}

impl Hostname {
    /// The name of this organisation below this domain.
    pub fn new(organization: OrganizationId, domain: Domain) -> Self {
        Self { organization, domain }
    }

    /// Whose name it is.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Below which domain it stands.
    pub fn domain(&self) -> &Domain {
        &self.domain
    }
}

impl FromStr for Hostname {
    type Err = InvalidIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse =
            |problem: String| InvalidIdentifier::new("the hostname of an organisation", text, problem);
        let (organization, domain) = text
            .strip_prefix("org-")
            .and_then(|rest| rest.split_once('.'))
            .ok_or_else(|| refuse("it has the form org-{uuid}.{domain}".to_owned()))?;
        Ok(Self {
            organization: organization.parse().map_err(|e: InvalidIdentifier| refuse(e.to_string()))?,
            domain: domain.parse().map_err(|e: InvalidIdentifier| refuse(e.to_string()))?,
        })
    }
}

impl fmt::Display for Hostname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "org-{}.{}", self.organization, self.domain)
    }
}

/// A gateway of the pool: the number the platform's administrators know it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct GatewayId(i64);

impl GatewayId {
    /// The number itself.
    pub fn number(&self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for GatewayId {
    type Error = InvalidIdentifier;

    fn try_from(number: i64) -> Result<Self, Self::Error> {
        if number < 1 {
            return Err(InvalidIdentifier::new(
                "a gateway id",
                &number.to_string(),
                "gateways are counted from 1",
            ));
        }
        Ok(Self(number))
    }
}

impl FromStr for GatewayId {
    type Err = InvalidIdentifier;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // `i64::from_str` also reads "+7"; an identifier has one spelling.
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<i64>() {
            Ok(number) if digits => number.try_into(),
            _ => Err(InvalidIdentifier::new(
                "a gateway id",
                text,
                "give its number, as `gateway list` shows it",
            )),
        }
    }
}

impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for GatewayId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer)?.try_into().map_err(serde::de::Error::custom)
    }
}

/// Identifiers travel as their text and are parsed again on arrival: a journal or a request can't smuggle one in.
macro_rules! serde_as_text {
    ($($name:ty),+) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )+};
}

serde_as_text!(OrganizationId, Owner, Domain, Hostname);
