//! Whose is a name, and what change makes it ours or gone? Decided here, without I/O.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::TTL_SECONDS;
use crate::identifiers::{Hostname, Owner};

/// What every ownership record of ours begins with.
const HERITAGE: &str = "heritage=backstitch";

/// One record as it stands in the zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// `A`, `AAAA`, `TXT`, …
    pub kind: String,
    /// Its content, in the zone's spelling.
    pub content: String,
}

/// A record set as the API reads it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct RrSet {
    pub(super) name: String,
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) records: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Content {
    content: String,
    #[serde(default)]
    disabled: bool,
}

/// A change as the API takes it: all of it or nothing.
#[derive(Debug, Serialize)]
pub(super) struct Change {
    rrsets: Vec<ChangedRrSet>,
}

#[derive(Debug, Serialize)]
struct ChangedRrSet {
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    changetype: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<u32>,
    records: Vec<Content>,
}

/// Whose a name is, to one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    Ours,
    SomeoneElses { holder: String },
}

/// Ours is only what carries exactly our ownership record and nothing but addresses beside it: a second TXT value or
/// another type was put there by someone who would lose it to our change.
pub(super) fn standing(sets: &[RrSet], owner: Owner) -> Standing {
    let mut ours = false;
    for set in sets.iter().filter(|set| !set.records.is_empty()) {
        match set.kind.as_str() {
            "A" | "AAAA" => {}
            "TXT" => match set.records.as_slice() {
                [only] if only.content == ownership(owner) => ours = true,
                several => {
                    return Standing::SomeoneElses { holder: holder(several) };
                }
            },
            kind => {
                return Standing::SomeoneElses { holder: format!("whoever wrote its {kind} record") };
            }
        }
    }
    let addresses = sets.iter().flat_map(|set| &set.records).count();
    match (ours, addresses) {
        (true, _) => Standing::Ours,
        (false, 0) => Standing::Absent,
        (false, _) => {
            Standing::SomeoneElses { holder: "nobody who signed it (no ownership record)".to_owned() }
        }
    }
}

/// Every name that is some owner's of ours, by the records of a whole zone.
pub(super) fn signed(sets: Vec<RrSet>) -> Vec<(Hostname, Owner)> {
    let mut by_name: BTreeMap<String, Vec<RrSet>> = BTreeMap::new();
    for set in sets {
        by_name.entry(set.name.to_ascii_lowercase()).or_default().push(set);
    }
    let signed = |(name, sets): (String, Vec<RrSet>)| {
        let hostname = name.trim_end_matches('.').parse().ok()?;
        let texts = sets.iter().filter(|set| set.kind == "TXT").flat_map(|set| &set.records);
        let owner = texts.into_iter().find_map(signature)?;
        (standing(&sets, owner) == Standing::Ours).then_some((hostname, owner))
    };
    by_name.into_iter().filter_map(signed).collect()
}

/// The workflow that a record names, if it is an ownership record.
fn signature(text: &Content) -> Option<Owner> {
    let fields = text.content.trim_matches('"').strip_prefix(HERITAGE)?;
    fields.split(',').find_map(|field| field.strip_prefix("workflow="))?.parse().ok()
}

/// The workflow an ownership record names, else the record itself.
fn holder(texts: &[Content]) -> String {
    match texts.iter().find_map(signature) {
        Some(owner) => format!("workflow {owner}"),
        None => {
            let first = texts.first().map(|text| text.content.as_str()).unwrap_or_default();
            format!("whoever wrote its TXT record {first:.80}")
        }
    }
}

/// Whether exactly this address, enabled, stands under the name.
pub(super) fn points_to(sets: &[RrSet], address: IpAddr) -> bool {
    let addresses: Vec<&Content> = sets
        .iter()
        .filter(|set| set.kind == "A" || set.kind == "AAAA")
        .flat_map(|set| &set.records)
        .collect();
    matches!(addresses.as_slice(), [only] if !only.disabled && only.content.parse() == Ok(address))
}

/// Address and ownership in one change; an address of the other family, if ours had one, goes with it.
pub(super) fn registration(hostname: &Hostname, address: IpAddr, owner: Owner) -> Change {
    let (kind, other) = if address.is_ipv4() { ("A", "AAAA") } else { ("AAAA", "A") };
    Change {
        rrsets: vec![
            replace(hostname, kind, address.to_string()),
            delete(hostname, other),
            replace(hostname, "TXT", ownership(owner)),
        ],
    }
}

/// Everything a registration may have written.
pub(super) fn deletion(hostname: &Hostname) -> Change {
    Change { rrsets: ["A", "AAAA", "TXT"].map(|kind| delete(hostname, kind)).into() }
}

pub(super) fn flatten(sets: Vec<RrSet>) -> Vec<Record> {
    let records = |set: RrSet| {
        let kind = set.kind;
        set.records.into_iter().map(move |record| Record { kind: kind.clone(), content: record.content })
    };
    sets.into_iter().flat_map(records).collect()
}

/// The ownership record as the zone spells it: TXT contents are quoted.
fn ownership(owner: Owner) -> String {
    format!("\"{HERITAGE},workflow={owner}\"")
}

fn replace(hostname: &Hostname, kind: &'static str, content: String) -> ChangedRrSet {
    ChangedRrSet {
        name: format!("{hostname}."),
        kind,
        changetype: "REPLACE",
        ttl: Some(TTL_SECONDS),
        records: vec![Content { content, disabled: false }],
    }
}

fn delete(hostname: &Hostname, kind: &'static str) -> ChangedRrSet {
    ChangedRrSet { name: format!("{hostname}."), kind, changetype: "DELETE", ttl: None, records: vec![] }
}
