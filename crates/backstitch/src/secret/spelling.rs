//! Does a secret stand in a text, however it is spelled there?
//!
//! Errors and outputs quote what they are about in the manner of whoever wrote them: as it is, escaped as in JSON or by
//! `Debug` (and by both, one around the other), percent-encoded as in a URL, in base64 as in a header, as hex, or as bytes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

/// What stands in the place of a secret.
const REDACTED: &str = "[redacted]";

/// What stands at the end of a message that was too long. A secret there may have been cut in the middle.
const CUT: &str = " … (cut)";

/// So many characters of a secret at a cut are taken for its beginning, and not for chance.
const CUT_CHARACTERS_MIN: usize = 3;

/// The text with nothing of the secret in it. None: it has nothing of it.
pub(super) fn without(text: &str, secret: &str) -> Option<String> {
    if secret.is_empty() {
        // Nothing stands everywhere.
        return None;
    }
    let mut clean = String::with_capacity(text.len());
    let (mut at, mut found) = (0, false);
    let body_end = text.strip_suffix(CUT).map_or(text.len(), str::len);
    while let Some(first) = text[at..].chars().next() {
        match spelled(&text[at..], secret, text.len() != body_end, body_end.saturating_sub(at)) {
            Some(bytes) => {
                clean.push_str(REDACTED);
                (at, found) = (at + bytes, true);
            }
            None => {
                clean.push(first);
                at += first.len_utf8();
            }
        }
    }
    for whole in whole_spellings(secret) {
        if clean.contains(&**whole) {
            (clean, found) = (clean.replace(&**whole, REDACTED), true);
        }
    }
    found.then_some(clean)
}

/// How many bytes at the beginning of the text spell the secret, character by character; or its beginning, where the text was
/// cut after so many bytes.
fn spelled(text: &str, secret: &str, was_cut: bool, cut_at: usize) -> Option<usize> {
    // A character may be spelled in several ways, and then each is followed: `\\` is one backslash, or two.
    let mut ends = vec![0];
    for (count, c) in secret.chars().enumerate() {
        if was_cut && count >= CUT_CHARACTERS_MIN && ends.contains(&cut_at) {
            return Some(cut_at);
        }
        let mut next: Vec<usize> = Vec::new();
        for end in ends {
            spellings(&text[end..], c, |bytes| next.push(end + bytes));
        }
        next.sort_unstable();
        next.dedup();
        if next.is_empty() {
            return None;
        }
        ends = next;
    }
    ends.into_iter().max()
}

/// Tells each number of bytes at the beginning of the text that spell this character.
fn spellings(text: &str, c: char, mut tell: impl FnMut(usize)) {
    if text.starts_with(c) {
        tell(c.len_utf8());
    }
    match text.as_bytes().first() {
        Some(b'%') => {
            let mut buffer = [0; 4];
            let encoded = c.encode_utf8(&mut buffer).bytes();
            if encoded.clone().enumerate().all(|(at, byte)| is_percent(&text.as_bytes()[3 * at..], byte)) {
                tell(3 * encoded.len());
            }
        }
        Some(b'+') if c == ' ' => tell(1),
        Some(b'\\') => escapes(text, c, tell),
        _ => {}
    }
}

fn is_percent(text: &[u8], byte: u8) -> bool {
    let digits = text.get(..3).and_then(|code| code.strip_prefix(b"%"));
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    digits.is_some_and(|digits| u8::from_str_radix(digits, 16) == Ok(byte))
}

/// The same for a text that begins with backslashes: more than one where an escape was escaped.
fn escapes(text: &str, c: char, mut tell: impl FnMut(usize)) {
    let slashes = text.len() - text.trim_start_matches('\\').len();
    if c == '\\' {
        (2..=slashes).for_each(&mut tell);
    }
    let rest = &text[slashes..];
    let short = match c {
        '\n' => Some('n'),
        '\r' => Some('r'),
        '\t' => Some('t'),
        '\u{8}' => Some('b'),
        '\u{c}' => Some('f'),
        '"' | '\'' | '/' => Some(c),
        _ => None,
    };
    if short.is_some_and(|short| rest.starts_with(short)) {
        tell(slashes + 1);
    }
    if let Some((digits, _)) = rest.strip_prefix("u{").and_then(|rest| rest.split_once('}'))
        && u32::from_str_radix(digits, 16) == Ok(u32::from(c))
    {
        tell(slashes + digits.len() + 3);
    }
    // In units of UTF-16, each with slashes of its own.
    let mut at = 0;
    let mut units = [0; 2];
    for unit in c.encode_utf16(&mut units).iter() {
        let escape = text[at..].trim_start_matches('\\');
        let digits = escape.strip_prefix('u').and_then(|rest| rest.get(..4));
        if text[at..].len() == escape.len()
            || digits.is_none_or(|digits| u16::from_str_radix(digits, 16) != Ok(*unit))
        {
            return;
        }
        at = text.len() - escape.len() + 5;
    }
    tell(at);
}

