//! Would `serve` take its settings, and can it listen where they say?

use std::io::ErrorKind;

use backstitch_server::{Access, Place, is_live};
use tokio::net::TcpListener;

use super::Finding;
use crate::exit::Failed;
use crate::settings::ServeSettings;

/// What `serve` made of its settings, and the port.
pub async fn examine(settings: Result<ServeSettings, Failed>) -> [Finding; 2] {
    let what = "daemon settings";
    match settings {
        Ok(settings) => [Finding::ok(what, told(&settings)), port(&settings.listen).await],
        Err(failed) => {
            let (says, mend) = failed.message.rsplit_once("; ").unwrap_or((&failed.message, "correct that"));
            let wrong = Finding::wrong(what, says, mend);
            [wrong, Finding::not_examined("port", "the settings come first")]
        }
    }
}

fn told(settings: &ServeSettings) -> String {
    let how = if settings.listen.tls().is_some() { "TLS" } else { "plain HTTP, on loopback" };
    let whom = match settings.access {
        Access::Tokens => "whoever shows a token",
        Access::EverybodyHere => "every program on this host, without tokens",
    };
    format!("{how}, to {whom}")
}

/// Listens there for a moment.
async fn port(listen: &Place) -> Finding {
    let what = "port";
    match TcpListener::bind(listen.address()).await {
        Ok(_) => Finding::ok(what, format!("{listen} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && is_live(listen).await => {
            Finding::ok(what, format!("a daemon answers on {listen} already"))
        }
        Err(error) => Finding::wrong(
            what,
            format!("{listen} can't be listened on: {error}"),
            "stop whoever listens there, or choose another address with --listen",
        ),
    }
}
