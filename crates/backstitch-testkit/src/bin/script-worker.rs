//! A worker of scripted workflows in a process of its own, for tests to kill.

use backstitch_testkit::stuck;

#[tokio::main]
async fn main() {
    let filter = tracing_subscriber::EnvFilter::from_default_env();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(stuck::log).init();
    backstitch_testkit::process::work_until_terminated().await;
}
