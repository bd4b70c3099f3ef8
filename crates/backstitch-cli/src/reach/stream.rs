//! How does one who follows a workflow through a daemon hear of what happens, however often the way there breaks?

use std::time::Duration;

use backstitch::{Event, WorkflowId};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::problem::Problem;
use super::server::{Opened, PAUSE, Server, retry_after, spread};
use crate::exit::{Exit, Failed};

/// A daemon that has nothing to tell says so four times in this time. Whoever says nothing is not there any more.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// The longest that an event may be: the message of a failure is bounded, and this is some of it.
const BLOCK_BYTES_MAX: usize = 1024 * 1024;

/// What happens, from the first row of the journal on.
pub struct Followed<'s> {
    server: &'s Server,
    workflow: WorkflowId,
    /// The last row that was heard of. None: none was.
    last: Option<u32>,
    /// None: the daemon is to be asked.
    stream: Option<Incoming>,
    /// What was heard of the next block.
    heard: Vec<u8>,
    is_over: bool,
}

impl<'s> Followed<'s> {
    pub(super) fn of(server: &'s Server, workflow: WorkflowId) -> Self {
        Self { server, workflow, last: None, stream: None, heard: Vec::new(), is_over: false }
    }

    /// The next event. None: it has ended, and all is told.
    pub async fn next(&mut self) -> Result<Option<Event>, Failed> {
        while !self.is_over {
            if let Some(block) = self.block()? {
                match heard(&block)? {
                    Heard::Event(event) => {
                        (self.last, self.is_over) = (Some(event.seq), event.is_end());
                        return Ok(Some(*event));
                    }
                    Heard::Problem(problem) if problem.is_transient() => self.break_off(spread(PAUSE)).await,
                    Heard::Problem(problem) => return Err((*problem).into()),
                    Heard::Nothing => {}
                }
            } else if self.stream.is_none() {
                self.open().await?;
            } else if !self.hear().await {
                self.break_off(spread(PAUSE)).await;
            }
        }
        Ok(None)
    }

    /// Asks for what comes after the last that was heard of.
    async fn open(&mut self) -> Result<(), Failed> {
        match self.server.open_events(self.workflow, self.last).await {
            Ok(Opened::Stream(stream)) => self.stream = Some(stream),
            Ok(Opened::NothingMore) => self.is_over = true,
            Ok(Opened::No(problem, headers)) if problem.is_transient() => {
                sleep(spread(retry_after(&headers))).await;
            }
            Ok(Opened::No(problem, _)) => return Err((*problem).into()),
            Err(failed) => {
                tracing::debug!(%failed, "following on");
                sleep(spread(PAUSE)).await;
            }
        }
        Ok(())
    }

    /// Whether there was something to hear.
    async fn hear(&mut self) -> bool {
        let Some(stream) = &mut self.stream else { return false };
        match timeout(SILENCE_MAX, stream.frame()).await {
            Ok(Some(Ok(frame))) => {
                self.heard.extend_from_slice(frame.data_ref().map_or(&[], |data| data));
                true
            }
            _ => false,
        }
    }

    async fn break_off(&mut self, pause: Duration) {
        (self.stream, self.heard) = (None, Vec::new());
        sleep(pause).await;
    }

    /// The next whole block of lines, if it was heard.
    fn block(&mut self) -> Result<Option<String>, Failed> {
        let Some(end) = self.heard.windows(2).position(|two| two == b"\n\n") else {
            return match self.heard.len() {
                0..BLOCK_BYTES_MAX => Ok(None),
                _ => Err(unreadable("an event that does not end")),
            };
        };
        let block = self.heard.drain(..end + 2).collect();
        String::from_utf8(block).map(Some).map_err(|_| unreadable("an event that is no text"))
    }
}

enum Heard {
    Event(Box<Event>),
    Problem(Box<Problem>),
    /// It only says that somebody is there.
    Nothing,
}

fn heard(block: &str) -> Result<Heard, Failed> {
    let line = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::trim_start);
    let Some(data) = line("data:") else { return Ok(Heard::Nothing) };
    if line("event:") == Some("problem") {
        let problem = serde_json::from_str(data).map_err(|error| unreadable(&error.to_string()))?;
        return Ok(Heard::Problem(problem));
    }
    let mut event: Value = serde_json::from_str(data).map_err(|error| unreadable(&error.to_string()))?;
    // Over HTTP an id says of what it is.
    if let Some(workflow) = event.get_mut("workflow_id").map(Value::take) {
        event["workflow"] = workflow;
    }
    let event = serde_json::from_value(event).map_err(|error| unreadable(&error.to_string()))?;
    Ok(Heard::Event(event))
}

fn unreadable(what: &str) -> Failed {
    let what_to_do = "use the version of the server";
    Failed::new(Exit::Error, format!("what the server tells can't be read: {what}; {what_to_do}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_keeps_the_way_open_tells_nothing() {
        assert!(matches!(heard(":\n\n"), Ok(Heard::Nothing)));
        assert!(matches!(heard("data: {}\n\n"), Err(failed) if failed.message.contains("missing field")));
        let problem = r#"{"type": "urn:backstitch:database_unavailable", "status": 503, "detail": "gone", "code": "database_unavailable"}"#;
        let told = heard(&format!("event: problem\ndata: {problem}\n\n"));
        assert!(matches!(told, Ok(Heard::Problem(problem)) if problem.is_transient()));
    }
}
