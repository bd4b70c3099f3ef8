//! How is a revealed secret kept out of what a panic prints?
//!
//! The message of a panic is printed before anybody can catch it, by the hook of the process. So a worker that was given
//! secrets puts a hook in front of that one: it prints the messages in which a revealed secret stands itself, without
//! it, and hands all others on.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::{PanicHookInfo, set_hook, take_hook};
use std::sync::{Mutex, Once, PoisonError, Weak};

use zeroize::Zeroizing;

use super::plaintext::Plaintext;
use super::spelling::without;

/// What is revealed in this process now. A panic may come on any thread: a step may have spawned one.
static REVEALED: Mutex<Vec<Weak<Zeroizing<String>>>> = Mutex::new(Vec::new());

/// From here on, and until its last clone is dropped, no panic prints it.
pub(super) fn note(text: &Plaintext) {
    let mut revealed = REVEALED.lock().unwrap_or_else(PoisonError::into_inner);
    revealed.retain(|known| known.strong_count() > 0);
    revealed.push(text.while_it_lives());
}

/// Puts the hook in front of the one that there is, once in the life of the process.
pub(crate) fn keep_out_of_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = take_hook();
        set_hook(Box::new(move |info| match scrubbed(info) {
            None => before(info),
            Some(message) => print(info, &message),
        }));
    });
}

/// The message without what is revealed. None: nothing of that stands in it.
fn scrubbed(info: &PanicHookInfo<'_>) -> Option<String> {
    let said = info.payload_as_str()?;
    let revealed = REVEALED.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let secrets = revealed.iter().filter_map(Weak::upgrade);
    secrets.fold(None, |message, secret| without(message.as_deref().unwrap_or(said), &secret).or(message))
}

/// As the hook of the standard library would.
fn print(info: &PanicHookInfo<'_>, message: &str) {
    let thread = std::thread::current();
    let (name, backtrace) = (thread.name().unwrap_or("<unnamed>"), Backtrace::capture());
    let place = info.location().map_or_else(String::new, |location| format!(" at {location}"));
    // Nobody left to tell.
    let _ = writeln!(std::io::stderr(), "\nthread '{name}' panicked{place}:\n{message}\n{backtrace}");
}
