//! How are times and spans of time written and read?

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A moment, to the second.
pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%SZ").to_string()
}

/// A moment of a day, to the millisecond: what tells attempts apart.
pub fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3f").to_string()
}

/// How long it took: as exact as a person wants to know.
pub fn span(from: DateTime<Utc>, to: DateTime<Utc>) -> String {
    let milliseconds = (to - from).num_milliseconds().max(0);
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..60_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        60_000..3_600_000 => format!("{} min {} s", milliseconds / 60_000, milliseconds % 60_000 / 1_000),
        3_600_000..172_800_000 => {
            format!("{} h {} min", milliseconds / 3_600_000, milliseconds % 3_600_000 / 60_000)
        }
        _ => format!("{} days", milliseconds / 86_400_000),
    }
}

/// When that is, seen from now: "in 12 s", "12 s ago". Up to a second is now.
pub fn distance(now: DateTime<Utc>, at: DateTime<Utc>) -> String {
    let milliseconds = (at - now).num_milliseconds();
    let seconds =
        TimeDelta::seconds((milliseconds.unsigned_abs() / 1_000).try_into().unwrap_or(i64::MAX / 1_000));
    let whole = span(now, now.checked_add_signed(seconds).unwrap_or(now)).replace(".0 s", " s");
    match milliseconds {
        -999..=999 => "now".to_owned(),
        1_000.. => format!("in {whole}"),
        _ => format!("{whole} ago"),
    }
}

/// How long, in whole units.
pub fn length(milliseconds: i64) -> String {
    let from = DateTime::UNIX_EPOCH;
    span(from, from + TimeDelta::milliseconds(milliseconds.clamp(0, i64::MAX / 1_000_000)))
}

/// A moment that has passed, as it is given on the command line: a time, or how long ago.
pub fn parse_past(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    let ago = parse_span(text).map_err(|_| {
        "give a time such as 2027-01-31T12:00:00Z, or how long ago: 30s, 10m, 2h, 1d".to_owned()
    })?;
    Ok(Utc::now() - ago)
}

/// A moment as it is given on the command line: a time, or how long from now.
pub fn parse_moment(text: &str) -> Result<DateTime<Utc>, String> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.with_timezone(&Utc));
    }
    let from_now = parse_span(text).map_err(|_| {
        "give a time such as 2027-01-31T12:00:00Z, or how long from now: 30s, 10m, 2h, 1d".to_owned()
    })?;
    Ok(Utc::now() + from_now)
}

/// A span as it is given on the command line.
pub fn parse_span(text: &str) -> Result<Duration, String> {
    let problem = || "give a number and a unit: 30s, 10m, 2h, 1d".to_owned();
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
    let number: u64 = text[..at].parse().map_err(|_| problem())?;
    let seconds = match &text[at..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(problem()),
    };
    // A century is as good as never, and far from where times overflow.
    let bounded = number.checked_mul(seconds).filter(|seconds| *seconds <= 3_155_760_000);
    bounded.map(Duration::from_secs).ok_or_else(|| "that is more than a hundred years".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read() {
        assert_eq!(parse_span("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_span("2h"), Ok(Duration::from_secs(7_200)));
        for none in ["", "5", "m", "5 m", "-5m", "5x", "99999999999999999999s", "99999999999d"] {
            assert!(parse_span(none).is_err(), "{none}");
        }
    }

    #[test]
    fn moments_are_read() {
        assert_eq!(
            parse_moment("2027-01-31T12:00:00+01:00").map(moment),
            Ok("2027-01-31 11:00:00Z".to_owned())
        );
        assert!(parse_moment("10m").is_ok_and(|at| at > Utc::now()));
        assert!(parse_moment("tomorrow").is_err());
    }

    #[test]
    fn moments_that_have_passed_are_read() {
        assert!(parse_past("10m").is_ok_and(|at| at < Utc::now()));
        assert!(parse_past("yesterday").is_err_and(|said| said.contains("how long ago")));
    }

    #[test]
    fn distances_are_told_from_now() {
        let now = DateTime::UNIX_EPOCH;
        let told = |milliseconds| distance(now, now + TimeDelta::milliseconds(milliseconds));
        assert_eq!(told(12_900), "in 12 s");
        assert_eq!(told(-61_000), "1 min 1 s ago");
        assert_eq!(told(999), "now");
    }

    #[test]
    fn spans_are_written_as_people_say_them() {
        let from = DateTime::UNIX_EPOCH;
        let written = |milliseconds| span(from, from + chrono::Duration::milliseconds(milliseconds));
        assert_eq!(written(12), "12 ms");
        assert_eq!(written(1_240), "1.2 s");
        assert_eq!(written(61_000), "1 min 1 s");
        assert_eq!(written(7_260_000), "2 h 1 min");
        assert_eq!(written(-5), "0 ms");
    }
}
