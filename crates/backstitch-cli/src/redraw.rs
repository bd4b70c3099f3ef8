//! How is something shown that changes?

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::exit::Failed;
use crate::output::{cut, say, terminal_size};
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
    let (rows, columns) = terminal_size().unwrap_or_default();
    let mut lines: Vec<_> = text.lines().map(|line| cut(line, columns)).collect();
    if let Some(rows) = rows.checked_sub(2).filter(|rows| lines.len() > *rows) {
        lines.truncate(rows);
        lines.push("…".to_owned());
    }
    lines.join("\n")
}
