//! `backstitch seal`: how does a text become a secret that may stand in an input?

use std::io::{IsTerminal, Read};

use backstitch::{Plaintext, SECRET_BYTES_MAX, SecretError};

use crate::arguments::Seal;
use crate::exit::{Exit, Failed};
use crate::output::say;
use crate::settings::Settings;

/// Reads the text from the standard input: on a command line every user of the host could read it.
pub fn run(settings: &Settings, arguments: &Seal) -> Result<Exit, Failed> {
    let keyring = settings.keyring(arguments.keyring_file.as_deref())?;
    let text = text()?;
    let Seal { kind, under, .. } = arguments;
    let sealed = match under {
        Some(key) => keyring.seal_under(key, kind, text.expose()),
        None => keyring.seal(kind, text.expose()),
    };
    let sealed = sealed.map_err(|error| refused(&error))?;
    // On one line, to be put into an input.
    let line = serde_json::to_string(&sealed).map_err(|error| Failed::because(&error, ""))?;
    say(&line).map(|()| Exit::Done)
}

fn text() -> Result<Plaintext, Failed> {
    if std::io::stdin().is_terminal() {
        let why = "what is typed at a terminal is seen there: give the secret by `backstitch seal KIND < FILE`, or by a pipe";
        return Err(Failed::usage(why));
    }
    // A line break at the end, and one byte more to see that it is too much. All at once, so that no copy stays behind.
    let bytes_max = SECRET_BYTES_MAX + 2;
    let mut bytes = Vec::with_capacity(bytes_max);
    let read = std::io::stdin().take(bytes_max as u64).read_to_end(&mut bytes);
    read.map_err(|error| Failed::usage(format!("reading the standard input: {error}")))?;
    let mut text = String::from_utf8(bytes).map_err(|_| refused(&SecretError::InvalidText))?;
    // As of a `file:` that a worker reads.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(Plaintext::new(text))
}

fn refused(error: &SecretError) -> Failed {
    Failed { exit: Exit::Usage, ..Failed::because(error, "") }
}
