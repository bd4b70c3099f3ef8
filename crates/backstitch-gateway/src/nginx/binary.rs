//! What does `nginx -t` say of the configuration on the disk?

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
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

    /// Tests the configuration.
    pub(super) async fn test(&self) -> Result<TestResult, NginxError> {
        let [_, conf, _] = &self.arguments;
        self.test_of(conf).await
    }

    /// Tests another one in its place.
    pub(super) async fn test_of(&self, conf: &Path) -> Result<TestResult, NginxError> {
        let output = self.run("-t", conf).await?;
        if output.status.success() {
            return Ok(TestResult::Whole);
        }
        Ok(TestResult::Broken { detail: complaint(&String::from_utf8_lossy(&output.stderr)) })
    }

    /// The configuration with everything that it includes. None: it is broken.
    pub(super) async fn configuration(&self) -> Result<Option<String>, NginxError> {
        let [_, conf, _] = &self.arguments;
        let output = self.run("-T", conf).await?;
        Ok(output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    async fn run(&self, how: &str, conf: &Path) -> Result<Output, NginxError> {
        let not_runnable = |source| NginxError::NotRunnable { binary: self.binary.clone(), source };
        let [prefix, _, error_log] = &self.arguments;
        let mut command = Command::new(&self.binary);
        command.arg(how).arg("-q").arg("-p").arg(prefix).arg("-c").arg(conf).arg("-e").arg(error_log);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let running = command.spawn().map_err(not_runnable)?.wait_with_output();
        tokio::time::timeout(TEST_TIMEOUT, running)
            .await
            .map_err(|_| NginxError::TestTimedOut { changed: false })?
            .map_err(not_runnable)
    }
}

/// The fatal line if there is one; warnings come before it.
fn complaint(stderr: &str) -> String {
    let fatal = stderr.lines().find(|line| line.contains("[emerg]"));
    fatal.unwrap_or(stderr).trim().trim_start_matches("nginx: ").chars().take(DETAIL_LENGTH_MAX).collect()
}
