//! What is kept for whoever wants to know what went wrong?

use std::path::Path;

use backstitch_testkit::looks;
use tempfile::TempDir;

use super::launch::because;
use super::report::Report;
use super::stage::Stage;
use crate::exit::Failed;
use crate::output::note;

/// Gathers what goes with the stage, beside the logs that are in its directory already: every table, and the logs of Postgres. As far
/// as it can be had: what went wrong is told in any case.
pub async fn gather(stage: &Stage, directory: &Path) -> Result<(), Failed> {
    match looks::everything_there_is(&stage.pool).await {
        Ok(tables) => {
            for (name, rows) in tables {
                std::fs::write(directory.join(format!("{name}.jsonl")), rows).map_err(because)?;
            }
        }
        Err(error) => note(&format!("the tables can't be kept: {error}")),
    }
    let logs = stage.postgres.cluster.logs().map_err(because)?;
    if let Err(error) = copy_files(&logs, directory) {
        note(&format!("the log of Postgres can't be kept: {}: {error}", logs.display()));
    }
    Ok(())
}

fn copy_files(from: &Path, to: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), to.join(entry.file_name()))?;
    }
    Ok(())
}

/// Keeps it, with what there is to say of it.
pub fn keep(directory: TempDir, report: &Report, bundle: Option<&Path>) -> Result<(), Failed> {
    let violations: Vec<String> = report.every_violation.iter().map(ToString::to_string).collect();
    std::fs::write(directory.path().join("violations.txt"), violations.join("\n")).map_err(because)?;
    let report = serde_json::to_vec_pretty(report).map_err(because)?;
    std::fs::write(directory.path().join("report.json"), report).map_err(because)?;
    let kept = directory.keep();
    let kept = match bundle {
        Some(bundle) => std::fs::rename(&kept, bundle).map(|()| bundle.to_owned()).unwrap_or(kept),
        None => kept,
    };
    note(&format!("what there is to look at is kept in {}", kept.display()));
    Ok(())
}
