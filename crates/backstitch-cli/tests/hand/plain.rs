//! How is output compared that holds ids and times?

use uuid::Uuid;

/// The same with every id as ID, every time as TIME, every span as SPAN, and single blanks between words.
pub fn plain(text: &str) -> String {
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn line(line: &str) -> String {
    let indent = &line[..line.len() - line.trim_start().len()];
    let words: Vec<_> = line.split_whitespace().collect();
    let mut plain: Vec<String> = Vec::new();
    let mut rest = words.as_slice();
    while let [word, following @ ..] = rest {
        let unit = following.first().map_or("", |next| next.trim_end_matches([',', '.', ')', ':']));
        if word.parse::<f64>().is_ok() && ["ms", "s", "min", "h", "days"].contains(&unit) {
            let end = &following[0][unit.len()..];
            // Minutes and seconds are one span.
            if plain.last().is_some_and(|last| last == "SPAN") {
                plain.pop();
            }
            plain.push(format!("SPAN{end}"));
            rest = &following[1..];
        } else {
            if is_date(word) && following.first().is_some_and(|next| next.contains(':')) {
                rest = following;
                continue;
            }
            plain.push(replaced(word));
            rest = following;
        }
    }
    format!("{indent}{}", plain.join(" "))
}

fn replaced(word: &str) -> String {
    if let Some(id) = word.get(..36).filter(|id| Uuid::parse_str(id).is_ok()) {
        return word.replacen(id, "ID", 1);
    }
    let digits = word.trim_end_matches(['Z', ',', '.']);
    if digits.len() >= 8 && digits.split(':').count() == 3 && digits.starts_with(|c: char| c.is_ascii_digit())
    {
        let end = word.trim_start_matches(digits).trim_start_matches('Z');
        return format!("TIME{end}");
    }
    word.to_owned()
}

fn is_date(word: &str) -> bool {
    word.len() == 10 && word.split('-').count() == 3 && word.starts_with("20")
}

#[test]
fn ids_times_and_spans_are_replaced() {
    let text = "  01a222cb-14fd-70cc-aa5a-aca10783c77f/0/run  at 2026-11-28 15:34:24Z,   after 1 min 12.5 s.";
    assert_eq!(plain(text), "  ID/0/run at TIME, after SPAN.");
    assert_eq!(plain("16:00:00.123   1  in 3 h"), "TIME 1 in SPAN");
}
