//! How is something shown that changes?

use std::io::{self, IsTerminal};
use std::time::Duration;

use unicode_width::UnicodeWidthChar;

use crate::exit::Failed;
use crate::output::say;
use crate::signals::Signals;

/// The cursor goes to the first place, and what is below it away.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// What there is to see now.
pub struct Picture {
    pub text: String,
    /// Nothing will change any more.
    pub is_last: bool,
}

/// Draws again and again: on a terminal over what was there, else only what has changed, after an empty line. Ends with the
/// last picture (true), or when told to stop (false).
pub async fn redraw(
    every: Duration,
    mut look: impl AsyncFnMut() -> Result<Picture, Failed>,
) -> Result<bool, Failed> {
    let mut signals = Signals::listen()?;
    let is_terminal = io::stdout().is_terminal();
    let mut drawn = String::new();
    loop {
        let picture = tokio::select! {
            picture = look() => picture?,
            _ = signals.next() => return Ok(false),
        };
        if is_terminal && !picture.is_last {
            say(&format!("{CLEAR}{}", fitted(&picture.text)))?;
        } else if is_terminal {
            // The whole of it stays behind, however long.
            say(&format!("{CLEAR}{}", picture.text))?;
        } else if picture.text != drawn {
            let apart = if drawn.is_empty() { "" } else { "\n" };
            say(&format!("{apart}{}", picture.text))?;
            drawn.clone_from(&picture.text);
        }
        if picture.is_last {
            return Ok(true);
        }
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            _ = signals.next() => return Ok(false),
        }
    }
}

/// As much as there is room for. More lines would scroll the first ones away, and a longer one would become two: the next
/// picture would not cover them.
fn fitted(text: &str) -> String {
    let size = rustix::termios::tcgetwinsize(io::stdout());
    let (rows, columns) = size.map_or((0, 0), |size| (usize::from(size.ws_row), usize::from(size.ws_col)));
    let mut lines: Vec<_> = text.lines().map(|line| cut(line, columns)).collect();
    if let Some(rows) = rows.checked_sub(2).filter(|rows| lines.len() > *rows) {
        lines.truncate(rows);
        lines.push("…".to_owned());
    }
    lines.join("\n")
}

/// As much of a line as so many columns hold. 0: nobody knows how many there are.
fn cut(line: &str, columns: usize) -> String {
    // Where the line ends that leaves room for the mark of the cut.
    let (mut end, mut width, mut in_colour) = (None, 0, false);
    for (at, c) in line.char_indices() {
        // A colour takes no room: from its escape to its m.
        in_colour |= c == '\u{1b}';
        if !in_colour {
            width += c.width().unwrap_or(0);
        }
        if width >= columns {
            end = end.or(Some(at));
        }
        in_colour &= c != 'm';
    }
    match end {
        Some(end) if width > columns && columns > 0 => {
            let colour_ends = if line.contains('\u{1b}') { "\u{1b}[0m" } else { "" };
            format!("{}…{colour_ends}", &line[..end])
        }
        _ => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_to_its_columns_and_colours_take_none() {
        for (line, columns, expected) in [
            ("a line", 6, "a line"),
            ("a line", 5, "a li…"),
            ("a line", 1, "…"),
            ("a line", 0, "a line"),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
            ("\u{1b}[32mdone\u{1b}[0m", 4, "\u{1b}[32mdone\u{1b}[0m"),
            ("\u{1b}[32mdone\u{1b}[0m", 3, "\u{1b}[32mdo…\u{1b}[0m"),
        ] {
            assert_eq!(cut(line, columns), expected, "{line:?} {columns}");
        }
    }
}
