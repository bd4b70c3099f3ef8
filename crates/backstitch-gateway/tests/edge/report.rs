//! Is the story of a start that was taken back told once, at its end?

use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::platform::{Platform, failed, organization};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_rollback_report_of_a_start_is_logged_once_at_its_end() {
    let log = Log::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .json()
        .with_max_level(tracing::Level::INFO)
        .with_writer(move || writer.clone())
        .init();
    let mut platform = Platform::of(1).await;
    platform.edge.sandbox.gateways[0].restart(&["--fail-start"]).await.unwrap();
    let worker = platform.start_worker().await;
    let unfinished = failed(platform.start(organization()).await);
    worker.shut_down().await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let id = unfinished.workflow.to_string();
    let story: Vec<_> = lines.iter().filter(|line| line["fields"]["workflow.id"] == *id).collect();
    let reports: Vec<_> = story.iter().filter(|line| !line["fields"]["report"].is_null()).collect();
    assert_eq!(reports.len(), 1, "{text}");
    assert_eq!(reports[0], story.last().unwrap(), "it is the last word: {text}");
    let fields = &reports[0]["fields"];
    assert_eq!(reports[0]["level"], "WARN");
    assert_eq!(fields["workflow.kind"], "gateway.start");
    assert_eq!(fields["report"], unfinished.report.to_string());
    assert!(fields["error"].as_str().unwrap().contains("gateway_failed"), "the original error: {fields}");
    let attempts = story.iter().filter(|line| !line["fields"]["attempt"].is_null()).count();
    // Five steps, the last one tried twice; four of them compensated.
    assert_eq!(attempts, 6 + 4, "{text}");
}
