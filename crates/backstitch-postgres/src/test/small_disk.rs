//! How does a test get a disk that is full when it says so?

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::pid_file;

/// While it is being filled others may write: so often it is measured anew.
const MEASURES_MAX: u32 = 32;

/// What a file system of memory has at least; of nothing it would make: as much as one likes.
const PAGE_BYTES: u64 = 4096;

/// How small disks are called, before the process that mounted them.
const NAME: &str = "backstitch-test-";

/// What takes up that one page where nothing else is in use.
const FILLER: &str = ".filler";

/// A file system in memory over a directory, of some size; full, and with room again, at a word. Goes with its drop.
///
/// Full, it has no page more than are in use: what is written anew fails for want of room (`ENOSPC`), what is written over
/// does not, as with any disk. Memory is taken as it is used.
#[derive(Debug)]
pub struct SmallDisk {
    directory: PathBuf,
    bytes: u64,
}

impl SmallDisk {
    /// Mounts one over `directory`, which hides what is in there; it belongs to whom the directory belongs to.
    ///
    /// # Errors
    /// When this user may not mount, neither as root nor by a `sudo` that asks for no password; with what was said.
    pub fn mount(directory: &Path, bytes: u64) -> io::Result<Self> {
        sweep();
        let directory = directory.canonicalize()?;
        let found = fs::metadata(&directory)?;
        let options =
            format!("size={bytes},mode={:o},uid={},gid={}", found.mode() & 0o7777, found.uid(), found.gid());
        let name = format!("{NAME}{}", std::process::id());
        run_as_root("mount", &["-t", "tmpfs", "-o", &options, &name], &directory)?;
        Ok(Self { directory, bytes })
    }

    /// From now on it is full.
    ///
    /// # Errors
    /// When it can't be made smaller, for instance because others take up more all the time.
    pub fn fill(&self) -> io::Result<()> {
        if self.bytes_used()? == 0 {
            let mut filler = fs::File::create(self.directory.join(FILLER))?;
            filler.write_all(&[b'#'; PAGE_BYTES as usize])?;
        }
        let mut tried = 0;
        loop {
            tried += 1;
            match self.resize(self.bytes_used()?) {
                // Less than is in use by now.
                Err(_) if tried < MEASURES_MAX => {}
                resized => return resized,
            }
        }
    }

    /// From now on there is room again.
    ///
    /// # Errors
    /// As [`mount`](Self::mount).
    pub fn make_room(&self) -> io::Result<()> {
        self.resize(self.bytes)?;
        match fs::remove_file(self.directory.join(FILLER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn bytes_used(&self) -> io::Result<u64> {
        let found = rustix::fs::statvfs(&self.directory)?;
        Ok((found.f_blocks - found.f_bfree) * found.f_frsize)
    }

    fn resize(&self, bytes: u64) -> io::Result<()> {
        run_as_root("mount", &["-o", &format!("remount,size={bytes}")], &self.directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount_below(&self.directory);
    }
}

/// Unmounts what is mounted at this directory and below it. What can't be unmounted stays.
pub(super) fn unmount_below(directory: &Path) {
    let Ok(directory) = directory.canonicalize() else { return };
    let mut points: Vec<PathBuf> = mounts().map(|(_, point)| point).collect();
    points.retain(|point| point.starts_with(&directory));
    // What lies within another goes before it.
    points.sort_by_key(|point| std::cmp::Reverse(point.components().count()));
    for point in points {
        unmount(&point);
    }
}

/// Unmounts the small disks of tests that died.
fn sweep() {
    for (name, point) in mounts() {
        let process = name.strip_prefix(NAME).and_then(|process| process.parse().ok());
        if process.is_some_and(|process| !pid_file::exists(process)) {
            unmount(&point);
        }
    }
}

/// Also while it is in use.
fn unmount(point: &Path) {
    if let Err(error) = run_as_root("umount", &["--lazy"], point) {
        tracing::warn!(%error, "a small disk stays mounted");
    }
}

/// What is mounted here: its name, and where.
fn mounts() -> impl Iterator<Item = (String, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let parsed: Vec<_> = mounts.lines().filter_map(mount).collect();
    parsed.into_iter()
}

fn mount(line: &str) -> Option<(String, PathBuf)> {
    let (name, rest) = line.split_once(' ')?;
    // As the kernel writes a space in a name.
    Some((name.to_owned(), PathBuf::from(rest.split(' ').next()?.replace("\\040", " "))))
}

fn run_as_root(program: &str, arguments: &[&str], directory: &Path) -> io::Result<()> {
    let is_root = rustix::process::geteuid().is_root();
    let mut command = Command::new(if is_root { program } else { "sudo" });
    if !is_root {
        command.args(["-n", program]);
    }
    let done = command.args(arguments).arg(directory).stdin(Stdio::null()).output()?;
    if done.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(io::Error::other(format!(
        "{program} {} needs root, or sudo without a password: {}",
        directory.display(),
        said.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_read_with_its_name_and_where_it_is() {
        let line = "backstitch-test-42 /tmp/a\\040b tmpfs rw,relatime,size=64k 0 0";
        assert_eq!(mount(line), Some(("backstitch-test-42".to_owned(), PathBuf::from("/tmp/a b"))));
        assert_eq!(mount(""), None);
    }
}
