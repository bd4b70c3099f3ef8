//! Has nginx room for names as long as ours?
//!
//! Its table of names has buckets of one cache line unless told otherwise, and `org-{uuid}.{domain}` is longer. So nginx
//! itself is asked, before the first vhost is refused: with a configuration of nothing but such a name, and of what the
//! real one says of the table.

use std::fs;
use std::path::Path;

use super::binary::{Binary, TestResult};
use super::error::NginxError;
use crate::identifiers::Hostname;

/// How the settings begin that decide about the room.
const SETTINGS: &str = "server_names_hash_";

/// Whether nginx, as it is configured, can serve this name. What else is wrong with it is not asked here.
///
/// `configuration`: the whole of it. `place`: a directory for what is tested.
pub(super) async fn check(
    binary: &Binary,
    configuration: &str,
    place: &Path,
    hostname: &Hostname,
) -> Result<(), NginxError> {
    let conf = place.join(format!("room-{}.conf", std::process::id()));
    fs::write(&conf, rehearsal(configuration, hostname)).map_err(|error| NginxError::disk(&conf, error))?;
    let tested = binary.test_of(&conf).await;
    let _ = fs::remove_file(&conf);
    match tested? {
        TestResult::Broken { detail } if detail.contains(SETTINGS) => {
            Err(NginxError::NameTooLong { hostname: hostname.clone(), detail })
        }
        _ => Ok(()),
    }
}

/// A configuration of one name, and no other than the real one as far as the room goes. Two servers: a lone one has no table.
fn rehearsal(configuration: &str, hostname: &Hostname) -> String {
    let settings = configuration.lines().map(str::trim).filter(|line| line.starts_with(SETTINGS));
    let settings: String = settings.map(|setting| format!("    {setting}\n")).collect();
    // An address that is taken is no error in a test.
    format!(
        "events {{}}\nhttp {{\n{settings}    access_log off;\n    \
         server {{ listen 127.0.0.1:65535; server_name {hostname}; }}\n    \
         server {{ listen 127.0.0.1:65535 default_server; server_name _; }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::rehearsal;
    use crate::identifiers::{Hostname, OrganizationId};

    #[test]
    fn what_the_real_configuration_says_of_the_room_is_rehearsed_and_nothing_else() {
        let hostname =
            Hostname::new(OrganizationId::from(uuid::Uuid::nil()), "example.test".parse().expect("a domain"));
        let real = "user www-data;\nhttp {\n  server_names_hash_bucket_size 128;\n  # server_names_hash_max_size 1;\n}";
        let rehearsed = rehearsal(real, &hostname);
        assert!(
            rehearsed.contains("http {\n    server_names_hash_bucket_size 128;\n    access_log"),
            "{rehearsed}"
        );
        assert!(rehearsed.contains(&format!("server_name {hostname};")), "{rehearsed}");
        assert!(!rehearsed.contains("www-data") && !rehearsed.contains("max_size"), "{rehearsed}");
    }
}
