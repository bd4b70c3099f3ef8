//! Do old workers of nginx leave, whoever still holds a socket through them?
//!
//! A reload leaves sockets with the workers that had them, and unless told otherwise these wait for as long as anybody
//! holds one: members of an organisation would keep their way to a gateway that serves another by then, and each reload
//! would leave workers behind.

use super::error::NginxError;

const SETTING: &str = "worker_shutdown_timeout";

/// Whether nginx, by its whole configuration, ends its old workers some time.
pub(super) fn check(configuration: &str) -> Result<(), NginxError> {
    if has_an_end(configuration) { Ok(()) } else { Err(NginxError::SocketsOutliveRoutes) }
}

/// None and zero mean the same to nginx: for ever.
fn has_an_end(configuration: &str) -> bool {
    let without_comments = configuration.lines().map(|line| line.split('#').next().unwrap_or_default());
    let text = without_comments.collect::<Vec<_>>().join("\n");
    text.split([';', '{', '}']).any(|directive| {
        let mut words = directive.split_whitespace();
        words.next() == Some(SETTING)
            && words.next().is_some_and(|time| time.contains(|digit| matches!(digit, '1'..='9')))
    })
}

#[cfg(test)]
mod tests {
    use super::has_an_end;

    #[test]
    fn only_a_time_that_ends_is_one() {
        for said in [
            "worker_shutdown_timeout 10s;",
            "pid a.pid; worker_shutdown_timeout\t5; events {}",
            "user b;\nworker_shutdown_timeout\n  \"1m 30s\";",
        ] {
            assert!(has_an_end(said), "{said}");
        }
        for said in [
            "",
            "worker_shutdown_timeout 0;",
            "worker_shutdown_timeout 0s;",
            "# worker_shutdown_timeout 10s;",
            "user b; # worker_shutdown_timeout 10s;",
            "my_worker_shutdown_timeout 10s;",
            "worker_shutdown_timeout_too 10s;",
        ] {
            assert!(!has_an_end(said), "{said}");
        }
    }
}
