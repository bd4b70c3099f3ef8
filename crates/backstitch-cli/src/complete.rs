//! `backstitch completions` and `backstitch man`: what do shells and readers of the manual get?

use std::path::Path;

use clap::CommandFactory;

use crate::arguments::{Arguments, Completions, Man};
use crate::exit::{Exit, Failed};
use crate::output::say;

/// Prints what a shell needs.
pub fn completions(arguments: &Completions) -> Result<Exit, Failed> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Arguments::command(), "backstitch", &mut script);
    say(String::from_utf8_lossy(&script).trim_end()).map(|()| Exit::Done)
}

/// Prints the first page, or writes all of them.
pub fn man(arguments: &Man) -> Result<Exit, Failed> {
    match &arguments.directory {
        Some(directory) => write(directory)?,
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Arguments::command()).render(&mut page);
            rendered.map_err(|error| Failed::because(&error, ""))?;
            say(String::from_utf8_lossy(&page).trim_end())?;
        }
    }
    Ok(Exit::Done)
}

fn write(directory: &Path) -> Result<(), Failed> {
    clap_mangen::generate_to(Arguments::command(), directory).map_err(|error| {
        let what_to_do = "name a directory that is there and yours to write to";
        Failed::new(Exit::Error, format!("--directory {}: {error}; {what_to_do}", directory.display()))
    })
}
