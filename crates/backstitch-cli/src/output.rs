//! How does the program speak: to a person at a terminal, to a program behind a pipe?

use std::io::{self, IsTerminal, Write};

use backstitch::Status;
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde::Serialize;
use unicode_width::UnicodeWidthChar;

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

/// A table's text, without the blanks at the ends of its lines, and no wider than the terminal if there is one.
pub fn lines(table: Table) -> String {
    fitted(table, terminal_size().map(|(_, columns)| columns))
}

/// How many rows and columns the terminal has. None: there is none, or it does not say.
pub fn terminal_size() -> Option<(usize, usize)> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some((size.ws_row.into(), size.ws_col.into())).filter(|(rows, columns)| *rows > 0 && *columns > 0)
}

/// The widest that a cell may be where room is short: an id has 36, and what is longer is a text.
const CELL_COLUMNS_MAX: usize = 40;
/// What stands below its row stands out from it.
const BELOW: &str = "    ";

/// Long texts are cut, and what there is no room for beside the rest, from the last column on, stands below its row.
fn fitted(mut table: Table, columns: Option<usize>) -> String {
    let full = lines_of(&mut table);
    let Some(columns) = columns.filter(|columns| full.iter().any(|line| width(line) > *columns)) else {
        return full.join("\n");
    };
    let shorter = |cell: &Cell, max: usize| match cut(&cell.content(), max) {
        short if short == cell.content() => cell.clone(),
        short => Cell::new(short),
    };
    let rows = table.header().into_iter().chain(table.row_iter());
    let rows: Vec<Vec<Cell>> = rows.map(|row| row.cell_iter().cloned().collect()).collect();
    let count = rows.first().map_or(0, Vec::len);
    // The last column of all may have more, where there is room.
    let drawn = |beside: usize, last_max: usize| {
        let max = |at: usize| if at + 1 == count { last_max } else { CELL_COLUMNS_MAX };
        let begin = |row: &Vec<Cell>| -> Vec<Cell> {
            row.iter().take(beside).enumerate().map(|(at, cell)| shorter(cell, max(at))).collect()
        };
        let (mut narrow, mut begun) = (self::table(&[]), rows.iter().map(begin));
        narrow.set_header(begun.next().unwrap_or_default()).add_rows(begun);
        lines_of(&mut narrow)
    };
    for beside in (1..=count).rev() {
        let mut lines = drawn(beside, CELL_COLUMNS_MAX);
        let widest = lines.iter().map(|line| width(line)).max().unwrap_or_default();
        if beside == count && widest < columns {
            lines = drawn(beside, CELL_COLUMNS_MAX + columns - widest);
        }
        if beside > 1 && lines.iter().any(|line| width(line) > columns) {
            continue;
        }
        let below = rows.iter().map(|row| {
            let cells: Vec<_> = row
                .iter()
                .skip(beside)
                .map(Cell::content)
                .filter(|text| !matches!(text.as_str(), "" | "-"))
                .collect();
            (!cells.is_empty()).then(|| format!("{BELOW}{}", cells.join("  ")))
        });
        let lines = lines.into_iter().zip(below).flat_map(|(line, below)| [Some(line), below]);
        return lines.flatten().map(|line| cut(&line, columns)).collect::<Vec<_>>().join("\n");
    }
    full.join("\n")
}

fn lines_of(table: &mut Table) -> Vec<String> {
    if let Some(first) = table.column_mut(0) {
        first.set_padding((0, 1));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect()
}

/// How many columns a line takes.
fn width(line: &str) -> usize {
    let (mut width, mut in_colour) = (0, false);
    for c in line.chars() {
        // A colour takes no room: from its escape to its m.
        in_colour |= c == '\u{1b}';
        width += if in_colour { 0 } else { c.width().unwrap_or(0) };
        in_colour &= c != 'm';
    }
    width
}

/// As much of a line as so many columns hold. 0: nobody knows how many there are.
pub fn cut(line: &str, columns: usize) -> String {
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

    fn workflows() -> Table {
        let mut table = table(&["ID", "KIND", "KEY", "TOOK", "NOTE"]);
        table.add_row([
            "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10",
            "trip",
            "-",
            "1.2 s",
            "there are no cars in Venice",
        ]);
        let key = "a key that is as long as a key may be, and longer";
        table.add_row(["0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b11", "trip", key, "1.2 s", ""]);
        table
    }

    #[test]
    fn what_a_terminal_has_no_room_for_stands_below_its_row() {
        let expected = "\
ID                                    KIND  KEY                                       TOOK
    NOTE
0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10  trip  -                                         1.2 s
    there are no cars in Venice
0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b11  trip  a key that is as long as a key may be, …  1.2 s";
        assert_eq!(fitted(workflows(), Some(100)), expected);
        let expected = "\
ID
    KIND  KEY  TOOK  NOTE
0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10
    trip  1.2 s  there are no cars …
0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b11
    trip  a key that is as long as …";
        assert_eq!(fitted(workflows(), Some(36)), expected);
    }

    #[test]
    fn where_there_is_room_enough_or_no_terminal_nothing_is_cut() {
        let whole = fitted(workflows(), None);
        assert_eq!(whole.lines().count(), 3);
        assert!(whole.contains("as long as a key may be, and longer  1.2 s"), "{whole}");
        assert_eq!(fitted(workflows(), Some(200)), whole);

        let mut noted = table(&["ID", "NOTE"]);
        noted.add_row(["7", "a note that is too long for sixty columns, but for a few of its words"]);
        let expected = "ID  NOTE\n7   a note that is too long for sixty columns, but for a fe…";
        assert_eq!(fitted(noted, Some(60)), expected, "the last has all the room that is left");
    }
}
