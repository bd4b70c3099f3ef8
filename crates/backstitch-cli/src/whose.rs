//! Whose word is the `backstitch.toml` of the current directory?
//!
//! Whoever calls a command in a directory of somebody else did not mean that one's configuration, which may name a server to
//! be shown a token, or a program to be run. So the file counts only if nobody but this user and root can have written it.
//! What a checkout brings along belongs to this user all the same: that one is shown no token that it did not bring along too.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::exit::{Exit, Failed};

/// Those who may write a file.
const GROUP_WRITES: u32 = 0o020;
const EVERYBODY_WRITES: u32 = 0o002;

/// The text of the file. None: there is no such file.
pub fn text(path: &Path) -> Result<Option<String>, Failed> {
    let failed = |problem: String| {
        Failed::new(Exit::Error, format!("the configuration ./{}: {problem}", path.display()))
    };
    let unreadable = |error: std::io::Error| failed(format!("it can't be read: {error}"));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let me = rustix::process::geteuid().as_raw();
    // Of the open file: the name may lead to another one by now. And of the name itself: whoever may make a link decides, too.
    let (target, name) = (file.metadata().map_err(unreadable)?, path.symlink_metadata().map_err(unreadable)?);
    let mode = target.mode();
    let fault = fault(me, target.uid(), target.gid(), mode).or_else(|| fault(me, name.uid(), name.gid(), 0));
    if let Some((what, mend)) = fault {
        return Err(failed(format!(
            "{what}, so it is not read: {mend}, or name it with --config if you know what it says"
        )));
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(unreadable)?;
    Ok(Some(text))
}

/// Why others can have written what belongs to this owner and group, and what to do about it.
fn fault(me: u32, owner: u32, group: u32, mode: u32) -> Option<(&'static str, &'static str)> {
    if owner != me && owner != 0 {
        return Some(("it belongs to another user", "make it yours"));
    }
    // A group of the same number is the owner's own, which many systems give each user, and let write by default.
    let is_shared = mode & EVERYBODY_WRITES != 0 || (mode & GROUP_WRITES != 0 && group != owner);
    is_shared.then_some(("others may write it", "`chmod go-w` it"))
}

/// A path that the file of the current directory names, if it leads to something that lies beside it or below.
pub fn beside(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let (here, there) = (std::env::current_dir()?.canonicalize()?, path.canonicalize()?);
    Ok(there.starts_with(here).then_some(there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_else_can_have_written_counts() {
        const ME: u32 = 1_000;
        for (owner, group, mode) in [(ME, ME, 0o644), (ME, 100, 0o644), (0, 0, 0o644), (ME, ME, 0o664)] {
            assert_eq!(fault(ME, owner, group, mode), None, "{owner} {group} {mode:o}");
        }
        for (owner, group, mode) in
            [(1_001, ME, 0o600), (ME, 100, 0o664), (ME, ME, 0o666), (0, ME, 0o664), (0, 0, 0o646)]
        {
            assert!(fault(ME, owner, group, mode).is_some(), "{owner} {group} {mode:o}");
        }
        assert!(fault(0, ME, ME, 0o644).is_some(), "root reads no word of others either");
    }
}