/// The spellings that are not made of one for each character.
fn whole_spellings(secret: &str) -> Vec<Zeroizing<String>> {
    let bytes = secret.as_bytes();
    let list = |between: &str| bytes.iter().map(u8::to_string).collect::<Vec<_>>().join(between);
    let hex = |upper: bool| -> String {
        bytes.iter().map(|byte| if upper { format!("{byte:02X}") } else { format!("{byte:02x}") }).collect()
    };
    let mut all = vec![list(", "), list(","), hex(false), hex(true)];
    // Three bytes are four characters, so there are three ways to begin in the middle of others; what lies at either end
    // depends on those, and is left out.
    for before in 0..3 {
        let padded = Zeroizing::new([&vec![0; before][..], bytes].concat());
        let characters = (8 * before).div_ceil(6)..8 * padded.len() / 6;
        all.push(STANDARD_NO_PAD.encode(&*padded)[characters.clone()].to_owned());
        all.push(URL_SAFE_NO_PAD.encode(&*padded)[characters].to_owned());
    }
    all.into_iter().map(Zeroizing::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "ö/p\"en \\ ses'am%e+\n💥";

    #[test]
    fn no_secret_is_in_no_text() {
        assert_eq!(without("as it is", ""), None);
        assert_eq!(without("", "sesame"), None);
    }

    #[test]
    fn a_secret_is_found_however_it_is_spelled() {
        let json = serde_json::to_string(SECRET).expect("a string");
        let percent: String = SECRET.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let form = percent.replace("%20", "+").to_lowercase();
        let escaped: String = SECRET.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect();
        let basic = STANDARD_NO_PAD.encode(format!("user:{SECRET}"));
        let spellings = [
            SECRET.to_owned(),
            json.clone(),
            serde_json::to_string(&json).expect("a string"),
            format!("{SECRET:?}"),
            format!("{:?}", format!("{SECRET:?}")),
            SECRET.escape_unicode().to_string(),
            percent,
            form,
            escaped,
            format!("{:?}", SECRET.as_bytes()),
            serde_json::to_string(SECRET.as_bytes()).expect("bytes"),
            SECRET.bytes().map(|byte| format!("{byte:02x}")).collect(),
            STANDARD_NO_PAD.encode(format!("a{SECRET}b")),
            URL_SAFE_NO_PAD.encode(format!("ab{SECRET}")),
            basic,
        ];
        for spelling in spellings {
            let text = format!("the target said <{spelling}> and <{spelling}>, twice");
            let clean = without(&text, SECRET).unwrap_or_else(|| panic!("it is not found in {text}"));
            assert!(clean.starts_with("the target said <") && clean.ends_with(">, twice"), "{clean}");
            assert_eq!(clean.matches(REDACTED).count(), 2, "{clean}");
            assert_eq!(without(&clean, SECRET), None);
        }
    }

    #[test]
    fn what_is_no_secret_is_left_alone() {
        for text in ["", "open sesame", "%", "%zz\\u12", "\\", "\\u{", "open%20sesam", "[redacted]", "ö💥"]
        {
            assert_eq!(without(text, "open sesame!"), None, "{text}");
        }
    }

    #[test]
    fn a_secret_that_a_message_was_cut_in_is_not_left_by_half() {
        let cut = |text: &str| without(&format!("{text}{CUT}"), "open sesame");
        assert_eq!(cut("said: open ses").as_deref(), Some("said: [redacted] … (cut)"));
        assert_eq!(cut("said: open%20ses").as_deref(), Some("said: [redacted] … (cut)"));
        assert_eq!(cut("said: op"), None);
        assert_eq!(cut("said: open it"), None);
        assert_eq!(without("said: open ses", "open sesame"), None, "it was not cut");
    }
}
