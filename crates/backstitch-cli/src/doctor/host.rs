//! Can this process write where it must?

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::Finding;

/// What becomes of a directory that is not there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// `serve` makes it.
    IsMade,
    /// Somebody else must have made it.
    IsWrong,
}

/// Makes a file in it, and removes it again.
pub fn directory(what: &'static str, directory: &Path, missing: Missing) -> Finding {
    let shown = directory.display();
    let there = match (directory.is_dir(), missing) {
        (true, _) => Some(directory.to_owned()),
        (false, Missing::IsMade) => nearest(directory),
        (false, Missing::IsWrong) => None,
    };
    let Some(there) = there else {
        return Finding::wrong(what, format!("{shown} is not there"), "make it, or configure where it is");
    };
    // Its name begins with a dot and has no extension: nobody includes it.
    match tempfile::NamedTempFile::new_in(&there) {
        Ok(_) if there == directory => Finding::ok(what, format!("{shown} can be written")),
        Ok(_) => Finding::ok(what, format!("{shown} is not there yet, and can be made")),
        Err(error) => Finding::wrong(
            what,
            format!("{} can't be written: {}", there.display(), cause(&error)),
            "give it to the user that `serve` runs as, or configure another",
        ),
    }
}

/// The next directory above that is there.
fn nearest(directory: &Path) -> Option<PathBuf> {
    directory.ancestors().find(|above| above.is_dir()).map(Path::to_owned)
}

/// What the system said, without the name that a temporary file would have had.
fn cause(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => "permission denied".to_owned(),
        ErrorKind::ReadOnlyFilesystem => "its file system is read-only".to_owned(),
        ErrorKind::StorageFull => "its file system is full".to_owned(),
        _ => error.to_string(),
    }
}
