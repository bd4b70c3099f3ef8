//! How does a file come into the sites directory whole, and out of it for good?
//!
//! A temporary name that the include glob can't match, fsync, rename, fsync of the directory: nginx and a crash see the
//! old file or the new one, never half of one. Each change runs to its end even if its caller is cancelled, and keeps
//! the lock until then.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use uuid::Uuid;

use super::error::NginxError;
use super::lock::HostLockGuard;
use super::vhost;
use crate::identifiers::{OrganizationId, Owner};

/// A vhost of ours has 1.5 KiB; of a larger file the first lines tell whose it is.
const READ_LENGTH_MAX: u64 = 16 * 1024;

#[derive(Debug)]
pub(super) struct Sites {
    directory: PathBuf,
}

/// Whose the file of an organisation is, to one owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    Absent,
    Ours,
    SomeoneElses { holder: String },
}

/// What lies at a path.
enum Content {
    Absent,
    NoFile,
    Text(String),
}

impl Sites {
    pub(super) fn new(directory: &Path) -> Self {
        Self { directory: directory.to_owned() }
    }

    pub(super) fn path(&self, organization: OrganizationId) -> PathBuf {
        self.directory.join(format!("org-{organization}.conf"))
    }

    pub(super) fn standing(
        &self,
        organization: OrganizationId,
        owner: Owner,
    ) -> Result<Standing, NginxError> {
        Ok(match Self::content(&self.path(organization))? {
            Content::Absent => Standing::Absent,
            Content::NoFile => {
                Standing::SomeoneElses { holder: "someone who put there what is no file".to_owned() }
            }
            Content::Text(text) => match vhost::owner_of(&text) {
                Some(found) if found == owner => Standing::Ours,
                Some(other) => Standing::SomeoneElses { holder: format!("workflow {other}") },
                None => Standing::SomeoneElses { holder: "someone who does not use backstitch".to_owned() },
            },
        })
    }

    /// Whether the file of an organisation says exactly this.
    pub(super) fn says(&self, organization: OrganizationId, text: &str) -> Result<bool, NginxError> {
        Ok(matches!(Self::content(&self.path(organization))?, Content::Text(found) if found == text))
    }

    /// Every file of ours, by the organisation that its name tells and the owner that it names.
    pub(super) fn owned(&self) -> Result<Vec<(PathBuf, OrganizationId, Owner)>, NginxError> {
        let disk = |e| NginxError::disk(&self.directory, e);
        let mut owned = Vec::new();
        for entry in fs::read_dir(&self.directory).map_err(disk)? {
            let path = entry.map_err(disk)?.path();
            let Some(organization) = organization_of(&path) else { continue };
            if let Content::Text(text) = Self::content(&path)? {
                owned.extend(vhost::owner_of(&text).map(|owner| (path, organization, owner)));
            }
        }
        owned.sort();
        Ok(owned)
    }

    fn content(path: &Path) -> Result<Content, NginxError> {
        let disk = |e| NginxError::disk(path, e);
        match fs::symlink_metadata(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Content::Absent),
            Err(e) => return Err(disk(e)),
            // Followed, a link would let its maker choose the file that is read or removed.
            Ok(found) if !found.is_file() => return Ok(Content::NoFile),
            Ok(_) => {}
        }
        let mut bytes = Vec::new();
        File::open(path).and_then(|file| file.take(READ_LENGTH_MAX).read_to_end(&mut bytes)).map_err(disk)?;
        Ok(Content::Text(String::from_utf8_lossy(&bytes).into_owned()))
    }

    pub(super) async fn write(
        &self,
        organization: OrganizationId,
        text: String,
        lock: &Arc<HostLockGuard>,
    ) -> Result<(), NginxError> {
        let (path, temporary) = (self.path(organization), self.temporary(organization));
        let directory = self.directory.clone();
        self.to_its_end(lock, move || {
            let written = write_whole(&temporary, &text).and_then(|()| fs::rename(&temporary, &path));
            if let Err(e) = written {
                // The first error is the one to tell; what can't be removed now is removed with the vhost.
                let _ = fs::remove_file(&temporary);
                return Err(NginxError::disk(&path, e));
            }
            sync(&directory).map_err(|e| NginxError::disk(&directory, e).after_change())
        })
        .await
    }

    /// Removes the file, and what an interrupted write left beside it.
    pub(super) async fn remove(
        &self,
        organization: OrganizationId,
        lock: &Arc<HostLockGuard>,
    ) -> Result<(), NginxError> {
        let path = self.path(organization);
        let directory = self.directory.clone();
        let temporaries = temporary_prefix(organization);
        self.to_its_end(lock, move || {
            let disk = |e| NginxError::disk(&directory, e);
            for entry in fs::read_dir(&directory).map_err(disk)? {
                let entry = entry.map_err(disk)?;
                if entry.file_name().to_string_lossy().starts_with(&temporaries) {
                    remove_if_there(&entry.path()).map_err(disk)?;
                }
            }
            remove_if_there(&path).map_err(disk)?;
            sync(&directory).map_err(|e| disk(e).after_change())
        })
        .await
    }

    /// Hidden, and not ending in `.conf`: neither `*.conf` nor `*` matches it.
    fn temporary(&self, organization: OrganizationId) -> PathBuf {
        self.directory.join(format!("{}{}.tmp", temporary_prefix(organization), Uuid::new_v4().simple()))
    }

    async fn to_its_end(
        &self,
        lock: &Arc<HostLockGuard>,
        work: impl FnOnce() -> Result<(), NginxError> + Send + 'static,
    ) -> Result<(), NginxError> {
        let lock = Arc::clone(lock);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop(lock);
            done
        });
        done.await
            .unwrap_or_else(|e| Err(NginxError::disk(&self.directory, io::Error::other(e)).after_change()))
    }
}

fn organization_of(path: &Path) -> Option<OrganizationId> {
    path.file_name()?.to_str()?.strip_prefix("org-")?.strip_suffix(".conf")?.parse().ok()
}

fn temporary_prefix(organization: OrganizationId) -> String {
    format!(".org-{organization}.")
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_name_never_matches_the_glob() {
        let sites = Sites::new(Path::new("/etc/nginx/sites"));
        let organization = "0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10".parse().unwrap();
        let (path, temporary) = (sites.path(organization), sites.temporary(organization));
        assert_eq!(path, Path::new("/etc/nginx/sites/org-0193b2f0-7c1e-7d55-a3f0-2a7f5c1e9b10.conf"));
        let name = temporary.file_name().and_then(|name| name.to_str()).unwrap();
        assert!(name.starts_with('.'), "not matched by *: {name}");
        assert!(!name.ends_with(".conf"), "not matched by .*.conf: {name}");
        assert_eq!(temporary.parent(), path.parent(), "a rename must stay within one file system");
        assert_ne!(temporary, sites.temporary(organization));
    }
}
