//! How does a value look to people that has secrets in it?

use std::borrow::Cow;
use std::collections::BTreeMap;

use backstitch_core::json::Json;
use serde_json::Value;
use serde_json::value::RawValue;

use super::{MARK, Written, WrittenSealed};

/// The value as it may be shown: of a sealed secret only the id of its key is left, of a reference where it leads to, and of
/// anything else that calls itself a secret nothing. All else stays as it is.
#[must_use]
pub fn redacted(json: &Json) -> Json {
    // Nearly always. An escaped spelling of the mark is taken for one below, so it is not overlooked here.
    if !json.as_str().contains("secret") && !json.as_str().contains("\\u") {
        return json.clone();
    }
    match serde_json::from_str::<&RawValue>(json.as_str()) {
        Ok(raw) => Json::from_journal(shown(raw)),
        Err(_) => json.clone(),
    }
}

/// Piece by piece, each number as it is spelled. Borrowed: there was nothing to redact.
fn shown(raw: &RawValue) -> Cow<'_, str> {
    let text = raw.get();
    match text.as_bytes().first() {
        Some(b'{') => match serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            Ok(members) => {
                let members = members.into_iter();
                let each: Vec<_> = members
                    .map(|(name, value)| match name == MARK {
                        true => (name, secret(value)),
                        false => (name, shown(value)),
                    })
                    .collect();
                if each.iter().all(|(_, value)| matches!(value, Cow::Borrowed(_))) {
                    return Cow::Borrowed(text);
                }
                let each = each.iter().map(|(name, value)| format!("{}:{value}", Value::from(name.as_str())));
                Cow::Owned(format!("{{{}}}", each.collect::<Vec<_>>().join(",")))
            }
            Err(_) => Cow::Borrowed(text),
        },
        Some(b'[') => match serde_json::from_str::<Vec<&RawValue>>(text) {
            Ok(items) => {
                let each: Vec<_> = items.into_iter().map(shown).collect();
                if each.iter().all(|item| matches!(item, Cow::Borrowed(_))) {
                    return Cow::Borrowed(text);
                }
                Cow::Owned(format!("[{}]", each.join(",")))
            }
            Err(_) => Cow::Borrowed(text),
        },
        _ => Cow::Borrowed(text),
    }
}

/// What is behind the mark.
fn secret(raw: &RawValue) -> Cow<'_, str> {
    // An array would be taken for a struct's fields in their order.
    let written = Some(raw.get()).filter(|text| text.starts_with('{'));
    Cow::Owned(match written.map(serde_json::from_str) {
        Some(Ok(Written::Reference(_))) => return Cow::Borrowed(raw.get()),
        Some(Ok(Written::Sealed(WrittenSealed { key, .. }))) => {
            format!(r#"{{"key":{},"sealed":"[redacted]"}}"#, Value::from(key))
        }
        Some(Err(_)) | None => r#""[redacted]""#.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_wherever_they_are_and_nothing_else_is() {
        let cases = [
            (r#"{"a":1.50,"no":"secrets"}"#, r#"{"a":1.50,"no":"secrets"}"#),
            (
                r#"[{"token":{"$secret":{"key":"2026-11","sealed":"AAEC"}},"n":100000000000000000000.10}]"#,
                r#"[{"n":100000000000000000000.10,"token":{"$secret":{"key":"2026-11","sealed":"[redacted]"}}}]"#,
            ),
            (r#"{"$secret":{"reference":"env:PDNS_KEY"}}"#, r#"{"$secret":{"reference":"env:PDNS_KEY"}}"#),
            (r#"{"$secret":"open sesame"}"#, r#"{"$secret":"[redacted]"}"#),
            (r#"{"$secret":{"plain":"open sesame"}}"#, r#"{"$secret":"[redacted]"}"#),
            (r#"{"$secret":{"reference":"a","plain":"open sesame"}}"#, r#"{"$secret":"[redacted]"}"#),
            (r#"{"\u0024\u0073ecret":["open sesame"]}"#, r#"{"$secret":"[redacted]"}"#),
            (r#""$secret""#, r#""$secret""#),
        ];
        for (given, expected) in cases {
            assert_eq!(redacted(&Json::from_journal(given)).as_str(), expected);
        }
    }
}
