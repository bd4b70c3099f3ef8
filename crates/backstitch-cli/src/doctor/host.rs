//! Can this process write where it must, and listen where it should?

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::TcpListener;

use super::Finding;

/// A daemon on this host answers its health at once.
const HEALTH_TIME: Duration = Duration::from_secs(2);

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

/// Listens there for a moment.
pub async fn port(listen: &str) -> Finding {
    let what = "port";
    let Ok(listen) = listen.parse::<SocketAddr>() else {
        let why = format!("{listen:?} is no address to listen on");
        return Finding::wrong(
            what,
            why,
            "correct --listen, or listen in backstitch.toml: such as 127.0.0.1:7410",
        );
    };
    match TcpListener::bind(listen).await {
        Ok(_) => Finding::ok(what, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_a_daemon(listen).await => {
            Finding::ok(what, format!("a daemon answers on {listen} already"))
        }
        Err(error) => Finding::wrong(
            what,
            format!("{listen} can't be listened on: {error}"),
            "stop whoever listens there, or choose another address with --listen",
        ),
    }
}

async fn is_a_daemon(listen: SocketAddr) -> bool {
    let asked =
        reqwest::Client::new().get(format!("http://{listen}/health/live")).timeout(HEALTH_TIME).send();
    asked.await.is_ok_and(|answer| answer.status().is_success())
}
