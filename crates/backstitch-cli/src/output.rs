//! How does the program speak: to a person at a terminal, to a program behind a pipe?

use std::io::{self, IsTerminal, Write};

use backstitch::Status;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::exit::{Exit, Failed};

/// Writes to the standard output. A reader that has gone away (`| head`) is no error.
pub fn say(text: &str) -> Result<(), Failed> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failed::new(Exit::Error, format!("writing the output: {error}")))
        }
        _ => Ok(()),
    }
}

/// Writes a value for programs.
pub fn say_json<T: Serialize + ?Sized>(value: &T) -> Result<(), Failed> {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failed::because(&error, ""))?;
    say(&text)
}

/// Says what went wrong, on the standard error.
pub fn complain(message: &str) {
    note(&format!("backstitch: {}", clean(message)));
}

/// Says something beside the output: a warning, or how it goes.
pub fn note(message: &str) {
    // Nobody left to tell.
    let _ = writeln!(io::stderr(), "{message}");
}

/// How much of a message fits beside other things; `show` has all of it.
const MESSAGE_CHARACTERS_MAX: usize = 80;

/// The beginning of a message.
pub fn shortened(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(MESSAGE_CHARACTERS_MAX).collect();
    if short.len() < message.len() {
        short.push('…');
    }
    short
}

/// A table without lines. Coloured where there is a terminal.
pub fn table(headers: &[&str]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_header(headers.iter().map(|header| Cell::new(header).fg(Color::DarkGrey)));
    if is_coloured() {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    // Never broken into narrow columns: an id in pieces can be neither copied nor searched for.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.style_text_only();
    table
}

/// A table's text, without the blanks at the ends of its lines.
pub fn lines(mut table: Table) -> String {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// A cell of a table.
pub fn cell(text: impl ToString) -> Cell {
    Cell::new(clean(&text.to_string()))
}

/// A cell for the status of a workflow.
pub fn status_cell(status: Status) -> Cell {
    cell(status).fg(match status {
        Status::Completed => Color::Green,
        Status::Compensated => Color::Yellow,
        Status::NeedsAttention | Status::Abandoned => Color::Red,
        Status::Pending | Status::Running | Status::Compensating => Color::Cyan,
    })
}

/// A text in the colour of how well that is.
pub fn tinted(text: &str, tint: Tint) -> String {
    if !is_coloured() {
        return text.to_owned();
    }
    let code = match tint {
        Tint::Good => 32,
        Tint::Back => 33,
        Tint::Bad => 31,
        Tint::Quiet => 90,
    };
    format!("\u{1b}[{code}m{text}\u{1b}[0m")
}

/// How well something is.
#[derive(Debug, Clone, Copy)]
pub enum Tint {
    /// It is done.
    Good,
    /// It is taken back.
    Back,
    /// It is not well.
    Bad,
    /// It can be overlooked.
    Quiet,
}

/// Names and messages come from outside: they may not move the cursor or forge a line.
pub fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\n' { '\u{FFFD}' } else { c };
    text.chars().map(shown).collect()
}

fn is_coloured() -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal()
        && !set("NO_COLOR")
        && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_does_not_move_the_cursor() {
        assert_eq!(clean("a\u{1b}[2Jb\rc\nd"), "a\u{FFFD}[2Jb\u{FFFD}c\nd");
    }
}
