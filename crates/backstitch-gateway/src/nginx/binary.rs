//! What does `nginx -t` say of the configuration on the disk?

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::NginxConfig;
use super::error::NginxError;

/// A thousand vhosts are tested in a tenth of this; what takes longer hangs on a name that does not resolve.
const TEST_TIMEOUT: Duration = Duration::from_secs(2);
/// How much of nginx's complaint is repeated: its lines are long, the first says it.
const DETAIL_LENGTH_MAX: usize = 500;

#[derive(Debug)]
pub(super) struct Binary {
    binary: PathBuf,
    arguments: [PathBuf; 3],
}

/// What the test came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TestResult {
    Whole,
    Broken { detail: String },
}

impl Binary {
    pub(super) fn new(config: &NginxConfig) -> Self {
        Self {
            binary: config.binary.clone(),
            arguments: [config.prefix.clone(), config.conf.clone(), config.error_log.clone()],
        }
    }

    pub(super) async fn test(&self) -> Result<TestResult, NginxError> {
        let not_runnable = |source| NginxError::NotRunnable { binary: self.binary.clone(), source };
        let [prefix, conf, error_log] = &self.arguments;
        let mut command = Command::new(&self.binary);
        command.arg("-t").arg("-q").arg("-p").arg(prefix).arg("-c").arg(conf).arg("-e").arg(error_log);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let tested =
            tokio::time::timeout(TEST_TIMEOUT, command.spawn().map_err(not_runnable)?.wait_with_output());
        let output =
            tested.await.map_err(|_| NginxError::TestTimedOut { changed: false })?.map_err(not_runnable)?;
        if output.status.success() {
            return Ok(TestResult::Whole);
        }
        Ok(TestResult::Broken { detail: complaint(&String::from_utf8_lossy(&output.stderr)) })
    }
}

/// The fatal line if there is one; warnings come before it.
fn complaint(stderr: &str) -> String {
    let fatal = stderr.lines().find(|line| line.contains("[emerg]"));
    fatal.unwrap_or(stderr).trim().trim_start_matches("nginx: ").chars().take(DETAIL_LENGTH_MAX).collect()
}
