//! How is something shown that changes?

use std::io::{self, IsTerminal};
use std::time::Duration;

use crate::exit::{Exit, Failed};
use crate::output::{complain, cut, say, terminal_size};
use crate::signals::Signals;

/// The cursor goes to the first place, and what is below it away.
const CLEAR: &str = "\u{1b}[H\u{1b}[J";

/// What there is to see now.
pub struct Picture {
    pub text: String,
    /// Nothing will change any more.
    pub is_last: bool,
}

/// What keeps somebody who looks again and again from seeing anything, and may pass by itself.
#[derive(Default)]
pub struct Trouble(Option<String>);

impl Trouble {
    /// Says it once. Err: it does not pass.
    pub fn passes(&mut self, failed: Failed) -> Result<(), Failed> {
        if failed.exit != Exit::Error {
            return Err(failed);
        }
        if self.0.as_ref() != Some(&failed.message) {
            complain(&format!("{failed}; looking on …"));
            self.0 = Some(failed.message);
        }
        Ok(())
    }
}

/// Draws again and again, and waits out what keeps it from looking once it has drawn: on a terminal over what was there, else
/// only what has changed, after an empty line. Ends with the last picture (true), or when told to stop (false).
pub async fn redraw(
    every: Duration,
    mut look: impl AsyncFnMut() -> Result<Picture, Failed>,
) -> Result<bool, Failed> {
    let mut signals = Signals::listen()?;
    let is_terminal = io::stdout().is_terminal();
    let (mut drawn, mut has_drawn, mut trouble) = (String::new(), false, Trouble::default());
    loop {
        let picture = tokio::select! {
            picture = look() => picture,
            _ = signals.next() => return Ok(false),
        };
        let picture = match picture {
            Ok(picture) => picture,
            Err(failed) if has_drawn => {
                trouble.passes(failed)?;
                tokio::select! {
                    () = tokio::time::sleep(every) => continue,
                    _ = signals.next() => return Ok(false),
                }
            }
            Err(failed) => return Err(failed),
        };
        (has_drawn, trouble) = (true, Trouble::default());
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
