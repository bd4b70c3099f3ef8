//! Who may open what lies in the state directory? Its owner alone, whoever made it and how.
//!
//! A lock on a file can be held by everyone who can read it. Were it everybody's, any program of the host could keep
//! each route from being changed.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes the directory if it is not there, and closes it to others if it is.
pub(super) fn directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    close_to_others(&File::open(path)?, DIRECTORY_MODE)
}

/// Opens a file, made if it is not there, and closed to others if it is.
pub(super) fn open(path: &Path, how: &mut OpenOptions) -> io::Result<File> {
    let file = how.create(true).mode(FILE_MODE).open(path)?;
    close_to_others(&file, FILE_MODE)?;
    Ok(file)
}

fn close_to_others(file: &File, mode: u32) -> io::Result<()> {
    // Asked first: whoever may use it need not be the one who may say so.
    if file.metadata()?.permissions().mode() & 0o777 == mode {
        return Ok(());
    }
    file.set_permissions(Permissions::from_mode(mode))
}
